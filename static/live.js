// @ts-check
/**
 * live.js: shows a page while it is being written.
 *
 * 1. Finds the regions of the document that are not finished, and opens one WebSocket for all of them.
 * 2. Each frame holds the complete inner HTML of a region. At most once per animation frame, the latest one is morphed
 *    into place (morph.js), so that focus, selection, scroll position, typed text and open <details> survive.
 * 3. When the page is finished, its colophon is replaced. The socket closes after a while.
 *
 * Pages work without this script: HTTP is authoritative (KEY?plain=1), and the socket only makes it faster. If htmx
 * loads, navigation is boosted and pages are preloaded, and the socket stays open from page to page.
 *
 * Keys and URLs: a page's key never holds the prefix under which the app is mounted (data-root on this script's tag).
 * `unwritten.url(key)` adds it, `unwritten.key(url)` removes it, and is null for a URL that leads to no page of the app.
 *
 * Events for authors and tests. On a region, bubbling: unwritten:frame and unwritten:written (detail: the message).
 * On document: unwritten:page (detail: {page, state, message}), unwritten:open, unwritten:close (detail: {code}) and
 * unwritten:error (detail: {message}).
 *
 * The global `unwritten` serves the other scripts of the framework:
 *   url(key), key(url)     convert between keys and URLs
 *   text(name, values)     returns a text for visitors in the language of the page
 *   send(message)          sends a message if the socket is open
 *   on(type, listener)     listens to messages of other types
 *   keepOpen(name, on)     keeps the socket open even if no page is being written
 *   scan()                 looks for unfinished regions again
 *   keepNewer(fresh)       keeps regions on the page that are newer than those in `fresh`
 *   receive(message)       handles a message as if the socket had received it
 *   announce(text, id)     tells screen readers something, once for each id
 *   boost(element)         lets htmx process an element
 *   navigate(url, near)    follows a URL as a click on a link would
 *   load(src, hash, then)  loads a script
 *   reload()               loads the page again; other scripts may replace it
 *
 * Stopping is a button ([data-stop]) and not the Escape key, because all visitors of a page share one job, and Escape has
 * other uses, such as closing a menu.
 */
