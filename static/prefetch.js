// @ts-check
/**
 * prefetch.js: says what is being read, so that the likeliest next pages are written before they are clicked.
 *
 * While a finished page with links to unwritten pages is shown, and somebody can see it, the server is told which of
 * these links are in view, and on which one the pointer or the keyboard rests. It decides what to write. When a page
 * behind a link is ready, the link turns blue, and nothing moves. A hidden tab, and a reader who saves data, say nothing.
 *
 * Not loaded where nothing is written ahead.
 */
(() => {
  "use strict";

  /** @type {{send: (message: object) => void, on: (type: string, listener: (message: any) => void) => void,
   *   hold: (who: string, wanted: boolean) => void}} */
  const { send, on, hold } = /** @type {any} */ (globalThis).unwritten;
  const LINK = '[data-region] a.unwritten[href^="/"]';
  const UNFINISHED = '[data-region]:is([data-state="waiting"], [data-state="writing"]), [data-colophon]:has([data-stop])';
  const MOST = 24, LONGEST = 6000; // links in a message, and characters
  const REST = 80; // milliseconds on a link that are no passing over it
  const PAUSE = 200; // milliseconds between two messages

  /** The page that the server knows to be near; "" for none. */
  let page = "", said = "";
  let timer = 0, resting = 0;
  /** @type {string | null} */
  let hover = null;
  /** @type {string | null} */
  let press = null;
  const inView = /** @type {Set<Element>} */ (new Set());

  /** The key of the page behind a link: its address without the server's signature. @param {Element} link */
  const key = (link) =>
    (link.getAttribute("href") || "").replace(/#.*/, "").replace(/([?&])_s=[^&]*&?/, "$1").replace(/[?&]$/, "");

  /** @param {EventTarget | null} target @returns {Element | null} */
  const linkAt = (target) => (target instanceof Element ? target.closest(LINK) : null);

  const savesData = () =>
    /** @type {any} */ (navigator).connection?.saveData || matchMedia("(prefers-reduced-data: reduce)").matches;

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) isIntersecting ? inView.add(target) : inView.delete(target);
    soon();
  });

  /** Look at the document: which page is it, and is there anything to write ahead? */
  function look() {
    const links = document.querySelectorAll(LINK);
    const shown = /** @type {HTMLElement | null} */ (document.querySelector("[data-region][data-page]"))?.dataset.page || "";
    const wanted = shown && links.length && !document.hidden && !savesData() && !document.querySelector(UNFINISHED);
    if (page && page !== shown) hover = press = null;
    if (page && !wanted) send({ type: "away", page });
    page = wanted ? shown : "";
    said = "";
    seen.disconnect();
    inView.clear();
    if (page) links.forEach((link) => seen.observe(link)); // which soon calls back
    hold("ahead", Boolean(page));
  }

  const soon = () => (timer ||= window.setTimeout(tell, PAUSE));

  function tell() {
    clearTimeout(timer);
    timer = 0;
    if (!page) return;
    const keys = new Set([...document.querySelectorAll(LINK)].filter((link) => inView.has(link)).map(key));
    const links = [...keys].slice(0, MOST);
    while (links.join().length > LONGEST) links.pop();
    const message = { type: "near", page, links, hover, press };
    if (said === (said = JSON.stringify(message))) return;
    send(message);
  }

  /** @param {string | null} link */
  function rest(link) {
    clearTimeout(resting);
    if (link === hover) return;
    resting = window.setTimeout(() => ((hover = link), soon()), REST);
  }

  // -- the reader ------------------------------------------------------------
  for (const name of ["pointerover", "focusin"]) {
    document.addEventListener(name, ({ target }) => {
      const link = linkAt(target);
      rest(link && key(link));
    });
  }
  document.addEventListener("pointerdown", (event) => {
    const link = event.button === 0 && linkAt(event.target);
    if (!link) return;
    press = key(link);
    tell(); // a finger goes down a tenth of a second before there is a click
    setTimeout(() => (press = null), 1000);
  });
  document.addEventListener("visibilitychange", look);

  // -- the server ------------------------------------------------------------
  on("written", (/** @type {{links: string[]}} */ { links }) => {
    const ready = new Set(links);
    for (const link of document.querySelectorAll("a.unwritten")) {
      if (ready.has(key(link))) link.classList.replace("unwritten", "written");
    }
    if (page && !document.querySelector(LINK)) look(); // nothing is left to write
  });

  // A new socket knows nothing of what was said to the last one.
  document.addEventListener("unwritten:open", () => ((said = ""), soon()));

  // A page is finished, or another one has taken the body's place.
  document.addEventListener("unwritten:page", look);
  const swapped = new MutationObserver(watch);
  function watch() {
    for (const element of [document.documentElement, document.body]) swapped.observe(element, { childList: true });
    look();
  }
  watch();
})();
