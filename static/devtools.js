// @ts-check
/**
 * devtools.js: the developer's tools in a page, only while an app is developed.
 *
 * 1. The panel: the key left of the 1 (`), or the button at the edge. What it shows is drawn by the server.
 * 2. The overlay: what the author's code raised while this page was written, or when it was asked for again.
 * 3. Reload in place: when the server was started again or its files changed, the page is fetched and morphed, so that
 *    scroll, focus, typed text and open <details> stay.
 */
(() => {
  "use strict";

  const own = /** @type {any} */ (globalThis).unwritten;
  const { morph, MARK } = /** @type {any} */ (globalThis).unwrittenMorph ?? {};
  if (!own || !morph) return; // a page without our scripts has nothing to hold on to

  const ADDRESS = new URL("../developer", own.script.src).href;

  /** @param {string} tag @param {object} properties @returns {any} */
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

  /** The key of the page that is shown: the one that its regions name, or its address. */
  function pageKey() {
    const named = /** @type {HTMLElement | null} */ (document.querySelector("[data-page]"));
    return named?.dataset.page || location.pathname + location.search;
  }

  /** A part of the panel, as the server draws it; "" if it cannot be had. @param {Record<string, string>} query */
  async function fetched(query) {
    try {
      const response = await fetch(`${ADDRESS}?${new URLSearchParams({ page: pageKey(), ...query })}`);
      return response.ok ? await response.text() : "";
    } catch {
      return ""; // the server is being started again
    }
  }

  /** @param {Element} place @param {string} html */
  function put(place, html) {
    const draft = make("template", { innerHTML: html });
    morph(place, draft.content);
  }

  // -- the panel ------------------------------------------------------------
  // Outside <body>, where no navigation and no reload in place takes them away.
  const button = make("button", { type: "button", className: "devtools-button", title: "Developer panel: the key left of the 1" });
  button.innerHTML = "Developer <kbd>`</kbd>";
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", "devtools-panel");
  const panel = make("section", { id: "devtools-panel", className: "devtools-panel", hidden: true });
  panel.setAttribute("aria-label", "Developer panel");
  panel.innerHTML =
    '<div class="devtools-bar"><h2 tabindex="-1">Developer</h2><button type="button" class="button plain">Close</button></div>' +
    '<div class="devtools-body"></div>';
  const content = /** @type {HTMLElement} */ (panel.querySelector(".devtools-body"));
  document.documentElement.append(button, panel);
  /** Whoever had the focus before. @type {Element | null} */
  let before = null;
  let timer = 0, drawing = false, again = false;

  /** @param {boolean} shown */
  function show(shown) {
    if (shown === !panel.hidden) return;
    panel.hidden = !shown;
    button.hidden = shown;
    button.setAttribute("aria-expanded", String(shown));
    if (shown) {
      before = document.activeElement;
      panel.querySelector("h2")?.focus();
      draw();
    } else {
      clearTimeout(timer);
      stop();
      if (before instanceof HTMLElement && before.isConnected && before !== document.body) before.focus();
      else button.focus();
    }
  }

  /** Draw the panel, but for canvases whose scrubber was moved: those stay where they are. */
  async function draw() {
    if (panel.hidden || drawing) return void (again = drawing);
    drawing = true;
    clearTimeout(timer);
    const html = await fetched({ bare: "panel" });
    drawing = false;
    if (panel.hidden) return;
    if (!html) return void (timer = window.setTimeout(draw, 1000));
    const fresh = make("template", { innerHTML: html }).content;
    for (const frame of content.querySelectorAll("[data-scrubbed]")) {
      const name = /** @type {HTMLElement} */ (frame).dataset.canvas || "";
      fresh.querySelector(`[data-canvas="${CSS.escape(name)}"]`)?.replaceWith(frame.cloneNode(true));
    }
    morph(content, fresh);
    dress(content);
    if (again || content.querySelector("[data-active]")) timer = window.setTimeout(draw, again ? 0 : 500);
    again = false;
  }

  /** What HTML alone cannot say: how pale a draft is, and where the thumb of a scrubber stands. @param {Element} place */
  function dress(place) {
    for (const stage of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll(".devtools-stage"))) {
      stage.style.setProperty("--unsettled", stage.dataset.unsettled || "0");
    }
    for (const range of /** @type {NodeListOf<HTMLInputElement>} */ (place.querySelectorAll('input[type="range"]'))) {
      const moved = range.closest("[data-scrubbed]");
      if (!moved) range.value = range.getAttribute("value") || "0";
      const form = /** @type {HTMLFormElement} */ (range.form);
      if (!form.querySelector("[data-play]")) {
        const play = make("button", { type: "button", textContent: "Play" });
        play.dataset.play = "";
        form.append(play);
      }
    }
  }

  /** The canvases that are being scrubbed: where each is wanted to be. @type {Map<HTMLElement, string>} */
  const wanted = new Map();

  /** Show another frame of a canvas. While one is on its way, only the last wish counts. @param {HTMLInputElement} range */
  async function scrub(range) {
    const frame = /** @type {HTMLElement} */ (range.closest("[data-canvas]"));
    frame.dataset.scrubbed = "";
    const busy = wanted.has(frame);
    wanted.set(frame, range.value);
    for (let at = ""; !busy && at !== wanted.get(frame); ) {
      at = wanted.get(frame) || "0";
      const html = await fetched({ canvas: frame.dataset.canvas || "", at, bare: "frame" });
      const fresh = html && make("template", { innerHTML: html }).content.querySelector("[data-canvas]");
      if (!fresh) break;
      morph(frame, fresh);
      dress(frame);
    }
    if (!busy) wanted.delete(frame);
  }

  let playing = 0;
  function stop() {
    clearInterval(playing);
    playing = 0;
    for (const play of content.querySelectorAll("[data-play]")) play.textContent = "Play";
  }
  /** Run through the frames of a canvas, in about four seconds. @param {HTMLButtonElement} play */
  function run(play) {
    const range = /** @type {HTMLInputElement} */ (play.form?.querySelector('input[type="range"]'));
    const most = Number(range.max);
    const going = play.textContent === "Stop";
    stop();
    if (going) return;
    play.textContent = "Stop";
    if (Number(range.value) >= most) range.value = "0";
    playing = window.setInterval(() => {
      range.value = String(Number(range.value) + Math.max(1, Math.round(most / 80)));
      scrub(range);
      if (Number(range.value) >= most) stop();
    }, Math.max(50, Math.min(400, 4000 / (most || 1))));
  }

  button.addEventListener("click", () => show(true));
  panel.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    if (!(event.target instanceof HTMLButtonElement)) return;
    if ("play" in event.target.dataset) run(event.target);
    else if (!event.target.form) show(false);
  });
  panel.addEventListener("input", (/** @type {Event} */ event) => {
    if (event.target instanceof HTMLInputElement && event.target.type === "range") scrub(event.target);
  });
  panel.addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());

  /** @param {EventTarget | null} target */
  const typing = (target) =>
    target instanceof HTMLElement && (target.isContentEditable || target.matches("textarea, select, input:not([type=range], [type=checkbox], [type=radio], [type=button], [type=submit])"));

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && overlay) return close();
    if (event.key === "Escape" && !panel.hidden && panel.contains(document.activeElement)) return show(false);
    // The place of the key, and not its sign: on many keyboards it is a dead one.
    if (event.code !== "Backquote" || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || typing(event.target)) return;
    event.preventDefault();
    show(panel.hidden);
  });

  // -- the overlay ------------------------------------------------------------
  /** @type {HTMLElement | null} */
  let overlay = null;

  /** Show what the author's code raised. @param {string} html @param {string} words */
  function complain(html, words) {
    overlay ??= make("section", { className: "devtools-overlay", tabIndex: -1 });
    overlay?.setAttribute("role", "alertdialog");
    overlay?.setAttribute("aria-label", words);
    const open = /** @type {HTMLElement} */ (overlay);
    open.innerHTML = '<header><p></p><button type="button" class="button plain">Close (Escape)</button></header>';
    /** @type {HTMLElement} */ (open.querySelector("p")).textContent = words;
    open.querySelector("button")?.addEventListener("click", close);
    open.append(make("template", { innerHTML: html }).content);
    if (!open.isConnected) {
      document.documentElement.append(open);
      if (!typing(document.activeElement)) open.focus();
    }
  }

  function close() {
    overlay?.remove();
    overlay = null;
  }

  async function lookForFaults() {
    const html = await fetched({ bare: "faults" });
    if (html.includes("devtools-fault")) complain(html, "A part of this page could not be written or drawn.");
  }

  document.addEventListener("unwritten:frame", (event) => {
    const region = /** @type {HTMLElement} */ (event.target);
    if (region.dataset.state === "failed" || region.querySelector(".region-error")) lookForFaults();
  });
  document.addEventListener("unwritten:page", (event) => {
    if (/** @type {CustomEvent} */ (event).detail.state === "failed") lookForFaults();
    draw();
  });
  document.addEventListener("unwritten:written", draw);
  document.addEventListener("htmx:after:swap", () => (close(), stop(), content.replaceChildren(), draw()));

  // -- reload in place ------------------------------------------------------------
  // Down: the server is away, and what comes back may be another one.
  let refreshing = false, stale = false, down = false, leaving = false, retry = 0;

  async function refresh() {
    if (refreshing) return void (stale = true);
    refreshing = true;
    try {
      // The server may still be on its way up: its socket is held open for it, so this waits as long as it takes.
      const response = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const faults = response.status >= 500 && fresh.querySelector(".devtools-fault");
      down = response.status === 503 && !!faults; // nobody is there but who tells why
      if (faults) complain([...fresh.querySelectorAll(".devtools-fault")].map((fault) => fault.outerHTML).join(""), "This page does not work any more. What is below is how it was before.");
      else take(fresh);
    } catch {
      down = true;
    } finally {
      refreshing = false;
      clearTimeout(retry);
      if (stale) (stale = false), refresh();
      else if (down && !leaving) retry = window.setTimeout(refresh, 1000);
    }
  }

  /** @param {Document} fresh */
  function take(fresh) {
    const ours = sources(document), theirs = sources(fresh);
    if (theirs.some((source) => !ours.includes(source))) return location.reload(); // a script cannot be taken back
    close();
    swapStyles(fresh);
    document.title = fresh.title;
    if (/** @type {any} */ (window).htmx) fresh.querySelectorAll("a[href]").forEach((link) => link.setAttribute(MARK, "true"));
    morph(document.body, fresh.body);
    own.boost(document.body);
    own.scan();
    document.dispatchEvent(new CustomEvent("unwritten:refreshed"));
    if (document.querySelector('[data-region][data-state="failed"]')) lookForFaults();
    draw();
  }

  /** @param {Document} page */
  const sources = (page) => [...page.head.querySelectorAll("script[src]")].map((script) => script.getAttribute("src") || "").filter((source) => source.startsWith("/"));

  /** Style sheets are changed one for one: the old one goes when the new one is there. @param {Document} fresh */
  function swapStyles(fresh) {
    const sheets = (/** @type {Document} */ page) =>
      /** @type {HTMLLinkElement[]} */ ([...page.querySelectorAll('link[rel="stylesheet"]')]);
    const had = new Map(sheets(document).map((sheet) => [sheet.getAttribute("href") || "", sheet]));
    for (const sheet of sheets(fresh)) {
      const address = sheet.getAttribute("href") || "";
      if (had.delete(address) || !fresh.head.contains(sheet)) continue;
      const [name] = address.split("?");
      const old = [...had].find(([other]) => other.split("?")[0] === name);
      const link = make("link", { rel: "stylesheet", href: address });
      if (old) {
        had.delete(old[0]);
        link.onload = link.onerror = () => old[1].remove();
        old[1].after(link);
      } else document.head.append(link);
    }
    for (const sheet of had.values()) if (document.head.contains(sheet)) sheet.remove();
  }

  addEventListener("pagehide", () => (leaving = true));
  addEventListener("pageshow", () => (leaving = false));
  document.addEventListener("unwritten:close", (event) => {
    if (leaving || /** @type {CustomEvent} */ (event).detail.code === 1000) return;
    down = true;
    refresh();
  });
  own.on("refresh", refresh);
  own.reload = refresh;
  own.hold("developer", true);

  if (document.querySelector('[data-region][data-state="failed"]')) lookForFaults();
})();
