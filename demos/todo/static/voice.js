// @ts-check
/**
 * voice.js: voice input for text fields, if the browser supports speech recognition.
 *
 * Most browsers send the recording to their vendor. The visitor is told so and must agree before the first recording.
 * Without speech recognition a sentence takes the place of the button.
 */
(() => {
  "use strict";

  const Recognition = /** @type {any} */ (window).SpeechRecognition || /** @type {any} */ (window).webkitSpeechRecognition;
  const AGREED = "say-a-list:listen";
  const ERRORS = {
    "not-allowed": "The microphone is blocked. Allow it in the address bar, or type.",
    "service-not-allowed": "Speech recognition is not available here. Please type.",
    "audio-capture": "No microphone was found. Please type.",
    "no-speech": "Nothing was heard. Try again, or type.",
    network: "The speech service could not be reached. Check your connection, or type.",
    "language-not-supported": "The speech service does not support your language. Please type.",
    aborted: "",
  };

  /** The current recording. @type {{stop: () => void, place: Element} | null} */
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

  /** Show the microphone, or that the browser does not support it. */
  function setUp() {
    for (const place of document.querySelectorAll("[data-voice]")) {
      const button = /** @type {HTMLButtonElement | null} */ (place.querySelector(".microphone"));
      if (!button) continue;
      button.hidden = !Recognition;
      if (!Recognition && !place.querySelector("[data-voice-words]")?.textContent) {
        tell(place, "This browser does not support voice input.");
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
      problem = known ?? `Voice input failed (${event.error}). Please type.`;
    };
    recognition.onend = () => {
      listening = null;
      button.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-label", "Use voice input");
      tell(place, problem || (field.value.trim() !== before.trim() ? "Check the text, then send it." : ""));
      field.focus();
    };
    try {
      recognition.start();
    } catch (error) {
      tell(place, `Voice input failed (${error}). Please type.`);
      return;
    }
    listening = { stop: () => recognition.stop(), place };
    button.setAttribute("aria-pressed", "true");
    button.setAttribute("aria-label", "Stop listening");
    tell(place, "Listening … Press the microphone again to stop.");
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
        // the visitor is asked again next time
      }
      ask(place, false);
      listen(place);
    } else if (target.matches("[data-voice-no]")) {
      ask(place, false);
      /** @type {HTMLElement} */ (place.querySelector("textarea")).focus();
    }
  });

  document.addEventListener("htmx:after:swap", () => setTimeout(setUp));
  document.addEventListener("unwritten:frame", setUp);
  document.addEventListener("unwritten:sent", () => setTimeout(setUp));
  setUp();
})();
