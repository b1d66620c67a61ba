// @ts-check
/**
 * edits.js: pages that visitors may edit.
 *
 * 1. Such a page is followed while it is shown, so that all readers see an edit at once.
 * 2. A link made by {{ edit_link("lead") }} opens the edit forms of its region inline, fetched from the edit page.
 *    Escape, or the link again, closes them.
 *
 * Without this script, readers see edits on the next load, and the links lead to the edit page.
 */
(() => {
  "use strict";

  const { follow, announce, text } = /** @type {any} */ (globalThis).unwritten;
  const EDITABLE = "[data-colophon][data-page]:has([data-editable])"; // not while it is written, and not an old version

  function followEditable() {
    const found = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(EDITABLE));
    follow("edits", [...found].map(({ dataset }) => dataset.page || ""));
  }

  for (const name of ["unwritten:page", "htmx:after:swap"]) document.addEventListener(name, followEditable);
  followEditable();

  // -- inline forms ------------------------------------------------------------

  /** Return the open forms of a link, or null. @param {HTMLAnchorElement} link */
  const formsOf = (link) => (link.nextElementSibling?.matches("[data-inline-edit]") ? link.nextElementSibling : null);

  /** @param {HTMLAnchorElement} link */
  function close(link) {
    formsOf(link)?.remove();
    link.removeAttribute("aria-expanded");
    link.focus();
  }

  /** @param {HTMLAnchorElement} link */
  async function open(link) {
    link.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(link.href, { headers: { accept: "text/html" } });
      const forms = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("section.edit");
      if (!response.ok || !forms) throw new Error(`HTTP ${response.status}`);
      if (formsOf(link)) return;
      const container = document.createElement("div");
      container.className = "inline-edit";
      container.dataset.inlineEdit = "";
      container.append(document.adoptNode(forms));
      link.after(container);
      link.setAttribute("aria-expanded", "true");
      container.querySelector("textarea")?.focus();
      announce(text("editOpen"), `edit ${link.href} ${Date.now()}`);
    } catch {
      location.assign(link.href); // the edit page shows the error
    } finally {
      link.removeAttribute("aria-busy");
    }
  }

  // In the capture phase, before htmx, which would replace this page with the edit page.
  document.addEventListener(
    "click",
    (event) => {
      const link = /** @type {HTMLAnchorElement | null} */ (
        event.target instanceof Element ? event.target.closest("a[data-edit-link]") : null
      );
      if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      if (formsOf(link)) close(link);
      else if (!link.hasAttribute("aria-busy")) void open(link);
    },
    true,
  );

  document.addEventListener("keydown", (event) => {
    const container = event.target instanceof Element ? event.target.closest("[data-inline-edit]") : null;
    const link = container?.previousElementSibling;
    if (event.key !== "Escape" || event.isComposing || !(link instanceof HTMLAnchorElement)) return;
    event.preventDefault();
    close(link);
  });
})();
