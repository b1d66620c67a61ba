// @ts-check
/**
 * morph.js: updates an element in place to match freshly rendered HTML.
 *
 * Only what differs is changed, so focus, selection, scroll position, typed text and open <details> survive. It is
 * written for drafts, whose text may change anywhere between two frames, and for lists of rows that are sorted, filtered
 * and edited while visitors use the forms in them.
 *
 * The children of each element are matched in this order:
 *
 * 1. Equal nodes at both ends.
 * 2. Identity. An element is identified by its id, its data-key (among its siblings), the address and hidden fields of a
 *    form, the form and name of a control, or the src of a frame or player. A row is identified by what it contains.
 * 3. The same content, then the same beginning of the content.
 * 4. Between the nodes matched so far, in order: drafts grow and change there. What the visitor is using (see `Update`) is
 *    never matched by its position alone: the input of one row must not end up in another.
 *
 * Of the matched nodes, as few as possible are moved (a longest increasing subsequence stays), and never those that
 * moving would reset: the focus, frames and players. Where the browser has `moveBefore`, moving resets nothing.
 *
 * Exports the global `unwrittenMorph` for the other scripts.
 */
(() => {
  "use strict";

  const LOOKAHEAD = 8; // siblings searched for a match; a fixed number keeps the work linear
  const MAX_TWINS = 8; // identified descendants that count for the identity of a row; a fixed number for the same reason
  const MAX_LABELS = 20; // used elements whose surroundings are compared
  const MARK = "data-htmx-powered"; // the attribute that htmx sets on links it has processed
  const LOCAL = "[data-form-error], [data-inline-edit]"; // added by scripts, and not known to the server
  const IDENTIFIED = '[id], [data-key], form, form :is(input:not([type="hidden"]), textarea, select)[name], :is(iframe, video, audio)[src]';

  /** @type {{captureAll: (root: Element) => {touched: Element[], restore: () => void}, CHANGED: string,
   *   setOpen: (element: Element, open: boolean) => void, keepsContent: (host: Element, fresh: Element) => boolean}} */
  const controls = /** @type {any} */ (globalThis).unwrittenControls;

  // -- the DOM, safe for forms ------------------------------------------------------------
  // The fields of a form hide its properties: <input name="id">, <button name="remove">. And reading any property of a form
  // makes the browser list its fields, which slows down all later changes of the document. So the properties and methods
  // of elements that may be forms are taken from the prototypes.
  const call = Function.prototype.call;
  const unbound = (/** @type {Function | undefined} */ method) => call.bind(/** @type {Function} */ (method));
  const getter = (/** @type {object} */ prototype, /** @type {string} */ name) => unbound(Object.getOwnPropertyDescriptor(prototype, name)?.get);
  const isA = /** @type {(element: Element, selector: string) => boolean} */ (unbound(Element.prototype.matches));
  const contains = /** @type {(node: Node, other: Node | null) => boolean} */ (unbound(Node.prototype.contains));
  const isEqual = /** @type {(node: Node, other: Node) => boolean} */ (unbound(Node.prototype.isEqualNode));
  const removeChild = /** @type {(parent: Node, node: Node) => void} */ (unbound(Node.prototype.removeChild));
  const attribute = /** @type {(element: Element, name: string) => string | null} */ (unbound(Element.prototype.getAttribute));
  const hasAttribute = /** @type {(element: Element, name: string) => boolean} */ (unbound(Element.prototype.hasAttribute));
  const attributeNames = /** @type {(element: Element) => string[]} */ (unbound(Element.prototype.getAttributeNames));
  const queryAll = /** @type {(element: Element, selector: string) => NodeListOf<Element>} */ (unbound(Element.prototype.querySelectorAll));
  const closest = /** @type {(element: Element, selector: string) => Element | null} */ (unbound(Element.prototype.closest));
  const setAttribute = /** @type {(element: Element, name: string, value: string) => void} */ (unbound(Element.prototype.setAttribute));
  const removeAttribute = /** @type {(element: Element, name: string) => void} */ (unbound(Element.prototype.removeAttribute));
  const cloneNode = /** @type {(node: Node, deep: boolean) => Node} */ (unbound(Node.prototype.cloneNode));
  const insertBefore = /** @type {(parent: Node, node: Node, before: Node | null) => void} */ (unbound(Node.prototype.insertBefore));
  const parentOf = /** @type {(node: Node) => ParentNode | null} */ (getter(Node.prototype, "parentNode"));
  const firstOf = /** @type {(node: Node) => ChildNode | null} */ (getter(Node.prototype, "firstChild"));
  const lastOf = /** @type {(node: Node) => ChildNode | null} */ (getter(Node.prototype, "lastChild"));
  const nextOf = /** @type {(node: Node) => ChildNode | null} */ (getter(Node.prototype, "nextSibling"));
  const previousOf = /** @type {(node: Node) => ChildNode | null} */ (getter(Node.prototype, "previousSibling"));
  const nameOf = /** @type {(node: Node) => string} */ (getter(Node.prototype, "nodeName"));
  const textOf = /** @type {(node: Node) => string} */ (getter(Node.prototype, "textContent"));
  const outerHtml = /** @type {(element: Element) => string} */ (getter(Element.prototype, "outerHTML"));
  const remove = (/** @type {ChildNode} */ node) => {
    const parent = parentOf(node);
    if (parent) removeChild(parent, node);
  };
  const isConnected = /** @type {(node: Node) => boolean} */ (getter(Node.prototype, "isConnected"));
  const documentOf = /** @type {(node: Node) => Document | null} */ (getter(Node.prototype, "ownerDocument"));
  const moveBefore = "moveBefore" in Element.prototype
    ? /** @type {(parent: Node, node: Node, before: Node | null) => void} */ (unbound(/** @type {any} */ (Element.prototype).moveBefore))
    : null;
  const idOf = (/** @type {Element} */ element) => attribute(element, "id") ?? "";
  const isForm = (/** @type {Element} */ element) => element instanceof HTMLFormElement;

  // -- identity ------------------------------------------------------------

  /** Return a text that identifies an element in the whole tree; empty if it has none. @param {Element} element @returns {string} */
  function identity(element) {
    if (isForm(element)) return formIdentity(element);
    const isControl = element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement || element instanceof HTMLSelectElement;
    const form = isControl ? closest(element, "form") : null;
    if (form) {
      // The same id or name in another form is another control.
      const choice = isControl && ["checkbox", "radio"].includes(element.type) ? `=${element.getAttribute("value")}` : "";
      return `${formIdentity(form)} ${idOf(element) || element.getAttribute("name")}${choice}`;
    }
    if (idOf(element)) return `#${idOf(element)}`;
    const key = element.getAttribute("data-key");
    if (key !== null) return `key ${key}`;
    const source = isA(element, "iframe, video, audio") && element.getAttribute("src");
    return source ? `${element.localName} ${source}` : "";
  }

  /** The identities of forms during one update, because they are needed for each of their controls. @type {Map<Element, string>} */
  const forms = new Map();

  // The address of an action has a key that differs in each response, so action() repeats its path in data-action.
  /** @param {Element} form */
  function formIdentity(form) {
    const known = forms.get(form);
    if (known !== undefined) return known;
    const name = describeForm(form);
    forms.set(form, name);
    return name;
  }

  /** @param {Element} form */
  function describeForm(form) {
    const action = attribute(form, "data-action") || attribute(form, "action") || "";
    const own = idOf(form) || attribute(form, "data-key");
    if (own) return `form ${action} ${own}`;
    const hidden = [...queryAll(form, 'input[type="hidden"]')];
    return `form ${action} ${hidden.map((field) => `${field.getAttribute("name")}=${field.getAttribute("value")}`).join("&")}`;
  }

  /** Return the elements in a tree by their identity; null for those that are not unique. @param {ParentNode} root */
  function identified(root) {
    const found = /** @type {Map<string, Element | null>} */ (new Map());
    for (const element of root.querySelectorAll(IDENTIFIED)) {
      const name = identity(element);
      if (name) found.set(name, found.has(name) ? null : element);
    }
    return found;
  }

  // -- content ------------------------------------------------------------

  /** Return a short text that identifies a node among its siblings; empty if it has none. @param {Node} node */
  function signature(node) {
    if (node instanceof Element) {
      if (idOf(node)) return idOf(node);
      const address = attribute(node, "href") ?? attribute(node, "src");
      if (address) return address;
    }
    let first = /** @type {Node | null} */ (node);
    while (first instanceof Element) first = firstOf(first);
    const text = first instanceof CharacterData ? first.data.slice(0, 16).trim() : "";
    if (text || first === node) return text;
    const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    for (let text; (text = /** @type {Text | null} */ (texts.nextNode())); ) {
      const start = text.data.trimStart().slice(0, 16).trimEnd();
      if (start) return start;
    }
    return "";
  }

  /** Return a text for the content of an element; empty if any other element could have the same. @param {Element} element */
  function content(element) {
    const text = textOf(element).trim();
    if (text) return text;
    const source = attribute(element, "src") ?? queryAll(element, "[src]")[0]?.getAttribute("src");
    return source ?? (queryAll(element, "input, select, button").length ? outerHtml(element) : "");
  }

  /** Return how often each word occurs in an element. @param {Node} element */
  function wordsIn(element) {
    const words = /** @type {Map<string, number>} */ (new Map()), texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let text; (text = /** @type {Text | null} */ (texts.nextNode())); ) {
      for (const word of text.data.match(/[\p{L}\p{N}]+/gu) ?? []) words.set(word, (words.get(word) ?? 0) + 1);
    }
    return words;
  }

  // "Save" and "Your answer" are in every row, so the text of the form or label itself does not count.
  /** Return the text around a control that says what it is about, or the summary of details. @param {Element} element @param {Element} root */
  function labelOf(element, root) {
    const summary = element instanceof HTMLDetailsElement && element.querySelector("summary");
    if (summary) return (summary.textContent || "").trim();
    const inner = closest(element, "form, label") ?? element, own = textOf(inner).trim();
    for (let node = parentOf(inner); node && node !== root; node = parentOf(node)) {
      const text = isA(inner, "[contenteditable]") ? textBeside(inner, node) : textOf(node).trim();
      if (text && text !== own) return text;
    }
    return "";
  }

  // The text in an editable element is the visitor's.
  /** Return the text before an element, or that after it if there is none. @param {Element} element @param {Node} ancestor */
  function textBeside(element, ancestor) {
    const before = document.createRange(), after = document.createRange();
    before.selectNodeContents(ancestor);
    after.selectNodeContents(ancestor);
    before.setEndBefore(element);
    after.setStartAfter(element);
    return String(before).trim() || String(after).trim();
  }

  /** True if a text has a label that does not go on as another: "Item 1" is not in "Item 10". @param {string} text @param {string} label */
  function includesLabel(text, label) {
    for (let at = text.indexOf(label); at >= 0; at = text.indexOf(label, at + label.length)) {
      if (!/\d\d/.test(text.slice(at + label.length - 1, at + label.length + 1))) return true;
    }
    return false;
  }

  // Unsettled spans follow the end of the draft. A reused span would visibly jump, so they are always new nodes.
  /** True if a node may be reused for different content. @param {Node} old */
  const isReusable = (old) => !(old instanceof Element) || attribute(old, "class") !== "unsettled";

  /** True if nodes hold several elements of one kind, such as rows. @param {Node[]} nodes */
  function hasRows(nodes) {
    const names = new Set();
    return nodes.some((node) => node instanceof Element && names.size === names.add(nameOf(node)).size);
  }

  /** Return a node's key for a list of pairs. @param {Node} node @param {(element: Element) => string} describe */
  function contentKey(node, describe) {
    const text = node instanceof Element && isReusable(node) ? describe(node) : "";
    return text && `${nameOf(node)} ${text}`;
  }

  // -- one update ------------------------------------------------------------

  /** One update of an element: which of its nodes the visitor uses, and which have a twin in the fresh tree. */
  class Update {
    /** @param {Element} root @param {ParentNode} source */
    constructor(root, source) {
      this.root = root;
      this.source = source;
      this.state = controls.captureAll(root);
      /** Elements that the visitor uses: with the focus, touched controls, opened details, and all around them. @type {Set<Node>} */
      this.used = new Set();
      /** These, and what is reset when it is moved. @type {Set<Node>} */
      this.pinned = new Set();
      /** Old elements that continue as a fresh one. @type {Set<Node>} */
      this.claimed = new Set();
      /** Used elements that were removed where they were. They may be needed elsewhere. @type {HTMLElement | null} */
      this.pantry = null;
      const active = contains(root, document.activeElement) && document.activeElement !== root ? document.activeElement : null;
      for (const element of active ? [active, ...this.state.touched] : this.state.touched) {
        if (this.#labels.size < MAX_LABELS) this.#labels.set(element, labelOf(element, root));
        this.#add(element, this.used);
      }
      for (const element of this.used) this.pinned.add(element);
      for (const element of root.querySelectorAll("iframe, embed, object, video, audio")) {
        if (!(element instanceof HTMLMediaElement) || !element.paused) this.#add(element, this.pinned);
      }
      /** Elements that scripts have added. @type {Set<Node>} */
      this.local = new Set(queryAll(root, LOCAL));
      this.#old = identified(root);
      this.#fresh = identified(source);
      for (const [name, element] of this.#fresh) {
        const twin = element && this.#old.get(name);
        if (twin) this.#addTwin(element, twin);
      }
    }

    /** The texts of the rows around the first used elements. @type {Map<Element, string>} */
    #labels = new Map();
    /** @type {Map<string, Element | null>} */
    #old;
    /** @type {Map<string, Element | null>} */
    #fresh;
    /** True if anything in the old tree can be identified. */
    get hasIdentities() {
      return this.#old.size > 0;
    }

    /** The old twins of the first identified elements in a fresh one, including its own. @type {Map<Node, Element[]>} */
    #twins = new Map();

    /** @param {Element} element @param {Set<Node>} set */
    #add(element, set) {
      for (let node = /** @type {Node | null} */ (element); node && node !== this.root && !set.has(node); node = parentOf(node)) set.add(node);
    }

    /** @param {Element} fresh @param {Element} twin */
    #addTwin(fresh, twin) {
      for (let node = /** @type {Node | null} */ (fresh); node && node !== this.source; node = parentOf(node)) {
        const twins = this.#twins.get(node) ?? [];
        if (twins.length >= MAX_TWINS) return;
        this.#twins.set(node, twins);
        twins.push(twin);
      }
    }

    /** @type {Map<Node, string>} */
    #signatures = new Map();
    /** Return the signature of a node, which is computed once. @param {Node} node */
    signatureOf(node) {
      let text = this.#signatures.get(node);
      if (text === undefined) this.#signatures.set(node, (text = signature(node)));
      return text;
    }

    /** Return the old twins of elements in a fresh one. @param {Node} fresh */
    twinsIn(fresh) {
      return this.#twins.get(fresh) ?? [];
    }

    /** Return the old element with the identity of a fresh one. @param {Element} fresh */
    twinOf(fresh) {
      const name = isA(fresh, IDENTIFIED) && identity(fresh);
      return (name && this.#fresh.get(name) && this.#old.get(name)) || null;
    }

    /** True if an old node may continue as a fresh one. @param {Node} old @param {Node} fresh */
    fits(old, fresh) {
      if (nameOf(old) !== nameOf(fresh)) return false;
      if (!(old instanceof Element && fresh instanceof Element)) return true;
      if (idOf(old) !== idOf(fresh) || attribute(old, "data-key") !== attribute(fresh, "data-key")) return false;
      return !this.used.has(old) || this.#isSame(old, fresh);
    }

    /** True if a fresh element is what a used one has become, and not something else in its place. @param {Element} old @param {Element} fresh */
    #isSame(old, fresh) {
      if (isForm(old) && identity(old) !== identity(fresh)) return false;
      if (isA(old, "input, select, textarea, dialog, [contenteditable]")) {
        const fixed = isA(old, '[type="checkbox"], [type="radio"]') ? ["name", "type", "value"] : ["name", "type"];
        return fixed.every((name) => attribute(old, name) === attribute(fresh, name));
      }
      const [before, after] = [this.#identities(old), this.#identities(fresh)];
      if (before.size && after.size) return [...before].some((name) => after.has(name));
      const text = textOf(fresh);
      for (const [element, label] of this.#labels) if (label && contains(old, element) && includesLabel(text, label)) return true;
      // Words that are nowhere else say what an element is about.
      this.#words ??= wordsIn(this.root);
      const own = [...wordsIn(old)].filter(([word, count]) => count === this.#words?.get(word)), present = wordsIn(fresh);
      return 2 * own.filter(([word]) => present.has(word)).length > own.length || !wordsIn(old).size;
    }
    /** @type {Map<string, number> | null} */
    #words = null;

    /** Return the identities in an element that no second element has. @param {Element} element @returns {Set<string>} */
    #identities(element) {
      const known = this.#identitiesOf.get(element);
      if (known) return known;
      const names = [element, ...queryAll(element, IDENTIFIED)].map((each) => (isA(each, IDENTIFIED) ? identity(each) : ""));
      const unique = new Set(names.filter((name) => name && this.#old.get(name) !== null && this.#fresh.get(name) !== null));
      this.#identitiesOf.set(element, unique);
      return unique;
    }
    /** @type {Map<Element, Set<string>>} */
    #identitiesOf = new Map();

    /** Remove an old node. Keep it aside if the visitor uses it: part of it may be needed elsewhere. @param {ChildNode} node */
    discard(node) {
      if (!this.used.has(node) || !this.#twins.size) return remove(node);
      this.pantry ??= this.root.appendChild(Object.assign(document.createElement("div"), { hidden: true }));
      place(this.pantry, node, null);
    }

    finish() {
      if (this.pantry) remove(this.pantry);
      this.state.restore();
    }
  }

  // -- matching ------------------------------------------------------------

  /**
   * Match the children of two elements.
   *
   * @param {Update} update @param {Node} target @param {ChildNode[]} olds @param {ChildNode[]} fresh
   * @returns {{matches: Int32Array, stays: Uint8Array}} for each fresh node the index of its old node, or -1; whether it
   *   can stay where it is
   */
  function match(update, target, olds, fresh) {
    const matches = new Int32Array(fresh.length).fill(-1), taken = new Uint8Array(olds.length);
    /** @param {number} i @param {number} j */
    const pair = (i, j) => {
      matches[i] = j;
      taken[j] = 1;
    };
    if (update.hasIdentities) matchIdentity(update, target, olds, fresh, taken, pair);
    if (hasRows(olds) || hasRows(fresh)) {
      matchContent(update, olds, fresh, matches, taken, pair, content, false);
      matchContent(update, olds, fresh, matches, taken, pair, (element) => update.signatureOf(element), true);
    }
    const stays = keepMost(matches, olds, update.pinned);
    // Between two nodes that stay.
    for (let i = 0, start = 0, oldStart = 0; i <= fresh.length; i++) {
      if (i < fresh.length && !stays[i]) continue;
      const oldEnd = i < fresh.length ? /** @type {number} */ (matches[i]) : olds.length;
      const left = [], right = [];
      for (let j = oldStart; j < oldEnd; j++) if (!taken[j]) left.push(j);
      for (let k = start; k < i; k++) if (/** @type {number} */ (matches[k]) < 0) right.push(k);
      for (const [k, j] of align(update, olds, left, fresh, right)) {
        pair(k, j);
        stays[k] = 1;
      }
      start = i + 1;
      oldStart = oldEnd + 1;
    }
    return { matches, stays };
  }

  /**
   * Match elements that contain the same identified ones. The old element that has most of them wins.
   *
   * @param {Update} update @param {Node} target @param {ChildNode[]} olds @param {ChildNode[]} fresh @param {Uint8Array} taken
   * @param {(i: number, j: number) => void} pair
   */
  function matchIdentity(update, target, olds, fresh, taken, pair) {
    const places = new Map(olds.map((node, j) => [/** @type {Node} */ (node), j]));
    fresh.forEach((node, i) => {
      const votes = /** @type {Map<number, number>} */ (new Map());
      for (const twin of update.twinsIn(node)) {
        let old = /** @type {Node | null} */ (twin);
        while (old && parentOf(old) !== target) old = parentOf(old);
        const j = old ? places.get(old) : undefined;
        if (j !== undefined && !taken[j]) votes.set(j, (votes.get(j) ?? 0) + 1);
      }
      const [best] = [...votes].sort(([, a], [, b]) => b - a).filter(([j]) => update.fits(/** @type {Node} */ (olds[j]), node));
      if (best) pair(i, best[0]);
    });
    // Keys need only be unique among siblings.
    const keyed = new Map(olds.flatMap((node, j) => (!taken[j] && node instanceof Element && hasAttribute(node, "data-key") ? [[attribute(node, "data-key"), j]] : [])));
    if (!keyed.size) return;
    fresh.forEach((node, i) => {
      const j = node instanceof Element ? keyed.get(attribute(node, "data-key")) : undefined;
      if (j !== undefined && !taken[j] && update.fits(/** @type {Node} */ (olds[j]), node)) pair(i, j);
    });
  }

  /**
   * Match elements with the same text.
   *
   * @param {Update} update @param {ChildNode[]} olds @param {ChildNode[]} fresh @param {Int32Array} matches @param {Uint8Array} taken
   * @param {(i: number, j: number) => void} pair @param {(element: Element) => string} describe
   * @param {boolean} unique true if a text counts only if one old and one fresh element have it
   */
  function matchContent(update, olds, fresh, matches, taken, pair, describe, unique) {
    const byText = /** @type {Map<string, {olds: number[], count: number, next: number}>} */ (new Map());
    olds.forEach((node, j) => {
      const text = taken[j] ? "" : contentKey(node, describe);
      if (!text) return;
      const entry = byText.get(text) ?? { olds: [], count: 0, next: 0 };
      byText.set(text, entry);
      entry.olds.push(j);
    });
    if (!byText.size) return;
    const texts = fresh.map((node, i) => (/** @type {number} */ (matches[i]) < 0 ? contentKey(node, describe) : ""));
    for (const text of texts) if (byText.has(text)) /** @type {{count: number}} */ (byText.get(text)).count++;
    texts.forEach((text, i) => {
      const entry = byText.get(text);
      if (!entry || (unique && (entry.count > 1 || entry.olds.length > 1))) return;
      const j = entry.olds[entry.next];
      if (j === undefined || !update.fits(/** @type {Node} */ (olds[j]), /** @type {Node} */ (fresh[i]))) return;
      entry.next++;
      pair(i, j);
    });
  }

  // The heaviest increasing subsequence of the old indexes. The tree holds the best sum of each prefix (Fenwick).
  /** Return which matched nodes need not be moved. @param {Int32Array} matches @param {ChildNode[]} olds @param {Set<Node>} pinned */
  function keepMost(matches, olds, pinned) {
    const stays = new Uint8Array(matches.length);
    let last = -1, sorted = true;
    for (const j of matches) {
      if (j < 0) continue;
      sorted = sorted && j > last;
      last = j;
    }
    if (sorted) return stays.map((_, i) => (/** @type {number} */ (matches[i]) >= 0 ? 1 : 0));
    const size = olds.length, sums = new Float64Array(matches.length), before = new Int32Array(matches.length).fill(-1);
    const tree = new Int32Array(size + 1).fill(-1);
    const sum = (/** @type {number} */ i) => (i < 0 ? 0 : /** @type {number} */ (sums[i]));
    let best = -1;
    matches.forEach((j, i) => {
      if (j < 0) return;
      let previous = -1;
      for (let k = j; k > 0; k -= k & -k) if (sum(/** @type {number} */ (tree[k])) > sum(previous)) previous = /** @type {number} */ (tree[k]);
      before[i] = previous;
      sums[i] = sum(previous) + (pinned.has(/** @type {Node} */ (olds[j])) ? size : 1);
      for (let k = j + 1; k <= size; k += k & -k) if (sum(i) > sum(/** @type {number} */ (tree[k]))) tree[k] = i;
      if (sum(i) > sum(best)) best = i;
    });
    for (; best >= 0; best = /** @type {number} */ (before[best])) stays[best] = 1;
    return stays;
  }

  /**
   * Match two runs of siblings in order. Yields pairs of indexes of a fresh and an old node.
   *
   * @param {Update} update @param {ChildNode[]} olds @param {number[]} left indexes of the old ones
   * @param {ChildNode[]} fresh @param {number[]} right indexes of the fresh ones
   * @returns {Generator<[number, number]>}
   */
  function* align(update, olds, left, fresh, right) {
    const before = left.map((j) => update.signatureOf(/** @type {Node} */ (olds[j])));
    const after = right.map((i) => update.signatureOf(/** @type {Node} */ (fresh[i])));
    /** @param {number} l @param {number} r */
    const fits = (l, r) => update.fits(/** @type {Node} */ (olds[/** @type {number} */ (left[l])]), /** @type {Node} */ (fresh[/** @type {number} */ (right[r])]));
    /** Return which old node from `l` on a fresh one continues, or -1 if it is new. @param {number} l @param {number} r */
    function counterpart(l, r) {
      const old = /** @type {Node} */ (olds[/** @type {number} */ (left[l])]), was = before[l] ?? "", is = after[r] ?? "";
      const grown = old instanceof Text && (was.startsWith(is) || is.startsWith(was));
      if ((was === is || grown) && fits(l, r)) return l;
      // A match further on means that nodes before it were removed.
      for (let k = l + 1; is && k <= l + LOOKAHEAD && k < left.length; k++) if (before[k] === is && fits(k, r)) return k;
      if (!isReusable(old) || !fits(l, r)) return -1;
      // If the old node continues as a later one, this one was inserted.
      for (let k = r + 1; was && k <= r + LOOKAHEAD && k < right.length; k++) if (after[k] === was && fits(l, k)) return -1;
      return l;
    }
    for (let r = 0, l = 0; r < right.length && l < left.length; r++) {
      const found = counterpart(l, r);
      if (found < 0) continue;
      yield [/** @type {number} */ (right[r]), /** @type {number} */ (left[found])];
      l = found + 1;
    }
  }

  // -- changing the document ------------------------------------------------------------

  /** Make the children of `target` equal to those of `source`. Nodes may be moved out of `source`. @param {Element} target @param {ParentNode} source */
  function morph(target, source) {
    forms.clear();
    const update = new Update(target, source);
    morphChildren(update, target, source);
    update.finish();
  }

  /** @param {Update} update @param {Element} target @param {Node} source */
  function morphChildren(update, target, source) {
    let first = firstOf(target), last = lastOf(target), freshFirst = firstOf(source), freshLast = lastOf(source);
    while (first && freshFirst && isEqual(first, freshFirst)) (first = nextOf(first)), (freshFirst = nextOf(freshFirst));
    let end = /** @type {ChildNode | null} */ (null); // the first of the equal nodes at the end
    while (first && freshFirst && last && freshLast && isEqual(last, freshLast)) {
      end = last;
      if (first === last) first = null;
      if (freshFirst === freshLast) freshFirst = null;
      last = previousOf(last);
      freshLast = previousOf(freshLast);
    }
    if (!first && !freshFirst) return;
    if (first instanceof Text && freshFirst instanceof Text && first === last && freshFirst === freshLast) {
      return updateText(first, freshFirst.data);
    }
    const olds = siblings(first, first && last), fresh = siblings(freshFirst, freshFirst && freshLast);
    const added = update.local.size ? olds.filter((node) => update.local.has(node)) : [];
    const local = added.map((node) => ({ node, after: previousOf(node) }));
    const own = local.length ? olds.filter((node) => !update.local.has(node)) : olds;

    const { matches, stays } = match(update, target, own, fresh);
    const restoreScroll = rememberScroll(target, own, matches, stays);
    const keep = new Set();
    const pairs = fresh.map((node, i) => {
      const old = own[/** @type {number} */ (matches[i])];
      if (old) keep.add(old), update.claimed.add(old);
      return old;
    });
    for (const node of own) if (!keep.has(node)) update.discard(node);
    let next = end;
    const later = /** @type {[Element, Element][]} */ ([]);
    for (let i = fresh.length - 1; i >= 0; i--) {
      const node = /** @type {ChildNode} */ (fresh[i]), old = pairs[i];
      const current = old ?? insertable(update, target, node);
      if (!old || !stays[i]) place(target, current, next);
      if (current !== node) {
        if (current instanceof CharacterData) updateText(current, /** @type {CharacterData} */ (node).data);
        else later.push([/** @type {Element} */ (current), /** @type {Element} */ (node)]);
      }
      next = current;
    }
    restoreScroll();
    for (const { node, after } of local) {
      if (after && parentOf(after) !== target) remove(node);
      else if (previousOf(node) !== after) place(target, node, after ? nextOf(after) : firstOf(target));
    }
    while (later.length) {
      const [current, node] = /** @type {[Element, Element]} */ (later.pop());
      morphElement(update, current, node);
    }
  }

  /** Return the nodes from `first` to `last`. @param {ChildNode | null} first @param {ChildNode | null} last */
  function siblings(first, last) {
    const nodes = /** @type {ChildNode[]} */ ([]);
    for (let node = first; node; node = node === last ? null : nextOf(node)) nodes.push(node);
    return nodes;
  }

  /** @param {Update} update @param {Element} target @param {Element} source */
  function morphElement(update, target, source) {
    copyAttributes(target, source);
    if (!controls.keepsContent(target, source)) morphChildren(update, target, source);
  }

  // A used element can turn up in another place: in another list, or in a new element around it.
  /** Return the node to insert for a fresh one without a match. @param {Update} update @param {Element} target @param {ChildNode} fresh @returns {ChildNode} */
  function insertable(update, target, fresh) {
    if (!(fresh instanceof Element)) return fresh;
    const isFree = (/** @type {Element} */ old) => update.used.has(old) && !update.claimed.has(old) && !contains(old, target);
    if (!update.twinsIn(fresh).some(isFree)) return fresh;
    const twin = update.twinOf(fresh);
    if (!twin || !isFree(twin) || !update.fits(twin, fresh)) return /** @type {Element} */ (cloneNode(fresh, false)); // its children follow
    update.claimed.add(twin);
    return twin;
  }

  /** Insert or move a node. @param {Element} parent @param {ChildNode} node @param {ChildNode | null} before */
  function place(parent, node, before) {
    // A fresh node may be connected too, but in the document of a response.
    const canMove = isConnected(parent) && isConnected(node) && documentOf(node) === documentOf(parent);
    if (moveBefore && canMove) moveBefore(parent, node, before);
    else insertBefore(parent, node, before);
  }

  // Without moveBefore, nodes that are moved lose their scroll positions.
  /** Return a function that restores the scroll positions in nodes that will be moved. @param {Element} target @param {ChildNode[]} olds @param {Int32Array} matches @param {Uint8Array} stays */
  function rememberScroll(target, olds, matches, stays) {
    if (moveBefore) return () => {};
    const moved = [...matches].flatMap((j, i) => (j < 0 || stays[i] ? [] : (olds[j] ?? [])));
    const scrolled = moved
      .flatMap((node) => (node instanceof Element ? [node, ...queryAll(node, "*")] : []))
      .filter((element) => element.scrollTop || element.scrollLeft)
      .map((element) => /** @type {const} */ ([element, element.scrollLeft, element.scrollTop]));
    return () => scrolled.forEach(([element, left, top]) => element.scrollTo({ left, top, behavior: "instant" }));
  }

  // Replace only the characters that differ, so that a selection elsewhere in the text survives.
  /** @param {CharacterData} node @param {string} text */
  function updateText(node, text) {
    const old = node.data;
    if (old === text) return;
    const shorter = Math.min(old.length, text.length);
    let head = 0;
    while (head < shorter && old[head] === text[head]) head++;
    let tail = 0;
    while (tail < shorter - head && old[old.length - 1 - tail] === text[text.length - 1 - tail]) tail++;
    node.replaceData(head, old.length - head - tail, text.slice(head, text.length - tail));
  }

  /** True if scripts own an attribute of an element, or the visitor does. @param {Element} element @param {string} name */
  function isOwned(element, name) {
    switch (name) {
      case MARK: case controls.CHANGED: return true;
      case "aria-description": return hasAttribute(element, controls.CHANGED);
      case "aria-busy": return isForm(element); // while it is being submitted
      // A form that is sent again after a failure keeps its key.
      case "action": return queryAll(element, "form > [data-form-error]").length > 0;
      case "style": return element instanceof HTMLIFrameElement; // the height of a box
      case "tabindex": return element === document.activeElement; // without it, the element would lose the focus
      default: return false;
    }
  }

  /** Copy the attributes of `source`, and remove those that it lacks. @param {Element} target @param {Element} source */
  function copyAttributes(target, source) {
    const isToggle = target instanceof HTMLDetailsElement || target instanceof HTMLDialogElement;
    if (isToggle) controls.setOpen(target, source.hasAttribute("open"));
    const isKept = (/** @type {string} */ name) => (isToggle && name === "open") || isOwned(target, name);
    const names = attributeNames(source), old = attributeNames(target);
    let same = 0;
    for (const name of names) {
      const value = attribute(source, name) ?? "", was = attribute(target, name);
      if (was !== null) same++;
      if (was !== value && !isKept(name)) setAttribute(target, name, value);
    }
    if (same === old.length) return;
    for (const name of old) if (!hasAttribute(source, name) && !isKept(name)) removeAttribute(target, name);
  }

  Object.assign(globalThis, { unwrittenMorph: Object.freeze({ morph, MARK }) });
})();
