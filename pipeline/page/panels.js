"use strict";
// The panels: answers of all networks, and what happens inside the selected one.

/** A new HTML element with attributes and children; an attribute of value false or null is left out. */
function element(tag, attributes = {}, ...children) {
  const result = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null) result.setAttribute(name, value);
  }
  result.append(...children);
  return result;
}

function say(id, text) {
  document.getElementById(id).textContent = text;
}

/** A share in words: 73 %, below 0.1 %. */
function percent(share) {
  if (share > 0 && share < 0.001) return "below 0.1 %";
  return `${Number((100 * share).toPrecision(2))} %`;
}

function isChanged(index) {
  return JSON.stringify(state.settings[index]) !== JSON.stringify(networks[index].trainedSettings());
}

function drawAnswers(answers) {
  const right = rightAnswer(orderedPrompt());
  networks.forEach((network, index) => {
    const card = document.getElementById("answers").children[index], answer = answers[index];
    card.classList.toggle("selected", index === state.selected);
    const digits = [...answer.text].map((character, position) => {
      const share = answer.probabilities[position];
      const isWrong = right !== null && right[position] !== character;
      return element("span", { class: isWrong ? "digit wrong" : "digit", style: `--share: ${share}`,
        title: `${character}: probability ${percent(share)}` }, character);
    });
    card.querySelector(".answer").replaceChildren(...digits);
    const verdict = right === null ? "" : answer.text === right ? "✓ right, " : "✗ wrong, ";
    card.querySelector(".verdict").textContent = `${verdict}probability ${percent(answer.probability)}`;
    card.querySelector(".orders").textContent = ordersInWords(index);
    card.querySelector(".changed").hidden = !isChanged(index);
    card.querySelector("button").setAttribute("aria-pressed", index === state.selected);
  });
  say("answers-sentence", answersInWords());
  const readable = PAGE.task.reverse ? `, read from the right: ${Number([...(right ?? "")].reverse().join(""))}` : "";
  const none = PAGE.task.name === "addition" ? `Not of the form ${PAGE.example}, so no answer is right or wrong.` : "";
  say("right-answer", right === null ? none : `Right answer: ${right}${readable}`);
}

function ordersInWords(index) {
  const orders = state.answersByOrder[index].size, different = new Set(state.answersByOrder[index].values()).size;
  if (orders < 2) return "1 order tried.";
  return `${orders} orders tried: ${different === 1 ? "always the same answer" : `${different} different answers`}.`;
}

function answersInWords() {
  if (state.answersByOrder[0].size < 2) return "Move a token: which networks change their answer?";
  const constant = networks.filter((_, index) => new Set(state.answersByOrder[index].values()).size === 1);
  if (!constant.length) return "Every network changed its answer: each of them sees the order.";
  const names = constant.map((network) => network.name).join(" and ");
  if (constant.length === networks.length) return "No network has changed its answer so far.";
  return `Same answer in every order so far: ${names}. The others see the order.`;
}

/** Switches of the selected network: a row per layer with its mask and its residual connections. */
function drawSwitches() {
  const network = networks[state.selected], settings = state.settings[state.selected];
  for (const box of document.querySelectorAll("#switches input")) {
    box.checked = (box.dataset.kind === "masks" ? settings.masks : settings.residuals[box.dataset.kind])[box.dataset.layer];
  }
  const masks = settings.masks.flatMap((isOn, layer) => (isOn ? [layer] : []));
  const reason = network.model.positional !== "none"
    ? "The positional encoding tells this network the order, with or without masks."
    : canSeeOrder(network, settings)
      ? `Order can enter through the mask of layer ${masks.filter((layer) => layer < settings.masks.length - 1).join(" and ")}.`
      : "No positional encoding, and no mask before the last layer: this network cannot see order.";
  say("switches-sentence", reason);
}

function buildSwitches() {
  const { layers } = networks[state.selected].model;
  const box = (kind, layer, name) =>
    element("td", {}, element("input", { type: "checkbox", role: "switch", "aria-label": `${name} of layer ${layer}`,
      "data-kind": kind, "data-layer": layer }));
  document.getElementById("switches").replaceChildren(...Array.from({ length: layers }, (_, layer) =>
    element("tr", {}, element("th", { scope: "row" }, `Layer ${layer}`), box("masks", layer, "Causal mask"),
      box("attention", layer, "Residual connection around attention"), box("mlp", layer, "Residual connection around MLP"))));
}

/** Attention weights: for each layer and head, a row per position that reads and a column per position that is read. */
function drawAttention({ attention }) {
  const labels = () => [...orderedPrompt()].map((character) => element("span", {}, visible(character)));
  const settings = state.settings[state.selected];
  document.getElementById("attention").replaceChildren(...attention.map((heads, layer) =>
    element("div", { class: "heads" }, element("h4", {}, `Layer ${layer}${settings.masks[layer] ? "" : ", no mask"}`),
      ...heads.map((pattern, head) => {
        const name = `Attention of layer ${layer}, head ${head}: ${strongestInWords(pattern)}`;
        const map = element("canvas", { width: pattern.length, height: pattern.length, role: "img", "aria-label": name, title: name });
        paint(map, pattern);
        return element("div", { class: "head" }, element("div", { class: "down" }, ...labels()), map,
          element("div", { class: "across" }, ...labels()));
      }))));
  const open = settings.masks.flatMap((isOn, layer) => (isOn ? [] : [layer]));
  const upTo = open.length ? `In layer ${open.join(", ")} there is no mask: tokens read later ones, too.`
    : "The masks hide later tokens: all above the diagonal is empty.";
  say("attention-sentence", `Each row shows which tokens one token reads; a stronger colour is more. ${upTo}`);
}

