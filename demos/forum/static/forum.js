// @ts-check
/**
 * forum.js: what the board is nicer with. Everything works without it.
 *
 * 1. A page is the same for all who look at it, so which of its posts you have voted for is asked for by itself.
 * 2. "Answer" chooses in the form at the foot of the page whom you answer, and brings you there.
 */
(() => {
  "use strict";

  let name = "";
  /** The posts that this visitor has voted for. @type {Set<string>} */
  let mine = new Set();

  async function ask() {
    if (!document.querySelector("[data-vote], [data-my-name]")) return;
    const response = await fetch("/you", { headers: { accept: "application/json" } }).catch(() => null);
    if (!response?.ok) return;
    const told = await response.json();
    name = told.name;
    mine = new Set(told.votes);
    show();
  }

  function show() {
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-vote]"))) {
      button.setAttribute("aria-pressed", String(mine.has(button.dataset.vote || "")));
    }
    for (const field of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("[data-my-name]"))) {
      if (!field.value && document.activeElement !== field) field.value = name;
    }
  }

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("[data-answer]") : null;
    const choice = document.querySelector("#reply select");
    if (!(link instanceof HTMLElement) || !(choice instanceof HTMLSelectElement)) return;
    event.preventDefault();
    event.stopPropagation();
    const id = link.dataset.answer || "";
    if (![...choice.options].some((option) => option.value === id)) {
      choice.add(new Option(`${link.dataset.name} (#${id})`, id)); // it was written after this page was opened
    }
    choice.value = id;
    const text = document.querySelector("#reply textarea");
    if (text instanceof HTMLElement) text.focus();
  }, true);

  for (const event of ["unwritten:sent", "htmx:after:swap"]) document.addEventListener(event, () => void ask());
  document.addEventListener("unwritten:frame", show);
  void ask();
})();
