"""Pages as a visitor sees them: text, links, forms and regions, and what can be done with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urldefrag, urljoin, urlsplit

from .html_tree import Node, parse_html

FieldValue: TypeAlias = "str | bytes | Path | list[bytes | Path]"
"""What a form sends in a field: a text, or one or more files."""


class Browser(Protocol):
    """Opens the pages that links and forms lead to. ``Visitor`` is one."""

    def visit(self, path: str, *, referer: str | None = None) -> VisitedPage:
        """Open a page."""
        ...

    def send(
        self, method: str, path: str, values: Mapping[str, FieldValue], *, referer: str | None = None
    ) -> VisitedPage:
        """Send a form."""
        ...


@dataclass(frozen=True)
class PageLink:
    """A link: its text, and the path that it leads to, or the URL if that is on another site."""

    text: str
    key: str


class Part:
    """A page or one of its regions.

    ``"tower" in part`` is True if the text contains these words. ``str(part)`` is the text.

    Attributes:
        html: The HTML as the server sent it.
        state: "written", "writing" and so on; of a page, that of its least finished region.
    """

    def __init__(self, node: Node, html: str, key: str, state: str) -> None:
        self._node = node
        self._key = key
        self.html = html
        self.state = state

    @property
    def text(self) -> str:
        """The visible text, one line per paragraph."""
        return self._node.text

    @property
    def links(self) -> dict[str, str]:
        """The paths that links lead to, by the links' text. Of several with the same text, the first."""
        found: dict[str, str] = {}
        for link in self._links():
            found.setdefault(link.text, link.key)
        return found

    def _links(self) -> Iterator[PageLink]:
        for anchor in self._node.find_all("a"):
            if "href" in anchor.attributes:
                text = anchor.line or anchor.attributes.get("aria-label", "")
                yield PageLink(text, urljoin(self._key, anchor.attributes["href"]))

    def __contains__(self, text: str) -> bool:
        return text in self.text or text in self._node.line

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._key!r}: {self.state}, {self._node.line[:60]!r}>"


class Form:
    """A form on a page.

    Attributes:
        action: The URL that it is sent to.
        method: "get" or "post".
        values: What is sent if nothing is filled in, by the fields' names; hidden fields are included.
        fields: The names of all fields.
    """

    def __init__(self, node: Node, document: Node, key: str) -> None:
        self.action = urljoin(key, node.attributes.get("action", "") or key)
        self.method = node.attributes.get("method", "get").lower()
        self.values: dict[str, str] = {}
        self.fields: list[str] = []
        self._buttons: list[Node] = []
        self._choices: dict[str, list[str]] = {}
        self._files: set[str] = set()
        form_id = node.attributes.get("id")
        outside = [field for field in document.find_all() if form_id and field.attributes.get("form") == form_id]
        for field in [*node.find_all(), *outside]:
            self._add_field(field)

    def _add_field(self, field: Node) -> None:
        attributes = field.attributes
        name, kind = attributes.get("name", ""), attributes.get("type", "").lower()
        if field.tag == "button" or (field.tag == "input" and kind in {"submit", "image"}):
            if kind not in {"button", "reset"}:
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
            options = list(field.find_all("option"))
            choices = [option.attributes.get("value", option.line) for option in options]
            self._choices[name] = choices
            chosen = [value for value, option in zip(choices, options, strict=True) if "selected" in option.attributes]
            if choices:
                self.values[name] = (chosen or choices)[0]
        elif field.tag == "textarea":
            self.values[name] = "".join(str(child) for child in field.children).removeprefix("\n")
        elif kind == "file":
            self._files.add(name)
        else:
            self.values[name] = attributes.get("value", "")

    @property
    def buttons(self) -> list[str]:
        """The texts of its buttons."""
        return [_button_text(button) for button in self._buttons]

    def submits_to(self, action: str) -> bool:
        """True if the form is sent to this URL, with or without its query."""
        return action in {self.action, urlsplit(self.action).path}

    def fill(self, button: str, given: Mapping[str, Any]) -> dict[str, FieldValue]:
        """Return what is sent: the form's values, those given, and the button's if it has a name.

        Args:
            button: The text of the button that is pressed.
            given: Values by field. True checks a box, False and None leave a field out. A field for files takes a path
                or bytes, or a list of them.

        Raises:
            LookupError: If the form has no such field, or the field no such choice.
        """
        values: dict[str, FieldValue] = dict(self.values)
        for name, value in given.items():
            if name not in self.fields:
                raise LookupError(f"{self._description} has no field {name!r}.{_suggest(name, self.fields)}")
            choices = self._choices.get(name)
            if value is None or value is False:
                values.pop(name, None)
                continue
            if name in self._files:
                values[name] = value
                continue
            text = choices[0] if value is True and choices else str(value)
            if choices is not None and text not in choices:
                raise LookupError(f"The field {name!r} has no choice {text!r}. It has {_enumerate(choices)}.")
            values[name] = text
        for pressed in self._buttons:
            if _button_text(pressed) == button and "name" in pressed.attributes:
                values[pressed.attributes["name"]] = pressed.attributes.get("value", "")
        return values

    @property
    def _description(self) -> str:
        return f"The form {' / '.join(map(repr, self.buttons)) or 'without a button'} ({self.method} {self.action})"