function strongestInWords(pattern) {
  const last = pattern.at(-1), best = last.indexOf(Math.max(...last));
  return `the last token reads mostly ${orderedPrompt()[best]} at position ${best} (${percent(last[best])})`;
}

function paint(canvas, pattern) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  pattern.flat().forEach((weight, i) => image.data.set([43, 125, 214, 255 * weight], 4 * i));
  context.putImageData(image, 0, 0);
}

/** Residual stream: how far each state is from that of the original order in the network as trained. */
function drawStates(now, before) {
  const { patch } = state.settings[state.selected];
  let change = 0;
  for (const cell of document.querySelectorAll("#states button")) {
    const [depth, position] = [Number(cell.dataset.depth), Number(cell.dataset.position)];
    change = distance(now.stream[depth][position], before.stream[depth][position]);
    const isPatched = patch?.depth === depth && patch.position === position;
    cell.style.setProperty("--amount", Math.min(1, change));
    cell.setAttribute("aria-pressed", isPatched);
    cell.setAttribute("aria-label", `${depthName(depth)}, position ${position}, token ${orderedPrompt()[position]}: ` +
      `changed by ${percent(change)}. ${isPatched ? "Holds the other prompt's state" : "Put the other prompt's state here"}`);
  }
  const heads = document.querySelectorAll("#states thead th");
  [...orderedPrompt()].forEach((character, position) => (heads[position + 1].textContent = visible(character)));
  say("states-sentence", change < 1e-6
    ? "The answer is read at the bottom right. Nothing has changed there, so the answer is the same."
    : `The answer is read at the bottom right. The state there has changed by ${percent(change)}.`);
}

function depthName(depth) {
  return depth ? `After layer ${depth - 1}` : "Embeddings";
}

/** Length of the difference of two states, relative to the second. */
function distance(a, b) {
  return Math.sqrt(dot(a.map((value, i) => value - b[i]), a.map((value, i) => value - b[i])) / dot(b, b));
}

function buildStates() {
  const depths = Array.from({ length: networks[state.selected].model.layers + 1 }, (_, depth) => depth);
  const cell = (depth, position) => element("td", {}, element("button",
    { type: "button", "data-depth": depth, "data-position": position, tabindex: depth || position ? -1 : 0 }));
  document.getElementById("states").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", {}, ""), ...state.order.map(() => element("th", { scope: "col" })))),
    element("tbody", {}, ...depths.map((depth) => element("tr", {}, element("th", { scope: "row" }, depthName(depth)),
      ...state.order.map((_, position) => cell(depth, position))))));
}

/** Probabilities and logits of the next token, now and before the changes; of a large vocabulary, the likeliest. */
function drawNextToken(now, before) {
  const [present, earlier] = [now, before].map((result) => softmax(result.logits));
  const largest = (token) => Math.max(present[token], earlier[token]);
  const shown = PAGE.vocabulary.map((_, token) => token).sort((a, b) => largest(b) - largest(a)).slice(0, 12).sort((a, b) => a - b);
  document.getElementById("next-token").replaceChildren(...shown.map((token) =>
    element("tr", {}, element("th", { scope: "row" }, visible(PAGE.vocabulary[token])),
      element("td", { class: "bar" }, element("span", { style: `--now: ${present[token]}; --before: ${earlier[token]}` })),
      element("td", {}, percent(present[token])), element("td", {}, now.logits[token].toFixed(1)))));
  const name = (shares) => `${PAGE.vocabulary[shares.indexOf(Math.max(...shares))]} (${percent(Math.max(...shares))})`;
  const change = totalVariation(present, earlier) < 1e-6 ? "no change" : `before the changes ${name(earlier)}`;
  say("next-token-sentence", `Likeliest next token: ${name(present)}; ${change}.`);
}

/** For each saved moment of the training: how much the masks, and the order of the tokens, matter for the prediction. */
function drawTraining() {
  const network = networks[state.selected], { moment } = state.settings[state.selected];
  const effects = network.moments.map((_, index) => effectsAt(network, index));
  const bar = (name, share) => element("i", { class: name, style: `--share: ${share}` });
  document.getElementById("moments").replaceChildren(...network.moments.map(({ label }, index) =>
    element("div", { class: index === moment && "now" },
      element("span", {}, bar("masks", effects[index].masks), bar("order", effects[index].order)), label)));
  const slider = document.getElementById("moment");
  slider.max = network.moments.length - 1;
  slider.value = moment;
  slider.setAttribute("aria-valuetext", network.moments[moment].label);
  const { masks, order } = effects[moment];
  const unmasked = network.trainedSettings().masks.some(Boolean) ? `without masks by ${percent(masks)}, ` : "";
  say("training-sentence", `The prediction for the next token changes ${unmasked}with reversed tokens by ${percent(order)}.`);
}
