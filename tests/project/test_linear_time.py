"""Every parser of text that models or visitors write takes linear time, also on repetitions of its own syntax.

The public functions that take text are found by their annotations, so that a new parser is tested without being listed.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import pkgutil
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from types import ModuleType
from typing import Literal

import nh3
import pytest
from markupsafe import Markup
from pydantic import BaseModel
from tests.support.apps import a_linker, text_frame
from tests.support.hostile import REPEATED, nested_list, repeated

import unwritten
import unwritten_engine
from unwritten.core.errors import UnwrittenError
from unwritten.formats.base import CustomFormatter, Format, Formatter, RegionContext
from unwritten.formats.direction import BlockDirections
from unwritten.formats.gists import find_gists
from unwritten.formats.html import render_wiki_links
from unwritten.formats.links import WIKI_LINK, find_anchors
from unwritten.formats.registry import FORMATS
from unwritten.formats.sanitize_html import clean_html
from unwritten.formats.schema import insert_json_marks, parse_value
from unwritten.formats.schema_repair import repair, truncate_at_word
from unwritten.formats.svg import complete_prefix
from unwritten.formats.text_ends import finalize_html, finalize_text
from unwritten.formats.unsettled import FormattedFrame
from unwritten.formats.wrappers import unwrap
from unwritten.generation.revisions import editable_spans
from unwritten.routing import memory
from unwritten.routing.patterns import PagePattern, decode_text, single_line
from unwritten.storage.search import search_vector, value_text
from unwritten_engine import Frame, Prompt, Request, Span
from unwritten_engine.characters import last_boundary
from unwritten_engine.cleaning import FrameCleaner, common_prefix
from unwritten_engine.errors import EngineError
from unwritten_engine.example_grammar import grammar_from_examples
from unwritten_engine.openai.errors import read_error
from unwritten_engine.output_filters import JSONFilter, find_continuation
from unwritten_engine.scripted import ABOUT
from unwritten_engine.text_frames import TextFrames

# -- the parsers --------------------------------------------------------------------------------------------


class Facts(BaseModel):
    kind: Literal["tower", "ship"] = "tower"
    known_for: list[str] = []
    founded: int = 0
    price: float = 0.0
    opened: date | None = None
    open: bool = False
    more: dict[str, int] = {}


def spans_of(text: str) -> tuple[Span, ...]:
    return tuple((at, at + 2) for at in range(0, len(text) - 2, 5))


def formatter(format: Format, *, done: bool = False, marked: bool = False) -> Callable[[str], object]:
    def run(text: str) -> object:
        frame = text_frame(text, spans_of(text), done=done) if marked else text_frame(text, done=done)
        return format.create_formatter(RegionContext(a_linker(), schema=Facts)).format(frame)

    return run


def cleaner(
    *, opening: str = "", start: str = "", schema: bool = False, prefill: bool = True
) -> Callable[[str], object]:
    """Clean a text that arrives in frames."""
    about = replace(ABOUT, abilities=replace(ABOUT.abilities, drafts=False, prefill=prefill))
    facts = ("The tower is old and tall.",)
    request = Request(
        Prompt("Write about the lamp of a lighthouse.", opening=opening, facts=facts),
        canvases=100,
        schema={"type": "object"} if schema else None,
        stop=("</html>", "The end."),
    )

    def run(text: str) -> None:
        frames = FrameCleaner(request, about)
        text = start + text
        for end in range(0, len(text), max(1, len(text) // 4)):
            frames.clean(Frame(text[:end], fixed=end))
        frames.clean(Frame(text, fixed=len(text)))

    return run


def in_value(name: str, quote: str = '"') -> Callable[[str], object]:
    return lambda text: repair(Facts, f'{{"{name}": {quote}{text}{quote}, "open": true')


own = Format("own", render=str)
PARSERS: dict[str, Callable[[str], object]] = {
    "find_gists": lambda text: (find_gists("[[a]]" + text, done=False), find_gists(text, done=True)),
    "common_prefix": lambda text: common_prefix(text, text + text),
    **{f"{name} done": formatter(format, done=True) for name, format in FORMATS.items()},
    **{f"{name} growing": formatter(format) for name, format in FORMATS.items()},
    **{f"{name} unsettled": formatter(format, marked=True) for name, format in {**FORMATS, "own": own}.items()},
    "author's format": formatter(own),
    "unwrap markdown": lambda text: unwrap(text_frame(text), "markdown"),
    "unwrap fence": lambda text: unwrap(text_frame("Sure:\n\n```md\n" + text, done=True), "markdown"),
    "unwrap html": lambda text: unwrap(text_frame("```\n" + text, done=True), "html"),
    "wiki links": WIKI_LINK.findall,
    "render_wiki_links": lambda text: render_wiki_links(text, a_linker()),
    "find_anchors in a link": lambda text: find_anchors(f'<a href="/x">{text}</a>'),
    "directions": lambda text: BlockDirections().add(FormattedFrame(Markup(text))),
    "clean_html": lambda text: clean_html(text, a_linker()),
    "clean_html growing": lambda text: clean_html(text, a_linker(), growing=True),
    "repair": lambda text: repair(Facts, text),
    "parse_value": lambda text: parse_value(Facts, text),
    **{f"repair {name}": in_value(name) for name in Facts.model_fields},
    "repair a number": in_value("founded", ""),
    "insert_json_marks": lambda text: insert_json_marks(text, spans_of(text)),
    "truncate_at_word": lambda text: truncate_at_word(text, len(text) // 2),
    "complete_prefix": lambda text: complete_prefix("<svg " + text, stroke_partial=True),
    "complete_prefix of a path": lambda text: complete_prefix('<svg><path d="' + text, stroke_partial=True),
    "svg after a shape": lambda text: formatter(FORMATS["svg"])(f'<svg viewBox="{text}"><path d="M0 0" fill="{text}'),
    "finalize_text": lambda text: finalize_text(text, "length"),
    "finalize_text repetition": lambda text: finalize_text(text, "repetition"),
    "finalize_html": lambda text: finalize_html(text, "length"),
    "editable_spans": lambda text: editable_spans(text, [0], text[:400]),
    "decode_text": lambda text: decode_text(text, 10**9),
    "single_line": lambda text: single_line(text, 10**9),
    "title of a link": PagePattern("/wiki/{title}").link,
    "path of a link": PagePattern("/wiki/{title:path}").link,
    "statements": lambda text: memory.as_data(text),
    "names": lambda text: memory._names([text]),
    "sentences of memory": memory._SENTENCE.split,
    "search_vector": lambda text: search_vector(text, text, text),
    "value_text": lambda text: value_text([json.dumps([text, {"name": text}])]),
    "output of an engine": cleaner(),
    "output with an opening": cleaner(opening="The lamp", prefill=False),
    "output with a schema": cleaner(schema=True, prefill=False),
    "output with reasoning": cleaner(start="<think>"),
    "output with a marker": cleaner(start="Write `<|im_end|>` and "),
    "last_boundary": lambda text: last_boundary(text, len(text)),
    "grammar_from_examples": lambda text: grammar_from_examples([text], "", ""),
    "find_continuation": lambda text: find_continuation(text, text[: len(text) // 2], final=True),
    "read_error": lambda text: read_error(500, text),
    "JSONFilter": lambda text: JSONFilter("{").push(text),
    "TextFrames": lambda text: TextFrames("", ["</s>"], ["The end."], 256, 1024).push(text),
}

TRUSTED = {
    # Names, settings and files of authors and operators.
    *"asset_dir tracing text_direction ornament avatar parse_options mask_keys secure_headers".split(),
    *"environment_key is_local open_openai open_visual download supports unsupported template_error".split(),
    *"denoising_frames suggestion read_prompt".split(),
    *"open_broker open_remote parse_location shorten_identifier".split(),
    *"fetch_hub_file find_hub_file grammar_from_pattern local_file number_kind record_speed text_kind".split(),
    # What the framework has rendered or computed itself, is checked for its length first, or is only hashed or copied.
    *"text_hash check_not_nested insert_nonce page_response refresh_tag local_url is_signed urls_of".split(),
    *"explain_refusal make_static region_label edit_path edit_link file_of settled_message refused_message".split(),
    *"key_problem only_reasoning parse_seed parse_line is_same_origin clean_rendered build_prompt".split(),
    *"box_document insert_marks num_held_back page_to_store plan_rewrite plan_revision stored_view".split(),
    *"gettext_lazy ngettext_lazy pack_text unpack_text join".split(),
    "without_request",
    *"restart_message state_region_message unlink_unsettled without_unsupported to_number variant_key".split(),
    "variants_of",
    "word_diff",  # its number of steps is limited; see test_diff
}
"""Functions that get no long text of models or visitors."""

MODULES = [unwritten, unwritten_engine]
NOT_SERVED = ("cli", "testing", "training", "diffusion", "vllm", "text_to_image", "__main__")


def modules() -> Iterator[ModuleType]:
    for package in MODULES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not set(found.name.split(".")) & set(NOT_SERVED):
                yield importlib.import_module(found.name)


def functions_of_text() -> Iterator[tuple[str, Callable[..., object], bool]]:
    """Yield the public functions that take a text first: name, function, and whether they take nothing else."""
    for module in modules():
        for name, function in vars(module).items():
            if name.startswith("_") or not inspect.isfunction(function) or function.__module__ != module.__name__:
                continue
            parameters = list(inspect.signature(function).parameters.values())
            if parameters and parameters[0].annotation in {"str", "str | None"}:
                yield name, function, all(other.default is not other.empty for other in parameters[1:])


FOUND = {name: function for name, function, is_alone in functions_of_text() if is_alone and name not in TRUSTED}
PARSERS |= {name: function for name, function in FOUND.items() if name not in PARSERS}


def test_every_function_that_takes_text_is_a_tested_parser_or_trusted() -> None:
    tested = {name.split()[0] for name in PARSERS}
    names = {name for name, _, _ in functions_of_text()}
    assert sorted(names - tested - TRUSTED) == []
    assert {"find_anchors", "settled_text", "escape_mentions", "split_sentences", "plain_text"} <= FOUND.keys()


def test_every_formatter_is_tested() -> None:
    classes = {
        value
        for module in modules()
        if module.__name__.startswith("unwritten.formats.")
        for value in vars(module).values()
        if inspect.isclass(value) and callable(getattr(value, "format", None)) and value is not Formatter
    }
    context = RegionContext(a_linker(), schema=Facts)
    used = {type(format.create_formatter(context)) for format in FORMATS.values()}
    assert {value for value in classes if not issubclass(value, str)} == used | {CustomFormatter}


# -- the texts ----------------------------------------------------------------------------------------------

FRAGMENTS = [
    *REPEATED,
    "a", "\r\n", "a ", "&#", "[[a", "[[ ", "[[a]]", "[[a|b]] ", "[a](b)", "](", "(", "***a", "_", "__a", "```",
    "```a\n", "``` ", "~~~\n", "~~~md\n", "  - a\n", "1. a\n", "# ", "| a ", "|a|\n|-|\n", "---\n", "===\n", "<a ",
    "<a href='", '<a href="', "<a href=x>", "<a href='/x'>y</a>", "</a>", "<p>", "</p>", "<p>a</p>\n", "<b>", "<b",
    "<b c=", "<li>", "<ul><li>", "<table>", "<tr><td>", "-->", "<!-- -->", "<![CDATA[", "]]>", "<?", "?>", "<!",
    "<!doctype ", "<script>", "</script>", "<script", "<title>", "</title>", "<svg>", "</svg>", "<svg ", "<svg><g>",
    '<path d="M0 0', "<textarea></p>", "<select><option>", "<template>", "<style>{", "'", '"', "='", '="', "{", "}",
    '{"', '{"a":', '{"kind":"', "[1,", "\\u", ",", "//", "/*", "Sure! ", "a:\n\n", "灯台", "。", "\ue000", "\u0000",
    "<html>", "</html>", "<body ", "See [[ \n", "a. ", "x: y\n", "<p><b id={n}>", "<p><b title={n}>", "<i id={n}><dd>",
    "<div></ul>", "<li><dt>", "<b><div></b>", "<b id={n}><table><td></b></table>", "<a href=/{n}>x", "<span>",
    '<p title="{n}">', "[[a{n}]] ", "<td><a href='/{n}'>y</a></td>", "a{n} ", "1", "1,", "1e9", ",111", "0 0 ", "é",
    "\u0301", "\u202e", "\u2066", "\u200d", "\u2028", "\x85", "\xa0", "İ", "𝟙", '{"a":{"a":', "[{",
    '"a","b",', "- **Kind:** a\n", '"\\"', "\\n", "/* */", "null,", "<think>", "</think>", "<|im_end|>", "[INST]",
    "`<think>`", '"<think>', "<|channel|>a", "### Instruction:", "<use href='#a'/>", "<g id=a>", "<rect/>", "&lt;",
    "system: ", "%20", "/../", "//", "?a=b&", "2020-01-01 ", "1st ", "**a*b*c**", "> - ", "<br>", "<a@b>", "\t- a\n",
]  # fmt: skip

CONTINUED = [
    ("[[", " "), ("[[a|", " "), ("[[a", "|"), ("[", " "), ("[a](", " "), ("[a](", "("), ("<", "a"), ("<a ", " "),
    ("<a b", "="), ('<a b="', " "), ('<a b="', "<"), ("<!--", "-"), ("</script", " "), ("`", " "), ("```", " "),
    ("```", "`"), ("| ", " "), ("# ", " "), ("- ", " "), ("&", "a"), ("&#", "1"), ("<p>", "<"), ("<script>", "</"),
    ("<svg ", "a=1 "), ('{"kind": "', "\\"), ("Here is ", "a "), ("<svg><path d='", "M0 0"), ("<title>", " "),
    ("**", " "), ("<p>x", "\n"), ("See [[", " "), ("<p ", "a{n}=1 "), ("<svg ", "a{n}=1 "), ("<p ", "a{n} "),
    ("<b title='" + "x" * 500 + "'>", "<p>x"), ("<span>" * 200, "<p></p>"), ("<svg>", '<path d="M0 0"/>'), ("x", "1"),
    ("- a\n", "  "), ("|a|b|\n|-|-|\n", "|a|b|\n"), ("|a|b|\n|-|-|\n", "|"), ("<html>", "<p>"), ("[", "a,"),
    ('{"founded": ', "1"), ('{"founded": 1', ",111"), ("http://", "a."), ("    ", "\n    "), ("```\n", "\n```a"),
]  # fmt: skip
"""Beginnings and what is repeated after them."""

NUM_PAIRS = 30
"""Number of random pairs of fragments for each parser."""

SIZE = 1000
SUPERLINEAR = 10
"""Four times as much text takes four times as long. A quadratic parser takes 16 times as long."""


def seconds(parse: Callable[[str], object], text: str) -> float:
    """Return how long a text takes, in CPU time: other processes do not disturb it."""
    start = time.process_time()
    with contextlib.suppress(UnwrittenError, EngineError):
        parse(text)
    return time.process_time() - start


def compose(start: str, fragment: str, size: int) -> str:
    """Return a beginning and repeated fragments, together of about this size. ``{n}`` is replaced by the number."""
    count = size // len(fragment)
    if "{n}" not in fragment:
        return start + fragment * count
    return start + "".join(fragment.replace("{n}", str(number)) for number in range(count))


def is_superlinear(parse: Callable[[str], object], start: str, fragment: str) -> bool:
    """Measure a repeated fragment at sizes that rise fourfold. Noise only makes single measurements longer."""
    if seconds(parse, compose(start, fragment, SIZE // 2)) > 0.1:
        return True  # larger texts would take minutes
    four = compose(start, fragment, 4 * SIZE)
    large = seconds(parse, four)
    if large < 0.01:
        return False
    once, sixteen = (compose(start, fragment, factor * SIZE) for factor in (1, 16))
    if large < SUPERLINEAR * min(seconds(parse, once) for _ in range(2)):
        return False
    small, large = (min(seconds(parse, text) for _ in range(3)) for text in (once, four))
    if large < SUPERLINEAR * small:
        return False
    return large > 0.1 or min(seconds(parse, sixteen) for _ in range(2)) > SUPERLINEAR * large


@pytest.mark.parametrize("name", PARSERS)
def test_repeated_fragments_take_linear_time(name: str) -> None:
    fragments = list(dict.fromkeys(FRAGMENTS))
    rng = random.Random(name)
    pairs = [("", "".join(rng.sample(fragments, 2))) for _ in range(NUM_PAIRS // 2)]
    pairs += [(rng.choice(fragments) * 100, rng.choice(fragments)) for _ in range(NUM_PAIRS // 2)]
    texts = [*(("", fragment) for fragment in fragments), *CONTINUED, *pairs]
    assert [text for text in texts if is_superlinear(PARSERS[name], *text)] == []


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


FAULTS: dict[str, tuple[Callable[[str], object], str, str]] = {
    "wiki links": (re.compile(r"\[\[\s*(.+?)\s*(?:\|\s*(.+?)\s*)?\]\]").findall, "See [[", " "),
    "lines": (re.compile(r"^\s*(?:#{1,6}\s|\|)", re.M).findall, "", "\n"),
    "numbers": (re.compile(r"\d[\d_]*\.?\d*(?=[\s,}])").match, "", "1"),
    "open tags": (nh3.clean, "", "<p><b title={n}>"),
}
"""Parsers with faults that this project has had, and the texts that show them."""


@pytest.mark.parametrize("name", FAULTS)
def test_the_measurement_finds_superlinear_time(name: str) -> None:
    parse, start, fragment = FAULTS[name]
    assert fragment in FRAGMENTS and (not start or (start, fragment) in CONTINUED)
    assert is_superlinear(parse, start, fragment)
