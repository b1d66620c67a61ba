// @ts-check
/**
 * window.js: runs in every page, before the page is rendered, so that a page inside a window never shows its header.
 */
(() => {
  "use strict";
  const root = document.documentElement;
  if (window !== top) root.classList.add("framed");

  // Apply the settings at once, on the settings page and on the desktop.
  function applyLook() {
    const look = document.getElementById("look");
    if (look) for (const name of ["scheme", "accent", "text"]) root.dataset[name] = look.dataset[name];
  }

  // A terminal scrolls to its end.
  function scrollToEnd() {
    if (document.querySelector("[data-follow]")) scrollTo(0, root.scrollHeight);
  }

  for (const name of ["unwritten:frame", "unwritten:sent", "DOMContentLoaded", "htmx:after:swap"]) {
    document.addEventListener(name, () => (applyLook(), scrollToEnd()));
  }

  document.addEventListener("keydown", (event) => {
    const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-save]"));
    if (!form || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "s") return;
    event.preventDefault();
    form.requestSubmit();
  });

  // Continue the text that is in the editor, not the saved one.
  document.addEventListener("submit", (event) => {
    const hidden = event.target instanceof HTMLFormElement && event.target.querySelector("input[type=hidden][name=text]");
    const typed = document.querySelector("form[data-save] textarea");
    if (hidden instanceof HTMLInputElement && typed instanceof HTMLTextAreaElement) hidden.value = typed.value;
  }, true);
})();
