// @ts-check
/**
 * live.js: the browser's side of a page that is being written.
 *
 * 1. It finds the regions of this document that are not written yet, and opens one WebSocket for all of them.
 * 2. Every frame is the whole inner HTML of a region. The latest one wins, once per animation frame; it is
 *    morphed into place (morph.js), so that focus, selection, scroll, typed text and open <details> stay as they are.
 * 3. When the page is written, its colophon is replaced and the socket may go.
 *
 * Everything works without it: HTTP is the truth (KEY?plain=1), and this is an accelerator. htmx, when it can be
 * had, adds boosted navigation and preloading; the socket then lives on from page to page.
 *
 * Events, for authors and tests. From a region, bubbling: unwritten:frame, unwritten:written (detail: the message).
 * From document: unwritten:page (detail: {page, state, message}), unwritten:open, unwritten:close (detail: {code}),
 * unwritten:error (detail: {message}).
 *
 * Our other scripts find a global: unwritten.send (a message, if the socket is open), .on (messages of another type), .hold
 * (the socket stays open), .scan (look at the document again), .retain (newer regions stay), .receive, .announce, .boost, .load, .script (this element),
 * and .reload, which another way of asking for the page again may take the place of.
 *
 * Stopping is a button ([data-stop]), not the Escape key: a page is written once for all who wait for it, and Escape
 * is pressed for many other reasons (to close a menu, to leave full screen).
 */
