// @ts-check
/**
 * desktop.js: manages the windows (windows.js): opens the links of the dock in them, arranges them, lists them in the
 * shelf, and remembers in this browser which are open and where.
 *
 * At most twelve windows are open, since each is a page with its own connection to the server. To open another, the
 * visitor chooses one to close. Does nothing inside a frame, so that a desktop cannot contain a desktop.
 */
(() => {
  "use strict";
  if (window !== top) return;

  const MAX_WINDOWS = 12, STORAGE_KEY = "unwritten-desktop", GAP = 8;
  const { key } = /** @type {any} */ (globalThis).unwritten;
  /** @typedef {any} Win */
  const { DeskWindow } = /** @type {any} */ (globalThis);
  /** @param {string} id */
  const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
  const room = part("room"), dock = part("dock"), shelf = part("shelf"), busy = part("busy"), clock = part("clock");
  const full = /** @type {HTMLDialogElement} */ (part("full"));
  /** @type {Win[]} */
  const windows = [];
  /** The window to open when another is closed. @type {{address: string, title: string} | null} */
  let waiting = null;
  /** The active window. @type {Win | null} */
  let front = null;

  const desk = { changed, chosen: (/** @type {Win} */ win) => front !== win && choose(win), keys };

  // -- opening and closing ------------------------------------------------------------
  /** @param {string} address @param {string} title @param {object} [place] @returns {Win | null} */
  function open(address, title, place) {
    if (windows.length >= MAX_WINDOWS) return void ask(address, title), null;
    const n = windows.length, wide = room.clientWidth, high = room.clientHeight;
    const w = Math.min(Math.max(640, wide * 0.36), wide - 32), h = Math.min(Math.max(480, high * 0.55), high - 24);
    const step = 30 * (n % 8);
    const win = new DeskWindow(address, title, place || { x: Math.min(36 + step, wide - w), y: Math.min(20 + step, high - h), w, h }, desk);
    windows.push(win);
    room.append(win.element);
    win.chip = chip(win);
    shelf.append(win.chip.parentElement);
    choose(win);
    return win;
  }

  /** @param {Win} win */
  function close(win) {
    windows.splice(windows.indexOf(win), 1);
    win.element.remove();
    win.chip.parentElement.remove();
    if (front === win) front = null;
    const next = byUse().find((other) => !other.minimised);
    if (next) enter(next);
    else /** @type {HTMLElement | null} */ (dock.querySelector("a"))?.focus();
    changed();
  }

  /** Return the windows, the last used one first. @returns {Win[]} */
  const byUse = () => [...windows].sort((a, b) => b.used - a.used);

  /** Ask which window to close. @param {string} address @param {string} title */
  function ask(address, title) {
    waiting = { address, title };
    part("full-title").textContent = `“${title}” cannot be opened: ${MAX_WINDOWS} windows are already open`;
    const list = /** @type {HTMLElement} */ (full.querySelector("ul"));
    list.replaceChildren(...byUse().reverse().map((win) => {
      const item = Object.assign(document.createElement("li"), { className: "row" });
      const name = Object.assign(document.createElement("span"), { className: "clip", dir: "auto", textContent: win.title });
      const button = Object.assign(document.createElement("button"), { type: "button", className: "chip push", textContent: "Close" });
      button.setAttribute("aria-label", `Close ${win.title}`);
      button.onclick = () => {
        const wanted = waiting;
        full.close();
        close(win);
        if (wanted) open(wanted.address, wanted.title);
      };
      item.append(name, button);
      return item;
    }));
    if (!full.open) full.showModal();
  }
  full.addEventListener("close", () => (waiting = null));

  // -- the active window ------------------------------------------------------------
  /** @param {Win} win */
  function choose(win) {
    front = win;
    win.raise();
    for (const other of windows) other.element.toggleAttribute("data-front", other === win);
    changed();
  }

  /** Bring a window to the front and focus it. @param {Win} win */
  function enter(win) {
    if (win.minimised) win.minimise(false);
    choose(win);
    win.handle.focus();
  }

  /** @param {Win} win */
  function minimise(win) {
    win.minimise(true);
    win.element.removeAttribute("data-front");
    front = null;
    const next = byUse().find((other) => !other.minimised);
    if (next) enter(next);
    else win.chip.focus();
    changed();
  }

  // -- the dock and the shelf ------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    const link = target.closest("#dock a, .tools a");
    if (link instanceof HTMLAnchorElement) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const address = link.getAttribute("href") || "/", title = (link.textContent || "").replace(/^\s*\w\s*\n/, "").trim();
      const there = event.shiftKey ? null : byUse().find((win) => win.home === link.dataset.icon && (win.home !== "app" || win.first === address));
      if (there) return enter(there);
      const win = open(address, title);
      if (win) Object.assign(win, { home: link.dataset.icon, first: address });
      win?.handle.focus();
      return changed();
    }
    const button = target.closest("[data-do]");
    if (!(button instanceof HTMLElement)) return;
    const win = windows.find(({ element }) => element.contains(button));
    if (button.dataset.do === "tile") tile();
    else if (button.dataset.do === "cascade") cascade();
    else if (win) act(win, button.dataset.do || "");
  });

  /** @param {Win} win @param {string} what */
  function act(win, what) {
    if (what === "close") close(win);
    else if (what === "min") minimise(win);
    else if (what === "max") win.maximise();
    else if (what === "back") win.back();
  }

  /** Return the shelf button of a window. @param {Win} win */
  function chip(win) {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button", className: "chip clip", dir: "auto" });
    button.onclick = () => (win === front && !win.minimised ? minimise(win) : enter(win));
    item.append(button);
    return button;
  }

  // -- arranging ------------------------------------------------------------
  const shown = () => windows.filter((win) => !win.minimised);

  function tile() {
    const all = shown(), columns = Math.ceil(Math.sqrt(all.length)), rows = Math.ceil(all.length / columns);
    const w = (room.clientWidth - GAP) / columns - GAP, h = (room.clientHeight - GAP) / rows - GAP;
    all.forEach((win, i) => {
      win.maximise(false);
      win.place = { x: GAP + (i % columns) * (w + GAP), y: GAP + Math.floor(i / columns) * (h + GAP), w, h };
      win.applyPlace();
    });
    changed();
  }

  function cascade() {
    const w = Math.min(640, room.clientWidth * 0.7), h = Math.min(480, room.clientHeight * 0.7);
    byUse().reverse().filter((win) => !win.minimised).forEach((win, i) => {
      win.maximise(false);
      win.place = { x: 24 + 32 * i, y: 16 + 32 * i, w, h };
      win.applyPlace();
      win.raise();
    });
    changed();
  }

  // -- keys ------------------------------------------------------------
  /** @param {KeyboardEvent} event */
  function keys(event) {
    if (!event.altKey || !event.shiftKey || event.ctrlKey || event.metaKey) return;
    const order = windows, at = front ? order.indexOf(front) : -1;
    /** @type {Record<string, () => void>} */
    const actions = {
      KeyN: () => order.length && enter(order[(at + 1) % order.length]),
      KeyD: () => /** @type {HTMLElement | null} */ (dock.querySelector("a"))?.focus(),
      KeyM: () => front && minimise(front),
      KeyW: () => front && close(front),
      KeyB: () => front?.back(),
      KeyT: tile,
      KeyC: cascade,
    };
    const action = actions[event.code];
    if (!action) return;
    event.preventDefault();
    action();
  }
  document.addEventListener("keydown", keys);

  // -- updating ------------------------------------------------------------
  let later = 0;
  /** Update the dock and the shelf, once per frame. */
  function changed() {
    later ||= requestAnimationFrame(() => {
      later = 0;
      for (const win of windows) {
        if (!win.chip) continue;
        if (win.chip.textContent !== win.title) win.chip.textContent = win.title;
        win.chip.title = win.title;
        win.chip.toggleAttribute("data-busy", win.busy);
        win.chip.setAttribute("aria-pressed", String(win === front && !win.minimised));
        if (win.home === "app") name(win);
      }
      for (const link of dock.querySelectorAll("a[data-icon]")) {
        const running = windows.some((win) => win.home === /** @type {HTMLElement} */ (link).dataset.icon && (win.home !== "app" || win.first === link.getAttribute("href")));
        link.toggleAttribute("data-running", running);
      }
      const many = shown().length > 1, writing = windows.filter((win) => win.busy).length;
      for (const button of document.querySelectorAll(".tools [data-do]")) /** @type {HTMLElement} */ (button).hidden = !many;
      const words = writing ? `Writing in ${writing} ${writing === 1 ? "window" : "windows"}` : "";
      if (busy.textContent !== words) busy.textContent = words;
      document.body.toggleAttribute("data-windows", windows.length > 0);
      keep();
    });
  }

  /** Show the generated name of an app in the dock. @param {Win} win */
  function name(win) {
    const link = [...dock.querySelectorAll(".made a")].find((one) => one.getAttribute("href") === win.first);
    const words = link?.querySelector("span"), letter = link?.querySelector("b");
    if (win.busy || !words || !letter || win.address !== win.first || words.textContent === win.title) return;
    words.textContent = win.title;
    letter.textContent = win.title.slice(0, 1).toUpperCase();
  }

  // Apply changed settings in every window.
  document.addEventListener("unwritten:frame", () => {
    const look = part("look");
    part("machine").textContent = document.title = look.dataset.machine || "";
    for (const { frame } of windows) {
      const root = frame.contentDocument?.documentElement;
      if (root) for (const one of ["scheme", "accent", "text"]) root.dataset[one] = look.dataset[one];
    }
    changed();
  });

  function tick() {
    const now = new Date();
    clock.setAttribute("datetime", now.toISOString());
    clock.textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    setTimeout(tick, 60_000 - (now.getTime() % 60_000));
  }

  // -- stored windows ------------------------------------------------------------
  function keep() {
    const open = [...windows].sort((a, b) => a.used - b.used).map((win) => ({
      address: win.address, title: win.title, place: win.place, home: win.home, first: win.first, min: win.minimised, max: win.maximised,
    }));
    try {
      localStorage.setItem(STORAGE_KEY, JSON.stringify(open));
    } catch {} // storage is disabled
  }

  function restore() {
    /** @type {any[]} */
    let kept = [];
    try {
      const found = JSON.parse(localStorage.getItem(STORAGE_KEY) || "[]");
      if (Array.isArray(found)) kept = found;
    } catch {} // invalid
    for (const one of kept.slice(-MAX_WINDOWS)) {
      const { address, title, place, home, first, min, max } = one || {};
      const page = typeof address === "string" && key(address);
      if (!page || !/^\/\w/.test(page) || page.startsWith("/_unwritten")) continue;
      if (!place || !["x", "y", "w", "h"].every((side) => Number.isFinite(place[side]))) continue;
      const win = open(address, String(title).slice(0, 80), place);
      if (!win) continue;
      if (typeof home === "string") Object.assign(win, { home, first });
      if (max) win.maximise(true);
      if (min) minimise(win);
    }
    changed();
  }

  addEventListener("resize", () => windows.forEach((win) => win.applyPlace()));
  tick();
  restore();
})();
