// @ts-check
/**
 * windows.js: a window of the desktop: its position, its frame and its controls. desktop.js manages all windows.
 *
 * A window shows a page of the app in a frame of the same origin, and listens to it: a click brings the window to the
 * front, the page's title becomes the window's title, and its address goes into the window's history. (The browser has
 * one history for all frames of a tab, so each window needs its own.)
 */
(() => {
  "use strict";

  const STEP = 24, MIN_WIDTH = 260, MIN_HEIGHT = 180, MAX_HISTORY = 30;
  const { key, url } = /** @type {any} */ (globalThis).unwritten;
  let number = 0, front = 10;

  class Window {
    /**
     * @param {string} address
     * @param {string} title
     * @param {{x: number, y: number, w: number, h: number}} place
     * @param {{changed: (w: Window) => void, chosen: (w: Window) => void, keys: (e: KeyboardEvent) => void}} desk
     */
    constructor(address, title, place, desk) {
      const template = /** @type {HTMLTemplateElement} */ (document.getElementById("window"));
      this.element = /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
      this.frame = /** @type {HTMLIFrameElement} */ (this.element.querySelector("iframe"));
      this.handle = /** @type {HTMLButtonElement} */ (this.element.querySelector(".handle"));
      this.desk = desk;
      this.address = address;
      this.place = { ...place };
      this.busy = this.goingBack = this.loaded = false;
      this.used = 0;
      /** @type {string[]} */
      this.history = [];
      this.handle.id = `window-${++number}`;
      this.element.setAttribute("aria-labelledby", this.handle.id);
      this.wired = new WeakSet();
      this.setTitle(title);
      this.applyPlace();
      this.frame.src = address;
      this.frame.addEventListener("load", () => this.wire());
      this.element.addEventListener("pointerdown", () => desk.chosen(this), true);
      this.element.addEventListener("focusin", () => desk.chosen(this));
      this.drag(/** @type {HTMLElement} */ (this.element.querySelector(".bar")), (x, y, start) => {
        this.place.x = start.x + x;
        this.place.y = start.y + y;
      });
      this.drag(/** @type {HTMLElement} */ (this.element.querySelector(".corner")), (x, y, start) => {
        this.place.w = start.w + x;
        this.place.h = start.h + y;
      });
      this.handle.addEventListener("keydown", (event) => this.arrow(event));
      this.handle.addEventListener("dblclick", () => this.maximise());
    }

    // -- its page ------------------------------------------------------------
    wire() {
      const page = this.frame.contentDocument;
      if (!page || this.wired.has(page)) return;
      this.wired.add(page);
      page.addEventListener("pointerdown", () => this.desk.chosen(this), true);
      page.addEventListener("focusin", () => this.desk.chosen(this));
      page.addEventListener("keydown", this.desk.keys);
      for (const name of ["htmx:after:swap", "unwritten:page", "unwritten:frame", "unwritten:sent"]) {
        page.addEventListener(name, () => setTimeout(() => this.update()));
      }
      this.update();
    }

    /** Update the window to what its frame shows. */
    update() {
      const page = this.frame.contentDocument;
      if (!page?.body) return;
      const { pathname, search } = /** @type {Window & typeof globalThis} */ (/** @type {any} */ (this.frame.contentWindow)).location;
      const address = pathname + search;
      if (address !== this.address && address.startsWith("/")) {
        if (!this.goingBack && this.loaded) this.history = [...this.history, this.address].slice(-MAX_HISTORY); // not redirects
        this.address = address;
      }
      this.goingBack = false;
      this.loaded = true;
      const program = /^\/app\/\d+/.exec(key(this.address) || "");
      if (program) Object.assign(this, { home: "app", first: url(program[0]) });
      /** @type {HTMLButtonElement} */ (this.element.querySelector("[data-do=back]")).disabled = !this.history.length;
      this.busy = !!page.querySelector('[data-region]:is([data-state="waiting"], [data-state="writing"])');
      this.element.toggleAttribute("data-busy", this.busy);
      this.frame.title = `Contents of ${this.title}`;
      this.setTitle(page.querySelector("[data-name]")?.textContent || page.title.split(" · ")[0] || address);
      this.desk.changed(this);
    }

    back() {
      const address = this.history.pop();
      if (!address) return;
      this.goingBack = true;
      this.frame.contentWindow?.location.replace(address);
    }

    /** @param {string} title */
    setTitle(title) {
      this.title = title;
      const label = /** @type {HTMLElement} */ (this.handle.firstElementChild);
      if (label.textContent !== title) label.textContent = title;
    }

    // -- its position ------------------------------------------------------------
    get minimised() {
      return this.element.hidden;
    }

    get maximised() {
      return this.element.hasAttribute("data-max");
    }

    /** Apply the position and size, within the bounds of the desktop. */
    applyPlace() {
      const room = /** @type {HTMLElement} */ (document.getElementById("room"));
      const { place } = this;
      place.w = Math.min(Math.max(MIN_WIDTH, place.w), Math.max(MIN_WIDTH, room.clientWidth));
      place.h = Math.min(Math.max(MIN_HEIGHT, place.h), Math.max(MIN_HEIGHT, room.clientHeight));
      place.x = Math.min(Math.max(0, place.x), Math.max(0, room.clientWidth - 96));
      place.y = Math.min(Math.max(0, place.y), Math.max(0, room.clientHeight - 48));
      for (const side of /** @type {const} */ (["x", "y", "w", "h"])) this.element.style.setProperty(`--${side}`, `${Math.round(place[side])}px`);
    }

    raise() {
      this.used = Date.now();
      this.element.style.zIndex = String(++front);
    }

    /** @param {boolean} [wanted] */
    maximise(wanted = !this.maximised) {
      this.element.toggleAttribute("data-max", wanted);
      this.element.querySelector("[data-do=max]")?.setAttribute("aria-pressed", String(wanted));
      this.desk.changed(this);
    }

    /** @param {boolean} wanted */
    minimise(wanted) {
      this.element.hidden = wanted;
      this.desk.changed(this);
    }

    /** @param {KeyboardEvent} event */
    arrow(event) {
      const move = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
      if (event.key === "Enter") this.maximise();
      if (!move && event.key !== "Enter") return;
      event.preventDefault();
      if (!move || event.altKey || event.ctrlKey) return;
      const [x = 0, y = 0] = move;
      if (event.shiftKey) Object.assign(this.place, { w: this.place.w + x, h: this.place.h + y });
      else Object.assign(this.place, { x: this.place.x + x, y: this.place.y + y });
      this.applyPlace();
      this.desk.changed(this);
    }

    /**
     * @param {HTMLElement} grip
     * @param {(x: number, y: number, start: {x: number, y: number, w: number, h: number}) => void} move
     */
    drag(grip, move) {
      grip.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || this.maximised || /** @type {Element} */ (event.target).closest(".controls")) return;
        const start = { ...this.place }, { clientX, clientY, pointerId } = event;
        /** @param {PointerEvent} to */
        const moved = (to) => {
          if (to.pointerId !== pointerId) return;
          grip.setPointerCapture(pointerId); // not before it moves: a press alone stays a click
          document.body.classList.add("dragging"); // otherwise frames would take the pointer events
          move(to.clientX - clientX, to.clientY - clientY, start);
          this.applyPlace();
        };
        const ended = () => {
          document.body.classList.remove("dragging");
          removeEventListener("pointermove", moved);
          for (const name of ["pointerup", "pointercancel"]) removeEventListener(name, ended);
          this.desk.changed(this);
        };
        addEventListener("pointermove", moved);
        for (const name of ["pointerup", "pointercancel"]) addEventListener(name, ended);
      });
    }
  }

  Object.assign(globalThis, { DeskWindow: Window });
})();
