// @ts-check
/**
 * forum.js: marks your votes, and fills in the reply form. Everything works without it.
 *
 * 1. A page is the same for all visitors, so your own votes and your name are fetched separately.
 * 2. "Reply" selects the post in the form at the end of the page and moves the focus there.
 */
(() => {
  "use strict";

  const { url } = /** @type {any} */ (globalThis).unwritten;
  let name = "";
  /** The posts that this visitor voted for. @type {Set<string>} */
  let votes = new Set();

  async function fetchOwn() {
    if (!document.querySelector("[data-vote], [data-my-name]")) return;
    const response = await fetch(url("/you"), { headers: { accept: "application/json" } }).catch(() => null);
    if (!response?.ok) return;
    const own = await response.json();
    name = own.name;
    votes = new Set(own.votes);
    show();
  }

  function show() {
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-vote]"))) {
      button.setAttribute("aria-pressed", String(votes.has(button.dataset.vote || "")));
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
      choice.add(new Option(`${link.dataset.name} (#${id})`, id)); // the post was written after this page was opened
    }
    choice.value = id;
    const text = document.querySelector("#reply textarea");
    if (text instanceof HTMLElement) text.focus();
  }, true);

  for (const event of ["unwritten:sent", "htmx:after:swap"]) document.addEventListener(event, () => void fetchOwn());
  document.addEventListener("unwritten:frame", show);
  void fetchOwn();
})();
