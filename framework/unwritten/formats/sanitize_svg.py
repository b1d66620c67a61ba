"""The allow-list for generated SVG: what is not listed is removed.

The SVG is parsed as HTML and rebuilt from listed elements, listed attributes and safe characters. That removes scripts,
style sheets, links, images, filters, animations (which a reader cannot stop) and every URL except references to parts
of the same drawing. Ids get the name of their region as a prefix, and references follow. The outermost element is
replaced by one that has a role, a text alternative, and no size of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from itertools import islice
from typing import TypeAlias

import nh3
from markupsafe import Markup, escape

from .html_source import DROPPED_ELEMENTS
from .sanitize_html import ID_PREFIX

_VISIBLE_TAGS = {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "use"}
_TEXT_TAGS = {"text", "tspan", "textPath", "title", "desc"}
_DEFINITION_TAGS = {"clipPath", "mask", "pattern", "marker", "symbol", "defs", "linearGradient", "radialGradient"}
_TAGS = {"svg", "g", "stop", *_VISIBLE_TAGS, *_TEXT_TAGS, *_DEFINITION_TAGS}

# Properties that a style attribute may contain. They become attributes.
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

# Elements that refer to another one with href.
_REFERRING = {"use", "textPath"}

_MAX_ELEMENTS = 3000
_MAX_USES = 64
_MAX_DEPTH = 48
_MAX_VALUE_LENGTH = 1000  # of attributes other than path data

_DROPPED = {*DROPPED_ELEMENTS, "foreignObject", "switch", "animate", "set", "filter"} - _TAGS
# Tags of other elements. A parser would open unclosed ones of HTML again and again; see ``html_limits``.
_FOREIGN_TAG = re.compile(rf"</?(?!(?:{'|'.join(sorted(_TAGS | _DROPPED))})[\s/>])[A-Za-z][^<>]*+>?", re.I)

_TAG_START = re.compile(r"<[A-Za-z]")

_cleaner = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=_DROPPED,
    attributes={"*": {*_ATTRIBUTES, "style"}, **{tag: {"href", "xlink:href"} for tag in _REFERRING}},
    link_rel=None,
    url_schemes=set(),
)

# After cleaning, attributes have double quotes and contain no quote, "<" or ">", so these are exact.
_TOKEN = re.compile(r'<(?P<end>/?)(?P<tag>[A-Za-z]+)(?P<attributes>(?: [\w:-]+="[^"<>]*")*)>|(?P<text>[^<]+)')
_ATTRIBUTE = re.compile(r' ([\w:-]+)="([^"<>]*)"')

# No colon, quote, backslash, semicolon or "@", so a value cannot hold a URL.
_SAFE_VALUE = re.compile(r"[\w\s.,%+()#/-]*")
_ID = re.compile(r"[^\W\d][\w.-]{0,63}")
_LOCAL_URL = re.compile(r"\s*url\(\s*([\"']?)#([^\W\d][\w.-]{0,63})\1\s*\)([\w\s.,%#()-]*)")
_URL_FUNCTION = re.compile(r"(?:url|src|image|image-set|element|expression)\s*\(", re.I)
_BLACK = re.compile(r"black|#000(?:000)?|rgb\( *0 *, *0 *, *0 *\)", re.I)
_WHITE = re.compile(r"white|#fff(?:fff)?|rgb\( *255 *, *255 *, *255 *\)", re.I)
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
_VIEW_BOX = re.compile(rf"\s*{_NUMBER}[\s,]+{_NUMBER}[\s,]+({_NUMBER})[\s,]+({_NUMBER})\s*", re.I)
_LENGTH = re.compile(rf"\s*({_NUMBER})\s*(?:px)?\s*", re.I)

ElementCache: TypeAlias = dict[tuple[str, str, bool], tuple[str, bool]]
"""Sanitized start tags of one drawing.

