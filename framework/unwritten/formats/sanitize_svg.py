"""The allow-list for drawings: inline SVG that a model wrote, read as HTML and built anew from what is known.

Elements, attributes and the characters of their values are listed; all else is gone: scripts, styles, links, pictures,
filters, animations (nobody could stop them) and every address but that of a part of the same drawing. Ids get the name
of their region, and what refers to them follows. The outermost element is ours: it has a role, a text alternative,
and no size of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import TypeAlias

import nh3
from markupsafe import Markup, escape

from .sanitize_html import DROPPED_ELEMENTS, ID_PREFIX

_SHAPES = {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "use"}


_WORDS = {"text", "tspan", "textPath", "title", "desc"}


_PARTS = {"clipPath", "mask", "pattern", "marker", "symbol", "defs", "linearGradient", "radialGradient"}


_TAGS = {"svg", "g", "stop", *_SHAPES, *_WORDS, *_PARTS}


# Properties that may stand in a style attribute as well; they are taken out of it.
_PROPERTIES = set(
    """
    fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-linecap stroke-linejoin stroke-miterlimit
    stroke-dasharray stroke-dashoffset opacity color stop-color stop-opacity clip-path clip-rule mask marker-start
    marker-mid marker-end paint-order vector-effect visibility display shape-rendering text-rendering
    font-family font-size font-style font-weight font-variant text-anchor dominant-baseline alignment-baseline
    baseline-shift letter-spacing word-spacing text-decoration writing-mode
    """.split()
)


_ATTRIBUTES = {
    *_PROPERTIES,
    *"""
    id class x y x1 y1 x2 y2 cx cy r rx ry dx dy fx fy fr d points pathLength transform rotate width height viewBox
    preserveAspectRatio offset gradientUnits gradientTransform spreadMethod patternUnits patternContentUnits
    patternTransform clipPathUnits maskUnits maskContentUnits markerUnits markerWidth markerHeight refX refY orient
    textLength lengthAdjust startOffset method spacing side
    """.split(),
}


_REFERRING = {"use", "textPath"}


_MOST_ELEMENTS, _MOST_USES, _DEEPEST, _LONGEST = 3000, 64, 48, 1000


_cleaner = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=(DROPPED_ELEMENTS | {"foreignObject", "switch", "animate", "set", "filter"}) - _TAGS,
    attributes={"*": {*_ATTRIBUTES, "style"}, **{tag: {"href", "xlink:href"} for tag in _REFERRING}},
    link_rel=None,
    url_schemes=set(),
)


# After cleaning, attributes stand in double quotes and hold no quote, no "<" and no ">", so these are exact.
_TOKEN = re.compile(r'<(?P<end>/?)(?P<tag>[A-Za-z]+)(?P<attributes>(?: [\w:-]+="[^"<>]*")*)>|(?P<text>[^<]+)')


_ATTRIBUTE = re.compile(r' ([\w:-]+)="([^"<>]*)"')


# No colon, quote, backslash, semicolon or "@": nothing in which an address could hide.
_VALUE = re.compile(r"[\w\s.,%+()#/-]*")


_ID = re.compile(r"[^\W\d][\w.-]{0,63}")


_LOCAL = re.compile(r"\s*url\(\s*([\"']?)#([^\W\d][\w.-]{0,63})\1\s*\)([\w\s.,%#()-]*)")


_FUNCTION = re.compile(r"(?:url|src|image|image-set|element|expression)\s*\(", re.I)


_BLACK = re.compile(r"black|#000(?:000)?|rgb\( *0 *, *0 *, *0 *\)", re.I)


_WHITE = re.compile(r"white|#fff(?:fff)?|rgb\( *255 *, *255 *, *255 *\)", re.I)


_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"


_BOX = re.compile(rf"\s*{_NUMBER}[\s,]+{_NUMBER}[\s,]+({_NUMBER})[\s,]+({_NUMBER})\s*", re.I)


_LENGTH = re.compile(rf"\s*({_NUMBER})\s*(?:px)?\s*", re.I)


ElementCache: TypeAlias = dict[tuple[str, str, bool], tuple[str, bool]]
"""Tags as they are written, and whether they have an id; by name, attributes, and whether what is around has one."""


class SVGSanitizer:
    """A drawing, cleaned.

    Args:
        text: begins with ``<svg``; whole, or a prefix that does not end within a tag.
        region: the name of its region, which is unique on its page.
        ask: what was asked for: the text alternative of a drawing that brings no title.
        known: tags of the same drawing that were cleaned before; those of this one are added.

    Attributes:
        html: one safe and balanced ``<svg>`` element.
        shapes: how many visible elements it has.
    """

    def __init__(self, text: str, region: str, title: str, cache: ElementCache | None = None) -> None:
        self._prefix = f"{ID_PREFIX}{region}."
        self._ask = title
        self._known: ElementCache = {} if cache is None else cache
        self._uses = 0
        self._words = {"title": "", "desc": ""}
        self._root: dict[str, str] = {}
        self.element_count = 0
        inside = "".join(self._inside(str(_cleaner.clean(text))))
        self.html = Markup(self._opening() + inside + "</svg>")

    # -- the inside ---------------------------------------------------------------------------------------

    def _inside(self, cleaned: str) -> Iterator[str]:
        """The contents of the first outermost ``<svg>``."""
        open_: list[str] = []
        ided: list[bool] = []  # whether each of them can be referred to, so that nothing in it may refer on
        skipped = count = 0
        for token in _TOKEN.finditer(cleaned):
            tag = token["tag"]
            if tag is None:
                if open_ and not skipped:
                    yield from self._text(token["text"], open_)
            elif token["end"]:
                if skipped:
                    skipped -= 1
                elif open_:
                    ided.pop()
                    if not (self._is_own(open_) or len(open_) == 1):
                        yield f"</{tag}>"
                    open_.pop()
                    if not open_:
                        return
            elif not open_:
                if tag == "svg" and not skipped:
                    self._root = dict(_pairs(token["attributes"]))
                    open_.append(tag)
                    ided.append(False)
                else:
                    skipped += 1
            else:
                count += 1
                if skipped or count > _MOST_ELEMENTS or len(open_) > _DEEPEST or not self._may_stand(tag, open_, ided):
                    skipped += 1
                    continue
                open_.append(tag)
                key = (tag, token["attributes"], any(ided))
                if key not in self._known:
                    attributes = dict(self._attributes(*key))
                    self._known[key] = (f"<{tag}{_written(attributes)}>", "id" in attributes)
                written, has_id = self._known[key]
                ided.append(has_id or tag in _PARTS)
                self.element_count += tag in _SHAPES and _PARTS.isdisjoint(open_)
                if not self._is_own(open_):
                    yield written

    def _may_stand(self, tag: str, open_: list[str], ided: list[bool]) -> bool:
        if open_[-1] in {"title", "desc"}:
            return False
        if tag == "use":
            # Uses within uses could multiply without end.
            self._uses += 1
            return self._uses <= _MOST_USES and not any(ided)
        return True

    @staticmethod
    def _is_own(open_: list[str]) -> bool:
        """Whether this is the title or the description of the whole, which is written anew."""
        return len(open_) == 2 and open_[1] in {"title", "desc"}

    def _text(self, text: str, open_: list[str]) -> Iterator[str]:
        if self._is_own(open_):
            self._words[open_[1]] += unescape(text)
        elif open_[-1] in _WORDS:
            yield str(escape(unescape(text)))
        elif text.isspace():
            yield text

    # -- attributes ---------------------------------------------------------------------------------------

    def _attributes(self, tag: str, source: str, inside: bool) -> Iterator[tuple[str, str]]:
        """The attributes of an element that may stay. What is inside of something with an id refers to nothing."""
        for name, value in _pairs(source):
            name = "href" if name == "xlink:href" else name
            if name == "href":
                if tag in _REFERRING and value.startswith("#") and _ID.fullmatch(value[1:]) and not inside:
                    yield name, f"#{self._prefix}{value[1:]}"
            elif name == "id":
                if _ID.fullmatch(value):
                    yield name, self._prefix + value
            elif name == "class":
                if value == "unsettled":
                    yield name, value
            elif name in _ATTRIBUTES:
                safe = self._value(name, value, inside)
                if safe is not None:
                    yield name, safe

    def _value(self, name: str, value: str, inside: bool) -> str | None:
        if len(value) > _LONGEST and name not in {"d", "points"}:
            return None
        local = _LOCAL.fullmatch(value)
        if local and not _FUNCTION.search(local[3]):
            fallback = f" {local[3].strip()}" if local[3].strip() else ""
            return None if inside else f"url(#{self._prefix}{local[2]}){fallback}"
        if not _VALUE.fullmatch(value) or _FUNCTION.search(value):
            return None
        if name in {"fill", "stroke", "color"}:
            # Ink on paper: in the dark the ink is light and the paper dark.
            if _BLACK.fullmatch(value.strip()):
                return "currentColor"
            if _WHITE.fullmatch(value.strip()):
                return "var(--paper)"
        return value

    # -- the outermost element ----------------------------------------------------------------------------

    def _opening(self) -> str:
        title = " ".join(self._words["title"].split()) or " ".join(self._ask.split()) or "A drawing"
        desc = " ".join(self._words["desc"].split())
        alternatives = [("title", title), *([("desc", desc)] if desc else [])]
        root = {
            name: value
            for name, value in self._attributes("svg", "".join(_again(self._root)), False)
            if name not in {"width", "height", "x", "y", "id", "viewBox", "display", "visibility", "transform"}
        }
        attributes = {
            "class": "drawing",
            "role": "img",
            "aria-labelledby": " ".join(f"{self._prefix}.{name}" for name, _ in alternatives),
            "viewBox": _box(self._root),
            "fill": "currentColor",
            **{name: value for name, value in root.items() if name != "class"},
        }
        words = (
            Markup('<{0} id="{1}.{0}">{2}</{0}>').format(name, self._prefix, text[:500]) for name, text in alternatives
        )
        return f"<svg{_written(attributes)}>{''.join(words)}"


def _pairs(source: str) -> Iterator[tuple[str, str]]:
    """The attributes in a cleaned tag; those in a ``style`` after those that stand alone, as they would win."""
    seen: dict[str, str] = {}
    for name, value in _ATTRIBUTE.findall(source):
        seen[name] = unescape(value)
    for declaration in seen.pop("style", "").split(";"):
        name, colon, value = declaration.partition(":")
        name = name.strip().lower()
        if colon and name in _PROPERTIES:
            seen[name] = value.strip()
    yield from seen.items()


def _again(attributes: dict[str, str]) -> Iterator[str]:
    return (f' {name}="{escape(value)}"' for name, value in attributes.items())


def _written(attributes: dict[str, str]) -> str:
    return "".join(_again(attributes))


def _box(attributes: dict[str, str]) -> str:
    """The viewBox of a drawing: its own, or one that fits its size."""
    own = _BOX.fullmatch(attributes.get("viewBox", "")[:200])
    if own and float(own[1]) > 0 and float(own[2]) > 0:
        return " ".join(own[0].replace(",", " ").split())
    sizes = [_LENGTH.fullmatch(attributes.get(name, "")[:40]) for name in ("width", "height")]
    numbers = [size[1] for size in sizes if size and float(size[1]) > 0]
    width, height = numbers if len(numbers) == 2 else ("300", "150")  # what browsers take
    return f"0 0 {width} {height}"
