"""Texts of up to 100 kB that make careless parsers slow, or their output large."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.support.hostile import REPEATED, nested_list

SIZE = 100_000

_HTML = [
    "<p><b id={n}>", "<b>", "<a href=x>", "<table>", "<table><tr><td>", "<ul><li>", "<div", "<div a{n}=b ", "</p>",
    "</b>", "<!--", "<p title='", "<br>", "&", "&#x", "&lt;", "<![CDATA[", "<?x ", "<svg>", "<math><mi>",
    "<select><option>", "<i><p>", "<a><p>", "\n", "<code>", "<pre>", "<blockquote>", "<h2>a</h2>", "<script>",
    "<style>", "<textarea>", "<b><i><u><a href=/x{n}>", "<p id={n}>a", "<font color=a{n}>", "<td>", "[[", "[[a{n}]]",
    "<li>a{n}", "<b class=a{n}>", "<p><i class={n}><p><u lang={n}>",
]  # fmt: skip
_SVG = [
    "<g>", "<g id=a{n}>", "<path d='M0 0", "<path d='M0 0L{n} {n}'/>", "<rect width=9 height=9 />",
    "<use href='#a{n}'/>", "M0 0", "9", "<g transform='rotate(1)'>", "<text>a",
    "<linearGradient id=g{n}><stop offset=0 />", "<pattern id=p{n}>", "<filter id=f{n}>", "<!--", "<style>",
    "<title>", "url(#", "<circle r='1e{n}'/>", "<defs>", "points='1,1 ",
]  # fmt: skip
_JSON = [
    "[", "{", '{"a":', '{"name":"', "9", "-", "1e9", '"', "\\", "\\u", '"a",', "[[", "{}", '{"words":[', ",", ":",
    "```json\n", "/*", "//", "\n", " ", "null,", "'a',", "NaN,",
]  # fmt: skip
_TEXT = [
    "\n",
    " ",
    "\n ",
    "a\n",
    "\u0301",
    "a\u0301",
    "\u202e",
    "\u2066",
    "\u200d",
    "[[",
    "[[ ",
    "**",
    "a",
    "\ufdfa",
    "<",
    "🗼\ufe0f\u200d",
]
_APP = [
    "<script>",
    "<b>",
    "<div",
    "<!--",
    "```html\n",
    "<iframe",
    "http-equiv",
    "<link",
    "<",
    "</script>",
    "<html>",
    "<body>",
]

WIKI = ["[[ ", "[[\t", "[[a|", "[[a| ", "[[a]", "[[a]] [", "[[a{n}]] ", "See [[", "[[ |", "| [[a]] |", "[[[[", "]] [["]

FRAGMENTS: dict[str, list[str]] = {
    "markdown": [*REPEATED, *WIKI, *_HTML],
    "text": [*_TEXT, *WIKI],
    "html": [*_HTML, *WIKI],
    "svg": [*_SVG, *_HTML],
    "app": [*_APP, *_HTML[:10]],
    "schema": _JSON,
}
"""Pieces of each format's syntax. ``{n}`` is replaced by a number that differs in each repetition."""

SPECIAL: dict[str, dict[str, Callable[[int], str]]] = {
    "markdown": {
        "link-of-spaces": lambda size: "See [[" + " " * size + "x",
        "nested-list": nested_list,
        "table-of-links": lambda size: "| a | b |\n|---|---|\n" + _numbered("| [[Page {n}]] | [[Other {n}]] |\n", size),
        "wide-table": lambda size: "|" + "a|" * (size // 6) + "\n|" + "-|" * (size // 6) + "\n" + "b|" * (size // 6),
        "wide-rows": lambda size: "|" + "a|" * 500 + "\n|" + "-|" * 500 + "\n" + "x\n" * (size // 2),
        "quotes": lambda size: ">" * (size // 2) + " a",
        "one-word": lambda size: "a" * size,
        "marks": lambda size: "a" + "\u0301" * size,
        "definitions": lambda size: _numbered("[a{n}]: /b\n", size // 2) + _numbered("[a{n}] ", size // 2),
    },
    "text": {"newlines": lambda size: "a" + "\n" * size + "b", "spaces": lambda size: "a" + " " * size + "b"},
    "html": {
        "bold-ids": lambda size: _numbered("<p><b id={n}>", size),
        "many-attributes": lambda size: "<p " + _numbered("a{n}=b ", size) + ">",
        "long-attribute": lambda size: "<p title='" + "a" * size + "'>x",
        "deep": lambda size: "<div>" * (size // 5),
        "formatting": lambda size: _numbered("<b><i><u><s id={n}><p>", size),
    },
    "svg": {
        "uses": lambda size: (
            "<svg>" + "".join(f"<g id=a{n + 1}>{f'<use href=#a{n} />' * 10}</g>" for n in range(size // 200))
        ),
        "long-path": lambda size: '<svg viewBox="0 0 9 9"><path d="M0 0' + "L1 1" * (size // 4) + '"/></svg>',
        "filters": lambda size: "<svg>" + _numbered("<filter id=f{n}><feTurbulence/></filter>", size),
    },
    "schema": {
        "digits": lambda size: '{"name": "a", "number": ' + "9" * size + "x",
        "ratio": lambda size: '{"name": "a", "number": 1, "ratio": ' + "9" * size + "e" + "9" * 9 + "x",
        "exponent": lambda size: '{"name": "a", "number": 1e999999999, "ratio": 1e999999999, "words": []}',
        "deep": lambda size: '{"words": ' + "[" * size,
        "words": lambda size: (
            '{"name": "a", "number": 1, "ratio": 1, "words": [' + _numbered('"w{n}",', size) + '"end"]}'
        ),
        "backslashes": lambda size: '{"name": "' + "\\" * size,
    },
    "app": {"script": lambda size: "<script>" + "a" * size, "tags": lambda size: _numbered("<iframe id={n}>", size)},
}
"""Texts that are not one repeated fragment."""


def _numbered(fragment: str, size: int) -> str:
    """Return up to ``size`` characters of a fragment in which ``{n}`` counts."""
    parts, length, number = [], 0, 0
    while length < size:
        parts.append(fragment.replace("{n}", str(number)))
        length += len(parts[-1])
        number += 1
    return "".join(parts)[:size]


def hostile_texts(size: int = SIZE) -> Iterator[tuple[str, str, str]]:
    """Yield format, name and text of every hostile text: the special ones of all formats first."""
    for format, specials in SPECIAL.items():
        for name, make in specials.items():
            yield format, name, make(size)[:size]
    for format, fragments in FRAGMENTS.items():
        opening = "<svg>" if format == "svg" else ""
        for number, fragment in enumerate(dict.fromkeys(fragments)):
            yield format, f"fragment-{number}", (opening + _numbered(fragment, size))[:size]