Keys are ``(tag, attributes, inside an element with an id)``, values ``(start tag, has an id)``.
"""


class SVGSanitizer:
    """Sanitizes one drawing.

    Args:
        text: The drawing or a prefix of it. It begins with ``<svg`` and does not end within a tag.
        region: The name of its region, unique on its page.
        title: The text alternative of a drawing without a title.
        cache: Start tags from earlier prefixes of the same drawing. New ones are added.

    Attributes:
        html: One safe and balanced ``<svg>`` element.
        element_count: Number of visible elements in it.
    """

    def __init__(self, text: str, region: str, title: str, cache: ElementCache | None = None) -> None:
        self._prefix = f"{ID_PREFIX}{region}."
        self._default_title = title
        self._cache: ElementCache = {} if cache is None else cache
        self._uses = 0
        self._alternatives = {"title": "", "desc": ""}
        self._root: dict[str, str] = {}
        self.element_count = 0
        content = "".join(self._content(_cleaner.clean(_limit(text))))
        self.html = Markup(self._opening() + content + "</svg>")

    # -- content ------------------------------------------------------------------------------------------

    def _content(self, cleaned: str) -> Iterator[str]:
        """Yield the content of the first outermost ``<svg>``."""
        open_tags: list[str] = []
        has_ids: list[bool] = []  # for each open tag: others can refer to it, so nothing inside may refer to others
        skipped = count = 0
        for token in _TOKEN.finditer(cleaned):
            tag = token["tag"]
            if tag is None:
                if open_tags and not skipped:
                    yield from self._text(token["text"], open_tags)
            elif token["end"]:
                if skipped:
                    skipped -= 1
                elif open_tags:
                    has_ids.pop()
                    if not (self._is_alternative(open_tags) or len(open_tags) == 1):
                        yield f"</{tag}>"
                    open_tags.pop()
                    if not open_tags:
                        return
            elif not open_tags:
                if tag == "svg" and not skipped:
                    self._root = dict(_parse_attributes(token["attributes"]))
                    open_tags.append(tag)
                    has_ids.append(False)
                else:
                    skipped += 1
            else:
                count += 1
                too_large = count > _MAX_ELEMENTS or len(open_tags) > _MAX_DEPTH
                if skipped or too_large or not self._is_allowed(tag, open_tags, has_ids):
                    skipped += 1
                    continue
                open_tags.append(tag)
                key = (tag, token["attributes"], any(has_ids))
                if key not in self._cache:
                    attributes = dict(self._attributes(*key))
                    self._cache[key] = (f"<{tag}{_format_attributes(attributes)}>", "id" in attributes)
                start_tag, has_id = self._cache[key]
                has_ids.append(has_id or tag in _DEFINITION_TAGS)
                self.element_count += tag in _VISIBLE_TAGS and _DEFINITION_TAGS.isdisjoint(open_tags)
                if not self._is_alternative(open_tags):
                    yield start_tag

    def _is_allowed(self, tag: str, open_tags: list[str], has_ids: list[bool]) -> bool:
        if open_tags[-1] in {"title", "desc"}:
            return False
        if tag == "use":
            # Nested uses could multiply the number of elements without limit.
            self._uses += 1
            return self._uses <= _MAX_USES and not any(has_ids)
        return True

    @staticmethod
    def _is_alternative(open_tags: list[str]) -> bool:
        """Return True in the title or description of the whole drawing, which ``_opening`` writes."""
        return len(open_tags) == 2 and open_tags[1] in {"title", "desc"}

    def _text(self, text: str, open_tags: list[str]) -> Iterator[str]:
        if self._is_alternative(open_tags):
            self._alternatives[open_tags[1]] += unescape(text)
        elif open_tags[-1] in _TEXT_TAGS:
            yield str(escape(unescape(text)))
        elif text.isspace():
            yield text

    # -- attributes ---------------------------------------------------------------------------------------

    def _attributes(self, tag: str, source: str, inside_id: bool) -> Iterator[tuple[str, str]]:
        """Yield the allowed attributes of an element. Inside an element with an id, references are removed."""
        for name, value in _parse_attributes(source):
            name = "href" if name == "xlink:href" else name
            if name == "href":
                if tag in _REFERRING and value.startswith("#") and _ID.fullmatch(value[1:]) and not inside_id:
                    yield name, f"#{self._prefix}{value[1:]}"
            elif name == "id":
                if _ID.fullmatch(value):
                    yield name, self._prefix + value
            elif name == "class":
                if value == "unsettled":
                    yield name, value
            elif name in _ATTRIBUTES:
                safe = self._safe_value(name, value, inside_id)
                if safe is not None:
                    yield name, safe

    def _safe_value(self, name: str, value: str, inside_id: bool) -> str | None:
        if len(value) > _MAX_VALUE_LENGTH and name not in {"d", "points"}:
            return None
        local = _LOCAL_URL.fullmatch(value)
        if local and not _URL_FUNCTION.search(local[3]):
            fallback = f" {local[3].strip()}" if local[3].strip() else ""
            return None if inside_id else f"url(#{self._prefix}{local[2]}){fallback}"
        if not _SAFE_VALUE.fullmatch(value) or _URL_FUNCTION.search(value):
            return None
        if name in {"fill", "stroke", "color"}:
            # Black and white follow the page's colours, which are inverted in dark mode.
            if _BLACK.fullmatch(value.strip()):
                return "currentColor"
            if _WHITE.fullmatch(value.strip()):
                return "var(--paper)"
        return value

    # -- the outermost element ----------------------------------------------------------------------------

    def _opening(self) -> str:
        title = " ".join(self._alternatives["title"].split()) or " ".join(self._default_title.split()) or "A drawing"
        desc = " ".join(self._alternatives["desc"].split())
        alternatives = [("title", title), *([("desc", desc)] if desc else [])]
        root = {
            name: value
            for name, value in self._attributes("svg", _format_attributes(self._root), False)
            if name not in {"width", "height", "x", "y", "id", "viewBox", "display", "visibility", "transform"}
        }
        attributes = {
            "class": "drawing",
            "role": "img",
            "aria-labelledby": " ".join(f"{self._prefix}.{name}" for name, _ in alternatives),
            "viewBox": _view_box(self._root),
            "fill": "currentColor",
            **{name: value for name, value in root.items() if name != "class"},
        }
        elements = (
            Markup('<{0} id="{1}.{0}">{2}</{0}>').format(name, self._prefix, text[:500]) for name, text in alternatives
        )
        return f"<svg{_format_attributes(attributes)}>{''.join(elements)}"


def _limit(text: str) -> str:
    """Return a drawing without tags of other elements, and without what follows many more tags than are shown."""
    text = _FOREIGN_TAG.sub(" ", text)
    if text.count("<") <= 2 * _MAX_ELEMENTS:
        return text
    tag = next(islice(_TAG_START.finditer(text), 2 * _MAX_ELEMENTS, None), None)
    return text[: tag.start()] if tag else text


def _parse_attributes(source: str) -> Iterator[tuple[str, str]]:
    """Yield the attributes of a cleaned tag. Declarations in a ``style`` come last, because they take precedence."""
    attributes = {name: unescape(value) for name, value in _ATTRIBUTE.findall(source)}
    for declaration in attributes.pop("style", "").split(";"):
        name, colon, value = declaration.partition(":")
        name = name.strip().lower()
        if colon and name in _PROPERTIES:
            attributes[name] = value.strip()
    yield from attributes.items()


def _format_attributes(attributes: dict[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())


def _view_box(attributes: dict[str, str]) -> str:
    """Return the viewBox of a drawing: its own if it is valid, otherwise one from its size."""
    own = _VIEW_BOX.fullmatch(attributes.get("viewBox", "")[:200])
    if own and float(own[1]) > 0 and float(own[2]) > 0:
        return " ".join(own[0].replace(",", " ").split())
    sizes = [_LENGTH.fullmatch(attributes.get(name, "")[:40]) for name in ("width", "height")]
    numbers = [size[1] for size in sizes if size and float(size[1]) > 0]
    width, height = numbers if len(numbers) == 2 else ("300", "150")  # the default size in browsers
    return f"0 0 {width} {height}"
