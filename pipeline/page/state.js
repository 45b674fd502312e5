"use strict";
// What the page shows: the prompt, the order of its tokens, and for each network what was switched. No drawing.

const PAGE = JSON.parse(document.getElementById("content").textContent);
const networks = PAGE.networks.map((data) => new Network(data));
const endToken = PAGE.vocabulary.indexOf(PAGE.endToken);
// `prompt`: the characters that were typed; `order[i]`: the index in it of the character at position i.
const state = { prompt: [], order: [], other: "", selected: 0, settings: [], answersByOrder: [] };
const onlyMasked = networks.findIndex(({ model }) => model.positional === "none" && model.attention === "causal");
state.selected = Math.max(0, onlyMasked); // the network in which most is to be seen

/** Begin again: a prompt in its own order, all networks as they were trained. */
function resetState(prompt) {
  state.settings = networks.map((network) => network.trainedSettings());
  state.other = prompt === "123+456=" ? "987+111=" : "";
  setPrompt(prompt);
}

function setPrompt(prompt) {
  state.prompt = [...prompt];
  state.order = state.prompt.map((_, index) => index);
  if (!isOtherUsable()) state.other = [...state.prompt.slice(0, -1).reverse(), state.prompt.at(-1)].join("");
  forgetAnswers();
  for (const settings of state.settings) settings.patch = null;
}

/** Forget which answers were seen: they are of another prompt or of a network that is switched otherwise. */
function forgetAnswers() {
  state.answersByOrder = networks.map(() => new Map());
}

/** Move the token at one position to another; those between move up. */
function moveToken(from, to) {
  state.order.splice(to, 0, ...state.order.splice(from, 1));
}

/** Put all tokens but the last in a random order, another one than now if there is one. */
function shuffleTokens() {
  const before = orderedPrompt();
  for (let attempt = 0; attempt < 20 && orderedPrompt() === before; attempt++) {
    for (let i = state.order.length - 2; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [state.order[i], state.order[j]] = [state.order[j], state.order[i]];
    }
  }
}

function orderedPrompt() {
  return state.order.map((index) => state.prompt[index]).join("");
}

function encode(text) {
  return [...text].map((character) => PAGE.vocabulary.indexOf(character));
}

/** True if the other prompt can lend its states: it must be as long as the first. */
function isOtherUsable() {
  return [...state.other].length === state.prompt.length && !promptProblem(state.other);
}

/** A character as it is shown. */
function visible(character) {
  return { " ": "␣", "\n": "↵" }[character] ?? character;
}

/** What is wrong with a prompt, in a sentence; empty if it can be answered. */
function promptProblem(text) {
  const unknown = [...text].find((character) => !PAGE.vocabulary.includes(character));
  const room = 1 + PAGE.inputLength - (PAGE.endToken ? 1 : PAGE.answerLength);
  if (unknown) return `The networks do not know ${unknown}. They know ${PAGE.vocabulary.join(" ")}`;
  const { length } = [...text];
  if (length < 1 || length > room) return `A prompt has 1 to ${room} characters, not ${length}.`;
  return "";
}

/** True if a text looks like the task's prompts: with all digits, and all letters, taken as equal. */
function hasTaskForm(text) {
  const form = (prompt) => prompt.replace(/\d/g, "0").replace(/\p{L}/gu, "a");
  return !PAGE.example || form(text) === form(PAGE.example);
}

/** The right answer of an addition; null for any other task or text. */
function rightAnswer(text) {
  const { name, digits, reverse, zero_pad: isPadded } = PAGE.task;
  const [, first, second] = (name === "addition" && hasTaskForm(text) && text.match(/(\d+)\+(\d+)=/)) || [];
  if (first === undefined) return null;
  const sum = String(Number(first) + Number(second)).padStart(isPadded ? digits + 1 : 0, "0");
  return reverse ? [...sum].reverse().join("") : sum;
}

/** A network's answer to the tokens in their present order: {text, probability, probabilities}. */
function presentAnswer(index) {
  const settings = resolvedSettings(index);
  const answer = networks[index].answer(encode(orderedPrompt()), settings, answerRoom(), endToken);
  const text = textOf(answer.tokens);
  state.answersByOrder[index].set(orderedPrompt(), text);
  return { text, probabilities: answer.probabilities, probability: answer.probabilities.reduce((a, b) => a * b) };
}

/** The text of an answer's tokens, without the end token. */
function textOf(tokens) {
  return tokens.filter((token) => token !== endToken).map((token) => PAGE.vocabulary[token]).join("");
}

function answerRoom() {
  return Math.min(PAGE.answerLength, 1 + PAGE.inputLength - state.prompt.length);
}

/** A network's settings, with the state of the other prompt that is put in, if any. */
function resolvedSettings(index) {
  const settings = state.settings[index], { patch } = settings;
  if (!patch) return settings;
  const { stream } = networks[index].run(encode(state.other), { ...settings, patch: null });
  return { ...settings, patch: { ...patch, state: stream[patch.depth][patch.position] } };
}

/** True if the order of the earlier tokens can reach the answer: by an encoding, or by a mask before the last layer. */
function canSeeOrder(network, settings) {
  return network.model.positional !== "none" || settings.masks.slice(0, -1).some(Boolean);
}

/** Change of the next-token distribution at a moment of training, from 0 to 1: without masks; with reversed tokens. */
function effectsAt(network, moment) {
  const settings = { ...network.trainedSettings(), moment }, tokens = encode(state.prompt);
  const unmasked = { ...settings, masks: settings.masks.map(() => false) };
  const reversed = [...tokens.slice(0, -1).reverse(), tokens.at(-1)];
  const [before, masks, order] = [[tokens, settings], [tokens, unmasked], [reversed, settings]].map(
    ([input, variant]) => softmax(network.run(input, variant).logits));
  return { masks: totalVariation(before, masks), order: totalVariation(before, order) };
}
