"use strict";
// What a person does: every input changes `state`, then the whole page is drawn again.

let announcement, training;

function draw() {
  const answers = networks.map((_, index) => presentAnswer(index));
  const network = networks[state.selected], settings = resolvedSettings(state.selected);
  const now = network.run(encode(orderedPrompt()), settings);
  const untouched = { ...network.trainedSettings(), moment: settings.moment };
  const before = network.run(encode(state.prompt), untouched);
  const untouchedAnswer = textOf(network.answer(encode(state.prompt), untouched, answerRoom(), endToken).tokens);
  drawTokens();
  drawAnswers(answers);
  drawSwitches();
  drawAttention(now);
  drawStates(now, before);
  drawNextToken(now, before);
  say("inside-title", `Inside ${network.name}`);
  say("inside-answer", `${orderedPrompt()} → ${answers[state.selected].text}`);
  say("untouched-answer", `${state.prompt.join("")} → ${untouchedAnswer}`);
  document.getElementById("bar").replaceChildren(...networks.map(({ name }, index) =>
    element("span", { class: index === state.selected && "selected" }, `${name} ${answers[index].text}`)));
  clearTimeout(training);
  training = setTimeout(drawTraining, 100); // ten more passes, which a drag need not wait for
  clearTimeout(announcement);
  const spoken = networks.map(({ name }, index) => `${name}: ${answers[index].text}`).join(", ");
  announcement = setTimeout(() => say("announcement", `Order ${[...orderedPrompt()].join(" ")}. ${spoken}.`), 500);
}

/** Build what depends on the prompt's length and on the selected network, then draw. */
function rebuild() {
  buildTokens();
  buildSwitches();
  buildStates();
  document.getElementById("prompt").value = state.prompt.join("");
  document.getElementById("other").value = state.other;
  warn("prompt", hasTaskForm(state.prompt.join("")) ? "" : formWarning());
  warn("other", otherProblem());
  draw();
}

function formWarning() {
  return `The networks learned prompts such as ${PAGE.example}. Answers to another form mean little.`;
}

function otherProblem() {
  if ([...state.other].length !== state.prompt.length) return `The other prompt must have ${state.prompt.length} characters, too.`;
  return promptProblem(state.other) || (hasTaskForm(state.other) ? "" : formWarning());
}

/** Show a message below a text field, and mark the field; an empty message removes both. */
function warn(field, message) {
  say(`${field}-message`, message);
  document.getElementById(field).setAttribute("aria-invalid", message !== "");
}

/** Change the settings of the selected network; its answers so far are of another network then. */
function changeSettings(change) {
  change(state.settings[state.selected]);
  state.answersByOrder[state.selected].clear();
  draw();
}

function on(id, type, listener) {
  document.getElementById(id).addEventListener(type, listener);
}

on("prompt", "input", ({ target }) => {
  const problem = promptProblem(target.value);
  if (problem) return warn("prompt", problem);
  setPrompt(target.value);
  rebuild();
});
on("shuffle", "click", () => changeOrder(shuffleTokens));
on("original", "click", () => changeOrder(() => state.order.sort((a, b) => a - b)));
on("reset", "click", () => {
  resetState(state.prompt);
  rebuild();
});
on("switches", "change", ({ target: { dataset, checked } }) => changeSettings(({ masks, residuals }) => {
  (dataset.kind === "masks" ? masks : residuals[dataset.kind])[dataset.layer] = checked;
}));
on("moment", "input", ({ target }) => changeSettings((settings) => (settings.moment = Number(target.value))));
on("other", "input", ({ target }) => {
  state.other = target.value;
  warn("other", otherProblem());
  if (!isOtherUsable()) for (const settings of state.settings) settings.patch = null;
  draw();
});
on("states", "click", ({ target }) => {
  if (!target.dataset.depth || !isOtherUsable()) return;
  const [depth, position] = [Number(target.dataset.depth), Number(target.dataset.position)];
  changeSettings((settings) => {
    const isSame = settings.patch?.depth === depth && settings.patch.position === position;
    settings.patch = isSame ? null : { depth, position };
  });
});
on("states", "keydown", (event) => {
  const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
  const { depth, position } = event.target.dataset;
  const next = `[data-depth="${Number(depth) + down}"][data-position="${Number(position) + right}"]`;
  const cell = document.querySelector(`#states ${next}`);
  if (!cell || !(down || right)) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  cell.tabIndex = 0;
  cell.focus();
});
document.querySelectorAll("#answers button").forEach((button, index) => button.addEventListener("click", () => {
  state.selected = index;
  rebuild();
}));

/** A step of the lesson: begin again, then set what the step is about. */
document.querySelectorAll("[data-show]").forEach((button) => button.addEventListener("click", () => {
  const { network, order, panel, ...settings } = JSON.parse(button.dataset.show);
  resetState("123+456=");
  state.selected = networks.findIndex(({ name }) => name === network);
  Object.assign(state.settings[state.selected], settings);
  rebuild();
  if (order) changeOrder(() => (state.order = order));
  document.getElementById(panel).scrollIntoView({ block: "nearest", behavior: "smooth" });
}));

// While the answers are out of sight, a bar at the bottom shows them.
new IntersectionObserver(([{ isIntersecting, boundingClientRect: { top } }]) =>
  document.getElementById("bar").classList.toggle("shown", !isIntersecting && top < 0)
).observe(document.getElementById("answers"));

resetState(PAGE.example || PAGE.vocabulary.slice(0, Math.min(8, PAGE.inputLength)).join(""));
rebuild();
