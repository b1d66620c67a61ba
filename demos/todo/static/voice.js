// @ts-check
/**
 * voice.js: lets a field be filled by speaking, where the browser can listen.
 *
 * A browser does not listen by itself: most send the sound to their maker. That is said before the first time, and nothing is
 * heard until it was agreed to. Where there is no speech recognition, there is no button but a sentence: typing always works.
 */
(() => {
  "use strict";

  const Recognition = /** @type {any} */ (window).SpeechRecognition || /** @type {any} */ (window).webkitSpeechRecognition;
  const AGREED = "say-a-list:listen";
  const ERRORS = {
    "not-allowed": "The browser was not allowed to use the microphone. Allow it in the address bar, or type.",
    "service-not-allowed": "This browser may not use its speech service here. Typing works.",
    "audio-capture": "No microphone was found. Typing works.",
    "no-speech": "Nothing was heard. Press the microphone and try again, or type.",
    network: "The speech service could not be reached, for it needs a network. Typing works.",
    "language-not-supported": "The speech service does not know this language. Typing works.",
    aborted: "",
  };

  /** What listens now. @type {{stop: () => void, place: Element} | null} */
  let listening = null;

  const agreed = () => {
    try {
      return localStorage.getItem(AGREED) === "yes";
    } catch {
      return false;
    }
  };

  /** @param {Element} place @param {string} words */
  const tell = (place, words) => {
    const line = place.querySelector("[data-voice-words]");
    if (line) line.textContent = words;
  };

  /** Show what the browser can do, in every place that has not been seen to. */
  function furnish() {
    for (const place of document.querySelectorAll("[data-voice]")) {
      const button = /** @type {HTMLButtonElement | null} */ (place.querySelector(".microphone"));
      if (!button) continue;
      button.hidden = !Recognition;
      if (!Recognition && !place.querySelector("[data-voice-words]")?.textContent) {
        tell(place, "This browser cannot listen, so there is no microphone here. Typing does the same.");
      }
    }
  }

  /** @param {Element} place @param {boolean} shown */
  function ask(place, shown) {
    const asks = /** @type {HTMLElement | null} */ (place.querySelector("[data-voice-asks]"));
    if (!asks) return;
    asks.hidden = !shown;
    if (shown) /** @type {HTMLElement} */ (asks.querySelector("[data-voice-yes]")).focus();
  }

  /** @param {Element} place */
  function listen(place) {
    const field = /** @type {HTMLTextAreaElement} */ (place.querySelector("textarea"));
    const button = /** @type {HTMLButtonElement} */ (place.querySelector(".microphone"));
    const before = field.value.trim() ? `${field.value.trim()} ` : "";
    const recognition = new Recognition();
    recognition.lang = navigator.language || document.documentElement.lang || "en";
    recognition.interimResults = true;
    recognition.continuous = false;
    let problem = "";
    recognition.onresult = (/** @type {any} */ event) => {
      const words = Array.from(event.results, (/** @type {any} */ result) => result[0].transcript).join(" ");
      field.value = before + words.replace(/\s+/g, " ").trim();
      field.dispatchEvent(new Event("input", { bubbles: true }));
    };
    recognition.onerror = (/** @type {any} */ event) => {
      const known = /** @type {Record<string, string>} */ (ERRORS)[event.error];
      problem = known ?? `Listening did not work (${event.error}). Typing does.`;
    };
    recognition.onend = () => {
      listening = null;
      button.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-label", "Say it");
      tell(place, problem || (field.value.trim() !== before.trim() ? "Heard. Look at it, and send it." : ""));
      field.focus();
    };
    try {
      recognition.start();
    } catch (error) {
      tell(place, `Listening did not work (${error}). Typing does.`);
      return;
    }
    listening = { stop: () => recognition.stop(), place };
    button.setAttribute("aria-pressed", "true");
    button.setAttribute("aria-label", "Stop listening");
    tell(place, "Listening. Press the microphone again to stop.");
  }

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("button") : null;
    const place = target?.closest("[data-voice]");
    if (!target || !place) return;
    if (target.matches(".microphone")) {
      if (listening) listening.stop();
      else if (agreed()) listen(place);
      else ask(place, true);
    } else if (target.matches("[data-voice-yes]")) {
      try {
        localStorage.setItem(AGREED, "yes");
      } catch {
        // it is asked again next time
      }
      ask(place, false);
      listen(place);
    } else if (target.matches("[data-voice-no]")) {
      ask(place, false);
      /** @type {HTMLElement} */ (place.querySelector("textarea")).focus();
    }
  });

  document.addEventListener("htmx:after:swap", () => setTimeout(furnish));
  document.addEventListener("unwritten:frame", furnish);
  document.addEventListener("unwritten:sent", () => setTimeout(furnish));
  furnish();
})();
