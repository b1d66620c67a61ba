// @ts-check
/**
 * windows.js: one window of the desktop: its place, its frame, and what can be done with it. desktop.js has them all.
 *
 * A window shows a page of this very app in a frame. It listens to the page, as both are of one origin: a press brings
 * the window to the front, the page's title becomes the window's, and its address is remembered for the way back. (The
 * browser's own way back is one for all frames of a tab, so it cannot be a window's.)
 */
(() => {
  "use strict";

  const STEP = 24, LEAST_WIDE = 260, LEAST_HIGH = 180, WAY = 30;
  let number = 0, front = 10;

  class Window {
    /**
     * @param {string} address
     * @param {string} title
     * @param {{x: number, y: number, w: number, h: number}} place
     * @param {{changed: (w: Window) => void, chosen: (w: Window) => void, keys: (e: KeyboardEvent) => void}} desk
     */
    constructor(address, title, place, desk) {
      const pattern = /** @type {HTMLTemplateElement} */ (document.getElementById("window"));
      this.element = /** @type {HTMLElement} */ (pattern.content.firstElementChild?.cloneNode(true));
      this.frame = /** @type {HTMLIFrameElement} */ (this.element.querySelector("iframe"));
      this.handle = /** @type {HTMLButtonElement} */ (this.element.querySelector(".handle"));
      this.desk = desk;
      this.address = address;
      this.place = { ...place };
      this.busy = this.going = this.shown = false;
      this.used = 0;
      /** @type {string[]} */
      this.way = [];
      this.handle.id = `window-${++number}`;
      this.element.setAttribute("aria-labelledby", this.handle.id);
      this.known = new WeakSet();
      this.call(title);
      this.put();
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

    // -- the page in it ------------------------------------------------------------
    wire() {
      const page = this.frame.contentDocument;
      if (!page || this.known.has(page)) return;
      this.known.add(page);
      page.addEventListener("pointerdown", () => this.desk.chosen(this), true);
      page.addEventListener("focusin", () => this.desk.chosen(this));
      page.addEventListener("keydown", this.desk.keys);
      for (const name of ["htmx:after:swap", "unwritten:page", "unwritten:frame", "unwritten:sent"]) {
        page.addEventListener(name, () => setTimeout(() => this.look()));
      }
      this.look();
    }

    /** See what the frame shows by now. */
    look() {
      const page = this.frame.contentDocument;
      if (!page?.body) return;
      const { pathname, search } = /** @type {Window & typeof globalThis} */ (/** @type {any} */ (this.frame.contentWindow)).location;
      const address = pathname + search;
      if (address !== this.address && address.startsWith("/")) {
        if (!this.going && this.shown) this.way = [...this.way, this.address].slice(-WAY); // not what led on at once
        this.address = address;
      }
      this.going = false;
      this.shown = true;
      const app = /^\/app\/\d+/.exec(this.address);
      if (app) Object.assign(this, { home: "app", first: app[0] });
      /** @type {HTMLButtonElement} */ (this.element.querySelector("[data-do=back]")).disabled = !this.way.length;
      this.busy = !!page.querySelector('[data-region]:is([data-state="waiting"], [data-state="writing"])');
      this.element.toggleAttribute("data-busy", this.busy);
      this.frame.title = `Contents of ${this.title}`;
      this.call(page.querySelector("[data-name]")?.textContent || page.title.split(" · ")[0] || address);
      this.desk.changed(this);
    }

    back() {
      const address = this.way.pop();
      if (!address) return;
      this.going = true;
      this.frame.contentWindow?.location.replace(address);
    }

    /** @param {string} title */
    call(title) {
      this.title = title;
      const words = /** @type {HTMLElement} */ (this.handle.firstElementChild);
      if (words.textContent !== title) words.textContent = title;
    }

    // -- its place ------------------------------------------------------------
    get minimised() {
      return this.element.hidden;
    }

    get maximised() {
      return this.element.hasAttribute("data-max");
    }

    /** Put it where it belongs; the style sheet keeps it within the room. */
    put() {
      const room = /** @type {HTMLElement} */ (document.getElementById("room"));
      const { place } = this;
      place.w = Math.min(Math.max(LEAST_WIDE, place.w), Math.max(LEAST_WIDE, room.clientWidth));
      place.h = Math.min(Math.max(LEAST_HIGH, place.h), Math.max(LEAST_HIGH, room.clientHeight));
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
      this.put();
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
          grip.setPointerCapture(pointerId); // only now: a plain press stays a click
          document.body.classList.add("dragging"); // frames would swallow the pointer
          move(to.clientX - clientX, to.clientY - clientY, start);
          this.put();
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
