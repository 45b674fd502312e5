"use strict";
// The tokens of the prompt: drag them, or move them with the arrow keys. Tile i always shows the token at position i.

const tokenRow = document.getElementById("tokens");
let drag = null; // {position, x, y} of the token that is dragged and of the pointer

function buildTokens() {
  const last = state.order.length - 1;
  tokenRow.replaceChildren(...state.order.map((_, position) => {
    if (position === last) return element("span", { class: "tile last", title: "The last token stays in place" });
    const tile = element("button", { type: "button", class: "tile" });
    tile.addEventListener("pointerdown", (event) => startDrag(event, position));
    tile.addEventListener("keydown", (event) => moveByKey(event, position));
    return tile;
  }));
}

function drawTokens() {
  state.order.forEach((index, position) => {
    const tile = tokenRow.children[position], character = visible(state.prompt[index]);
    tile.textContent = character;
    tile.classList.toggle("moved", index !== position);
    tile.classList.toggle("dragged", drag?.position === position);
    const where = index === position ? "in its own place" : `from position ${index}`;
    tile.setAttribute("aria-label", `${character}, position ${position}, ${where}`);
  });
}

function startDrag(event, position) {
  if (event.button !== 0) return;
  drag = { position, x: event.clientX, y: event.clientY };
  drawTokens();
}

document.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const frame = tokenRow.getBoundingClientRect();
  const distances = state.order.slice(0, -1).map((_, position) => {
    const centre = tileCentre(position);
    return Math.hypot(event.clientX - frame.left - centre.x, event.clientY - frame.top - centre.y);
  });
  const nearest = distances.indexOf(Math.min(...distances));
  if (nearest !== drag.position) {
    const from = drag.position;
    tokenRow.children[from].style.transform = "";
    drag.position = nearest;
    changeOrder(() => moveToken(from, nearest));
    tokenRow.children[nearest].focus();
  }
  const centre = tileCentre(drag.position);
  const [x, y] = [event.clientX - frame.left - centre.x, event.clientY - frame.top - centre.y];
  tokenRow.children[drag.position].style.transform = `translate(${x}px, ${y}px)`;
});

for (const name of ["pointerup", "pointercancel"]) {
  document.addEventListener(name, () => {
    if (!drag) return;
    tokenRow.children[drag.position].style.transform = "";
    drag = null;
    drawTokens();
  });
}

/** Centre of a tile in the row, where it is without being dragged. */
function tileCentre(position) {
  const tile = tokenRow.children[position];
  return { x: tile.offsetLeft + tile.offsetWidth / 2, y: tile.offsetTop + tile.offsetHeight / 2 };
}

function moveByKey(event, position) {
  const last = state.order.length - 2;
  const to = { ArrowLeft: position - 1, ArrowRight: position + 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (to < 0 || to > last || to === position) return;
  changeOrder(() => moveToken(position, to));
  tokenRow.children[to].focus();
}

/** Change the order of the tokens, draw the page, and let each moved token glide to its new place. */
function changeOrder(change) {
  const before = [...state.order];
  change();
  draw();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  state.order.forEach((index, position) => {
    const old = before.indexOf(index);
    if (old === position || drag?.position === position) return;
    const [from, to] = [tileCentre(old), tileCentre(position)];
    const start = { transform: `translate(${from.x - to.x}px, ${from.y - to.y}px)` };
    tokenRow.children[position].animate([start, { transform: "none" }], { duration: 160, easing: "ease-out" });
  });
}
