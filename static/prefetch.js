// @ts-check
/**
 * prefetch.js: tells the server what is being read, so that likely next pages are generated before they are clicked.
 *
 * While a finished page with links to unwritten pages is visible, the server is told which of these links are in view,
 * and which one the pointer or the keyboard focus rests on. The server decides what to generate. When the page behind a
 * link is ready, the link changes its colour, and nothing moves. Hidden tabs, and readers who save data, send nothing.
 *
 * Loaded only where prefetching is on.
 */
(() => {
  "use strict";

  /** @type {{send: (message: object) => void, on: (type: string, listener: (message: any) => void) => void,
   *   keepOpen: (name: string, wanted: boolean) => void, key: (path: string) => string | null}} */
  const { send, on, keepOpen, key } = /** @type {any} */ (globalThis).unwritten;
  const LINK = '[data-region] a.unwritten[href^="/"]';
  const UNFINISHED = '[data-region]:is([data-state="waiting"], [data-state="writing"]), [data-colophon]:has([data-stop])';
  const MAX_LINKS = 24, MAX_LENGTH = 6000; // in one message
  const HOVER_TIME = 80; // milliseconds on a link that count as resting on it
  const INTERVAL = 200; // milliseconds between two messages

  /** The page that the server knows to be visible; "" for none. */
  let page = "", lastMessage = "";
  let timer = 0, hoverTimer = 0;
  /** @type {string | null} */
  let hover = null;
  /** @type {string | null} */
  let press = null;
  const inView = /** @type {Set<Element>} */ (new Set());

  /** Return the key of the page behind a link, without its signature; "" outside of the app. @param {Element} link */
  const keyOf = (link) =>
    (key(link.getAttribute("href") || "") || "").replace(/([?&])_s=[^&]*&?/, "$1").replace(/[?&]$/, "");

  /** @param {EventTarget | null} target @returns {Element | null} */
  const linkAt = (target) => (target instanceof Element ? target.closest(LINK) : null);

  const savesData = () =>
    /** @type {any} */ (navigator).connection?.saveData || matchMedia("(prefers-reduced-data: reduce)").matches;

  const intersections = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) isIntersecting ? inView.add(target) : inView.delete(target);
    sendSoon();
  });

  /** Look at the document: which page is shown, and does it have links to unwritten pages? */
  function update() {
    const links = document.querySelectorAll(LINK);
    const shown = /** @type {HTMLElement | null} */ (document.querySelector("[data-region][data-page]"))?.dataset.page || "";
    const wanted = shown && links.length && !document.hidden && !savesData() && !document.querySelector(UNFINISHED);
    if (page && page !== shown) hover = press = null;
    if (page && !wanted) send({ type: "hide", page });
    page = wanted ? shown : "";
    lastMessage = "";
    intersections.disconnect();
    inView.clear();
    if (page) links.forEach((link) => intersections.observe(link)); // it calls back at once
    keepOpen("prefetch", Boolean(page));
  }

  const sendSoon = () => (timer ||= window.setTimeout(sendView, INTERVAL));

  function sendView() {
    clearTimeout(timer);
    timer = 0;
    if (!page) return;
    const keys = new Set([...document.querySelectorAll(LINK)].filter((link) => inView.has(link)).map(keyOf));
    keys.delete("");
    const links = [...keys].slice(0, MAX_LINKS);
    while (links.join().length > MAX_LENGTH) links.pop();
    const message = { type: "view", page, links, hover, press };
    if (lastMessage === (lastMessage = JSON.stringify(message))) return;
    send(message);
  }

  /** @param {string | null} link */
  function setHover(link) {
    clearTimeout(hoverTimer);
    if (link === hover) return;
    hoverTimer = window.setTimeout(() => ((hover = link), sendSoon()), HOVER_TIME);
  }

  // -- from the reader ------------------------------------------------------------
  for (const name of ["pointerover", "focusin"]) {
    document.addEventListener(name, ({ target }) => {
      const link = linkAt(target);
      setHover(link && (keyOf(link) || null));
    });
  }
  document.addEventListener("pointerdown", (event) => {
    const link = event.button === 0 && linkAt(event.target);
    if (!link) return;
    press = keyOf(link) || null;
    sendView(); // about a tenth of a second before the click
    setTimeout(() => (press = null), 1000);
  });
  document.addEventListener("visibilitychange", update);

  // -- from the server ------------------------------------------------------------
  on("written", (/** @type {{links: string[]}} */ { links }) => {
    const ready = new Set(links);
    for (const link of document.querySelectorAll("a.unwritten")) {
      if (ready.has(keyOf(link))) link.classList.replace("unwritten", "written");
    }
    if (page && !document.querySelector(LINK)) update(); // no unwritten links are left
  });

  // A new socket knows nothing of what the last one was told.
  document.addEventListener("unwritten:open", () => ((lastMessage = ""), sendSoon()));

  // A page is finished, or another one has replaced the body.
  document.addEventListener("unwritten:page", update);
  const observer = new MutationObserver(observe);
  function observe() {
    for (const element of [document.documentElement, document.body]) observer.observe(element, { childList: true });
    update();
  }
  observe();
})();