(() => {
  "use strict";

  /**
   * @typedef {{type: "frame", page: string, region: string, frame: number, state: string, html: string,
   *   canvas?: number, canvases?: number, step?: number, steps?: number, unsettled?: number}} FrameMessage
   * @typedef {{type: "page", page: string, state: string, message?: string, colophon?: string, title?: string}} PageMessage
   * @typedef {{type: "refused", message: string}} RefusedMessage
   * @typedef {{type: "restart", page: string, regions: string[]}} RestartMessage
   */

  /** @type {{morph: (target: Node, source: Node) => void, MARK: string}} */
  const { morph, MARK } = /** @type {any} */ (globalThis).unwrittenMorph;
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  const ROOT = script.dataset.root || "";
  const UNFINISHED = '[data-region][data-page]:is([data-state="waiting"], [data-state="writing"])';
  const IN_PROGRESS = "[data-colophon][data-page]:has([data-stop])"; // all regions may be finished before the page is stored
  const END_STATES = new Set(["written", "stopped", "failed", "unwritten"]);

  /** Return a text for visitors, by its name in rendering/script_texts.py. @param {string} name @param {Record<string, unknown>} [values] */
  function text(name, values = {}) {
    const found = String(/** @type {any} */ (globalThis).unwrittenTexts?.[name] ?? "");
    return found.replace(/%\((\w+)\)s/g, (_, value) => String(values[value]));
  }

  /** Return the URL path for a key, without the variant at its end. @param {string} key */
  const url = (key) => ROOT + key.replace(/#vary=.*/, "");

  /**
   * Return the key of the page to which a URL leads, or null if it leads elsewhere: to another server, outside of the app,
   * or to the framework's own routes. The server decides the same in core/paths.py.
   *
   * @param {string} address
   */
  function keyOf(address) {
    if (!URL.canParse(address, location.href)) return null;
    const { origin, pathname, search } = new URL(address, location.href);
    if (origin !== location.origin || !pathname.startsWith(`${ROOT}/`)) return null;
    const path = pathname.slice(ROOT.length);
    // A server, or a chain of them, may decode the path several times and then resolve "." and "..".
    for (let i = 0, decoded = path; i < 5; i++) {
      const segments = /** @type {string[]} */ ([]);
      for (const part of decoded.split(/[/\\]/).slice(1)) part === ".." ? segments.pop() : part !== "." && segments.push(part);
      const [first = "", ...others] = segments;
      if (/^\/[/\\]/.test(decoded) || (!first && others.length) || first.toLowerCase() === "_unwritten") return null;
      decoded = decoded.replace(/%([\da-f]{2})/gi, (_, code) => String.fromCharCode(parseInt(code, 16)));
    }
    return path + search;
  }

  /** @param {EventTarget} target @param {string} name @param {object} detail */
  const emit = (target, name, detail) => target.dispatchEvent(new CustomEvent(`unwritten:${name}`, { detail, bubbles: true }));

  /** Return the elements of a page that match a selector. @param {string} page @param {string} selector @returns {HTMLElement[]} */
  const elementsOf = (page, selector) => [
    .../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`${selector}[data-page="${CSS.escape(page)}"]`)),
  ];

  // -- rendering ------------------------------------------------------------
  /** The latest frame of each region that is not rendered yet. @type {Map<HTMLElement, FrameMessage>} */
  const pendingFrames = new Map();
  /** Page messages. They are handled after the frames that came before them. @type {PageMessage[]} */
  const pendingPages = [];
  /** The region under a pressed pointer. Its frames wait, so that the click is not lost. @type {HTMLElement | null} */
  let pressed = null;
  let request = 0, timer = 0;

  function schedule() {
    // A hidden tab gets no animation frames, but is kept up to date at a lower rate.
    if (!document.hidden) request ||= requestAnimationFrame(render);
    else timer ||= window.setTimeout(render, 200);
  }

  function render() {
    cancelAnimationFrame(request);
    clearTimeout(timer);
    request = timer = 0;
    for (const [region, message] of pendingFrames) {
      if (region === pressed || isTooSoon(region, message)) continue;
      pendingFrames.delete(region);
      if (region.isConnected && message.frame > frameNumber(region)) renderFrame(region, message);
    }
    while (pendingPages.length && !pendingFrames.size) renderPage(/** @type {PageMessage} */ (pendingPages.shift()));
  }

  /** Return the number of the frame that a region shows. @param {HTMLElement} region */
  const frameNumber = (region) => Number(region.dataset.frame) || 0;

  // With reduced motion, a draft that changes everywhere is updated once a second. Settled text is shown at once.
  const REDUCED_MOTION = matchMedia("(prefers-reduced-motion: reduce)");
  const renderedAt = /** @type {WeakMap<HTMLElement, number>} */ (new WeakMap());
  /** @param {HTMLElement} region @param {FrameMessage} message */
  const isTooSoon = (region, { state, unsettled = 0 }) =>
    REDUCED_MOTION.matches && state === "writing" && unsettled > 0.1 && performance.now() - (renderedAt.get(region) ?? -1000) < 1000;

  /** @param {HTMLElement} region @param {FrameMessage} message */
  function renderFrame(region, message) {
    renderedAt.set(region, performance.now());
    const fresh = Object.assign(document.createElement("template"), { innerHTML: message.html });
    // Keep the height of the placeholder, then of the longest draft, so that what follows does not move.
    region.style.minHeight = `${region.offsetHeight}px`;
    region.style.setProperty("--unsettled", String(message.unsettled ?? 0));
    // With htmx's mark, unchanged links compare as equal nodes, which saves most of the work.
    if (htmx()) markLinks(fresh.content);
    keepNewer(fresh.content);
    morph(region, fresh.content);
    region.dataset.frame = String(message.frame);
    setState(region, message.state);
    for (const link of region.getElementsByTagName("a")) if (!("_htmx" in link)) boost(link);
    emit(region, "frame", message);
    if (message.state === "written" || message.state === "live") releaseHeight(region);
    if (message.state === "written") emit(region, "written", message);
  }

  /** @param {ParentNode} root */
  const markLinks = (root) => root.querySelectorAll("a[href]").forEach((link) => link.setAttribute(MARK, "true"));

  // A state region is rendered together with the canvases inside it, which may be older than what the page shows.
  /** @param {ParentNode} fresh */
  function keepNewer(fresh) {
    for (const region of /** @type {NodeListOf<HTMLElement>} */ (fresh.querySelectorAll("[data-region][data-page]"))) {
      const current = region.id && document.getElementById(region.id);
      if (current && current.dataset.page === region.dataset.page && frameNumber(current) > frameNumber(region)) {
        region.replaceWith(current.cloneNode(true));
      }
    }
  }

  // Give back reserved height slowly, so that readers further down do not lose their line. Not with reduced motion.
  /** @param {HTMLElement} region */
  function releaseHeight(region) {
    const { style, offsetHeight: reserved } = region;
    if (!style.minHeight || REDUCED_MOTION.matches) return;
    style.minHeight = "0";
    const needed = region.offsetHeight;
    // Only the animation holds the height: a style removed when it ends could be visible for one frame.
    region.animate([{ minHeight: `${reserved}px` }, { minHeight: `${needed}px` }], (reserved - needed) * 12);
    style.minHeight = "";
  }

  /** @param {HTMLElement} region @param {string} state */
  function setState(region, state) {
    region.dataset.state = state;
    region.setAttribute("aria-busy", String(state === "waiting" || state === "writing"));
  }

  /** @param {PageMessage} message */
  function renderPage(message) {
    const { page, state } = message, unfinished = elementsOf(page, UNFINISHED);
    if (!END_STATES.has(state)) {
      for (const colophon of elementsOf(page, "[data-colophon]")) {
        const progress = colophon.querySelector("[data-progress]");
        if (progress) progress.textContent = message.message || text(state === "queued" ? "queued" : "writing");
        const stop = /** @type {HTMLButtonElement | null} */ (colophon.querySelector("[data-stop]:disabled"));
        if (stop) Object.assign(stop, { disabled: false, textContent: text("stop") });
      }
    } else {
      watched.delete(page);
      announced.delete(`${page} writing`);
      // The server was restarted meanwhile, or the page was finished so long ago that no frames are left.
      if (state === "unwritten" && mayReload(page)) return own.reload();
      if (state === "written" && (unfinished.length || !message.colophon)) return void fetchPlain(page);
      for (const region of unfinished) setState(region, state === "unwritten" ? "failed" : state);
      for (const colophon of message.colophon ? elementsOf(page, "[data-colophon]") : []) {
        colophon.innerHTML = message.colophon || "";
        boost(colophon);
      }
      // A failed revision leaves a page that is complete, with a message.
      if (state === "written") announce(message.message || text("announceReady", { title: heading() }), message.message ? `${page} ${message.message}` : `${page} ready`);
      else showNotice(page, message.message || text(state));
      closeWhenIdle();
    }
    emit(document, "page", { page, state, message: message.message || "" });
  }

  const heading = () => (document.querySelector("h1")?.textContent || document.title).trim();

  /** True if a page that the server lost may be requested again: once in ten seconds, to prevent a loop. @param {string} page */
  function mayReload(page) {
    const name = `unwritten:reload:${page}`;
    try {
      const last = Number(sessionStorage.getItem(name)) || 0;
      sessionStorage.setItem(name, String(Date.now()));
      return Math.abs(Date.now() - last) > 10_000; // the clock may have been set back
    } catch {
      return false; // without storage a loop cannot be detected
    }
  }

  // -- messages for people ------------------------------------------------------------
  // The status for screen readers and the connection line are outside <body>, so that navigation does not replace them.
  const status = Object.assign(document.createElement("div"), { role: "status", className: "visually-hidden" });
  const connectionLine = Object.assign(document.createElement("p"), { hidden: true, className: "connection" });
  document.documentElement.append(status, connectionLine);
  const announced = /** @type {Set<string>} */ (new Set());

  /** Tell screen readers something, once for each id. @param {string} sentence @param {string} id */
  function announce(sentence, id) {
    if (announced.has(id)) return;
    announced.add(id);
    status.textContent = sentence;
  }

  /** Say on the page why it is incomplete, and offer to write it again. @param {string} page @param {string} reason */
  function showNotice(page, reason) {
    const regions = elementsOf(page, "[data-region]");
    const last = regions.findLast((region) => frameNumber(region) > 0) ?? regions[0];
    document.querySelectorAll("aside[data-notice]").forEach((old) => old.remove());
    const notice = Object.assign(document.createElement("aside"), { className: "notice" });
    notice.dataset.notice = "";
    notice.innerHTML =
      '<p></p><form method="post" hx-replace-url="true"><input type="hidden" name="page">' +
      '<button class="button"></button></form>';
    /** @type {HTMLElement} */ (notice.firstChild).textContent = reason;
    /** @type {HTMLElement} */ (notice.querySelector("button")).textContent = text("tryAgain");
    /** @type {HTMLElement} */ (notice.querySelector("form")).setAttribute("action", url("/_unwritten/write"));
    /** @type {HTMLInputElement} */ (notice.querySelector("input")).value = page;
    if (last) last.after(notice);
    boost(notice);
    announce(reason, `${page} ${reason}`);
  }

  /** Show a line about the connection at the edge of the window; an empty text hides it. @param {string} sentence */
  function showConnection(sentence) {
    clearTimeout(warning);
    warning = 0;
    connectionLine.hidden = !sentence;
    connectionLine.textContent = sentence;
  }

  // -- socket ------------------------------------------------------------
  /** @type {WebSocket | null} */
  let socket = null;
  /** Pages that are watched over the socket, and pages that are being fetched over HTTP instead. @type {Set<string>} */
  const watched = new Set(), fetching = new Set();
  let attempts = 0, wasOpen = false;
  let retry = 0, warning = 0, idle = 0; // timers

  /** Watch the unfinished pages of the document, and stop watching those that are gone. */
  function scan() {
    /** The frames shown so far, by page and region. @type {Map<string, Record<string, number>>} */
    const unfinished = new Map();
    for (const { dataset } of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`${UNFINISHED}, ${IN_PROGRESS}`))) {
      const { page = "", region } = dataset;
      unfinished.set(page, { ...unfinished.get(page), ...(region && { [region]: Number(dataset.frame) || 0 }) });
    }
    for (const page of [...watched].filter((page) => !unfinished.has(page))) {
      watched.delete(page);
      send({ type: "leave", page });
    }
    for (const [page, seen] of unfinished) {
      if (watched.has(page)) continue;
      watched.add(page);
      announced.delete(`${page} ready`);
      announce(text("announceWriting", { title: heading() }), `${page} writing`);
      send({ type: "watch", page, seen });
    }
    if (watched.size || keptOpenBy.size) open();
    else closeWhenIdle();
  }

  /** The names of those that keep the socket open although no page is being written. @type {Set<string>} */
  const keptOpenBy = new Set();
  /** @param {string} name @param {boolean} wanted */
  function keepOpen(name, wanted) {
    if (wanted) keptOpenBy.add(name);
    else keptOpenBy.delete(name);
    scan();
  }

  /** Send a message if the socket is open. Subscriptions are sent again whenever a socket opens. @param {object} message */
  function send(message) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  function open() {
    clearTimeout(idle);
    if (socket || retry) return;
    if (!wasOpen && attempts >= 3) return void [...watched].forEach(fetchPlain);
    const ws = (socket = new WebSocket(new URL(url("/_unwritten/live"), location.href).href.replace(/^http/, "ws")));
    warning ||= window.setTimeout(() => showConnection(text("reconnecting")), wasOpen ? 2000 : 8000);
    setTimeout(() => ws.readyState === WebSocket.CONNECTING && ws.close(), 10_000); // a proxy may swallow the request
    ws.onopen = () => {
      wasOpen = true;
      attempts = 0;
      document.documentElement.dataset.live = ""; // the style sheet hides [data-stop] without it
      watched.clear(); // scan() watches everything again, with the frames shown by now
      showConnection("");
      emit(document, "open", {});
      scan();
    };
    ws.onmessage = (event) => receive(JSON.parse(event.data));
    ws.onclose = (event) => {
      if (socket !== ws) return;
      socket = null;
      delete document.documentElement.dataset.live;
      emit(document, "close", { code: event.code });
      if (!watched.size && !keptOpenBy.size) return;
      if (event.code === 1008) (wasOpen = false), (attempts = 3); // refused by the server: continue without a socket
      // Full jitter: after a restart the tabs reconnect one by one.
      const delay = Math.random() * Math.min(20_000, 400 * 2 ** attempts++);
      warning ||= window.setTimeout(() => showConnection(text("reconnecting")), 2000);
      retry = window.setTimeout(() => ((retry = 0), scan()), delay);
    };
  }

  /** Close the socket after a while if nothing needs it, so that the browser can freeze or cache the tab. */
  function closeWhenIdle() {
    if (watched.size || keptOpenBy.size) return;
    clearTimeout(retry);
    clearTimeout(idle);
    retry = 0;
    showConnection("");
    idle = window.setTimeout(() => socket?.close(1000), 30_000);
  }

  /** @param {string} page @param {string} name */
  const regionsOf = (page, name) => elementsOf(page, `[data-region="${CSS.escape(name)}"]`);

  /** @param {FrameMessage | PageMessage | RefusedMessage | RestartMessage} message */
  function receive(message) {
    if (message.type === "frame") {
      for (const region of regionsOf(message.page, message.region)) {
        if (message.frame > Math.max(frameNumber(region), pendingFrames.get(region)?.frame ?? 0)) pendingFrames.set(region, message);
      }
    } else if (message.type === "restart") {
      // The numbers shown came from another server, or from a clock that was ahead: every frame from now on is newer.
      for (const region of message.regions.flatMap((name) => regionsOf(message.page, name))) {
        region.dataset.frame = "0";
        pendingFrames.delete(region);
      }
    } else if (message.type === "page") pendingPages.push(message);
    else if (message.type === "refused") emit(document, "error", { message: message.message });
    else listeners.get(/** @type {any} */ (message).type)?.(message);
    schedule();
  }

  // Some proxies block sockets. Then the complete page is fetched over HTTP, which answers when it is finished.
  /** @param {string} page */
  async function fetchPlain(page) {
    if (fetching.has(page)) return;
    fetching.add(page);
    try {
      const response = await fetch(url(page) + (page.includes("?") ? "&" : "?") + "plain=1");
      const whole = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = /** @type {NodeListOf<HTMLElement>} */ (whole.querySelectorAll("[data-region]"));
      if (!response.ok || !fresh.length) throw new Error(`HTTP ${response.status}`);
      for (const { dataset, innerHTML } of fresh) {
        const { region = "", state = "written" } = dataset;
        // Newer than what is shown or pending, and older than whatever is written later.
        const known = regionsOf(page, region).map((r) => Math.max(frameNumber(r), pendingFrames.get(r)?.frame ?? 0));
        const frame = state === "live" ? Number(dataset.frame) : Math.max(0, ...known) + 1;
        receive({ type: "frame", page, region, frame, state, html: innerHTML });
      }
      const failed = [...fresh].find(({ dataset }) => !["written", "live"].includes(dataset.state || ""));
      const colophon = whole.querySelector("[data-colophon]")?.innerHTML;
      receive({ type: "page", page, state: failed?.dataset.state || "written", colophon });
    } catch (error) {
      showConnection(text("offline"));
      emit(document, "error", { message: String(error) });
      retry ||= window.setTimeout(() => ((retry = 0), scan()), 10_000 + Math.random() * 20_000);
    } finally {
      fetching.delete(page);
    }
  }

  // -- input ------------------------------------------------------------
  document.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !(event.target instanceof Element)) return;
    pressed = event.target.closest("[data-region]");
    setTimeout(release, 10_000, pressed); // a pointerup can get lost
  });
  /** @param {unknown} [which] */
  function release(which) {
    if (which instanceof Element && which !== pressed) return;
    pressed = null;
    if (pendingFrames.size || pendingPages.length) schedule();
  }
  // The click event follows pointerup, and must find the element that was pressed.
  for (const name of ["pointerup", "pointercancel", "blur"]) addEventListener(name, () => setTimeout(release));

  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("[data-stop]");
    if (!(button instanceof HTMLButtonElement)) return;
    Object.assign(button, { disabled: true, textContent: text("stopping") });
    const page = /** @type {HTMLElement | null} */ (button.closest("[data-page]"))?.dataset.page;
    for (const key of page ? [page] : [...watched]) send({ type: "stop", page: key });
  });

  document.addEventListener("visibilitychange", () => (pendingFrames.size || pendingPages.length) && schedule());
  addEventListener("online", () => (clearTimeout(retry), (retry = 0), scan()));
  addEventListener("pageshow", (event) => event.persisted && ((socket = null), scan()));

  // -- htmx, if it loads ------------------------------------------------------------
  const htmx = () => /** @type {any} */ (window).htmx;
  /** @param {Element} element */
  const boost = (element) => htmx()?.process(element);

  /** Follow a URL of this server as a click on a link would. @param {string} address @param {Element} [near] where the focus goes on from */
  function navigate(address, near) {
    if (new URL(address, location.href).origin !== location.origin) return;
    const link = Object.assign(document.createElement("a"), { href: address, hidden: true });
    if (near) near.after(link);
    else document.body.append(link);
    boost(link);
    link.click();
    link.remove();
  }

  // htmx loads after the page, so that a slow CDN delays nothing.
  /** @param {string | undefined} src @param {string | undefined} hash @param {() => void} [then] */
  function load(src, hash, then = () => {}) {
    if (!src) return;
    const element = document.createElement("script");
    Object.assign(element, { src, integrity: hash || "", crossOrigin: "anonymous", nonce: script.nonce, onload: then });
    document.head.append(element);
  }
  const { htmx: source, htmxIntegrity, preload, preloadIntegrity } = script.dataset;
  addEventListener("load", () =>
    // htmx has processed the page before its extension arrives, so process it again.
    load(source, htmxIntegrity, () => load(preload, preloadIntegrity, () => htmx().process(document.body, true))),
  );

  // Preload links on mousedown, but not forms: a click into a search box is not a search.
  document.addEventListener("htmx:before:init", (event) => {
    if (event.target instanceof HTMLFormElement) event.target.setAttribute("hx-preload", "");
  });

  // htmx sends no Accept header when it goes back in history. Without it the server would stream, as to programs.
  document.addEventListener("htmx:config:request", (event) => {
    /** @type {CustomEvent} */ (event).detail.ctx.request.headers.Accept ||= "text/html";
  });

  // Inline scripts of a boosted page carry the nonce of that response. If it is genuine, give them this document's.
  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx, tasks } = /** @type {CustomEvent} */ (event).detail;
    const nonce = /'nonce-([\w+/=-]+)'/.exec(ctx.response?.headers.get("content-security-policy") || "")?.[1];
    for (const { fragment } of nonce ? tasks : []) {
      for (const inline of fragment.querySelectorAll(`script[nonce="${nonce}"]`)) inline.nonce = script.nonce;
    }
  });

  // Only the body is replaced, and the next page may have another language.
  let texts = document.getElementById("unwritten-texts")?.getAttribute("src");

  /** @param {string} html the source of the next page */
  function takeLanguage(html) {
    const tags = [/<html\b[^>]*>/i, /<script[^>]* id="unwritten-texts"[^>]*>/].map((tag) => tag.exec(html)?.[0]);
    const next = new DOMParser().parseFromString(tags.join(""), "text/html");
    const source = next.querySelector("script")?.getAttribute("src");
    if (!source) return;
    const { lang, dir } = next.documentElement;
    Object.assign(document.documentElement, { lang, dir });
    if (source !== texts) load((texts = source), "");
  }

  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = /** @type {CustomEvent} */ (event).detail;
    if (ctx.target === document.body) takeLanguage(ctx.text || "");
    // A frame that is not in use must not take the focus.
    const isActive = window === top || document.hasFocus();
    if (ctx.target === document.body && !ctx.request.anchor && isActive) {
      const title = document.querySelector("h1");
      title?.setAttribute("tabindex", "-1");
      title?.focus({ preventScroll: true });
    }
    scan();
  });

  // If htmx cannot fetch a page, let the browser try, which shows its own error.
  document.addEventListener("htmx:error", (event) => {
    const { ctx } = /** @type {CustomEvent} */ (event).detail;
    if (!ctx || ctx.response) return;
    if (ctx.sourceElement instanceof HTMLAnchorElement) location.href = ctx.sourceElement.href;
    if (ctx.sourceElement instanceof HTMLFormElement) ctx.sourceElement.submit();
  });

  // -- for the other scripts ------------------------------------------------------------
  /** Listeners to messages of other types. @type {Map<string, (message: any) => void>} */
  const listeners = new Map();
  /** @param {string} type @param {(message: any) => void} listener */
  const on = (type, listener) => void listeners.set(type, listener);
  const own = {
    text, url, key: keyOf, send, on, keepOpen, scan, keepNewer, markLinks, receive, announce, boost, navigate, load,
    reload: () => location.reload(), script,
  };
  Object.assign(globalThis, { unwritten: own });

  // -- start ------------------------------------------------------------
  // Scan again whenever the body is replaced, by htmx or by anything else.
  const observer = new MutationObserver(observe);
  function observe() {
    for (const element of [document.documentElement, document.body]) observer.observe(element, { childList: true });
    scan();
  }
  observe();
})();
