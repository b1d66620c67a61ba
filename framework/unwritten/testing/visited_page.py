"""Pages as a visitor sees them: words, links, forms and regions, and what can be done with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin, urlsplit

from .html_tree import Node, parse_html

if TYPE_CHECKING:
    from .visitor import Visitor


@dataclass(frozen=True)
class Link:
    """A link: its words, and the key of the page that it leads to (or the address, if that is elsewhere)."""

    words: str
    key: str


class Part:
    """A piece of a page: the whole of it, or one region.

    ``"tower" in part`` asks whether a person would read these words there; ``str(part)`` is its text.

    Attributes:
        html: its HTML as the server sent it.
        state: of a region, "written", "writing" and so on; of a page, that of its least finished region.
    """

    def __init__(self, node: Node, html: str, key: str, state: str) -> None:
        self._node = node
        self._key = key
        self.html = html
        self.state = state

    @property
    def text(self) -> str:
        """The words that a person reads, a line for each paragraph."""
        return self._node.text

    @property
    def links(self) -> dict[str, str]:
        """The links by their words: the key of the page that each leads to. Of the same words, the first."""
        found: dict[str, str] = {}
        for link in self._links():
            found.setdefault(link.words, link.key)
        return found

    def _links(self) -> Iterator[Link]:
        for anchor in self._node.all("a"):
            if "href" in anchor.attributes:
                words = anchor.words or anchor.attributes.get("aria-label", "")
                yield Link(words, urljoin(self._key, anchor.attributes["href"]))

    def __contains__(self, words: str) -> bool:
        return words in self.text or words in self._node.words

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key!r}: {self.state}, {self._node.words[:60]!r}>"


class Form:
    """A form on a page.

    Attributes:
        action: the address that it is sent to.
        method: "get" or "post".
        buttons: the words of its buttons.
        values: what is sent if nothing is filled in, by the name of the field; hidden fields are among them.
    """

    def __init__(self, node: Node, document: Node, key: str) -> None:
        self.action = urljoin(key, node.attributes.get("action", "") or key)
        self.method = node.attributes.get("method", "get").lower()
        self.values: dict[str, str] = {}
        self.fields: list[str] = []
        self._buttons: list[Node] = []
        self._choices: dict[str, list[str]] = {}
        name = node.attributes.get("id")
        outside = [field for field in document.all() if name and field.attributes.get("form") == name]
        for field in [*node.all(), *outside]:
            self._read(field)

    def _read(self, field: Node) -> None:
        attributes = field.attributes
        name, kind = attributes.get("name", ""), attributes.get("type", "").lower()
        if field.tag == "button" or (field.tag == "input" and kind in {"submit", "image"}):
            if kind != "button" and kind != "reset":
                self._buttons.append(field)
            return
        if not name or "disabled" in attributes or field.tag not in {"input", "textarea", "select"}:
            return
        if name not in self.fields:
            self.fields.append(name)
        if kind in {"checkbox", "radio"}:
            self._choices.setdefault(name, []).append(attributes.get("value", "on"))
            if "checked" in attributes:
                self.values[name] = attributes.get("value", "on")
        elif field.tag == "select":
            options = list(field.all("option"))
            offered = [option.attributes.get("value", option.words) for option in options]
            self._choices[name] = offered
            chosen = [value for value, option in zip(offered, options, strict=True) if "selected" in option.attributes]
            if offered:
                self.values[name] = (chosen or offered)[0]
        elif field.tag == "textarea":
            self.values[name] = "".join(str(child) for child in field.children).removeprefix("\n")
        else:
            self.values[name] = attributes.get("value", "")

    @property
    def buttons(self) -> list[str]:
        """The words of its buttons."""
        return [_words_of(button) for button in self._buttons]

    def leads_to(self, action: str) -> bool:
        """Whether it is sent to this address; without its query, which may hold a token."""
        return action in {self.action, urlsplit(self.action).path}

    def filled(self, button: str, given: Mapping[str, Any]) -> dict[str, str]:
        """What is sent: what the form holds, what is given, and the button that is pressed, if it has a name.

        ``True`` ticks a checkbox, ``False`` and None leave a field out.

        Raises:
            LookupError: if the form has no such field, or the field offers no such choice.
        """
        values = dict(self.values)
        for name, value in given.items():
            if name not in self.fields:
                raise LookupError(f"{self.described} has no field {name!r}.{_nearest(name, self.fields)}")
            offered = self._choices.get(name)
            if value is None or value is False:
                values.pop(name, None)
                continue
            text = offered[0] if value is True and offered else str(value)
            if offered is not None and text not in offered:
                raise LookupError(f"The field {name!r} offers no {text!r}. It offers {_listed(offered)}.")
            values[name] = text
        for pressed in self._buttons:
            if _words_of(pressed) == button and "name" in pressed.attributes:
                values[pressed.attributes["name"]] = pressed.attributes.get("value", "")
        return values

    @property
    def described(self) -> str:
        """The form in words."""
        return f"The form {' / '.join(map(repr, self.buttons)) or 'without a button'} ({self.method} {self.action})"


def _words_of(button: Node) -> str:
    return button.words or button.attributes.get("value", "") or button.attributes.get("aria-label", "")


class VisitedPage(Part):
    """A page that a visitor has opened. It stays as it was seen; what is done with it opens another one.

    Attributes:
        key: its address after redirects, without what stands behind a "#".
        status: the HTTP status.
        headers: of the answer, by name in small letters.
        state: "written", "writing", "failed" and so on; "" for a page without regions.
    """

    def __init__(self, visitor: Visitor, key: str, status: int, headers: Mapping[str, str], html: str) -> None:
        self._visitor = visitor
        self._document = parse_html(html)
        self.key = key
        self.status = status
        self.headers = dict(headers)
        self._source = html.replace("\r\n", "\n")
        states = [node.attributes.get("data-state", "") for node in self._nodes.values()]
        order = ["waiting", "writing", "failed", "stopped", "written"]
        super().__init__(self._document, html, key, next((state for state in order if state in states), ""))

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        regions = [node for node in self._document.all() if "data-region" in node.attributes]
        return {node.attributes["data-region"]: node for node in regions}

    @property
    def text(self) -> str:
        """What a person reads in the main part, a line for each paragraph; of other answers (text, JSON) all of it."""
        if "html" not in self.headers.get("content-type", "html"):
            return self.html
        return (self._document.first("main") or self._document.first("body") or self._document).text

    def __contains__(self, words: str) -> bool:
        return words in self.text or words in " ".join(self.text.split())

    @property
    def title(self) -> str:
        """What the browser's tab says."""
        found = self._document.first("title")
        return " ".join("".join(str(child) for child in found.children).split()) if found else ""

    @property
    def heading(self) -> str:
        """The first heading; "" if there is none."""
        found = self._document.first("h1")
        return found.words if found else ""

    @property
    def regions(self) -> list[str]:
        """The names of its regions, in the order of the page."""
        return list(self._nodes)

    def region(self, name: str) -> Part:
        """One region.

        Raises:
            LookupError: if the page has none of this name.
        """
        node = self._nodes.get(name)
        if node is None:
            raise LookupError(f"The page {self.key} has no region {name!r}.{_nearest(name, self.regions)}")
        return Part(node, self._source[slice(*node.span)], self.key, node.attributes.get("data-state", ""))

    @property
    def forms(self) -> list[Form]:
        """Its forms."""
        return [Form(node, self._document, self.key) for node in self._document.all("form")]

    # -- what can be done ---------------------------------------------------------------------------------

    def click(self, words: str) -> VisitedPage:
        """Follow a link, to the end of the page that it leads to, as a browser does: the app learns where it stood.

        Args:
            words: the words of the link, or the first of them; or the key that it leads to.

        Raises:
            LookupError: if there is no such link, or the words fit links to different pages.
        """
        links = [link for link in self._links() if link.words or link.key]
        found = [link for link in links if link.words == words] or [link for link in links if link.key == words]
        found = found or [link for link in links if link.words.casefold().startswith(words.casefold())]
        keys = list(dict.fromkeys(link.key for link in found))
        if len(keys) > 1:
            raise LookupError(f"The page {self.key} has {words!r} leading to {_listed(keys)}. Click on one of these.")
        if not keys:
            known = [link.words for link in links]
            raise LookupError(f"The page {self.key} has no link {words!r}.{_nearest(words, known)}")
        parts = urlsplit(keys[0])
        if parts.scheme or parts.netloc:
            raise LookupError(f"The link {words!r} leads to {keys[0]}, out of the app: a test cannot go there.")
        return self._visitor.visit(urldefrag(keys[0]).url, referer=self.key)

    def submit(self, button: str, fields: Mapping[str, Any] | None = None, **more: Any) -> VisitedPage:
        """Fill in a form and send it, as a browser without JavaScript does.

        Args:
            button: the words of its button, or its action: the address that it is sent to.
            fields: what to fill in by the name of the field, where that is no Python name.
            more: what to fill in. True ticks a checkbox; None leaves a field out.

        Raises:
            LookupError: if there is no such form, or it has no such field; the message lists those it has.
        """
        forms = self.forms
        found = [form for form in forms if button in form.buttons] or [form for form in forms if form.leads_to(button)]
        if not found:
            known = [name for form in forms for name in (form.buttons or [urlsplit(form.action).path])]
            raise LookupError(f"The page {self.key} has no form with the button {button!r}.{_nearest(button, known)}")
        if len(found) > 1:
            raise LookupError(
                f"The page {self.key} has {len(found)} forms with the button {button!r}. Name one by its action: "
                f"{_listed([urlsplit(form.action).path for form in found])}."
            )
        form = found[0]
        values = form.filled(button, {**(fields or {}), **more})
        return self._visitor.send(form.method, form.action, values, referer=self.key)

    def reload(self) -> VisitedPage:
        """Open the same page again."""
        return self._visitor.visit(self.key)


def _nearest(name: str, known: list[str]) -> str:
    """What was meant, perhaps, and all that there is."""
    near = difflib.get_close_matches(name, known, 1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" It has {_listed(known)}."


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in dict.fromkeys(names[:24]))
    return (shown + (f" and {len(names) - 24} more" if len(names) > 24 else "")) or "none"
