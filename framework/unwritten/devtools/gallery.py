"""The gallery: texts that are hard to render, as the formats render them at any point of their generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

from markupsafe import Markup

from unwritten_engine import EngineError, Frame, Prompt, Usage
from unwritten_engine.cleaning import FrameCleaner
from unwritten_engine.scripted import ABOUT

from ..core.errors import PageFailed
from ..formats.links import Linker
from ..formats.page import Canvas
from ..generation.region_job import RegionJob
from .panel import PanelFrame

_USAGE = Usage(0, 0, 0, 0, 1, 0.0, 0.0, "end", 0)
_UNSETTLED_LENGTH = 8
"""Number of characters at the end of a prefix that are shown as unsettled."""

_ARABIC = """## منارة الإسكندرية

المنارة **برج** عالٍ بجانب [[البحر]]. بُنيت سنة 280 ق.م. وكان ارتفاعها نحو 100 متر (330 ft).

- حجر أبيض
- نار كل ليلة: `lamp --on`

> من يرى النور يعرف الطريق.

| الجزء | الارتفاع |
|---|---|
| القاعدة | 60 m |
"""
_MIXED = """A lighthouse is called מגדלור in Hebrew and منارة in Arabic.

מגדלור הוא מגדל עם אור חזק. In English it is a lighthouse.

1. First in English
2. שני בעברית
3. ثالث بالعربية (3)
"""
_ARTICLE = "# Tea\n\nTea is a **drink** made of [[leaves]]. It is hot.\n\n- green\n- black\n"
_CODE = 'Run this [[script]]:\n\n```bash\nif [[ -f "$LOG" && -n $SHIP ]]; then\n  echo "**no** [[link]]"\nfi\n```\n'


@dataclass(frozen=True, slots=True)
class Case:
    """One text of the gallery.

    Attributes:
        name: Identifies it in URLs.
        title: What is hard about it.
        text: The text as a model writes it.
        format: The format of its canvas.
    """

    name: str
    title: str
    text: str
    format: str = "markdown"


_CASES = [
    Case("rtl", "Right to left", _ARABIC),
    Case("mixed", "Mixed directions", _MIXED),
    Case(
        "cjk", "Emphasis beside CJK punctuation", "これは**「重要」**です。\n\n这是**“重点”**。請看[[灯台|灯台の光]]。"
    ),
    Case("emphasis", "Emphasis", "**Bold**, *italic*, ***both***, **open to the end, 2*3*4, snake_case_name, a ** b"),
    Case("preface", "A wrapper with polite sentences", f"Sure! Here it is:\n\n```markdown\n{_ARTICLE}```\n\nEnjoy!"),
    Case("nested-fence", "A wrapper with a fence inside", f"```markdown\n{_ARTICLE}\n{_CODE}\nThat is all.\n```"),
    Case("code", "Brackets in code", _CODE + "\nOr `[[ -n $X ]]`, and \\[[not this]] either."),
    Case("html-mentions", "Tags that are mentioned", "<p>A <title> tag, <script> or <!--.</p><p>More.</p>", "html"),
    Case(
        "html-removed",
        "Elements that are removed",
        "<h2>Tea</h2><script>let x = 1;</script><!-- no --><p>Hot [[tea]].</p>",
        "html",
    ),
    Case(
        "html-broken", "Broken tags", '<p>If a <b and c</p><p><a href="/x>a</a></p><ul><li>one<li><i>two</ul>', "html"
    ),
    Case(
        "wide-table", "A wide table", "| Wide column " * 12 + "|\n" + "|---" * 12 + "|\n" + "| some words " * 12 + "|\n"
    ),
    Case(
        "cells", "Links and pipes in a table", "| a | b |\n|---|:-:|\n| [[Sea|the sea]] | `x \\| y` |\n| **c** | 2 |\n"
    ),
    Case(
        "lists", "Nested lists", "1. one\n   - a\n   - b\n     1. deep\n2. two\n\n   More of two.\n\n- [ ] a\n- [x] b\n"
    ),
    Case("quotes", "Quotes in quotes", "> One\n>\n> > Two\n>\n> - three\n> - four\n\n---\n\nAfter."),
    Case(
        "long",
        "Long words",
        "Donaudampfschifffahrts" * 12 + "\n\n`" + "x" * 200 + "`\n\nhttps://example.org/" + "a" * 99,
    ),
    Case("headings", "Headings of all levels", "".join(f"{'#' * n} Level {n}\n\nText.\n\n" for n in range(1, 7))),
    Case(
        "control",
        "Reasoning, control tokens and control characters",
        "<think>Hm.</think>The token `</think>` ends\u200b \u202ereasoning\u202c.\ufeff\0\x07\ue000"
        "<|im_end|>\nuser\nMore!",
    ),
    Case(
        "surrogates", "Half of a surrogate pair", "Salt \ud83e and light \udd80 and 🦀 and 👩🏽\u200d🚀 and é e\u0301."
    ),
    Case(
        "escapes",
        "Escapes and entities",
        "\\*plain\\* &amp; &lt;b&gt; <b>text</b> \\# 1\\. [x](//evil.example) ![alt](x.png)",
    ),
    Case("text", "Plain text", "First line\nsecond line\n\n**Stars** and [[brackets]] stay.\n\n\nThe end.", "text"),
    Case(
        "drawing",
        "A drawing",
        '<svg viewBox="0 0 120 40"><title>Sun</title><circle cx="20" cy="20" r="12"/>'
        '<path d="M40 30 L60 10 L80 30 L100 10" fill="none" stroke="currentColor"/></svg>',
        "svg",
    ),
]

CASES: Mapping[str, Case] = MappingProxyType({case.name: case for case in _CASES})
"""The texts by name."""


def render_case(case: Case, at: str = "") -> PanelFrame:
    """Return a text as a page shows it after some of its characters.

    Args:
        case: The text.
        at: The number of characters. Anything but a number: the finished text.
    """
    length = len(case.text)
    number = min(int(at), length) if at.isascii() and at.isdigit() and len(at) < 9 else length
    done = number == length
    linker = Linker("/", lambda title: "/" + quote(title, safe=""), lambda keys: set())
    region_job = RegionJob(case.name, Canvas(case.title, format=case.format), Prompt(case.title), linker, 256)
    unsettled = () if done or not number else ((max(0, number - _UNSETTLED_LENGTH), number),)
    frame = Frame(case.text[:number], unsettled, usage=_USAGE if done else None)
    try:
        clean = FrameCleaner(region_job.request(), ABOUT).clean(frame) or Frame("")
        region_job.apply_frame(region_job.merge(clean))
        html = region_job.region().html
    except (EngineError, PageFailed) as error:
        html = Markup("<p>{}</p>").format(str(error))
    return PanelFrame(
        number=number,
        count=length + 1,
        label="finished" if done else f"{number} characters",
        html=html,
        text=frame.text.encode("utf-8", "replace").decode(),
        unsettled=0.0 if done else 0.5,
    )
