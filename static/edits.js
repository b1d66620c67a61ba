// @ts-check
/**
 * edits.js: a page that visitors may change.
 *
 * 1. It is looked at for as long as it is shown, so that what one of them changes is changed before the eyes of all who
 *    read it.
 * 2. A link that {{ edit_link("lead") }} wrote opens the forms of its region in the page, under the region: they are those
 *    of the edit page, fetched from there. Escape, or the link again, closes them; what was typed is kept until then.
 *
 * Without it, a reader sees changes with the next load, and the links lead to the edit page.
 */
(() => {
  "use strict";

  const { look, announce } = /** @type {any} */ (globalThis).unwritten;
  const CHANGEABLE = "[data-colophon][data-page]:has([data-editable])"; // not while it is written, and no old version

  function find() {
    const found = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(CHANGEABLE));
    look("edits", [...found].map(({ dataset }) => dataset.page || ""));
  }

  for (const name of ["unwritten:page", "htmx:after:swap"]) document.addEventListener(name, find);
  find();

  // -- forms in the page ------------------------------------------------------------

  /** @param {HTMLAnchorElement} link */
  const opened = (link) => (link.nextElementSibling?.matches("[data-inline-edit]") ? link.nextElementSibling : null);

  /** @param {HTMLAnchorElement} link */
  function close(link) {
    opened(link)?.remove();
    link.removeAttribute("aria-expanded");
    link.focus();
  }

  /** @param {HTMLAnchorElement} link */
  async function open(link) {
    link.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(link.href, { headers: { accept: "text/html" } });
      const forms = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("section.edit");
      if (!response.ok || !forms) throw new Error(`The forms could not be had (${response.status}).`);
      if (opened(link)) return;
      const place = document.createElement("div");
      place.className = "inline-edit";
      place.dataset.inlineEdit = "";
      place.append(document.adoptNode(forms));
      link.after(place);
      link.setAttribute("aria-expanded", "true");
      place.querySelector("textarea")?.focus();
      announce("The forms are open. Escape closes them.", `edit ${link.href} ${Date.now()}`);
    } catch {
      location.assign(link.href); // the edit page says what is in the way
    } finally {
      link.removeAttribute("aria-busy");
    }
  }

  // Before htmx hears of it, which would fetch the edit page in place of this one.
  document.addEventListener(
    "click",
    (event) => {
      const link = /** @type {HTMLAnchorElement | null} */ (
        event.target instanceof Element ? event.target.closest("a[data-edit-link]") : null
      );
      if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      if (opened(link)) close(link);
      else if (!link.hasAttribute("aria-busy")) void open(link);
    },
    true,
  );

  document.addEventListener("keydown", (event) => {
    const place = event.target instanceof Element ? event.target.closest("[data-inline-edit]") : null;
    const link = place?.previousElementSibling;
    if (event.key !== "Escape" || event.isComposing || !(link instanceof HTMLAnchorElement)) return;
    event.preventDefault();
    close(link);
  });
})();
