// @ts-check
/**
 * forms.js: submits forms to actions without leaving the page, and keeps state regions up to date.
 *
 * 1. A form with data-action is submitted in the background, once, however often its button is pressed. The response is
 *    the page that a browser without JavaScript would get. The differences are morphed into place, so that focus, scroll
 *    position and text typed elsewhere survive. An accepted form is reset, except for what was entered after it was
 *    sent; a rejected one shows its errors.
 * 2. While a page with state regions is shown, it is followed over the socket: whatever an action changes, here or in
 *    another browser, arrives as a frame.
 *
 * Adds unwritten.follow(name, pages) for the other scripts: follow these pages, and no others under this name.
 *
 * Event for authors and tests, on the form, bubbling: unwritten:sent (detail: {status}; 0 if the server is unreachable).
 */
(() => {
  "use strict";

  const own = /** @type {any} */ (globalThis).unwritten;
  const { text, send, keepOpen, scan, keepNewer, markLinks, boost, announce, navigate } = own;
  const { morph } = /** @type {any} */ (globalThis).unwrittenMorph;
  const { captureSubmitted, captureDefaults } = /** @type {any} */ (globalThis).unwrittenControls;
  const LIVE = '[data-region][data-page][data-state="live"]';
  const REFRESHED = "[data-colophon][data-page]:has([data-refreshed])"; // newer versions are shown when they are stored
  const UNFINISHED = '[data-region][data-page]:is([data-state="waiting"], [data-state="writing"])';

  // -- forms ------------------------------------------------------------
  /** The forms that are being submitted. @type {WeakSet<HTMLFormElement>} */
  const submitting = new WeakSet();

  /** Return the form's address. `form.action` would be wrong if a field has that name. @param {HTMLFormElement} form */
  const actionOf = (form) => form.getAttribute("action") || "";

  // A form that arrived over the socket has no key yet. A form that is submitted again after a failure keeps its key.
  /** Add a key to the form's address, unless it has one. @param {HTMLFormElement} form */
  function withKey(form) {
    if (actionOf(form).endsWith(".")) {
      const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(12))));
      form.setAttribute("action", actionOf(form) + key.replaceAll("+", "-").replaceAll("/", "_"));
    }
    return actionOf(form);
  }

  // In the capture phase, before htmx, which would swap the whole body.
  document.addEventListener(
    "submit",
    (event) => {
      const form = event.target;
      if (!(form instanceof HTMLFormElement) || !form.matches("[data-action]") || event.defaultPrevented) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      if (submitting.has(form)) return;
      submitting.add(form);
      void submit(form, event.submitter).finally(() => {
        submitting.delete(form);
        form.removeAttribute("aria-busy");
      });
    },
    true,
  );

  /** @param {HTMLFormElement} form @param {HTMLElement | null} button */
  async function submit(form, button) {
    form.setAttribute("aria-busy", "true");
    showError(form, "");
    const fields = /** @type {any} */ (new FormData(form, button));
    const page = location.pathname + location.search;
    const resetSubmitted = captureSubmitted(form), restoreDefaults = captureDefaults(form);
    /** @type {Response} */
    let response;
    /** @type {Document} */
    let answer;
    const action = withKey(form);
    try {
      const body = form.getAttribute("enctype") === "multipart/form-data" ? fields : new URLSearchParams(fields);
      response = await fetch(action, { method: "POST", body, headers: { accept: "text/html" } });
      answer = new DOMParser().parseFromString(await response.text(), "text/html");
    } catch {
      showError(form, text("unreachable"));
      form.setAttribute("action", action); // an update may have replaced it meanwhile
      return emitSent(form, 0);
    }
    const arrived = new URL(response.url);
    if (page !== location.pathname + location.search) return; // the visitor has left the page
    if (response.redirected && arrived.pathname + arrived.search === page) {
      if (response.ok) update(answer);
      resetSubmitted();
      announce(text("sent"), `sent ${actionOf(form)}`);
    } else if (response.redirected) {
      navigate(response.url);
    } else if (response.status === 422 && answer.querySelector("form[data-action]") && !answer.querySelector(".message")) {
      update(answer);
      restoreDefaults();
      announce(text("invalid"), `invalid ${Date.now()}`);
    } else if (response.ok) {
      // A response of the app's own, without a page of its own to show it on.
      update(answer);
    } else {
      const message = answer.querySelector(".message .lede") || answer.querySelector("h1") || answer.body;
      showError(form, (message.textContent || "").trim() || text("notSent", { status: response.status }));
      const resubmit = answer.querySelector("form[data-action]"); // it has a valid token
      if (resubmit) form.setAttribute("action", resubmit.getAttribute("action") || "");
    }
    emitSent(form, response.status);
  }

  /** @param {HTMLFormElement} form @param {number} status */
  const emitSent = (form, status) =>
    form.dispatchEvent(new CustomEvent("unwritten:sent", { detail: { status }, bubbles: true }));

  /** Say in a form why it was not accepted; an empty text removes the message. @param {HTMLFormElement} form @param {string} text */
  function showError(form, text) {
    form.querySelector("[data-form-error]")?.remove();
    if (!text) return;
    const line = Object.assign(document.createElement("p"), { className: "error", role: "alert", textContent: text });
    line.dataset.formError = "";
    form.append(line);
  }

  /** Morph this page into the page of a response. @param {Document} answer */
  function update(answer) {
    for (const selector of ["main", "[data-colophon]"]) {
      const current = document.querySelector(selector);
      const fresh = answer.querySelector(selector);
      if (!current || !fresh) continue;
      keepNewer(fresh);
      if (/** @type {any} */ (window).htmx) markLinks(fresh);
      morph(current, fresh);
      boost(current);
    }
    scan();
    followState();
  }

  // -- pages that are followed ------------------------------------------------------------
  /** Which pages are to be followed, by who asked for it. @type {Map<string, Set<string>>} */
  const wanted = new Map();
  /** Pages that the server knows to be followed. @type {Set<string>} */
  const followed = new Set();

  /** Follow these pages, and stop following others under this name. @param {string} name @param {Iterable<string>} pages */
  function follow(name, pages) {
    wanted.set(name, new Set(pages));
    const all = new Set([...wanted.values()].flatMap((keys) => [...keys]));
    for (const page of [...followed].filter((page) => !all.has(page))) {
      followed.delete(page);
      send({ type: "unfollow", page });
    }
    for (const page of [...all].filter((page) => !followed.has(page))) {
      followed.add(page);
      send({ type: "follow", page, seen: framesOf(page), version: versionOf(page) });
    }
    keepOpen("follow", all.size > 0);
  }

  /** Return the number of the frame that each region of a page shows. @param {string} page */
  function framesOf(page) {
    const regions = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-region][data-page]"));
    const ofPage = [...regions].filter(({ dataset }) => dataset.page === page);
    return Object.fromEntries(ofPage.map(({ dataset }) => [dataset.region || "", Number(dataset.frame) || 0]));
  }

  /** Return the version that is shown of a page that is generated again when it is old; 0 for others. @param {string} page */
  function versionOf(page) {
    const refreshed = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-colophon] [data-refreshed]"));
    const ofPage = [...refreshed].find((element) => /** @type {HTMLElement} */ (element.closest("[data-page]"))?.dataset.page === page);
    return Number(ofPage?.dataset.refreshed) || 0;
  }

  /** Follow the pages whose state is shown, and those that are generated again when they are old. */
  function followState() {
    const regions = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`${LIVE}, ${REFRESHED}`));
    follow("state", [...regions].map(({ dataset }) => dataset.page || ""));
  }

  // Ask for the frames of a canvas that arrived within a state region: earlier frames had no place to go.
  document.addEventListener("unwritten:frame", (event) => {
    const region = /** @type {HTMLElement} */ (event.target);
    if (region.dataset.state !== "live") return;
    boost(region);
    const page = region.dataset.page || "";
    if (!region.querySelector(UNFINISHED)) return;
    send({ type: "watch", page, seen: framesOf(page) });
  });

  document.addEventListener("unwritten:open", () => {
    followed.clear(); // a new socket knows of none
    followState();
  });
  own.follow = follow;
  document.addEventListener("unwritten:page", followState); // its colophon is new
  document.addEventListener("htmx:after:swap", () => setTimeout(followState));
  followState();
})();
