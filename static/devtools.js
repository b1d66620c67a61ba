// @ts-check
/**
 * devtools.js: the developer tools in a page. Loaded only during development.
 *
 * 1. The panel opens with the key left of the 1 (`), or with the button at the edge. The server renders its content.
 * 2. The overlay shows what the author's code raised while this page was written or requested.
 * 3. Live reload: when the server was restarted or its files changed, the page is fetched again and morphed, so that
 *    scroll position, focus, typed text and open <details> survive.
 */
(() => {
  "use strict";

  const own = /** @type {any} */ (globalThis).unwritten;
  const { morph } = /** @type {any} */ (globalThis).unwrittenMorph ?? {};
  if (!own || !morph) return; // a page without the framework's scripts

  const PANEL_URL = own.url("/_unwritten/developer");

  /** @param {string} tag @param {object} properties @returns {any} */
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

  /** Return the key of the page that is shown, from its regions or from its address. */
  function pageKey() {
    const element = /** @type {HTMLElement | null} */ (document.querySelector("[data-page]"));
    return element?.dataset.page || own.key(location.pathname + location.search) || "/";
  }

  /** Fetch a part of the panel as HTML; "" if it is not available. @param {Record<string, string>} query */
  async function fetchPart(query) {
    try {
      const response = await fetch(`${PANEL_URL}?${new URLSearchParams({ page: pageKey(), ...query })}`);
      return response.ok ? await response.text() : "";
    } catch {
      return ""; // the server is restarting
    }
  }

  // -- panel ------------------------------------------------------------
  // Outside <body>, so that navigation and live reload do not replace them.
  const button = make("button", { type: "button", className: "devtools-button", dir: "ltr", title: "Developer tools (key left of the 1)" });
  button.innerHTML = "Developer <kbd>`</kbd>";
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", "devtools-panel");
  const panel = make("section", { id: "devtools-panel", className: "devtools-panel", dir: "ltr", hidden: true });
  panel.setAttribute("aria-label", "Developer tools");
  panel.innerHTML =
    '<div class="devtools-bar"><h2 tabindex="-1">Developer tools</h2><button type="button" class="button plain">Close</button></div>' +
    '<div class="devtools-body"></div>';
  const content = /** @type {HTMLElement} */ (panel.querySelector(".devtools-body"));
  document.documentElement.append(button, panel);
  /** The element that had the focus before the panel opened. @type {Element | null} */
  let focusedBefore = null;
  let timer = 0, updating = false, outdated = false;

  /** Open or close the panel. @param {boolean} open */
  function toggle(open) {
    if (open === !panel.hidden) return;
    panel.hidden = !open;
    button.hidden = open;
    button.setAttribute("aria-expanded", String(open));
    if (open) {
      focusedBefore = document.activeElement;
      panel.querySelector("h2")?.focus();
      update();
    } else {
      clearTimeout(timer);
      stopPlaying();
      if (focusedBefore instanceof HTMLElement && focusedBefore.isConnected && focusedBefore !== document.body) focusedBefore.focus();
      else button.focus();
    }
  }

  /** Update the panel. Canvases whose slider was moved keep their frame. */
  async function update() {
    if (panel.hidden || updating) return void (outdated = updating);
    updating = true;
    clearTimeout(timer);
    const html = await fetchPart({ bare: "panel" });
    updating = false;
    if (panel.hidden) return;
    if (!html) return void (timer = window.setTimeout(update, 1000));
    const fresh = make("template", { innerHTML: html }).content;
    for (const frame of content.querySelectorAll("[data-scrubbed]")) {
      const name = /** @type {HTMLElement} */ (frame).dataset.canvas || "";
      fresh.querySelector(`[data-canvas="${CSS.escape(name)}"]`)?.replaceWith(frame.cloneNode(true));
    }
    morph(content, fresh);
    finish(content);
    if (outdated || content.querySelector("[data-active]")) timer = window.setTimeout(update, outdated ? 0 : 500);
    outdated = false;
  }

  /** Set what HTML cannot express: styles, the position of sliders, and buttons that need JavaScript. @param {Element} root */
  function finish(root) {
    for (const stage of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(".devtools-stage"))) {
      stage.style.setProperty("--unsettled", stage.dataset.unsettled || "0");
    }
    for (const range of /** @type {NodeListOf<HTMLInputElement>} */ (root.querySelectorAll('input[type="range"]'))) {
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

  /** The frame to show, of each canvas whose slider is being moved. @type {Map<HTMLElement, string>} */
  const wanted = new Map();

  /** Show another frame of a canvas. While one is being fetched, only the last position counts. @param {HTMLInputElement} range */
  async function scrub(range) {
    const frame = /** @type {HTMLElement} */ (range.closest("[data-canvas]"));
    frame.dataset.scrubbed = "";
    const busy = wanted.has(frame);
    wanted.set(frame, range.value);
    for (let at = ""; !busy && at !== wanted.get(frame); ) {
      at = wanted.get(frame) || "0";
      const html = await fetchFrame(/** @type {HTMLFormElement} */ (range.form), at);
      const fresh = html && make("template", { innerHTML: html }).content.querySelector("[data-canvas]");
      if (!fresh) break;
      morph(frame, fresh);
      finish(frame);
    }
    if (!busy) wanted.delete(frame);
  }

  /** Fetch what a slider's form would show; "" if it is not available. @param {HTMLFormElement} form @param {string} at */
  async function fetchFrame(form, at) {
    const query = new URLSearchParams(/** @type {any} */ (new FormData(form)));
    query.set("at", at);
    query.set("bare", "frame");
    try {
      const response = await fetch(`${form.action.split("#")[0]}?${query}`);
      return response.ok ? await response.text() : "";
    } catch {
      return "";
    }
  }

  let playing = 0;
  function stopPlaying() {
    clearInterval(playing);
    playing = 0;
    for (const play of document.querySelectorAll("[data-play]")) play.textContent = "Play";
  }
  /** Play the frames of a canvas, in about four seconds. @param {HTMLButtonElement} play */
  function togglePlaying(play) {
    const range = /** @type {HTMLInputElement} */ (play.form?.querySelector('input[type="range"]'));
    const last = Number(range.max);
    const wasPlaying = play.textContent === "Stop";
    stopPlaying();
    if (wasPlaying) return;
    play.textContent = "Stop";
    if (Number(range.value) >= last) range.value = "0";
    playing = window.setInterval(() => {
      range.value = String(Number(range.value) + Math.max(1, Math.round(last / 80)));
      scrub(range);
      if (Number(range.value) >= last) stopPlaying();
    }, Math.max(50, Math.min(400, 4000 / (last || 1))));
  }

  button.addEventListener("click", () => toggle(true));
  panel.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    if (event.target instanceof HTMLButtonElement && !event.target.form) toggle(false);
  });
  // Sliders are in the panel and in the gallery.
  document.addEventListener("click", (event) => {
    if (event.target instanceof HTMLButtonElement && "play" in event.target.dataset) togglePlaying(event.target);
  });
  document.addEventListener("input", (event) => {
    if (event.target instanceof HTMLInputElement && event.target.closest(".devtools-scrubber")) scrub(event.target);
  });
  document.addEventListener("submit", (event) => {
    if (event.target instanceof HTMLElement && event.target.matches(".devtools-scrubber")) event.preventDefault();
  }, true);
  const gallery = document.querySelector(".devtools-gallery");
  if (gallery) finish(gallery);

  /** True if keys pressed in an element are text. @param {EventTarget | null} target */
  const takesText = (target) =>
    target instanceof HTMLElement && (target.isContentEditable || target.matches("textarea, select, input:not([type=range], [type=checkbox], [type=radio], [type=button], [type=submit])"));

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && overlay) return closeOverlay();
    if (event.key === "Escape" && !panel.hidden && panel.contains(document.activeElement)) return toggle(false);
    // By the position of the key: on many keyboards its character is a dead key.
    if (event.code !== "Backquote" || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || takesText(event.target)) return;
    event.preventDefault();
    toggle(panel.hidden);
  });

  // -- overlay ------------------------------------------------------------
  /** @type {HTMLElement | null} */
  let overlay = null;

  /** Show what the author's code raised. @param {string} html @param {string} label */
  function showOverlay(html, label) {
    overlay ??= make("section", { className: "devtools-overlay", dir: "ltr", tabIndex: -1 });
    overlay?.setAttribute("role", "alertdialog");
    overlay?.setAttribute("aria-label", label);
    const open = /** @type {HTMLElement} */ (overlay);
    open.innerHTML = '<header><p></p><button type="button" class="button plain">Close (Esc)</button></header>';
    /** @type {HTMLElement} */ (open.querySelector("p")).textContent = label;
    open.querySelector("button")?.addEventListener("click", closeOverlay);
    open.append(make("template", { innerHTML: html }).content);
    if (!open.isConnected) {
      document.documentElement.append(open);
      if (!takesText(document.activeElement)) open.focus();
    }
  }

  function closeOverlay() {
    overlay?.remove();
    overlay = null;
  }

  async function showErrors() {
    const html = await fetchPart({ bare: "errors" });
    if (html.includes("devtools-error")) showOverlay(html, "A part of this page could not be written or rendered.");
  }

  document.addEventListener("unwritten:frame", (event) => {
    const region = /** @type {HTMLElement} */ (event.target);
    if (region.dataset.state === "failed" || region.querySelector(".region-error")) showErrors();
  });
  document.addEventListener("unwritten:page", (event) => {
    if (/** @type {CustomEvent} */ (event).detail.state === "failed") showErrors();
    update();
  });
  document.addEventListener("unwritten:written", update);
  document.addEventListener("htmx:after:swap", () => (closeOverlay(), stopPlaying(), content.replaceChildren(), update()));

  // -- live reload ------------------------------------------------------------
  // down: the server is unreachable, and may have changed when it is back.
  let refreshing = false, stale = false, down = false, leaving = false, retry = 0;

  async function refresh() {
    if (refreshing) return void (stale = true);
    refreshing = true;
    try {
      // While the server restarts its listening socket stays open, so this waits until it is ready.
      const response = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const broken = response.status >= 500 && fresh.querySelector(".devtools-error");
      down = response.status === 503 && !!broken; // the app cannot start; the reloader answers for it
      if (broken) showOverlay([...fresh.querySelectorAll(".devtools-error")].map((error) => error.outerHTML).join(""), "This page raises an error now. Behind this message is its last version.");
      else replaceWith(fresh);
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
  function replaceWith(fresh) {
    const current = scriptsOf(document);
    if (scriptsOf(fresh).some((source) => !current.includes(source))) return location.reload(); // a script cannot be unloaded
    closeOverlay();
    swapStyles(fresh);
    document.title = fresh.title;
    if (/** @type {any} */ (window).htmx) own.markLinks(fresh);
    morph(document.body, fresh.body);
    own.boost(document.body);
    own.scan();
    document.dispatchEvent(new CustomEvent("unwritten:refreshed"));
    if (document.querySelector('[data-region][data-state="failed"]')) showErrors();
    update();
  }

  /** @param {Document} page */
  const scriptsOf = (page) =>
    [...page.head.querySelectorAll("script[src]")].map((script) => script.getAttribute("src") || "").filter((source) => source.startsWith("/"));

  /** Replace changed style sheets. Each old one is removed when the new one has loaded. @param {Document} fresh */
  function swapStyles(fresh) {
    const sheets = (/** @type {Document} */ page) =>
      /** @type {HTMLLinkElement[]} */ ([...page.querySelectorAll('link[rel="stylesheet"]')]);
    const current = new Map(sheets(document).map((sheet) => [sheet.getAttribute("href") || "", sheet]));
    for (const sheet of sheets(fresh)) {
      const address = sheet.getAttribute("href") || "";
      if (current.delete(address) || !fresh.head.contains(sheet)) continue;
      const [name] = address.split("?");
      const old = [...current].find(([other]) => other.split("?")[0] === name);
      const link = make("link", { rel: "stylesheet", href: address });
      if (old) {
        current.delete(old[0]);
        link.onload = link.onerror = () => old[1].remove();
        old[1].after(link);
      } else document.head.append(link);
    }
    for (const sheet of current.values()) if (document.head.contains(sheet)) sheet.remove();
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
  own.keepOpen("devtools", true);

  if (document.querySelector('[data-region][data-state="failed"]')) showErrors();
})();