(() => {
  "use strict";

  /**
   * @typedef {{type: "frame", page: string, region: string, frame: number, state: string, html: string,
   *   canvas?: number, canvases?: number, step?: number, steps?: number, unsettled?: number}} FrameMessage
   * @typedef {{type: "page", page: string, state: string, message?: string, colophon?: string, title?: string}} PageMessage
   * @typedef {{type: "refused", message: string}} RefusedMessage
   */

  /** @type {{morph: (place: Node, wanted: Node) => void, MARK: string}} */
  const { morph, MARK } = /** @type {any} */ (globalThis).unwrittenMorph;
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  const UNFINISHED = '[data-region][data-page]:is([data-state="waiting"], [data-state="writing"])';
  const OPEN = "[data-colophon][data-page]:has([data-stop])"; // all regions may be written before the page is kept
  const ENDED = new Set(["written", "stopped", "failed", "unwritten"]);
  const WORDS = {
    stopped: "The writing was stopped. What you see is all there is.",
    failed: "This page could not be finished.",
    unwritten: "The writing of this page was cut off.",
    reconnecting: "The connection was lost. Trying to reach the server again …",
    offline: "The server cannot be reached. What you see may not be all.",
  };

  /** @param {EventTarget} from @param {string} name @param {object} detail */
  const say = (from, name, detail) => from.dispatchEvent(new CustomEvent(`unwritten:${name}`, { detail, bubbles: true }));

  /** @param {string} page @param {string} more @returns {HTMLElement[]} */
  const parts = (page, more) => [
    .../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`${more}[data-page="${CSS.escape(page)}"]`)),
  ];

  // -- painting ------------------------------------------------------------
  /** The latest frame of each region, not painted yet. @type {Map<HTMLElement, FrameMessage>} */
  const frames = new Map();
  /** News about pages; they are told after the frames that came before them. @type {PageMessage[]} */
  const news = [];
  /** The region under a pressed pointer: it waits, so that a click is never lost. @type {HTMLElement | null} */
  let held = null;
  let request = 0, timer = 0;

  function schedule() {
    // A hidden tab has no animation frames; it is kept up to date all the same, a little lazily.
    if (!document.hidden) request ||= requestAnimationFrame(paint);
    else timer ||= window.setTimeout(paint, 200);
  }

  function paint() {
    cancelAnimationFrame(request);
    clearTimeout(timer);
    request = timer = 0;
    for (const [region, message] of frames) {
      if (region === held || tooSoon(region, message)) continue;
      frames.delete(region);
      if (region.isConnected && message.frame > shown(region)) show(region, message);
    }
    while (news.length && !frames.size) tell(/** @type {PageMessage} */ (news.shift()));
  }

  /** The number of the frame that a region shows. @param {HTMLElement} region */
  const shown = (region) => Number(region.dataset.frame) || 0;

  // Who asked for no motion sees a draft that changes everywhere once a second; what is settled, at once.
  const STILL = matchMedia("(prefers-reduced-motion: reduce)");
  const shownAt = /** @type {WeakMap<HTMLElement, number>} */ (new WeakMap());
  /** @param {HTMLElement} region @param {FrameMessage} message */
  const tooSoon = (region, { state, unsettled = 0 }) =>
    STILL.matches && state === "writing" && unsettled > 0.1 && Date.now() - (shownAt.get(region) ?? 0) < 1000;

  /** @param {HTMLElement} region @param {FrameMessage} message */
  function show(region, message) {
    shownAt.set(region, Date.now());
    const draft = Object.assign(document.createElement("template"), { innerHTML: message.html });
    // What the skeleton took, and then the longest draft: what stands below must not dance.
    region.style.minHeight = `${region.offsetHeight}px`;
    region.style.setProperty("--unsettled", String(message.unsettled ?? 0));
    // With htmx's mark on them, the browser itself sees which links are the same: that is most of the work.
    if (htmx()) draft.content.querySelectorAll("a[href]").forEach((link) => link.setAttribute(MARK, "true"));
    retain(draft.content);
    morph(region, draft.content);
    region.dataset.frame = String(message.frame);
    turn(region, message.state);
    for (const link of region.getElementsByTagName("a")) if (!("_htmx" in link)) boost(link);
    say(region, "frame", message);
    if (message.state === "written" || message.state === "live") settle(region);
    if (message.state === "written") say(region, "written", message);
  }

  // A region of state is drawn with the canvases that stand in it. What is shown of those may be newer: it stays.
  /** @param {ParentNode} drawn */
  function retain(drawn) {
    for (const fresh of /** @type {NodeListOf<HTMLElement>} */ (drawn.querySelectorAll("[data-region][data-page]"))) {
      const here = fresh.id && document.getElementById(fresh.id);
      if (here && here.dataset.page === fresh.dataset.page && shown(here) > shown(fresh)) fresh.replaceWith(here.cloneNode(true));
    }
  }

  // Give back the room that was kept for a region and not needed, so slowly that a reader below does not lose the line;
  // not at all for those who asked for no motion.
  /** @param {HTMLElement} region */
  function settle(region) {
    const { style, offsetHeight: kept } = region;
    if (!style.minHeight || STILL.matches) return;
    style.minHeight = "0";
    const needed = region.offsetHeight;
    // The animation holds the room, and nothing else: a style that is taken away at its end may be seen for a moment.
    region.animate([{ minHeight: `${kept}px` }, { minHeight: `${needed}px` }], (kept - needed) * 12);
    style.minHeight = "";
  }

  /** @param {HTMLElement} region @param {string} state */
  function turn(region, state) {
    region.dataset.state = state;
    region.setAttribute("aria-busy", String(state === "waiting" || state === "writing"));
  }

  /** @param {PageMessage} message */
  function tell(message) {
    const { page, state } = message, regions = parts(page, UNFINISHED);
    if (!ENDED.has(state)) {
      for (const colophon of parts(page, "[data-colophon]")) {
        const progress = colophon.querySelector("[data-progress]");
        if (progress) progress.textContent = message.message || (state === "queued" ? "Waiting for its turn" : "Writing");
        const stop = /** @type {HTMLButtonElement | null} */ (colophon.querySelector("[data-stop]:disabled"));
        if (stop) Object.assign(stop, { disabled: false, textContent: "Stop" });
      }
    } else {
      watched.delete(page);
      announced.delete(`${page} writing`);
      // The server was started anew in the middle; or the page was finished long ago, and no frames are left of it.
      if (state === "unwritten" && mayReload(page)) return own.reload();
      if (state === "written" && (regions.length || !message.colophon)) return void fetchPlain(page);
      for (const region of regions) turn(region, state === "unwritten" ? "failed" : state);
      for (const colophon of message.colophon ? parts(page, "[data-colophon]") : []) {
        colophon.innerHTML = message.colophon || "";
        boost(colophon);
      }
      // A change that came to nothing leaves a page that is written, and says so.
      if (state === "written") announce(message.message || `Ready: ${heading()}`, message.message ? `${page} ${message.message}` : `${page} ready`);
      else explain(page, message.message || WORDS[/** @type {"failed"} */ (state)]);
      rest();
    }
    say(document, "page", { page, state, message: message.message || "" });
  }

  const heading = () => (document.querySelector("h1")?.textContent || document.title).trim();

  /** A page that the server lost is asked for again once, and not in a circle. @param {string} page */
  function mayReload(page) {
    const name = `unwritten:reload:${page}`;
    try {
      const last = Number(sessionStorage.getItem(name)) || 0;
      sessionStorage.setItem(name, String(Date.now()));
      return Date.now() - last > 10_000;
    } catch {
      return false; // without storage there is no way to tell a circle
    }
  }

  // -- words to people ------------------------------------------------------------
  // The one polite status, and the line about the connection, live outside <body>, where no navigation replaces them.
  const status = Object.assign(document.createElement("div"), { role: "status", className: "visually-hidden" });
  const line = Object.assign(document.createElement("p"), { hidden: true, className: "connection" });
  document.documentElement.append(status, line);
  const announced = /** @type {Set<string>} */ (new Set());

  /** Say something to screen readers, once. @param {string} words @param {string} once */
  function announce(words, once) {
    if (announced.has(once)) return;
    announced.add(once);
    status.textContent = words;
  }

  /** Say in the page why it ends here, and offer to write it again. @param {string} page @param {string} words */
  function explain(page, words) {
    const regions = parts(page, "[data-region]");
    const last = regions.findLast((region) => shown(region) > 0) ?? regions[0];
    document.querySelectorAll("aside[data-notice]").forEach((old) => old.remove());
    const note = Object.assign(document.createElement("aside"), { className: "notice" });
    note.dataset.notice = "";
    note.innerHTML =
      '<p></p><form method="post" action="/_unwritten/write" hx-replace-url="true"><input type="hidden" name="page">' +
      '<button class="button">Write it again</button></form>';
    /** @type {HTMLElement} */ (note.firstChild).textContent = words;
    /** @type {HTMLInputElement} */ (note.querySelector("input")).value = page;
    if (last) last.after(note);
    boost(note);
    announce(words, `${page} ${words}`);
  }

  /** A quiet line at the edge of the window about the connection; empty words take it away. @param {string} words */
  function connection(words) {
    clearTimeout(warning);
    warning = 0;
    line.hidden = !words;
    line.textContent = words;
  }

  // -- the socket ------------------------------------------------------------
  /** @type {WebSocket | null} */
  let socket = null;
  /** Pages that are watched, and those that are fetched whole instead. @type {Set<string>} */
  const watched = new Set(), fetching = new Set();
  let tries = 0, everOpen = false;
  let retry = 0, warning = 0, idle = 0; // timers

  /** Look at the document: watch what is unfinished, leave what is gone. */
  function scan() {
    /** @type {Map<string, Record<string, number>>} */
    const unfinished = new Map();
    for (const { dataset } of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`${UNFINISHED}, ${OPEN}`))) {
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
      announce(`Writing ${heading()} …`, `${page} writing`);
      send({ type: "watch", page, seen });
    }
    if (watched.size || holders.size) open();
    else rest();
  }

  /** Who wants the socket to stay open though no page is being written. @type {Set<string>} */
  const holders = new Set();
  /** @param {string} who @param {boolean} wanted */
  function hold(who, wanted) {
    if (wanted) holders.add(who);
    else holders.delete(who);
    scan();
  }

  /** Send, if anybody listens: what is watched is said again when a socket opens. @param {object} message */
  function send(message) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  function open() {
    clearTimeout(idle);
    if (socket || retry) return;
    if (!everOpen && tries >= 3) return void [...watched].forEach(fetchPlain);
    const ws = (socket = new WebSocket(new URL("../live", script.src).href.replace(/^http/, "ws")));
    warning ||= window.setTimeout(() => connection(WORDS.reconnecting), everOpen ? 2000 : 8000);
    setTimeout(() => ws.readyState === WebSocket.CONNECTING && ws.close(), 10_000); // swallowed by something in between
    ws.onopen = () => {
      everOpen = true;
      tries = 0;
      document.documentElement.dataset.live = ""; // the style sheet shows [data-stop] only then
      watched.clear(); // scan() watches again, with what is shown by now
      connection("");
      say(document, "open", {});
      scan();
    };
    ws.onmessage = (event) => receive(JSON.parse(event.data));
    ws.onclose = (event) => {
      if (socket !== ws) return;
      socket = null;
      delete document.documentElement.dataset.live;
      say(document, "close", { code: event.code });
      if (!watched.size && !holders.size) return;
      if (event.code === 1008) (everOpen = false), (tries = 3); // not wanted here: go on without a socket
      // Full jitter: after a restart the tabs come back one by one, not all at once.
      const delay = Math.random() * Math.min(20_000, 400 * 2 ** tries++);
      warning ||= window.setTimeout(() => connection(WORDS.reconnecting), 2000);
      retry = window.setTimeout(() => ((retry = 0), scan()), delay);
    };
  }

  /** Nothing to wait for: let the socket go after a while, so that the tab can be frozen and kept by the browser. */
  function rest() {
    if (watched.size || holders.size) return;
    clearTimeout(retry);
    clearTimeout(idle);
    retry = 0;
    connection("");
    idle = window.setTimeout(() => socket?.close(1000), 30_000);
  }

  /** @param {FrameMessage | PageMessage | RefusedMessage} message */
  function receive(message) {
    if (message.type === "frame") {
      for (const region of parts(message.page, `[data-region="${CSS.escape(message.region)}"]`)) {
        if (message.frame > Math.max(shown(region), frames.get(region)?.frame ?? 0)) frames.set(region, message);
      }
    } else if (message.type === "page") news.push(message);
    else if (message.type === "refused") say(document, "error", { message: message.message });
    else listeners.get(/** @type {any} */ (message).type)?.(message);
    schedule();
  }

  // Some proxies let no socket through: then the whole page comes over HTTP, once it is complete.
  /** @param {string} page */
  async function fetchPlain(page) {
    if (fetching.has(page)) return;
    fetching.add(page);
    try {
      const response = await fetch(page + (page.includes("?") ? "&" : "?") + "plain=1");
      const whole = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = /** @type {NodeListOf<HTMLElement>} */ (whole.querySelectorAll("[data-region]"));
      if (!response.ok || !fresh.length) throw new Error(`HTTP ${response.status}`);
      for (const { dataset, innerHTML } of fresh) {
        const { region = "", state = "written" } = dataset;
        // Newer than what is shown or waits here, and older than whatever is written later.
        const here = parts(page, `[data-region="${CSS.escape(region)}"]`).map((r) => Math.max(shown(r), frames.get(r)?.frame ?? 0));
        const frame = state === "live" ? Number(dataset.frame) : Math.max(0, ...here) + 1;
        receive({ type: "frame", page, region, frame, state, html: innerHTML });
      }
      const failed = [...fresh].find(({ dataset }) => !["written", "live"].includes(dataset.state || ""));
      const colophon = whole.querySelector("[data-colophon]")?.innerHTML;
      receive({ type: "page", page, state: failed?.dataset.state || "written", colophon });
    } catch (error) {
      connection(WORDS.offline);
      say(document, "error", { message: String(error) });
      retry ||= window.setTimeout(() => ((retry = 0), scan()), 10_000 + Math.random() * 20_000);
    } finally {
      fetching.delete(page);
    }
  }

  // -- the visitor ------------------------------------------------------------
  document.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !(event.target instanceof Element)) return;
    held = event.target.closest("[data-region]");
    setTimeout(release, 10_000, held); // a pointerup can get lost; a region must not
  });
  /** @param {unknown} [which] */
  function release(which) {
    if (which instanceof Element && which !== held) return;
    held = null;
    if (frames.size || news.length) schedule();
  }
  // A click comes right after its pointerup, and must find what was pressed.
  for (const name of ["pointerup", "pointercancel", "blur"]) addEventListener(name, () => setTimeout(release));

  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("[data-stop]");
    if (!(button instanceof HTMLButtonElement)) return;
    Object.assign(button, { disabled: true, textContent: "Stopping …" });
    const page = /** @type {HTMLElement | null} */ (button.closest("[data-page]"))?.dataset.page;
    for (const key of page ? [page] : [...watched]) send({ type: "stop", page: key });
  });

  document.addEventListener("visibilitychange", () => (frames.size || news.length) && schedule());
  addEventListener("online", () => (clearTimeout(retry), (retry = 0), scan()));
  addEventListener("pageshow", (event) => event.persisted && ((socket = null), scan()));

  // -- htmx, when there ------------------------------------------------------------
  const htmx = () => /** @type {any} */ (window).htmx;
  /** @param {Element} element */
  const boost = (element) => htmx()?.process(element);

  // htmx is loaded after the page, so that a CDN that hangs holds up nothing.
  /** @param {string | undefined} src @param {string | undefined} hash @param {() => void} then */
  function load(src, hash, then) {
    if (!src) return;
    const element = document.createElement("script");
    Object.assign(element, { src, integrity: hash || "", crossOrigin: "anonymous", nonce: script.nonce, onload: then });
    document.head.append(element);
  }
  const { htmx: source, htmxIntegrity, preload, preloadIntegrity } = script.dataset;
  addEventListener("load", () =>
    // The extension needs htmx, which has wired the page by the time that it comes: so wire it once more.
    load(source, htmxIntegrity, () => load(preload, preloadIntegrity, () => htmx().process(document.body, true))),
  );

  // Preloading on mousedown is for links: a click into a search box is not a search.
  document.addEventListener("htmx:before:init", (event) => {
    if (event.target instanceof HTMLFormElement) event.target.setAttribute("hx-preload", "");
  });

  // htmx goes back in history without a word of what it takes; a server may then think it a program, not a reader.
  document.addEventListener("htmx:config:request", (event) => {
    /** @type {CustomEvent} */ (event).detail.ctx.request.headers.Accept ||= "text/html";
  });

  // Scripts of a boosted page carry that response's nonce. They are given this document's, if the nonce is the real one.
  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx, tasks } = /** @type {CustomEvent} */ (event).detail;
    const nonce = /'nonce-([\w+/=-]+)'/.exec(ctx.response?.headers.get("content-security-policy") || "")?.[1];
    for (const { fragment } of nonce ? tasks : []) {
      for (const inline of fragment.querySelectorAll(`script[nonce="${nonce}"]`)) inline.nonce = script.nonce;
    }
  });

  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = /** @type {CustomEvent} */ (event).detail;
    // In a frame that is not the one in use, it would take the focus from there.
    const ours = window === top || document.hasFocus();
    if (ctx.target === document.body && !ctx.request.anchor && ours) {
      const title = document.querySelector("h1");
      title?.setAttribute("tabindex", "-1");
      title?.focus({ preventScroll: true });
    }
    scan();
  });

  // A page that cannot be fetched is left to the browser, which knows how to say so.
  document.addEventListener("htmx:error", (event) => {
    const { ctx } = /** @type {CustomEvent} */ (event).detail;
    if (!ctx || ctx.response) return;
    if (ctx.sourceElement instanceof HTMLAnchorElement) location.href = ctx.sourceElement.href;
    if (ctx.sourceElement instanceof HTMLFormElement) ctx.sourceElement.submit();
  });

  // -- for our other scripts ------------------------------------------------------------
  /** What is done with messages of other types. @type {Map<string, (message: any) => void>} */
  const listeners = new Map();
  /** @param {string} type @param {(message: any) => void} listener */
  const on = (type, listener) => void listeners.set(type, listener);
  const own = { send, on, hold, scan, retain, receive, announce, boost, load, script, reload: () => location.reload() };
  Object.assign(globalThis, { unwritten: own });

  // -- begin ------------------------------------------------------------
  // However a body is swapped, by htmx or by anything else, its regions are found.
  const swapped = new MutationObserver(look);
  function look() {
    for (const element of [document.documentElement, document.body]) swapped.observe(element, { childList: true });
    scan();
  }
  look();
})();
