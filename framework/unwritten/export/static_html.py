"""The HTML of a static site: a page as the server sends it, made to stand alone in a folder.

Links lead to files, scripts are gone, forms say that they rest, and what only a server can do is not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from urllib.parse import urlsplit

from ..security.signed_links import SIGNATURE

ASLEEP = "Forms work where this world runs, not in this copy of it."
"""What stands under a form."""


_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


_ADDRESSES = {
    "a": "href",
    "link": "href",
    "img": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "iframe": "src",
}


_CONTROLS = frozenset({"button", "input", "select", "textarea"})


Attributes = list[tuple[str, str | None]]


def local(address: str) -> tuple[str, str] | None:
    """An address of the app, without a signature: its path with the query, and its fragment. None if it leads
    elsewhere, or nowhere."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.scheme or parts.netloc or not parts.path.startswith("/"):
        return None
    query = "&".join(pair for pair in parts.query.split("&") if pair and not pair.startswith(f"{SIGNATURE}="))
    return parts.path + (f"?{query}" if query else ""), parts.fragment


def is_offered(address: str) -> bool:
    """Whether an address is signed: it leads to a page that is not written."""
    return f"{SIGNATURE}=" in urlsplit(address).query


def addresses_of(html: str) -> list[str]:
    """Every address that a page names, as it stands there, in order."""
    found: list[str] = []

    def note(tag: str, address: str) -> str:
        found.append(address)
        return address

    make_static(html, note, lambda address: "")
    return found


def make_static(html: str, address: Callable[[str, str], str | None], box: Callable[[str], str], foot: str = "") -> str:
    """A page that stands alone.

    Args:
        html: as the server sends it.
        address: gets a tag and an address of this app in it; what takes its place, or None to leave the whole element
            out.
        box: gets the address of a box, and returns its document.
        foot: HTML for the end of the body.
    """
    reader = _Reader(address, box, foot)
    reader.feed(html)
    reader.close()
    return "".join(reader.out)


class _Reader(HTMLParser):
    """Copies a page tag by tag. What needs no change is copied as it stands, letter by letter."""

    def __init__(self, address: Callable[[str, str], str | None], box: Callable[[str], str], foot: str) -> None:
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self._address = address
        self._box = box
        self._foot = foot
        self._skipped = ""
        self._depth = 0
        self._colophon = False

    # -- what is left out ---------------------------------------------------------------------------------

    def _leaves_out(self, tag: str, given: dict[str, str | None]) -> bool:
        classes = (given.get("class") or "").split()
        if tag == "meta":
            return given.get("name") == "htmx-config" or (given.get("http-equiv") or "").lower() == "refresh"
        if tag == "form":
            return (given.get("action") or "").startswith("/_unwritten/")
        if tag == "link":
            return given.get("rel") in {"preload", "modulepreload", "manifest"}
        # Writing again, editing and history are for where the world runs.
        return tag in {"script", "noscript"} or (self._colophon and tag == "div" and "actions" in classes)

    # -- tags ---------------------------------------------------------------------------------------------

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._skipped:
            self._depth += tag == self._skipped
            return
        given = dict(attrs)
        if tag == "footer" and "colophon" in (given.get("class") or ""):
            self._colophon = True
        changed = self._changed(tag, given, attrs)
        if changed is None or self._leaves_out(tag, given):
            if tag not in _VOID:
                self._skipped, self._depth = tag, 1
            return
        self.out.append(_written(tag, changed) if changed != attrs else self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        if self._skipped:
            return
        given = dict(attrs)
        changed = self._changed(tag, given, attrs)
        if changed is not None and not self._leaves_out(tag, given):
            self.out.append(_written(tag, changed, "/>") if changed != attrs else self.get_starttag_text() or "")

    def _changed(self, tag: str, given: dict[str, str | None], attrs: Attributes) -> Attributes | None:
        """The attributes of a tag as they should be; None to leave its element out."""
        result = [(name, value) for name, value in attrs if not name.startswith(("hx-", "on", "ws-", "sse-"))]
        name = _ADDRESSES.get(tag)
        address = given.get(name) if name else None
        if name and address is not None and local(address) is not None:
            if tag == "iframe":
                result = [("srcdoc", self._box(address)) if pair[0] == "src" else pair for pair in result]
            else:
                other = self._address(tag, address)
                if other is None:
                    return None
                result = [(name, other) if pair[0] == name else pair for pair in result]
        if tag in _CONTROLS and "disabled" not in given and given.get("type") != "hidden":
            result.append(("disabled", None))
        if tag == "form":
            result = [pair for pair in result if pair[0] not in {"action", "method"}]
        return result

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            self._depth -= tag == self._skipped
            if not self._depth:
                self._skipped = ""
            return
        if tag == "footer":
            self._colophon = False
        if tag == "body":
            self.out.append(self._foot)
        self.out.append(f"</{tag}>")
        if tag == "form":
            self.out.append(f'<p class="quiet asleep">{ASLEEP}</p>')

    # -- all else -----------------------------------------------------------------------------------------

    def _copy(self, text: str) -> None:
        if not self._skipped:
            self.out.append(text)

    def handle_data(self, data: str) -> None:
        self._copy(data)

    def handle_entityref(self, name: str) -> None:
        self._copy(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._copy(f"&#{name};")

    def handle_decl(self, decl: str) -> None:
        self._copy(f"<!{decl}>")


def _written(tag: str, attrs: Attributes, end: str = ">") -> str:
    pairs = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in attrs)
    return f"<{tag}{pairs}{end}"
