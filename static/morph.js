// @ts-check
/**
 * morph.js: updates an element in place to match freshly rendered HTML.
 *
 * Only what differs is changed, so focus, selection, scroll position, typed text and open <details> survive. It is
 * written for drafts, whose text may change anywhere between two frames.
 *
 * Exports the global `unwrittenMorph` for the other scripts.
 */
(() => {
  "use strict";

  const LOOKAHEAD = 8; // siblings searched for a match; a fixed number keeps the work linear
  const MARK = "data-htmx-powered"; // the attribute that htmx sets on links it has processed

  /** Return a short text that identifies a node among its siblings; empty if it has none. @param {Node} node */
  function signature(node) {
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

  // Unsettled spans follow the end of the draft. A reused span would visibly jump, so they are always new nodes.
  /** True if a node may be reused for different content. @param {Node} old */
  const isReusable = (old) => old instanceof Element && old.className !== "unsettled";

  // A match further on means that nodes before it were removed. If `old` matches a later new node, `fresh` was inserted.
  /** Return the node at or after `old` that `fresh` continues; null if `fresh` is new. @param {Node | null} old @param {Node} fresh */
  function counterpart(old, fresh) {
    if (!old) return null;
    const freshSignature = signature(fresh);
    const oldSignature = signature(old);
    const grown = old instanceof Text && (oldSignature.startsWith(freshSignature) || freshSignature.startsWith(oldSignature));
    if (sameKind(old, fresh) && (oldSignature === freshSignature || grown)) return old;
    if (freshSignature) {
      for (let node = old.nextSibling, i = 0; node && i < LOOKAHEAD; node = node.nextSibling, i++) {
        if (sameKind(node, fresh) && signature(node) === freshSignature) return node;
      }
    }
    if (!sameKind(old, fresh) || !isReusable(old)) return null;
    if (oldSignature) {
      for (let node = fresh.nextSibling, i = 0; node && i < LOOKAHEAD; node = node.nextSibling, i++) {
        if (sameKind(old, node) && signature(node) === oldSignature) return null;
      }
    }
    return old;
  }

  /** Make the children of `target` equal to those of `source`. Nodes may be moved out of `source`. @param {Node} target @param {Node} source */
  function morph(target, source) {
    let old = /** @type {Node | null} */ (target.firstChild);
    for (let fresh = source.firstChild, next; fresh; fresh = next) {
      next = fresh.nextSibling;
      const same = old?.isEqualNode(fresh), match = same ? old : counterpart(old, fresh);
      if (!match) target.insertBefore(fresh, old);
      else if (!same) {
        removeRange(old, match);
        if (match instanceof CharacterData) updateText(match, /** @type {CharacterData} */ (fresh).data);
        else if (match instanceof Element) {
          copyAttributes(match, /** @type {Element} */ (fresh));
          morph(match, fresh);
        }
      }
      if (match) old = match.nextSibling;
    }
    removeRange(old, null);
  }

  /** Remove the nodes from `from` up to, but not including, `to`. @param {Node | null} from @param {Node | null} to */
  function removeRange(from, to) {
    for (let next; from && from !== to; from = next) {
      next = from.nextSibling;
      /** @type {ChildNode} */ (from).remove();
    }
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

  /** Copy the attributes of `source`, and remove those that it lacks. @param {Element} target @param {Element} source */
  function copyAttributes(target, source) {
    const kept = target instanceof HTMLDetailsElement ? "open" : MARK; // owned by the visitor, or by htmx
    for (const { name, value } of source.attributes) {
      if (name !== kept && target.getAttribute(name) !== value) target.setAttribute(name, value);
    }
    if (target.attributes.length === source.attributes.length) return;
    for (const name of target.getAttributeNames()) {
      if (name !== kept && !source.hasAttribute(name)) target.removeAttribute(name);
    }
  }

  Object.assign(globalThis, { unwrittenMorph: Object.freeze({ morph, MARK }) });
})();
