// @ts-check
/**
 * box-host.js: this page's side of the wall around an app that a model wrote. The app runs in a frame without an origin and
 * without a network (boxes.py says how), and talks by messages. Only those below are heard, only from the frame's own
 * window, and only in this form; all else is dropped:
 *
 * {box: 1, type: "save", id, state}   JSON of up to 16 kB, kept by the server for the page and the region
 * {box: 1, type: "load", id}          is answered with {box: 1, id, state}, or with {box: 1, id, error}
 * {box: 1, type: "resize", height}    pixels, within bounds
 * {box: 1, type: "ask", page}         a page of this app; once for each start, and only after a click into the frame
 * {box: 1, type: "pong"}              the answer to a ping: the frame still holds the app
 */
(() => {
  "use strict";

  const LIMIT = 16 * 1024, RATE = 40, STARTS = 5, LOWEST = 48, HIGHEST = 1600, PAUSE = 400;
  const { boost, script } = /** @type {any} */ (globalThis).unwritten;
  const ADDRESS = new URL("../box/state", script.src).href;
  // What the policy of this document allows was settled when it was loaded, whatever body is swapped in later.
  const allowed = !!document.querySelector("meta[name='unwritten-frames']");

  /**
   * @typedef {{starts: number, second: number, count: number, asked: boolean, heard: number, saving: number,
   *   pending: {id: number, state: string}[]}} Box
   */
  /** @type {WeakMap<HTMLIFrameElement, Box>} */
  const boxes = new WeakMap();
  /** @param {HTMLIFrameElement} frame @returns {Box} */
  function boxOf(frame) {
    const box = boxes.get(frame) ?? { starts: 0, second: 0, count: 0, asked: false, heard: 0, saving: 0, pending: [] };
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
    if (++box.count > RATE) return;
    const { type, id, state, height, page } = message;
    if (type === "save" && Number.isSafeInteger(id) && typeof state === "string") save(frame, box, id, state);
    else if (type === "load" && Number.isSafeInteger(id)) load(frame, box, id);
    else if (type === "resize" && Number.isFinite(height)) {
      frame.style.height = `${Math.min(HIGHEST, Math.max(LOWEST, Math.ceil(height)))}px`;
    } else if (type === "ask" && typeof page === "string") ask(frame, box, page);
    else if (type === "pong") box.heard = performance.now();
  });

  /** @param {HTMLIFrameElement} frame @param {object} message */
  const answer = (frame, message) => frame.contentWindow?.postMessage({ box: 1, ...message }, "*");

  // -- its state ------------------------------------------------------------
  /** Where a frame stands: its page and its region. @param {HTMLIFrameElement} frame */
  function place(frame) {
    const { page = "", region = "" } = /** @type {HTMLElement | null} */ (frame.closest("[data-region]"))?.dataset ?? {};
    return { page, region };
  }

  /** @param {HTMLIFrameElement} frame @param {Box} box @param {number} id @param {string} state */
  function save(frame, box, id, state) {
    if (new TextEncoder().encode(state).length > LIMIT) {
      return answer(frame, { id, error: "A box keeps up to 16 kB of JSON, and this is more." });
    }
    box.pending.push({ id, state });
    box.saving ||= window.setTimeout(() => flush(frame, box), PAUSE);
  }

  // Only the last of several states is sent: they are whole, and the last one wins.
  /** @param {HTMLIFrameElement} frame @param {Box} box */
  async function flush(frame, box) {
    clearTimeout(box.saving);
    box.saving = 0;
    const saves = box.pending.splice(0), last = saves.at(-1);
    if (!last) return;
    const error = await fetch(ADDRESS, {
      method: "POST", headers: { "content-type": "application/json" }, keepalive: true,
      body: JSON.stringify({ ...place(frame), state: last.state }),
    }).then(async (response) => (response.ok ? "" : (await response.json()).message), (reason) => String(reason));
    for (const { id } of saves) answer(frame, error ? { id, error } : { id, state: "null" });
  }

  /** @param {HTMLIFrameElement} frame @param {Box} box @param {number} id */
  async function load(frame, box, id) {
    await flush(frame, box);
    const answered = await fetch(`${ADDRESS}?${new URLSearchParams(place(frame))}`).then(
      async (response) => (response.ok ? { state: (await response.json()).state } : { error: (await response.json()).message }),
      (reason) => ({ error: String(reason) }),
    );
    answer(frame, { id, ...answered });
  }

  addEventListener("pagehide", () => frames().forEach((frame) => void flush(frame, boxOf(frame))));

  // -- another page ------------------------------------------------------------
  // The frame has the focus and was clicked a moment ago: so it was this app that the visitor meant.
  /** @param {HTMLIFrameElement} frame @param {Box} box @param {string} page */
  function ask(frame, box, page) {
    if (box.asked || document.activeElement !== frame || !navigator.userActivation?.isActive) return;
    if (page.length > 2048 || !/^\/(?![/\\])[^\\\s]*$/.test(page)) return;
    const url = new URL(page, location.href);
    if (url.origin !== location.origin || url.pathname.startsWith("/_unwritten/")) return;
    box.asked = true;
    const link = Object.assign(document.createElement("a"), { href: url.pathname + url.search, hidden: true });
    frame.after(link);
    boost(link);
    link.click();
    link.remove();
  }

  // -- a box that is not quiet ------------------------------------------------------------
  /** Put words in the place of a frame, and a button that starts it again. @param {HTMLIFrameElement} frame @param {string} words */
  function stop(frame, words) {
    const note = Object.assign(document.createElement("aside"), { className: "notice" });
    const again = Object.assign(document.createElement("button"), { type: "button", className: "button plain" });
    again.textContent = "Start it again";
    again.onclick = () => note.replaceWith(frame);
    note.append(Object.assign(document.createElement("p"), { textContent: words }), again);
    boxes.delete(frame);
    frame.replaceWith(note);
  }

  // "load" does not bubble, but it can be caught on its way down.
  document.addEventListener("load", ({ target }) => {
    if (!(target instanceof HTMLIFrameElement) || !target.matches("iframe.box")) return;
    const box = boxOf(target);
    box.asked = false;
    if (++box.starts > STARTS) stop(target, "This app starts itself over and over, so it was stopped.");
    else if (refused) check(target, 10);
  }, true);

  // The policy lets a frame go nowhere; what is left then is an error page of the browser, which answers nothing.
  let refused = false;
  document.addEventListener("securitypolicyviolation", (event) => {
    if (event.effectiveDirective !== "frame-src" || !allowed) return;
    refused = true; // the error page may come later, and be asked then
    frames().forEach((frame) => check(frame, 10));
  });
  /** Ping a frame, patiently, and stop it if it never answers. @param {HTMLIFrameElement} frame @param {number} tries */
  function check(frame, tries) {
    const asked = performance.now();
    answer(frame, { type: "ping" });
    setTimeout(() => {
      if (!frame.isConnected || boxOf(frame).heard > asked) return;
      if (tries > 1) check(frame, tries - 1);
      else if (boxOf(frame).starts) stop(frame, "This app tried to leave its box, so it was stopped.");
    }, 400);
  }

  // -- begin: what a frame said before this script was here, it says again ------------------------------------------------------------
  frames().forEach((frame) => answer(frame, { type: "ping" }));

  // -- a page with a box, come to from one without ------------------------------------------------------------
  // Frames are allowed by the policy of the document, so such a page must be a document of its own.
  document.addEventListener("htmx:before:response", (event) => {
    const { ctx } = /** @type {CustomEvent} */ (event).detail;
    if (allowed || !/frame-src/.test(ctx.response?.headers.get("content-security-policy") || "")) return;
    event.preventDefault();
    location.href = ctx.response.raw.url || ctx.request.action;
  });
})();
