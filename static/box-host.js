// @ts-check
/**
 * box-host.js: connects boxed apps to the page around them.
 *
 * A box is an app that a model wrote, in a frame without an origin and without a network (web/boxes.py). It talks to the
 * page by messages. Only those below are handled, only from the frame's own window; everything else is dropped.
 *
 * {box: 1, type: "save", id, state}   stores JSON of up to 16 kB on the server, for the page and the region
 * {box: 1, type: "load", id}          answered with {box: 1, id, state} or {box: 1, id, error}
 * {box: 1, type: "resize", height}    in pixels, within bounds
 * {box: 1, type: "ask", page}         opens a page of this app; once per start, and only after a click into the frame
 * {box: 1, type: "pong"}              answers a ping: the frame still shows the app
 *
 * The page sends {box: 1, type: "ping"}, and {box: 1, type: "size", height, asked} when the frame may have another height.
 */
(() => {
  "use strict";

  const MAX_STATE = 16 * 1024, MAX_RATE = 40, MAX_STARTS = 5, MIN_HEIGHT = 48, MAX_HEIGHT = 1600, SAVE_DELAY = 400;
  const { url, key: keyOf, navigate, text } = /** @type {any} */ (globalThis).unwritten;
  const STATE_URL = url("/_unwritten/box/state");
  // The policy is that of the document that was loaded, whatever body is swapped in later.
  const allowsFrames = !!document.querySelector("meta[name='unwritten-frames']");

  /**
   * @typedef {{starts: number, second: number, count: number, height: number, asked: boolean, lastPong: number, saveTimer: number,
   *   pending: {id: number, state: string}[]}} Box
   */
  /** @type {WeakMap<HTMLIFrameElement, Box>} */
  const boxes = new WeakMap();
  /** @param {HTMLIFrameElement} frame @returns {Box} */
  function boxOf(frame) {
    const box = boxes.get(frame) ?? { starts: 0, second: 0, count: 0, height: 0, asked: false, lastPong: 0, saveTimer: 0, pending: [] };
    boxes.set(frame, box);
    return box;
  }
  /** @returns {HTMLIFrameElement[]} */
  const frames = () => [.../** @type {NodeListOf<HTMLIFrameElement>} */ (document.querySelectorAll("iframe.box"))];

  addEventListener("message", (event) => {
    const frame = event.source && frames().find(({ contentWindow }) => contentWindow === event.source);
    const message = event.data;
    if (!frame || event.origin !== "null" || typeof message !== "object" || message?.box !== 1) return;
    const box = boxOf(frame);
    const second = Math.floor(performance.now() / 1000);
    if (box.second !== second) Object.assign(box, { second, count: 0 });
    if (++box.count > MAX_RATE) return;
    const { type, id, state, height, page } = message;
    if (type === "save" && Number.isSafeInteger(id) && typeof state === "string") save(frame, box, id, state);
    else if (type === "load" && Number.isSafeInteger(id)) load(frame, box, id);
    else if (type === "resize" && Number.isFinite(height)) {
      frame.style.height = `${Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, Math.ceil(height)))}px`;
      box.height = height;
      sendSize(frame);
    } else if (type === "ask" && typeof page === "string") openPage(frame, box, page);
    else if (type === "pong") box.lastPong = performance.now();
  });

  /** @param {HTMLIFrameElement} frame @param {object} message */
  const post = (frame, message) => frame.contentWindow?.postMessage({ box: 1, ...message }, "*");

  // -- height ------------------------------------------------------------
  /** Tell a frame how high it is, and which height it has asked for (0 if none). @param {HTMLIFrameElement} frame */
  const sendSize = (frame) => post(frame, { type: "size", height: frame.clientHeight, asked: boxOf(frame).height });
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => sendSize(/** @type {HTMLIFrameElement} */ (target))));

  // -- stored state ------------------------------------------------------------
  /** Return the page and the region of a frame. @param {HTMLIFrameElement} frame */
  function locate(frame) {
    const { page = "", region = "" } = /** @type {HTMLElement | null} */ (frame.closest("[data-region]"))?.dataset ?? {};
    return { page, region };
  }

  /** @param {HTMLIFrameElement} frame @param {Box} box @param {number} id @param {string} state */
  function save(frame, box, id, state) {
    if (new TextEncoder().encode(state).length > MAX_STATE) {
      return post(frame, { id, error: "The state of a box is limited to 16 kB of JSON." });
    }
    box.pending.push({ id, state });
    box.saveTimer ||= window.setTimeout(() => flush(frame, box), SAVE_DELAY);
  }

  // Each state is complete, so only the last one is sent.
  /** @param {HTMLIFrameElement} frame @param {Box} box */
  async function flush(frame, box) {
    clearTimeout(box.saveTimer);
    box.saveTimer = 0;
    const saves = box.pending.splice(0), last = saves.at(-1);
    if (!last) return;
    const error = await fetch(STATE_URL, {
      method: "POST", headers: { "content-type": "application/json" }, keepalive: true,
      body: JSON.stringify({ ...locate(frame), state: last.state }),
    }).then(async (response) => (response.ok ? "" : (await response.json()).message), (reason) => String(reason));
    for (const { id } of saves) post(frame, error ? { id, error } : { id, state: "null" });
  }

  /** @param {HTMLIFrameElement} frame @param {Box} box @param {number} id */
  async function load(frame, box, id) {
    await flush(frame, box);
    const result = await fetch(`${STATE_URL}?${new URLSearchParams(locate(frame))}`).then(
      async (response) => (response.ok ? { state: (await response.json()).state } : { error: (await response.json()).message }),
      (reason) => ({ error: String(reason) }),
    );
    post(frame, { id, ...result });
  }

  addEventListener("pagehide", () => frames().forEach((frame) => void flush(frame, boxOf(frame))));

  // -- navigation ------------------------------------------------------------
  // The frame has the focus and was clicked a moment ago, so the request comes from the visitor.
  /** @param {HTMLIFrameElement} frame @param {Box} box @param {string} page */
  function openPage(frame, box, page) {
    if (box.asked || document.activeElement !== frame || !navigator.userActivation?.isActive) return;
    if (page.length > 2048 || !/^\/[^\\\s]*$/.test(page)) return;
    const key = keyOf(url(page));
    if (key === null) return;
    box.asked = true;
    navigate(url(key), frame);
  }

  // -- misbehaving boxes ------------------------------------------------------------
  /** Replace a frame with a message and a button that restarts it. @param {HTMLIFrameElement} frame @param {string} reason */
  function stop(frame, reason) {
    const notice = Object.assign(document.createElement("aside"), { className: "notice" });
    const restart = Object.assign(document.createElement("button"), { type: "button", className: "button plain" });
    restart.textContent = text("restart");
    restart.onclick = () => notice.replaceWith(frame);
    notice.append(Object.assign(document.createElement("p"), { textContent: reason }), restart);
    boxes.delete(frame);
    frame.replaceWith(notice);
  }

  // "load" does not bubble, but can be captured.
  document.addEventListener("load", ({ target }) => {
    if (!(target instanceof HTMLIFrameElement) || !target.matches("iframe.box")) return;
    const box = boxOf(target);
    Object.assign(box, { asked: false, height: 0 });
    sizes.observe(target);
    sendSize(target);
    if (++box.starts > MAX_STARTS) stop(target, text("restarting"));
    else if (wasBlocked) check(target, 10);
  }, true);

  // The policy keeps frames from going anywhere else. A frame that tried shows the browser's error page, which answers
  // no pings.
  let wasBlocked = false;
  document.addEventListener("securitypolicyviolation", (event) => {
    if (event.effectiveDirective !== "frame-src" || !allowsFrames) return;
    wasBlocked = true; // the error page may load later, and is checked then
    frames().forEach((frame) => check(frame, 10));
  });
  /** Ping a frame several times, and stop it if it never answers. @param {HTMLIFrameElement} frame @param {number} attempts */
  function check(frame, attempts) {
    const sent = performance.now();
    post(frame, { type: "ping" });
    setTimeout(() => {
      if (!frame.isConnected || boxOf(frame).lastPong > sent) return;
      if (attempts > 1) check(frame, attempts - 1);
      else if (boxOf(frame).starts) stop(frame, text("leaving"));
    }, 400);
  }

  // -- start: a ping makes frames repeat the messages that they sent before this script ran ------------------------------
  frames().forEach((frame) => {
    sizes.observe(frame);
    sendSize(frame);
    post(frame, { type: "ping" });
  });

  // -- boosted navigation to a page with boxes ------------------------------------------------------------
  // If this document's policy allows no frames, such a page must be loaded as a document of its own.
  document.addEventListener("htmx:before:response", (event) => {
    const { ctx } = /** @type {CustomEvent} */ (event).detail;
    if (allowsFrames || !/frame-src/.test(ctx.response?.headers.get("content-security-policy") || "")) return;
    event.preventDefault();
    location.href = ctx.response.raw.url || ctx.request.action;
  });
})();
