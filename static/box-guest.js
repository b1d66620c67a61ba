/**
 * box-guest.js: confines a boxed app from inside its frame. It is put before the text of every app and runs first.
 *
 * 1. It removes what no policy forbids: WebRTC, nested documents (which would get fresh copies of everything removed
 *    here) and elements that open connections. Trusted Types pass every string that becomes HTML through `neutralize`.
 * 2. It gives the app `box` (save, load, resize, ask), storage that is saved with the state, and forms that send events.
 *
 * Everything it calls later is copied at the start, because the app may change any prototype.
 */
(() => {
  "use strict";
  const STORED = /*stored*/ null;
  const root = globalThis, parent = root.parent;
  const refuse = (text) => {
    root.stop();
    document.documentElement.textContent = text;
  };
  if (!root.trustedTypes) return refuse(/*outdated*/ null);

  // -- copies of built-in functions ------------------------------------------------------------
  const call = Function.prototype.call;
  const unbound = (method) => call.bind(method);
  const lower = unbound(String.prototype.toLowerCase), slice = unbound(String.prototype.slice);
  const find = unbound(String.prototype.indexOf), at = unbound(String.prototype.charCodeAt);
  const post = unbound(root.postMessage), text = String, parse = JSON.parse, json = JSON.stringify;
  const define = Object.defineProperty, describe = Object.getOwnPropertyDescriptor, names = Object.getOwnPropertyNames;
  const send = (message) => post(parent, message, "*");

  // -- forbidden elements ------------------------------------------------------------
  const FORBIDDEN = { __proto__: null };
  for (const name of "iframe frame frameset object embed applet link base meta portal fencedframe webview".split(" ")) {
    FORBIDDEN[name] = true;
  }
  /** Return the local part of a name, in lower case. */
  const local = (name) => lower(slice(name, find(name, ":") + 1));

  /** Rename forbidden elements in HTML. XML entities could hide them, so their declarations are renamed too. */
  function neutralize(html) {
    html = text(html);
    let out = "", done = 0;
    for (let open = find(html, "<", 0); open >= 0; open = find(html, "<", open + 1)) {
      let start = open + 1;
      if (at(html, start) === 47) start++;
      let end = start;
      for (let code = at(html, end); code > 32 && code !== 47 && code !== 62 && code !== 60; code = at(html, end)) end++;
      const name = slice(html, start, end);
      if (FORBIDDEN[local(name)] || lower(slice(name, 0, 7)) === "!entity") {
        out += slice(html, done, start) + "x-";
        done = start;
      }
    }
    return out + slice(html, done);
  }
  root.trustedTypes.createPolicy("default", { createHTML: neutralize, createScript: (code) => code, createScriptURL: (url) => url });

  /** Replace a method for good. */
  function replace(owner, name, make) {
    const original = describe(owner, name);
    if (!original?.value) return;
    const native = unbound(original.value);
    define(owner, name, { ...original, value: make(native), writable: false, configurable: false });
  }
  const renaming = (native) => function (name, ...more) {
    name = text(name);
    return native(this, FORBIDDEN[local(name)] ? "x-" + local(name) : name, ...more);
  };
  const renamingSecond = (native) => function (namespace, name, ...more) {
    name = text(name);
    return native(this, namespace, FORBIDDEN[local(name)] ? "x-" + local(name) : name, ...more);
  };
  replace(Document.prototype, "createElement", renaming);
  replace(Document.prototype, "createElementNS", renamingSecond);
  replace(DOMImplementation.prototype, "createDocument", renamingSecond);
  // Drop the options: a customized built-in element could be one of the forbidden ones.
  replace(CustomElementRegistry.prototype, "define", (native) => function (name, kind) { return native(this, name, kind); });
  // document.write() in pieces would be checked in pieces, so insert the whole text instead.
  const insert = unbound(Element.prototype.insertAdjacentHTML);
  const script = unbound(describe(Document.prototype, "currentScript").get), body = unbound(describe(Document.prototype, "body").get);
  for (const name of ["write", "writeln"]) {
    replace(Document.prototype, name, () => function (...parts) {
      let html = "";
      for (let i = 0; i < parts.length; i++) html += text(parts[i]);
      const current = script(document);
      if (current) insert(current, "beforebegin", html);
      else if (body(document)) insert(body(document), "beforeend", html);
    });
  }
  const CHECKED = { __proto__: null, insertAdjacentHTML: true, getHTML: true, setHTMLUnsafe: true };
  for (const owner of [Document, Document.prototype, Element.prototype, ShadowRoot.prototype, DocumentFragment.prototype]) {
    for (const name of names(owner)) if (/html/i.test(name) && !CHECKED[name] && describe(owner, name).value) delete owner[name];
  }
  for (const name of ["open", "close", "execCommand"]) delete Document.prototype[name];
  for (const name of names(root)) if (/RTC|XSLT|Portal|FencedFrame|WebTransport|PresentationR|PaymentR|SharedStorage/.test(name)) delete root[name];

  // -- history: going back would navigate the page around the frame ------------------------------------------------------
  for (const name of ["back", "forward", "go"]) delete History.prototype[name];

  // -- forms: a sandboxed frame submits none and fires no "submit", which programs rely on ------------------------------
  /** Validate a form and fire its "submit" event. */
  function submit(form, submitter = null) {
    if (!form.noValidate && !submitter?.formNoValidate && !form.reportValidity()) return;
    const proceed = form.dispatchEvent(new SubmitEvent("submit", { bubbles: true, cancelable: true, submitter }));
    if (proceed && form.method === "dialog") form.closest("dialog")?.close(submitter?.value);
  }
  const submits = (element) => element.type === "submit" || element.type === "image";
  root.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("button, input");
    if (!button || event.defaultPrevented || !button.form || !submits(button)) return;
    event.preventDefault();
    submit(button.form, button);
  });
  // On Enter, the browser clicks the first submit button. Handle forms that have none.
  root.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (key !== "Enter" || event.defaultPrevented || event.isComposing || !(target instanceof HTMLInputElement)) return;
    if (!target.form || [...target.form.elements].some(submits)) return;
    event.preventDefault();
    submit(target.form);
  });
  replace(HTMLFormElement.prototype, "requestSubmit", () => function (button) { submit(this, button); });
  replace(HTMLFormElement.prototype, "submit", () => function () {});

  // -- the app's interface ------------------------------------------------------------
  const stored = STORED && typeof STORED === "object" ? STORED : {};
  let state = stored.state ?? null;
  const waiting = new Map();
  const get = unbound(Map.prototype.get), set = unbound(Map.prototype.set), remove = unbound(Map.prototype.delete);
  const forEach = unbound(Map.prototype.forEach);
  let number = 0;
  /** Send a message and return a promise of its answer. */
  const request = (message) => new Promise((resolve, reject) => {
    message = { ...message, box: 1, id: ++number };
    set(waiting, number, { message, resolve, reject });
    send(message);
  });
  const everything = () => json({ state, storage: local_.data });
  const box = {
    /** Store a small state, up to 16 kB of JSON. Everyone who opens the page gets it. */
    save(value) {
      state = value === undefined ? null : parse(json(value));
      return request({ type: "save", state: everything() });
    },
    /** Return the last stored state, or null. */
    async load() {
      const found = parse((await request({ type: "load" })) || "null");
      return (state = found?.state ?? null);
    },
    /** Set the height of the box in pixels. */
    resize: (height) => void ((isOwn = true), setHeight(+height)),
    /** Open a page of the app around this box, such as "/wiki/Tea". Needs a click. */
    ask: (page) => send({ box: 1, type: "ask", page: text(page) }),
  };
  define(root, "box", { value: Object.freeze(box) });

  /** Make an object like localStorage, which is saved with the state. */
  function storage(data, changed) {
    const methods = {
      getItem: (key) => (text(key) in data ? data[text(key)] : null),
      setItem: (key, value) => void ((data[text(key)] = text(value)), changed()),
      removeItem: (key) => void (delete data[text(key)], changed()),
      clear: () => void (Object.keys(data).forEach((key) => delete data[key]), changed()),
      key: (index) => Object.keys(data)[index] ?? null,
    };
    const view = new Proxy(data, {
      get: (_, key) => (key === "length" ? Object.keys(data).length : (methods[key] ?? data[key])),
      set: (_, key, value) => (methods.setItem(key, value), true),
      deleteProperty: (_, key) => (methods.removeItem(key), true),
    });
    return { data, view };
  }
  const empty = () => Object.assign(Object.create(null), {});
  const local_ = storage(Object.assign(empty(), stored.storage), () => void request({ type: "save", state: everything() }).catch(() => {}));
  define(root, "localStorage", { value: local_.view });
  define(root, "sessionStorage", { value: storage(empty(), () => {}).view });

  root.addEventListener("message", (event) => {
    const { data, source } = event;
    if (source !== parent || data?.box !== 1) return;
    if (data.type === "size" && data.asked === height) {
      shown = data.height;
      shownAt = performance.now();
      schedule();
    }
    if (data.type === "ping") {
      // The page may have started to listen only now, so repeat what it has not answered.
      send({ box: 1, type: "pong" });
      forEach(waiting, ({ message }) => send(message));
      if (height) setHeight(height);
    }
    const entry = get(waiting, data.id);
    if (!entry) return;
    remove(waiting, data.id);
    if (data.error) entry.reject(new Error(text(data.error)));
    else entry.resolve(data.state);
  });

  // -- height: the frame is as high as its content, unless the app sets a height ------------------------------------------
  // Content can depend on the height of the frame: with 100vh and a padding it always needs more than it has. So two steps
  // are allowed at the start, and again after input and when images or fonts arrive. The first one fits the content. If
  // the content has grown with the frame, the second goes to the height at which both agree, if there is one. What grows
  // later without a cause is followed only if it goes on growing while the frame does not.
  //
  // The page says how high the frame is. Nothing is measured until the document has that height: a frame first has the
  // default height of 150 px, and is resized later than the page was asked, even seconds later when it is out of view.
  // What the page sent before it was asked does not count.
  const STEPS = 2, PATIENCE = 1000, MAX_UNPROMPTED = 8, MAX_ARRIVALS = 50;
  let height = 0, isOwn = false, isFitted = false, timer = 0, dueAt = 0;
  /** The height of the frame, as the page said; NaN until it answers. */
  let shown = NaN, shownAt = 0;
  /** The heights of frame and content when the last step was made, until its effect has been measured. */
  let before = null;
  let steps = 0, steppedAt = 0, late = 0, unprompted = 0, arrivals = 0, width = 0;
  let excess = 0; // what stays below the edge, because it grows with the frame
  let held = 0; // the height of content that grew without a cause
  let isMutated = false; // since the last step
  function setHeight(pixels) {
    shown = NaN;
    send({ box: 1, type: "resize", height: (height = pixels) });
  }

  /** Return the height that the content needs now. */
  function measure() {
    const needed = document.documentElement.scrollHeight, frame = root.innerHeight;
    if (needed > frame) return needed;
    const elements = [document.body, ...document.body.querySelectorAll("*")].slice(0, 2000);
    const lowest = elements.reduce((low, element) => Math.max(low, element.getBoundingClientRect().bottom), 0);
    return Math.min(frame, Math.ceil(lowest) + 16);
  }

  /** True if the document has the height of its frame, give or take the rounding of zoomed pages. */
  const isShown = () => Math.abs(root.innerHeight - shown) <= 2 && document.documentElement.getClientRects().length > 0;

  function fit() {
    timer = 0;
    if (isOwn || document.readyState !== "complete") return;
    // The page drops messages of apps that send too many, so ask again.
    if (height && Number.isNaN(shown) && performance.now() >= steppedAt + PATIENCE) {
      steppedAt = performance.now();
      setHeight(height);
      return schedule(PATIENCE);
    }
    // Frames out of view get no event when they are resized. They get one when they come into view.
    if (!isShown()) return void (performance.now() < shownAt + 5 * PATIENCE && schedule(100));
    if (root.innerWidth !== width && isFitted) steps = unprompted = held = 0; // lines break elsewhere
    width = root.innerWidth;
    const frame = root.innerHeight, needed = measure(), overflow = needed - frame;
    if (mutations.takeRecords().length) isMutated = true;
    const slope = before && before.frame !== frame ? (needed - before.needed) / (frame - before.frame) : 0;
    // The page limits the height. What was added meanwhile has not grown with the frame.
    const isFinal = before?.frame === frame || (slope > 0.95 && !isMutated);
    before = null;
    excess = Math.min(excess, Math.max(0, overflow));
    const wasFitted = isFitted;
    isFitted = true;
    if (wasFitted ? overflow <= excess + 1 : Math.abs(overflow) <= 1) return; // it shrinks only at the start
    if (isFinal) excess = overflow; // they never agree
    else if (steps < STEPS) step(frame, needed, slope > 0 && slope <= 0.95 ? frame + overflow / (1 - slope) : needed - excess);
    else followLate(frame, needed);
  }

  /** Decide about content that has grown after the steps that were allowed. */
  function followLate(frame, needed) {
    const wait = steppedAt + PATIENCE - performance.now();
    if (wait > 0) return schedule(wait);
    if (late > 0) late--; // an animation, or a result that took a moment
    else if (!held) return void (held = needed);
    else if (needed <= held + 1 || ++unprompted > MAX_UNPROMPTED) return;
    step(frame, needed, needed - excess);
  }

  function step(frame, needed, wanted) {
    before = { frame, needed };
    steps++;
    held = 0;
    isMutated = false;
    steppedAt = performance.now();
    setHeight(Math.ceil(wanted));
    schedule(PATIENCE);
  }

  // Frames out of view get timers, but no animation frames and no events of their size.
  function schedule(wait = 0) {
    const at = performance.now() + wait;
    if (timer && dueAt <= at) return;
    clearTimeout(timer);
    dueAt = at;
    timer = setTimeout(fit, wait);
  }
  function allowSteps() {
    steps = unprompted = held = 0;
    schedule();
  }
  for (const name of ["click", "keydown", "input", "change", "pointerup"]) {
    root.addEventListener(name, ({ isTrusted }) => {
      if (!isTrusted) return;
      arrivals = 0;
      late = 1;
      allowSteps();
    }, true);
  }
  function arrive({ isTrusted }) {
    if (!isTrusted || arrivals++ >= MAX_ARRIVALS) return;
    // What has just grown with the frame may have been this picture.
    if (performance.now() < steppedAt + PATIENCE) {
      excess = 0;
      before = null;
    }
    allowSteps();
  }
  const mutations = new MutationObserver(() => (isMutated = true));
  mutations.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  root.addEventListener("load", () => {
    schedule();
    const observer = new ResizeObserver(() => schedule());
    observer.observe(document.documentElement);
    if (document.body) observer.observe(document.body);
    for (const name of ["load", "error"]) document.addEventListener(name, arrive, true);
    document.fonts.addEventListener("loadingdone", arrive);
  });
  root.addEventListener("resize", () => schedule());
})();
