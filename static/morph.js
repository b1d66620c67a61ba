// @ts-check
/**
 * morph.js: makes what is on the screen equal to what was drawn, and touches only what differs, so that focus,
 * selection, scroll, typed text and open <details> stay as they are. For drafts: text that may change anywhere.
 *
 * It leaves one name behind, unwrittenMorph, for live.js.
 */
(() => {
  "use strict";

  const REACH = 8; // siblings looked at before a node counts as new; it keeps the work linear
  const MARK = "data-htmx-powered"; // what htmx puts on a link

  /** A few words that tell one node from its siblings; empty for a node without words. @param {Node} node */
  function sign(node) {
    if (node instanceof Element) {
      if (node.id) return node.id;
      const address = node.getAttribute("href") ?? node.getAttribute("src");
      if (address) return address;
    }
    let first = /** @type {Node | null} */ (node);
    while (first instanceof Element) first = first.firstChild;
    return first instanceof CharacterData ? first.data.slice(0, 16).trim() : "";
  }

  /** @param {Node} a @param {Node} b */
  const sameKind = (a, b) =>
    a.nodeName === b.nodeName && (!(a instanceof Element && b instanceof Element) || a.id === b.id);

  // A draft moves along with the end of the text: as a new node it appears where it is, as an old one it would jump.
  /** Whether a node may become another thing. @param {Node} old */
  const mayTurn = (old) => old instanceof Element && old.className !== "unsettled";

  // Nodes were taken out before the one that continues further on; or something was put in before the old one.
  /** The node at or after `old` that `fresh` continues; null if it is new. @param {Node | null} old @param {Node} fresh */
  function counterpart(old, fresh) {
    if (!old) return null;
    const words = sign(fresh);
    const had = sign(old);
    const grown = old instanceof Text && (had.startsWith(words) || words.startsWith(had));
    if (sameKind(old, fresh) && (had === words || grown)) return old;
    if (words) {
      for (let node = old.nextSibling, i = 0; node && i < REACH; node = node.nextSibling, i++) {
        if (sameKind(node, fresh) && sign(node) === words) return node;
      }
    }
    if (!sameKind(old, fresh) || !mayTurn(old)) return null;
    if (had) {
      for (let node = fresh.nextSibling, i = 0; node && i < REACH; node = node.nextSibling, i++) {
        if (sameKind(old, node) && sign(node) === had) return null;
      }
    }
    return old;
  }

  /** Make the children of `place` those of `wanted`, touching only what differs. @param {Node} place @param {Node} wanted */
  function morph(place, wanted) {
    let old = /** @type {Node | null} */ (place.firstChild);
    for (let fresh = wanted.firstChild, next; fresh; fresh = next) {
      next = fresh.nextSibling;
      const same = old?.isEqualNode(fresh), match = same ? old : counterpart(old, fresh);
      if (!match) place.insertBefore(fresh, old);
      else if (!same) {
        clear(old, match);
        if (match instanceof CharacterData) rewrite(match, /** @type {CharacterData} */ (fresh).data);
        else if (match instanceof Element) {
          dress(match, /** @type {Element} */ (fresh));
          morph(match, fresh);
        }
      }
      if (match) old = match.nextSibling;
    }
    clear(old, null);
  }

  /** Remove the nodes from one up to another. @param {Node | null} from @param {Node | null} to */
  function clear(from, to) {
    for (let next; from && from !== to; from = next) {
      next = from.nextSibling;
      /** @type {ChildNode} */ (from).remove();
    }
  }

  // Only the characters that differ are changed, so that a selection in the rest stays.
  /** @param {CharacterData} node @param {string} text */
  function rewrite(node, text) {
    const had = node.data;
    if (had === text) return;
    const most = Math.min(had.length, text.length);
    let head = 0;
    while (head < most && had[head] === text[head]) head++;
    let tail = 0;
    while (tail < most - head && had[had.length - 1 - tail] === text[text.length - 1 - tail]) tail++;
    node.replaceData(head, had.length - head - tail, text.slice(head, text.length - tail));
  }

  /** Give an element the attributes of another. @param {Element} element @param {Element} like */
  function dress(element, like) {
    const theirs = element instanceof HTMLDetailsElement ? "open" : MARK; // the visitor's, or htmx's
    for (const { name, value } of like.attributes) {
      if (name !== theirs && element.getAttribute(name) !== value) element.setAttribute(name, value);
    }
    if (element.attributes.length === like.attributes.length) return;
    for (const name of element.getAttributeNames()) {
      if (name !== theirs && !like.hasAttribute(name)) element.removeAttribute(name);
    }
  }

  Object.assign(globalThis, { unwrittenMorph: Object.freeze({ morph, MARK }) });
})();
