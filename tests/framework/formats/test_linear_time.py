"""Every parser of generated text takes linear time, also on repetitions of its own syntax."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable

import pytest
from markupsafe import Markup
from pydantic import BaseModel
from tests.support.apps import a_linker, text_frame
from tests.support.hostile import REPEATED, nested_list, repeated

from unwritten.core.errors import UnwrittenError
from unwritten.formats.app import app_text, extract_document
from unwritten.formats.base import Format, RegionContext
from unwritten.formats.direction import BlockDirections
from unwritten.formats.html import render_wiki_links
from unwritten.formats.html_source import escape_mentions
from unwritten.formats.links import WIKI_LINK, find_anchors, html_to_text, plain_text
from unwritten.formats.registry import FORMATS
from unwritten.formats.sanitize_html import clean_html
from unwritten.formats.schema_repair import repair
from unwritten.formats.unsettled import FormattedFrame
from unwritten.formats.wrappers import unwrap


class Facts(BaseModel):
    kind: str = ""
    known_for: list[str] = []


def formatter(format: Format, *, done: bool) -> Callable[[str], object]:
    def run(text: str) -> object:
        return format.create_formatter(RegionContext(a_linker(), schema=Facts)).format(text_frame(text, done=done))

    return run


PARSERS: dict[str, Callable[[str], object]] = {
    **{f"{name} done": formatter(format, done=True) for name, format in FORMATS.items()},
    **{f"{name} growing": formatter(format, done=False) for name, format in FORMATS.items()},
    "author's format": formatter(Format("own", render=str), done=False),
    "unwrap markdown": lambda text: unwrap(text_frame(text), "markdown"),
    "unwrap fence": lambda text: unwrap(text_frame("Sure:\n\n```md\n" + text, done=True), "markdown"),
    "unwrap html": lambda text: unwrap(text_frame("```\n" + text, done=True), "html"),
    "wiki links": WIKI_LINK.findall,
    "wiki links in HTML": lambda text: render_wiki_links(text, a_linker()),
    "anchors": find_anchors,
    "HTML to text": html_to_text,
    "plain text": plain_text,
    "directions": lambda text: BlockDirections().add(FormattedFrame(Markup(text))),
    "mentions": lambda text: escape_mentions(text, growing=True),
    "mentions, done": escape_mentions,
    "sanitizer": lambda text: clean_html(text, a_linker()),
    "document of an app": extract_document,
    "text of an app": app_text,
    "schema repair": lambda text: repair(Facts, text),
}

FRAGMENTS = [
    *REPEATED,
    "a", "\r\n", "a ", "&#", "[[a", "[[ ", "[[a]]", "[[a|b]] ", "[a](b)", "](", "(", "***a", "_", "__a", "```",
    "```a\n", "``` ", "~~~\n", "~~~md\n", "  - a\n", "1. a\n", "# ", "| a ", "|a|\n|-|\n", "---\n", "===\n", "<a ",
    "<a href='", '<a href="', "<a href=x>", "<a href='/x'>y</a>", "</a>", "<p>", "</p>", "<p>a</p>\n", "<b>", "<b",
    "<b c=", "<li>", "<ul><li>", "<table>", "<tr><td>", "-->", "<!-- -->", "<![CDATA[", "]]>", "<?", "?>", "<!",
    "<!doctype ", "<script>", "</script>", "<script", "<title>", "</title>", "<svg>", "</svg>", "<svg ", "<svg><g>",
    '<path d="M0 0', "<textarea></p>", "<select><option>", "<template>", "<style>{", "'", '"', "='", '="', "{", "}",
    '{"', '{"a":', '{"kind":"', "[1,", "\\u", ",", "//", "/*", "Sure! ", "a:\n\n", "灯台", "。", "\ue000", "\u0000",
    "<html>", "</html>", "<body ", "See [[ \n", "a. ", "x: y\n",
]  # fmt: skip

CONTINUED = [
    ("[[", " "), ("[[a|", " "), ("[[a", "|"), ("[", " "), ("[a](", " "), ("[a](", "("), ("<", "a"), ("<a ", " "),
    ("<a b", "="), ('<a b="', " "), ('<a b="', "<"), ("<!--", "-"), ("</script", " "), ("`", " "), ("```", " "),
    ("```", "`"), ("| ", " "), ("# ", " "), ("- ", " "), ("&", "a"), ("&#", "1"), ("<p>", "<"), ("<script>", "</"),
    ("<svg ", "a=1 "), ('{"kind": "', "\\"), ("Here is ", "a "), ("<svg><path d='", "M0 0"), ("<title>", " "),
    ("**", " "), ("<p>x", "\n"),
]  # fmt: skip
"""Beginnings and what is repeated after them."""

SIZE = 2000
SUPERLINEAR = 10
"""Four times as much text takes four times as long. A quadratic parser takes 16 times as long."""


def seconds(parse: Callable[[str], object], text: str) -> float:
    """Return how long a text takes, in CPU time: other processes do not disturb it."""
    start = time.process_time()
    with contextlib.suppress(UnwrittenError):
        parse(text)
    return time.process_time() - start


def is_superlinear(parse: Callable[[str], object], start: str, fragment: str) -> bool:
    """Measure a repeated fragment at sizes that rise fourfold. Noise only makes single measurements longer."""
    once, four, sixteen = (start + fragment * (size * SIZE // len(fragment)) for size in (1, 4, 16))
    large = seconds(parse, four)
    if large < 0.01 or large < SUPERLINEAR * min(seconds(parse, once) for _ in range(2)):
        return False
    small, large = (min(seconds(parse, text) for _ in range(3)) for text in (once, four))
    if large < SUPERLINEAR * small:
        return False
    return large > 0.5 or min(seconds(parse, sixteen) for _ in range(2)) > SUPERLINEAR * large


@pytest.mark.parametrize("name", PARSERS)
def test_repeated_fragments_take_linear_time(name: str) -> None:
    texts = [*(("", fragment) for fragment in FRAGMENTS), *CONTINUED]
    assert [text for text in texts if is_superlinear(PARSERS[name], *text)] == []


def with_spans(text: str) -> object:
    """Render a draft of which most is unsettled."""
    spans = tuple((at, at + 2) for at in range(0, len(text) - 2, 5))
    return FORMATS["markdown"].create_formatter(RegionContext(a_linker())).format(text_frame(text, spans))


def test_unsettled_spans_take_linear_time() -> None:
    assert [fragment for fragment in FRAGMENTS if is_superlinear(with_spans, "", fragment)] == []


def test_nested_lists_take_linear_time() -> None:
    assert not is_superlinear(lambda text: PARSERS["markdown growing"](nested_list(10 * len(text))), "", "a")


@pytest.mark.parametrize("size", [100, 1500], ids=["many short blocks", "few long blocks"])
def test_no_frame_of_markdown_takes_long(size: int) -> None:
    """100 kB take at most 50 ms on an idle machine. Blocks of these sizes are parsed, longer ones are plain text."""
    slow = []
    for fragment in [*FRAGMENTS, "*a " * 250 + "a* " * 250]:
        text = repeated(repeated(fragment, size) + "\n\n", 100_000)
        for name in ("markdown done", "markdown growing"):
            if all(seconds(PARSERS[name], text) > 0.2 for _ in range(5)):  # other processes only make it slower
                slow.append((name, fragment))
    assert slow == []


def test_the_measurement_finds_superlinear_time() -> None:
    assert is_superlinear(re.compile(r"^\s*(?:#{1,6}\s|\|)", re.M).findall, "", "\n")
