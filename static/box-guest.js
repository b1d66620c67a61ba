/**
 * box-guest.js: the box's own side of the wall. It is put before the text of every app, and runs before any of it.
 *
 * 1. It closes what no policy closes: WebRTC, documents inside the document (they would have all of this anew), and
 *    links that open connections. Trusted Types send every text that becomes HTML through `inert`.
 * 2. It gives the app `box`: save, load, resize, ask; storage that is kept with the state; and forms that tell the program.
 *
 * What it uses later it has taken beforehand: the app may change every prototype.
 */
(() => {
  "use strict";
  const KEPT = /*kept*/ null;
  const root = globalThis, parent = root.parent;
  const words = (text) => {
    root.stop();
    document.documentElement.textContent = text;
  };
  if (!root.trustedTypes) return words("This browser has no Trusted Types, without which no app is shown. A newer one has.");

  // -- what is taken beforehand ------------------------------------------------------------
  const call = Function.prototype.call;
  const bare = (method) => call.bind(method);
  const lower = bare(String.prototype.toLowerCase), slice = bare(String.prototype.slice);
  const find = bare(String.prototype.indexOf), at = bare(String.prototype.charCodeAt);
  const post = bare(root.postMessage), text = String, parse = JSON.parse, json = JSON.stringify;
  const define = Object.defineProperty, describe = Object.getOwnPropertyDescriptor, names = Object.getOwnPropertyNames;
  const send = (message) => post(parent, message, "*");

  // -- elements that are not made ------------------------------------------------------------
  const CLOSED = { __proto__: null };
  for (const name of "iframe frame frameset object embed applet link base meta portal fencedframe webview".split(" ")) {
    CLOSED[name] = true;
  }
  /** The local part of a name, in lower case. */
  const local = (name) => lower(slice(name, find(name, ":") + 1));

  /** HTML in which the elements above have other names. XML's entities could hide them, so they go as well. */
  function inert(html) {
    html = text(html);
    let out = "", done = 0;
    for (let open = find(html, "<", 0); open >= 0; open = find(html, "<", open + 1)) {
      let start = open + 1;
      if (at(html, start) === 47) start++;
      let end = start;
      for (let code = at(html, end); code > 32 && code !== 47 && code !== 62 && code !== 60; code = at(html, end)) end++;
      const name = slice(html, start, end);
      if (CLOSED[local(name)] || lower(slice(name, 0, 7)) === "!entity") {
        out += slice(html, done, start) + "x-";
        done = start;
      }
    }
    return out + slice(html, done);
  }
  root.trustedTypes.createPolicy("default", { createHTML: inert, createScript: (code) => code, createScriptURL: (url) => url });

  /** Put another function in the place of a method. */
  function replace(owner, name, make) {
    const had = describe(owner, name);
    if (!had?.value) return;
    const native = bare(had.value);
    define(owner, name, { ...had, value: make(native), writable: false, configurable: false });
  }
  const named = (native) => function (name, ...more) {
    name = text(name);
    return native(this, CLOSED[local(name)] ? "x-" + local(name) : name, ...more);
  };
  const named2 = (native) => function (space, name, ...more) {
    name = text(name);
    return native(this, space, CLOSED[local(name)] ? "x-" + local(name) : name, ...more);
  };
  replace(Document.prototype, "createElement", named);
  replace(Document.prototype, "createElementNS", named2);
  replace(DOMImplementation.prototype, "createDocument", named2);
  // A class of its own could be an element of another kind.
  replace(CustomElementRegistry.prototype, "define", (native) => function (name, kind) { return native(this, name, kind); });
  // What is written in pieces is read in pieces: it is put in its place as a whole instead.
  const insert = bare(Element.prototype.insertAdjacentHTML);
  const script = bare(describe(Document.prototype, "currentScript").get), body = bare(describe(Document.prototype, "body").get);
  for (const name of ["write", "writeln"]) {
    replace(Document.prototype, name, () => function (...parts) {
      let html = "";
      for (let i = 0; i < parts.length; i++) html += text(parts[i]);
      const place = script(document);
      if (place) insert(place, "beforebegin", html);
      else if (body(document)) insert(body(document), "beforeend", html);
    });
  }
  const CHECKED = { __proto__: null, insertAdjacentHTML: true, getHTML: true, setHTMLUnsafe: true };
  for (const owner of [Document, Document.prototype, Element.prototype, ShadowRoot.prototype, DocumentFragment.prototype]) {
    for (const name of names(owner)) if (/html/i.test(name) && !CHECKED[name] && describe(owner, name).value) delete owner[name];
  }
  for (const name of ["open", "close", "execCommand"]) delete Document.prototype[name];
  for (const name of names(root)) if (/RTC|XSLT|Portal|FencedFrame|WebTransport|PresentationR|PaymentR|SharedStorage/.test(name)) delete root[name];

  // -- nobody goes back either: the page around it would ------------------------------------------------------------
  for (const name of ["back", "forward", "go"]) delete History.prototype[name];

  // -- forms: a frame without an origin may send none, and so hears of none either; a program still wants its "submit" ------
  /** Submit a form as far as that goes: it is checked, and its listeners are told. */
  function submit(form, submitter = null) {
    if (!form.noValidate && !submitter?.formNoValidate && !form.reportValidity()) return;
    const told = form.dispatchEvent(new SubmitEvent("submit", { bubbles: true, cancelable: true, submitter }));
    if (told && form.method === "dialog") form.closest("dialog")?.close(submitter?.value);
  }
  const sends = (element) => element.type === "submit" || element.type === "image";
  root.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("button, input");
    if (!button || event.defaultPrevented || !button.form || !sends(button)) return;
    event.preventDefault();
    submit(button.form, button);
  });
  // The browser clicks on the first button itself; a form without one is left to us.
  root.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (key !== "Enter" || event.defaultPrevented || event.isComposing || !(target instanceof HTMLInputElement)) return;
    if (!target.form || [...target.form.elements].some(sends)) return;
    event.preventDefault();
    submit(target.form);
  });
  replace(HTMLFormElement.prototype, "requestSubmit", () => function (button) { submit(this, button); });
  replace(HTMLFormElement.prototype, "submit", () => function () {});

  // -- what the app has ------------------------------------------------------------
  const kept = KEPT && typeof KEPT === "object" ? KEPT : {};
  let state = kept.state ?? null;
  const waiting = new Map();
  const has = bare(Map.prototype.get), put = bare(Map.prototype.set), drop = bare(Map.prototype.delete);
  const each = bare(Map.prototype.forEach);
  let number = 0;
  /** Send a message and wait for its answer. */
  const ask = (message) => new Promise((resolve, reject) => {
    message = { ...message, box: 1, id: ++number };
    put(waiting, number, { message, resolve, reject });
    send(message);
  });
  const whole = () => json({ state, storage: local_.data });
  const box = {
    /** Keep a small state, up to 16 kB of JSON; whoever opens the page finds it. */
    save(value) {
      state = value === undefined ? null : parse(json(value));
      return ask({ type: "save", state: whole() });
    },
    /** The state that was kept last, or null. */
    async load() {
      const found = parse((await ask({ type: "load" })) || "null");
      return (state = found?.state ?? null);
    },
    /** Take so many pixels of height. */
    resize: (height) => void ((fitted = Infinity), tell(+height)),
    /** Go to a page of the app that this box stands in, such as "/wiki/Tea". It needs a click. */
    ask: (page) => send({ box: 1, type: "ask", page: text(page) }),
  };
  define(root, "box", { value: Object.freeze(box) });

  /** Storage as pages have it, kept with the state. */
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
  const local_ = storage(Object.assign(empty(), kept.storage), () => void ask({ type: "save", state: whole() }).catch(() => {}));
  define(root, "localStorage", { value: local_.view });
  define(root, "sessionStorage", { value: storage(empty(), () => {}).view });

  root.addEventListener("message", (event) => {
    const { data, source } = event;
    if (source !== parent || data?.box !== 1) return;
    if (data.type === "ping") {
      // The page around may have begun to listen only now: what it has not answered, it may not have heard.
      send({ box: 1, type: "pong" });
      each(waiting, ({ message }) => send(message));
      if (height) tell(height);
    }
    const one = has(waiting, data.id);
    if (!one) return;
    drop(waiting, data.id);
    if (data.error) one.reject(new Error(text(data.error)));
    else one.resolve(data.state);
  });
  // The frame is as high as what is in it, unless the app says otherwise; it may ask a few times, and not for ever.
  let fitted = 0, height = 0;
  const tell = (pixels) => send({ box: 1, type: "resize", height: (height = pixels) });
  root.addEventListener("load", () => {
    const { documentElement: whole, body } = document;
    if (!body) return;
    const bottom = (element) => element.getBoundingClientRect().bottom;
    const lowest = [body, ...body.querySelectorAll("*")].slice(0, 2000).reduce((low, each) => Math.max(low, bottom(each)), 0);
    const needed = whole.scrollHeight > root.innerHeight ? whole.scrollHeight : lowest + 16;
    if (!fitted++) tell(needed);
    new ResizeObserver(() => {
      if (whole.scrollHeight > root.innerHeight && fitted++ < 20) tell(whole.scrollHeight);
    }).observe(body);
  });
})();
