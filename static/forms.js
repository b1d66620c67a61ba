// @ts-check
/**
 * forms.js: sends forms to actions without leaving the page, and keeps regions of state up to date.
 *
 * 1. A form with data-action is sent in the background, once however often its button is pressed. Its answer is a page,
 *    the same that a browser without scripts would get: what differs is morphed into place, so that focus, scroll and
 *    what is typed elsewhere stay. When the form was taken, it is emptied; otherwise what is wrong is said in it.
 * 2. A page with regions of state is looked at over the socket for as long as it is shown: whatever an action changes,
 *    here or in another browser, arrives as a frame.
 *
 * Our other scripts find unwritten.look (look at these pages on somebody's behalf).
 *
 * Event, for authors and tests, from the form, bubbling: unwritten:sent (detail: {status}).
 */
(() => {
  "use strict";

  const { send, hold, scan, retain, boost, announce } = /** @type {any} */ (globalThis).unwritten;
  const { morph, MARK } = /** @type {any} */ (globalThis).unwrittenMorph;
  const LIVE = '[data-region][data-page][data-state="live"]';
  const UNFINISHED = '[data-region][data-page]:is([data-state="waiting"], [data-state="writing"])';
  const LOST = "The server could not be reached, so this was not sent. It is still here: try again.";

  // -- forms ------------------------------------------------------------
  /** Forms on their way. @type {Set<string>} */
  const sending = new Set();

  /** Where a form is sent to, whatever its fields are called. @param {HTMLFormElement} form */
  const target = (form) => form.getAttribute("action") || "";

  // A form that came over the socket has no key yet; one that is sent again, unanswered, keeps its key.
  /** @param {HTMLFormElement} form */
  function keyed(form) {
    if (target(form).endsWith(".")) {
      const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(12))));
      form.setAttribute("action", target(form) + key.replaceAll("+", "-").replaceAll("/", "_"));
    }
    return target(form);
  }

  // Before htmx hears of it, which would swap the whole body.
  document.addEventListener(
    "submit",
    (event) => {
      const form = event.target;
      if (!(form instanceof HTMLFormElement) || !form.matches("[data-action]") || event.defaultPrevented) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      const path = target(form).split("?")[0] || "";
      if (sending.has(path)) return;
      sending.add(path);
      void submit(form, event.submitter).finally(() => {
        sending.delete(path);
        form.removeAttribute("aria-busy");
      });
    },
    true,
  );

  /** @param {HTMLFormElement} form @param {HTMLElement | null} button */
  async function submit(form, button) {
    form.setAttribute("aria-busy", "true");
    complain(form, "");
    const fields = /** @type {any} */ (new FormData(form, button));
    const page = location.pathname + location.search;
    /** @type {Response} */
    let response;
    /** @type {Document} */
    let answer;
    try {
      const body = new URLSearchParams(fields);
      response = await fetch(keyed(form), { method: "POST", body, headers: { accept: "text/html" } });
      answer = new DOMParser().parseFromString(await response.text(), "text/html");
    } catch {
      complain(form, LOST);
      return tell(form, 0);
    }
    const arrived = new URL(response.url);
    if (page !== location.pathname + location.search) return; // the visitor has gone on
    if (response.redirected && arrived.pathname + arrived.search === page) {
      if (response.ok) show(answer);
      form.reset();
      announce("Sent.", `sent ${target(form)}`);
    } else if (response.redirected) {
      go(response.url);
    } else if (response.status === 422 && answer.querySelector("form[data-action]") && !answer.querySelector(".message")) {
      show(answer);
      announce("Not sent yet: something in the form needs another look.", `wrong ${Date.now()}`);
    } else if (response.ok) {
      // An answer of the app's own, without a page: there is nothing to show it in but a page of its own.
      show(answer);
    } else {
      const words = answer.querySelector(".message .lede") || answer.querySelector("h1") || answer.body;
      complain(form, (words.textContent || "").trim() || `That did not work (${response.status}).`);
      const again = answer.querySelector("form[data-action]"); // with a token that is good
      if (again) form.setAttribute("action", again.getAttribute("action") || "");
    }
    tell(form, response.status);
  }

  /** @param {HTMLFormElement} form @param {number} status */
  const tell = (form, status) =>
    form.dispatchEvent(new CustomEvent("unwritten:sent", { detail: { status }, bubbles: true }));

  /** Say in a form why it was not taken; empty words take it away. @param {HTMLFormElement} form @param {string} words */
  function complain(form, words) {
    form.querySelector("[data-form-error]")?.remove();
    if (!words) return;
    const line = Object.assign(document.createElement("p"), { className: "error", role: "alert", textContent: words });
    line.dataset.formError = "";
    form.append(line);
  }

  /** Make this page what an answer says it is, touching only what differs. @param {Document} answer */
  function show(answer) {
    for (const place of ["main", "[data-colophon]"]) {
      const here = document.querySelector(place);
      const fresh = answer.querySelector(place);
      if (!here || !fresh) continue;
      retain(fresh);
      if (/** @type {any} */ (window).htmx) {
        for (const link of fresh.querySelectorAll("a[href]")) link.setAttribute(MARK, "true");
      }
      morph(here, fresh);
      boost(here);
    }
    scan();
    look();
  }

  /** Follow an address as a link would. @param {string} address */
  function go(address) {
    const link = Object.assign(document.createElement("a"), { href: address, hidden: true });
    document.body.append(link);
    boost(link);
    link.click();
    link.remove();
  }

  // -- pages that are looked at ------------------------------------------------------------
  /** Who wants which pages to be looked at. @type {Map<string, Set<string>>} */
  const wanted = new Map();
  /** Pages that the server knows to be looked at. @type {Set<string>} */
  const looking = new Set();

  /** Look at these pages on somebody's behalf, and at others of theirs no more. @param {string} who @param {Iterable<string>} pages */
  function lookAt(who, pages) {
    wanted.set(who, new Set(pages));
    const all = new Set([...wanted.values()].flatMap((theirs) => [...theirs]));
    for (const page of [...looking].filter((page) => !all.has(page))) {
      looking.delete(page);
      send({ type: "gone", page });
    }
    for (const page of [...all].filter((page) => !looking.has(page))) {
      looking.add(page);
      send({ type: "look", page, seen: seen(page) });
    }
    hold("looking", all.size > 0);
  }

  /** The number of the frame that each region of a page shows. @param {string} page */
  function seen(page) {
    const regions = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-region][data-page]"));
    const ours = [...regions].filter(({ dataset }) => dataset.page === page);
    return Object.fromEntries(ours.map(({ dataset }) => [dataset.region || "", Number(dataset.frame) || 0]));
  }

  /** Look at pages whose state is shown, and no more at those that are gone. */
  function look() {
    const regions = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(LIVE));
    lookAt("state", [...regions].map(({ dataset }) => dataset.page || ""));
  }

  // A canvas that has come with a region of state is asked for: frames that came before it found no place.
  document.addEventListener("unwritten:frame", (event) => {
    const region = /** @type {HTMLElement} */ (event.target);
    if (region.dataset.state !== "live") return;
    boost(region);
    const page = region.dataset.page || "";
    if (!region.querySelector(UNFINISHED)) return;
    send({ type: "watch", page, seen: seen(page) });
  });

  document.addEventListener("unwritten:open", () => {
    looking.clear(); // the server has forgotten
    look();
  });
  /** @type {any} */ (globalThis).unwritten.look = lookAt;
  document.addEventListener("htmx:after:swap", () => setTimeout(look));
  look();
})();
