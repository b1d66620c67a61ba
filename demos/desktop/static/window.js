// @ts-check
/**
 * window.js: what every page of the machine does for itself. It runs before the page is drawn, so that a page in a window
 * never shows the masthead that it has when it stands alone.
 */
(() => {
  "use strict";
  const root = document.documentElement;
  if (window !== top) root.classList.add("framed");

  // What is set in Settings holds at once, on the page where it is set and on the desktop.
  function dress() {
    const look = document.getElementById("look");
    if (look) for (const name of ["scheme", "accent", "text"]) root.dataset[name] = look.dataset[name];
  }

  // A terminal follows what it says.
  function follow() {
    if (document.querySelector("[data-follow]")) scrollTo(0, root.scrollHeight);
  }

  for (const name of ["unwritten:frame", "unwritten:sent", "DOMContentLoaded", "htmx:after:swap"]) {
    document.addEventListener(name, () => (dress(), follow()));
  }

  document.addEventListener("keydown", (event) => {
    const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-save]"));
    if (!form || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "s") return;
    event.preventDefault();
    form.requestSubmit();
  });

  // What is written on is what is typed, not what was kept.
  document.addEventListener("submit", (event) => {
    const hidden = event.target instanceof HTMLFormElement && event.target.querySelector("input[type=hidden][name=text]");
    const typed = document.querySelector("form[data-save] textarea");
    if (hidden instanceof HTMLInputElement && typed instanceof HTMLTextAreaElement) hidden.value = typed.value;
  }, true);
})();
