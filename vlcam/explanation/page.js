"use strict";
const all = (selector) => [...document.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);
const words = all(".word");
const hint = one(".status").textContent;
const name = one(".stage").getAttribute("aria-label");
let pinned = -1; // chosen by a click, a tap or Enter: stays
let pointed = -1; // under the mouse or the keyboard's focus: goes with it

function show() {
  const index = pointed >= 0 ? pointed : pinned;
  const marked = one(".mark").checked;
  for (const map of all(".map")) map.toggleAttribute("hidden", Number(map.dataset.word) !== index);
  for (const peak of all(".peak")) {
    peak.toggleAttribute("hidden", !marked || Number(peak.dataset.word) !== index);
  }
  words.forEach((word, i) => {
    word.classList.toggle("shown", i === index);
    word.setAttribute("aria-pressed", String(i === pinned));
  });
  one(".plain").setAttribute("aria-pressed", String(index < 0));
  tell(words[index]);
}

function tell(word) {
  const status = one(".status");
  status.textContent = word ? "" : hint;
  one(".stage").setAttribute("aria-label", name);
  if (!word) return;
  const text = document.createElement("strong");
  text.dir = "auto";
  text.textContent = word.querySelector(".text").textContent;
  status.append(text, " \u00b7 " + word.dataset.says);
  if (!word.classList.contains("degenerate")) {
    one(".stage").setAttribute("aria-label", `${name} under the map of \u201c${text.textContent}\u201d`);
  }
}

function plain() {
  pinned = pointed = -1;
  if (words.includes(document.activeElement)) document.activeElement.blur();
  show();
}

words.forEach((word, index) => {
  const point = (at) => { pointed = at; show(); };
  word.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") point(index); });
  word.addEventListener("pointerleave", () => point(words.indexOf(one(".word:focus-visible"))));
  word.addEventListener("focus", () => { if (word.matches(":focus-visible")) point(index); });
  word.addEventListener("blur", () => point(-1));
  word.addEventListener("click", () => {
    const again = pinned === index;
    pinned = again ? -1 : index;
    point(again ? -1 : pointed);
  });
});

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape") return plain();
  const rightwards = getComputedStyle(one(".caption")).direction === "rtl" ? -1 : 1;
  const step = { ArrowRight: rightwards, ArrowLeft: -rightwards }[event.key];
  if (!step || !words.length || event.target.type === "range") return;
  const from = words.indexOf(document.activeElement);
  const start = from >= 0 ? from : pinned;
  const next = start < 0 && step < 0 ? words.length - 1 : (start + step + words.length) % words.length;
  words[next].focus({ focusVisible: true });
  event.preventDefault();
});

one(".plain").addEventListener("click", plain);
one(".mark").addEventListener("change", show);
one(".opacity input").addEventListener("input", (event) => {
  one(".maps").setAttribute("opacity", event.target.value / 100);
  one(".opacity output").textContent = event.target.value + " %";
});