def _button_text(button: Node) -> str:
    return button.line or button.attributes.get("value", "") or button.attributes.get("aria-label", "")


class VisitedPage(Part):
    """A page that a visitor has opened. It does not change: a click or a form opens another one.

    Attributes:
        key: The path with its query, after redirects. Of a mounted app it includes the prefix.
        status: The HTTP status.
        headers: The response's headers, by name in lower case.
        state: "written", "writing", "failed" and so on; "" for a page without regions.
    """

    def __init__(self, browser: Browser, key: str, status: int, headers: Mapping[str, str], html: str) -> None:
        self._browser = browser
        self._document = parse_html(html)
        self.key = key
        self.status = status
        self.headers = dict(headers)
        self._source = html.replace("\r\n", "\n")
        states = [node.attributes.get("data-state", "") for node in self._regions.values()]
        order = ["waiting", "writing", "failed", "stopped", "written"]
        super().__init__(self._document, html, key, next((state for state in order if state in states), ""))

    @cached_property
    def _regions(self) -> dict[str, Node]:
        nodes = [node for node in self._document.find_all() if "data-region" in node.attributes]
        return {node.attributes["data-region"]: node for node in nodes}

    @property
    def text(self) -> str:
        """The visible text of the main part, one line per paragraph. Of other responses (text, JSON), all of it."""
        if "html" not in self.headers.get("content-type", "html"):
            return self.html
        return (self._document.find("main") or self._document.find("body") or self._document).text

    def __contains__(self, text: str) -> bool:
        return text in self.text or text in " ".join(self.text.split())

    @property
    def title(self) -> str:
        """The document's title."""
        found = self._document.find("title")
        return " ".join("".join(str(child) for child in found.children).split()) if found else ""

    @property
    def heading(self) -> str:
        """The text of the first heading, or ""."""
        found = self._document.find("h1")
        return found.line if found else ""

    @property
    def regions(self) -> list[str]:
        """The names of its regions, in document order."""
        return list(self._regions)

    def region(self, name: str) -> Part:
        """Return a region.

        Raises:
            LookupError: If the page has no region of this name.
        """
        node = self._regions.get(name)
        if node is None:
            raise LookupError(f"The page {self.key} has no region {name!r}.{_suggest(name, self.regions)}")
        return Part(node, self._source[slice(*node.span)], self.key, node.attributes.get("data-state", ""))

    @property
    def forms(self) -> list[Form]:
        """Its forms."""
        return [Form(node, self._document, self.key) for node in self._document.find_all("form")]

    # -- what can be done -----------------------------------------------------------------------------------------

    def click(self, text: str) -> VisitedPage:
        """Follow a link, and wait until the page is finished. The request has the page as its referer.

        Args:
            text: The link's text, or the beginning of it; or the path that it leads to.

        Raises:
            LookupError: If there is no such link, or the text fits links to different pages.
        """
        links = [link for link in self._links() if link.text or link.key]
        found = [link for link in links if link.text == text] or [link for link in links if link.key == text]
        found = found or [link for link in links if link.text.casefold().startswith(text.casefold())]
        keys = list(dict.fromkeys(link.key for link in found))
        if len(keys) > 1:
            raise LookupError(f"On the page {self.key}, {text!r} leads to {_enumerate(keys)}. Click on one of these.")
        if not keys:
            known = [link.text for link in links]
            raise LookupError(f"The page {self.key} has no link {text!r}.{_suggest(text, known)}")
        parts = urlsplit(keys[0])
        if parts.scheme or parts.netloc:
            raise LookupError(f"The link {text!r} leads to {keys[0]}, which is not in the app.")
        return self._browser.visit(urldefrag(keys[0]).url, referer=self.key)

    def submit(self, button: str, fields: Mapping[str, Any] | None = None, **more: Any) -> VisitedPage:
        """Fill in a form and send it, as a browser without JavaScript does.

        Args:
            button: The text of its button, or its action: the URL that it is sent to.
            fields: Values by field, for names that are not valid in Python.
            more: Values by field. True checks a box, None leaves a field out. A field for files takes a path or bytes,
                or a list of them.

        Raises:
            LookupError: If there is no such form or field. The message lists those that exist.
        """
        forms = self.forms
        found = [form for form in forms if button in form.buttons] or [
            form for form in forms if form.submits_to(button)
        ]
        if not found:
            known = [name for form in forms for name in (form.buttons or [urlsplit(form.action).path])]
            raise LookupError(f"The page {self.key} has no form with the button {button!r}.{_suggest(button, known)}")
        if len(found) > 1:
            raise LookupError(
                f"The page {self.key} has {len(found)} forms with the button {button!r}. Name one by its action: "
                f"{_enumerate([urlsplit(form.action).path for form in found])}."
            )
        form = found[0]
        values = form.fill(button, {**(fields or {}), **more})
        return self._browser.send(form.method, form.action, values, referer=self.key)

    def reload(self) -> VisitedPage:
        """Open the same page again."""
        return self._browser.visit(self.key)


def _suggest(name: str, known: list[str]) -> str:
    """Return the nearest name, if one is near, and all that exist."""
    near = difflib.get_close_matches(name, known, 1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" It has {_enumerate(known)}."


def _enumerate(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in dict.fromkeys(names[:24]))
    return (shown + (f" and {len(names) - 24} more" if len(names) > 24 else "")) or "none"
