// @ts-check
/**
 * controls.js: what the visitor has entered into a page, while the page is updated (morph.js).
 *
 * A control is *touched* if its state differs from what the server sent: a value that equals the server's is not touched.
 * Untouched controls follow the server. Touched ones keep the visitor's input until the form is submitted or reset. If
 * the server's value changes meanwhile, they get the attribute data-changed-elsewhere and a description of the change.
 *
 * HTML attributes hold the server's state and properties hold the visitor's. Browsers stop applying the attributes as soon
 * as a control has been used once, even if it was set back. So properties are always set here.
 *
 * Exports the global `unwrittenControls` for the other scripts.
 */
(() => {
  "use strict";

  const CHANGED = "data-changed-elsewhere";
  const NO_INPUT = new Set(["hidden", "submit", "button", "reset", "image"]); // their values are not the visitor's

  /** @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Control */

  /** Return the controls of a form. `form.elements` would be wrong if a field has that name. @param {HTMLFormElement} form @returns {Element[]} */
  const elementsOf = (form) => [...Reflect.get(HTMLFormElement.prototype, "elements", form)];

  // -- controls with a text ------------------------------------------------------------

  /** @typedef {HTMLInputElement | HTMLTextAreaElement} TextControl */

  // Browsers correct values: a color "" is "#000000", and a number "abc" is "". A new element shows the corrected one.
  /** Return the value that a control would have if it were reset. @param {TextControl} control */
  function serverText(control) {
    if (control.value === control.defaultValue) return control.value;
    const other = /** @type {TextControl} */ (document.createElement(control.localName));
    for (const { name, value } of control.attributes) {
      if (["type", "min", "max", "step", "multiple"].includes(name)) other.setAttribute(name, value);
    }
    other.defaultValue = control.defaultValue;
    return other.value;
  }

  /** Return where a position in `before` lies in `after`, judged by the text around it. @param {string} before @param {string} after @param {number} at */
  function mapPosition(before, after, at) {
    const shorter = Math.min(before.length, after.length);
    let head = 0, tail = 0;
    while (head < shorter && before[head] === after[head]) head++;
    while (tail < shorter - head && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
    if (at <= head) return at;
    return at >= before.length - tail ? at + after.length - before.length : Math.min(at, after.length - tail);
  }

  /** @param {TextControl} control */
  function captureText(control) {
    const { value } = control, server = serverText(control);
    const touched = value !== server || control.validity.badInput || composing === control;
    return {
      touched,
      restore() {
        const fresh = serverText(control);
        if (!touched) {
          if (control.value !== fresh) control.value = fresh;
        } else {
          if (control.value !== value && !control.validity.badInput) control.value = value;
          showChange(control, fresh !== server, control.value === fresh, describe(fresh));
        }
      },
    };
  }

  // -- checkboxes and radio buttons ------------------------------------------------------------

  /** @param {HTMLInputElement} box */
  function captureCheckbox(box) {
    const { checked, defaultChecked: server } = box, touched = checked !== server;
    return {
      touched,
      restore() {
        const fresh = box.defaultChecked, wanted = touched ? checked : fresh;
        if (box.checked !== wanted) box.checked = wanted;
        if (touched) showChange(box, fresh !== server, checked === fresh, text(fresh ? "checked" : "unchecked"));
      },
    };
  }

  /** @typedef {Map<HTMLFormElement | null, Map<string, HTMLInputElement[]>>} RadioGroups */

  /** Return the groups of radio buttons in an element, by form and name. @param {ParentNode} root @returns {RadioGroups} */
  function radioGroups(root) {
    const groups = /** @type {RadioGroups} */ (new Map());
    for (const radio of /** @type {NodeListOf<HTMLInputElement>} */ (root.querySelectorAll('input[type="radio"]'))) {
      const ofForm = groups.get(radio.form) ?? new Map(), group = ofForm.get(radio.name) ?? [];
      groups.set(radio.form, ofForm.set(radio.name, group));
      group.push(radio);
    }
    return groups;
  }

  /** Return the radio button that the server checked. If it checked several, the last one counts. @param {HTMLInputElement[]} group */
  const serverRadio = (group) => group.findLast(({ defaultChecked }) => defaultChecked);

  /** @param {HTMLInputElement[]} group */
  function captureRadios(group) {
    const chosen = group.find(({ checked }) => checked), server = serverRadio(group);
    const touched = !!chosen && chosen !== server;
    return {
      touched,
      /** @param {HTMLInputElement[]} group the group after the update */
      restore(group) {
        const keeps = touched && group.includes(chosen), fresh = serverRadio(group), wanted = keeps ? chosen : fresh;
        for (const radio of group) if (radio.checked && radio !== wanted) radio.checked = false;
        if (wanted && !wanted.checked) wanted.checked = true;
        if (keeps) showChange(chosen, fresh !== server, chosen === fresh, describe(fresh?.value));
      },
    };
  }

  // -- lists ------------------------------------------------------------

  /** Return the options that would be selected if a list were reset. @param {HTMLSelectElement} list */
  function serverOptions(list) {
    const options = [...list.options], selected = options.filter((option) => option.defaultSelected);
    if (list.multiple) return selected;
    const isDisabled = (/** @type {HTMLOptionElement} */ option) => option.matches("option:disabled");
    return [selected.at(-1) ?? (list.size > 1 ? undefined : options.find((option) => !isDisabled(option)))].flatMap((o) => o ?? []);
  }

  /** @param {HTMLSelectElement} list */
  function captureList(list) {
    const values = (/** @type {Iterable<HTMLOptionElement>} */ options) => [...options].map(({ value }) => value);
    const chosen = values(list.selectedOptions), server = values(serverOptions(list)), known = new Set(values(list.options));
    const touched = String(chosen) !== String(server);
    return {
      touched,
      restore() {
        const defaults = serverOptions(list), fresh = values(defaults), present = new Set(values(list.options));
        const keeps = touched && (list.multiple || chosen.some((value) => present.has(value)));
        for (const option of list.options) {
          const wanted = keeps && (known.has(option.value) || !list.multiple) ? chosen.includes(option.value) : defaults.includes(option);
          // Deselecting the only option of a menu would select another one.
          if (option.selected !== wanted && (wanted || list.multiple)) option.selected = wanted;
        }
        if (!keeps && !list.multiple && !defaults.length) list.selectedIndex = -1;
        const texts = defaults.map((option) => option.text).join(", ");
        if (keeps) showChange(list, String(fresh) !== String(server), String(values(list.selectedOptions)) === String(fresh), describe(texts));
      },
    };
  }

  // -- all controls of an element ------------------------------------------------------------

  /** @param {Element} control */
  function capture(control) {
    if (control instanceof HTMLSelectElement) return captureList(control);
    if (control instanceof HTMLTextAreaElement) return captureText(control);
    if (!(control instanceof HTMLInputElement) || NO_INPUT.has(control.type) || control.type === "radio") return null;
    if (control.type === "file") return { touched: !!control.files?.length, restore() {} };
    return control.type === "checkbox" ? captureCheckbox(control) : captureText(control);
  }

  /**
   * Capture the controls in an element before it is updated.
   *
   * @param {Element} root
   * @returns {{touched: Element[], restore: () => void}} the touched controls; and a function to call after the update,
   *   which keeps their state and lets the others follow the server
   */
  function captureAll(root) {
    noteToggled(observer.takeRecords());
    const controls = [...root.querySelectorAll("input, textarea, select")].map((control) => ({ control, state: capture(control) }));
    const radios = [...radioGroups(root)].flatMap(([form, groups]) =>
      [...groups].map(([name, group]) => ({ form, name, group, state: captureRadios(group) })),
    );
    const touched = [
      ...controls.filter(({ state }) => state?.touched).map(({ control }) => control),
      ...radios.filter(({ state }) => state.touched).flatMap(({ group }) => group),
      .../** @type {HTMLDetailsElement[]} */ ([...root.querySelectorAll("details, dialog")]).filter(isToggled),
      ...[...root.querySelectorAll("[contenteditable]")].filter(isEdited),
    ];
    const restoreFocus = captureFocus(root);
    return {
      touched,
      restore() {
        for (const { state } of controls) state?.restore();
        if (radios.length) {
          const groups = radioGroups(root);
          for (const { form, name, state } of radios) state.restore(groups.get(form)?.get(name) ?? []);
        }
        restoreFocus();
        observer.takeRecords(); // of changes by the update
      },
    };
  }

  /** Capture the focus and the caret. Where they are lost or moved, the returned function restores them. @param {Node} root */
  function captureFocus(root) {
    const active = document.activeElement;
    if (!(active instanceof HTMLElement) || active === document.body || !root.contains(active)) return () => {};
    const field = active instanceof HTMLInputElement || active instanceof HTMLTextAreaElement ? active : null;
    const before = field?.value ?? "", start = field?.selectionStart ?? null, end = field?.selectionEnd ?? null;
    return () => {
      if (!active.isConnected) return;
      const lost = document.activeElement !== active;
      if (lost) active.focus({ preventScroll: true });
      if (!field || start === null || end === null || field.selectionStart === null) return;
      if (!lost && field.value === before) return;
      field.setSelectionRange(mapPosition(before, field.value, start), mapPosition(before, field.value, end), field.selectionDirection ?? undefined);
    };
  }

  // Setting the value of a field ends the input of a composed character.
  /** @type {EventTarget | null} */
  let composing = null;
  document.addEventListener("compositionstart", ({ target }) => (composing = target), true);
  document.addEventListener("compositionend", () => (composing = null), true);

  // -- details and dialogs: one attribute holds the state of both sides ------------------------------------------------------------

  /** Whether the server sent an element as open, if that may differ from what is shown. @type {WeakMap<Node, boolean>} */
  const sentOpen = new WeakMap();
  /** @param {MutationRecord[]} records */
  function noteToggled(records) {
    for (const { target, oldValue } of records) if (!sentOpen.has(target)) sentOpen.set(target, oldValue !== null);
  }
  const observer = new MutationObserver(noteToggled);
  observer.observe(document, { subtree: true, attributeFilter: ["open"], attributeOldValue: true });

  /** True if the visitor, or a script, opened or closed the element. @param {HTMLDetailsElement | HTMLDialogElement} element */
  const isToggled = (element) => element.open !== (sentOpen.get(element) ?? element.open);

  /** Open or close an element as the server says, unless the visitor has done so. @param {HTMLDetailsElement | HTMLDialogElement} element @param {boolean} open */
  function setOpen(element, open) {
    const toggled = isToggled(element);
    sentOpen.set(element, open);
    if (!toggled && element.open !== open) element.toggleAttribute("open", open);
  }

  // -- editable elements ------------------------------------------------------------

  /** The HTML that the server sent for elements that were edited. @type {WeakMap<Element, string>} */
  const sentHtml = new WeakMap();
  document.addEventListener("beforeinput", ({ target }) => {
    const host = target instanceof Element ? target.closest("[contenteditable]") : null;
    if (host && !sentHtml.has(host)) sentHtml.set(host, host.innerHTML);
  }, true);

  /** True if the visitor has changed the content of an element. @param {Element} host */
  const isEdited = (host) => sentHtml.has(host) && sentHtml.get(host) !== host.innerHTML;

  /** True if an element's content must stay because the visitor has changed it. @param {Element} host @param {Element} fresh */
  function keepsContent(host, fresh) {
    if (!isEdited(host)) return sentHtml.delete(host), false;
    const server = sentHtml.get(host), html = fresh.innerHTML;
    sentHtml.set(host, html);
    showChange(host, server !== html, html === host.innerHTML, describe((fresh.textContent || "").trim()));
    return true;
  }

  // -- changes by others ------------------------------------------------------------

  /** Return a text for visitors. @param {string} name @param {Record<string, unknown>} [values] @returns {string} */
  const text = (name, values) => /** @type {any} */ (globalThis).unwritten?.text(name, values) ?? "";

  /** Return the sentence that a value was changed by others. @param {string | undefined} value */
  const describe = (value) => (value ? text("changed", { value: value.slice(0, 80) }) : text("emptied"));

  /** Show that the server's value of a touched control has changed. @param {Element} control @param {boolean} changed @param {boolean} same if both now agree @param {string} description */
  function showChange(control, changed, same, description) {
    if (same) return clearChange(control);
    // While a form is being submitted, the change is most likely its own.
    if (!changed || control.closest("form[aria-busy]")) return;
    control.setAttribute(CHANGED, "");
    control.setAttribute("aria-description", description);
    /** @type {any} */ (globalThis).unwritten?.announce(description, `changed ${Date.now()} ${description}`);
  }

  /** @param {Element} control */
  function clearChange(control) {
    if (!control.hasAttribute(CHANGED)) return;
    control.removeAttribute(CHANGED);
    control.removeAttribute("aria-description");
  }

  document.addEventListener("reset", ({ target }) => {
    if (target instanceof HTMLFormElement) for (const control of elementsOf(target)) clearChange(control);
  });

  // -- submitted forms ------------------------------------------------------------

  /** Return the controls of a form whose input can differ from the server's. @param {HTMLFormElement} form */
  const inputsOf = (form) => /** @type {Control[]} */ (
    elementsOf(form).filter((c) => c instanceof HTMLInputElement ? !NO_INPUT.has(c.type) && c.type !== "file" : c.matches("textarea, select"))
  );

  /** Return the state of a control. @param {Control} control */
  const stateOf = (control) =>
    control instanceof HTMLSelectElement ? [...control.options].map(({ selected }) => selected)
    : control instanceof HTMLInputElement && ["checkbox", "radio"].includes(control.type) ? control.checked
    : control.value;

  /** Return the state of a control that was just reset. @param {Control} control @returns {ReturnType<typeof stateOf>} */
  const defaultOf = (control) =>
    control instanceof HTMLSelectElement ? [...control.options].map(({ defaultSelected }) => defaultSelected)
    : control instanceof HTMLInputElement && ["checkbox", "radio"].includes(control.type) ? control.defaultChecked
    : control.defaultValue;

  /** Set a control to a state. @param {Control} control @param {ReturnType<typeof stateOf>} state */
  function setState(control, state) {
    if (control instanceof HTMLSelectElement) [...control.options].forEach((option, i) => (option.selected = /** @type {boolean[]} */ (state)[i] ?? false));
    else if (typeof state === "boolean") /** @type {HTMLInputElement} */ (control).checked = state;
    else control.value = /** @type {string} */ (state);
  }

  /** Return a function that resets a form, except for what was entered after this call. @param {HTMLFormElement} form */
  function captureSubmitted(form) {
    const submitted = new Map(inputsOf(form).map((control) => [control, JSON.stringify(stateOf(control))]));
    return () => {
      const later = inputsOf(form).filter((c) => submitted.has(c) && submitted.get(c) !== JSON.stringify(stateOf(c)));
      const states = later.map((control) => /** @type {const} */ ([control, stateOf(control)]));
      HTMLFormElement.prototype.reset.call(form); // a field may have that name
      for (const [control, state] of states) setState(control, state);
    };
  }

  // A page that shows a rejected form again repeats the input in its attributes. The server has not accepted it, and the
  // next update would take it back.
  /** Return a function that makes the server's values of a form what they are now. @param {HTMLFormElement} form */
  function captureDefaults(form) {
    const defaults = inputsOf(form).map((control) => /** @type {const} */ ([control, defaultOf(control)]));
    return () => {
      for (const [c, value] of /** @type {[any, any][]} */ (defaults)) {
        if (!c.isConnected) continue;
        const state = stateOf(c);
        if (c.options) value.forEach((/** @type {boolean} */ selected, /** @type {number} */ i) => c.options[i] && (c.options[i].defaultSelected = selected));
        else if (typeof value === "boolean") c.defaultChecked = value;
        else c.defaultValue = value;
        if (JSON.stringify(stateOf(c)) !== JSON.stringify(state)) setState(c, state);
      }
    };
  }

  // -- input that the browser restores ------------------------------------------------------------
  // When a page is reloaded or returned to, browsers restore input by the order of the forms with the same address and
  // fields. Rows may have been inserted meanwhile, so input is dropped where another row could get it.
  function dropAmbiguousInput() {
    const forms = /** @type {Map<string, number>} */ (new Map());
    const addressOf = (/** @type {Element | null} */ form) => {
      const attribute = (/** @type {string} */ name) => form && Element.prototype.getAttribute.call(form, name);
      return (attribute("data-action") || attribute("action") || "").split("?")[0] ?? "";
    };
    for (const form of document.querySelectorAll("form")) forms.set(addressOf(form), (forms.get(addressOf(form)) ?? 0) + 1);
    for (const control of /** @type {NodeListOf<Control>} */ (document.querySelectorAll("[data-region] :is(input, textarea, select)"))) {
      const isAmbiguous = !control.form || forms.get(addressOf(control.form)) !== 1;
      if (isAmbiguous && !NO_INPUT.has(control.type) && control.type !== "file") setState(control, defaultOf(control));
    }
  }
  const [visit] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
  if (visit && visit.type !== "navigate") addEventListener("DOMContentLoaded", () => setTimeout(dropAmbiguousInput));

  const own = { captureAll, captureSubmitted, captureDefaults, setOpen, keepsContent, CHANGED };
  Object.assign(globalThis, { unwrittenControls: Object.freeze(own) });
})();
