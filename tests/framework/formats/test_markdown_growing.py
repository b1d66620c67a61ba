"""Markdown while it grows: what a visitor sees of a text that is not finished yet."""

from __future__ import annotations

import json
import re
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.apps import a_linker, text_frame
from tests.support.hostile import few_examples

from unwritten.formats.base import RegionContext
from unwritten.formats.markdown import MarkdownFormatter
from unwritten.formats.registry import FORMATS

ROOT = Path(__file__).resolve().parents[3]
CONTAINERS = {"p", "h2", "h3", "h4", "h5", "h6", "li", "ul", "ol", "blockquote", "pre", "table", "th", "td"}

# The longest text that a visitor waits for: a row of a table, or the text of a possible link.
LONGEST_WAIT = 200


def new_formatter() -> MarkdownFormatter:
    formatter = FORMATS["markdown"].create_formatter(RegionContext(a_linker()))
    assert isinstance(formatter, MarkdownFormatter)
    return formatter


def render(text: str, *, done: bool = True) -> str:
    return str(new_formatter().format(text_frame(text, done=done)).html)


def shown_blocks(html: str) -> list[tuple[tuple[str, ...], str]]:
    """Return the texts of HTML without white space, each with the names of the elements around it."""
    found: list[tuple[tuple[str, ...], str]] = []
    around: list[str] = []
    text = ""
    for piece in re.split(r"(<[^<>]*>)", html + "<p>"):
        tag = re.match(r"<(/?)(\w+)", piece)
        if not tag:
            text += piece
        elif tag[2] in CONTAINERS:
            if words := "".join(unescape(text).split()):
                found.append((tuple(around), words))
            text = ""
            if tag[1]:
                around.pop()
            else:
                around.append(tag[2])
    return found


def shown_text(html: str) -> str:
    return "".join(words for _, words in shown_blocks(html))


def begins_with(whole: str, seen: str) -> bool:
    """True if a text begins with what is seen, which may lack markers: they appear if they turn out to be text."""
    position = 0
    for char in seen:
        while whole[position : position + 1] in ("*", "_") and whole[position] != char:
            position += 1
        if whole[position : position + 1] != char:
            return False
        position += 1
    return True


def unstable_prefixes(text: str, step: int = 1) -> list[str]:
    """Return the prefixes that show something, or a type of block, which the finished page does not show."""
    formatter = new_formatter()
    finished = shown_blocks(render(text))
    whole = "".join(words for _, words in finished)
    found = []
    for length in range(1, len(text), step):
        prefix = text[:length]
        word = len(prefix.rstrip()) if prefix[-1].isspace() else max(prefix.rfind(" "), prefix.rfind("\n")) + 1
        blocks = shown_blocks(str(formatter.format(text_frame(prefix, ((word, length),), done=False)).html))
        seen = "".join(words for _, words in blocks)
        same_types = all(block[0] == final[0] for block, final in zip(blocks, finished, strict=False))
        if not begins_with(whole, seen) or not same_types:
            found.append(prefix)
    return found


STABLE = [
    # Blocks
    "Things to bring:\n- a rope\n- a lamp",
    "Prices\n= 12 euros",
    "Prices\n- 12 euros",
    "A sentence above a rule.\n---\nAnd one below.",
    "# Head\n## Sub *em*\n### Third ###\n#### #4\n#hashtag\n# ",
    "***\n\nText\n\n---\n\n* item\n* **bold** item\n* *em*\n\n***both*** x",
    "* * *\n- - -\n_ _ _\n",
    "1. one\n2. two\n   - nested\n   - more\n     1. deep\n3. three\n\n\n4. four",
    "1) a\n2) b\n\n10. c\n\n1999 was a year.\n12 more",
    "- a\n\n  para\n\n- b\n\n      code\n\n- c",
    "- [ ] task\n- [x] done **b**\n- [link](a)",
    "> quote\n> **more**\n>\n> > nested\n> - list\n\nout",
    "```python\ndef f(x):\n    return [x * 2]\n# 1\n```\nAfter",
    "~~~\ncode\n~~\n~~~\n\nx",
    "Text\n\n```\nunclosed [ ** code",
    "- step:\n  ```sh\n  ls *.py\n  ```\n- next",
    "| Name | Age |\n|------|----:|\n| Ada | 36 |\n| Bob **x** | `a` |\n\nAfter.",
    "A:\n\n| h | i |\n|---|---|\n| [[Sea|the sea]] | 2 |",
    "- a list\n\n  | h |\n  |---|\n  | x |\n",
    "|x| = 5 is no table\n\nx || y and a|b",
    "| a |\n| b |\n",
    "Use `a|b` or x | y in a shell.\nNext line",
    "para\n    indented\n\n    code [[a]]\n    - code2",
    # Links, addresses, entities, escapes
    'See [the text](Some_url "title") there, ![image of a lamp](https://x.example/a.png) and [![alt](src)](href).',
    "[see [1]](Url) [a [b] c](Url) [link with **bold** text](Url) and [nested [b] x](u) and [] and ![](x) ![a]()",
    "A [[wiki link|links to]] and [[Plain title]]. [[Half|one",
    "a]] b [[ c ]] d ] [[[x]] [[]] [[y",
    "Note[^1] and[^note].\n\n[^1]: The first.\n[^note]: Second.",
    "Hello! Wow! [sic] and [1] [a] (b) arr[0] [x]: y",
    "A <!-- comment --> &amp; there &copy; &nope; AT&T <b>tag</b> <br/> x 5 < 6 > 3 & x",
    "Set _name, __all__ = [], __slots__, __a__b, x <br >y<br\t>z &#42; <a_b@c.de> [two\nlines](Sea).",
    "Visit <https://example.com/a?b=c> now, <mail@x.org>.",
    "Escapes \\*not em\\* \\[x\\] \\\\ and hard\\\nbreak  \nspaces \\",
    # Emphasis and code
    "A **bold** *em* ***both*** _em_ __strong__ ~~del~~ `code` ``a`b`` x.",
    "***bold em* bold** x ***bold em** em* y **a *b* c**",
    "*Note: the [[Sea|sea]] is **deep***",
    "2*3*4 and 5 * 6 = 30, 2**8, 2*(3+4)*5, a ** b, snake_case_name, *.py, f*ck sh*t",
    "un*frigging*believable **bold**ing \"**bold**\" (**bold**), **Note:**this Price* Price**",
    "10% *of* #1 ~5 ~~x~~y ~z~ Hawai`i and O`ahu",
    "Half **open", "Half `open", "Half `open **code", "Half *open _two ~~three", "Half [open](there", "Half [[open",
    # Other scripts
    "これは**「重要」**な点です。**「A」**なので**「B」**。日本語**太字*斜体*太字**です。*これ*は",
    "**[[灯塔]]**是~~「旧」~~新。*「斜」*体。***「粗」***。他说：“**重要**”。**“重要”**的。（**注**）",
    "**중요(주의)**한 것",
    "สวัสดี**(ครับ)**ครับ **ไทย**ไทย",
    "**شرح:**نص و**نص مهم**.",
    "слово**«Цитата»**слово **«А»**, *«Б»*.",
    "**शब्द।**शब्द **ＡＢＣ：**値は**100％**です",
    "text**⚠️ note**text 🎉**party**🎉 **🎉**",
]  # fmt: skip


@pytest.mark.parametrize("text", STABLE)
def test_nothing_is_shown_that_the_finished_page_does_not_show(text: str) -> None:
    assert unstable_prefixes(text) == []


FRAGMENTS = [
    *("word ", "two words, ", "**bold** ", "*em* ", "***both*** ", "~~del~~ ", "`code [x]` ", "[[Sea]] ", "x < y "),
    *("[[Sea|the *sea*]] ", "[the **sea**](Sea) ", "![alt](a.png) ", "[^1]", "[sic] ", "Wow! ", "<b>", "(p) ", "& "),
    *("<https://x.y> ", "&amp; ", "\\* ", "5 * 6 ", "2*3 ", "a_b ", "重要", "**「A」**", "です。", "*「B」*", "한"),
    *(": ", "**중요(주의)**", "«Ц»", "**«Ц»**", "слово ", "🎉", "**🎉**", '"q" ', "\n", "\n\n", "\n- ", "\n1. "),
    *("\n> ", "\n## ", "\n\n---\n\n", "\n\n| a | b |\n|---|---|\n| ", "\n\n```py\nx = [1]\n```\n", "\n- [ ] "),
    "\n  - ",
]  # fmt: skip


@few_examples
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join))
def test_composed_pages_grow_without_flashes(text: str) -> None:
    assert unstable_prefixes(text) == []


def real_pages() -> list[str]:
    pages = [
        path.read_text("utf-8") for folder in ("framework/docs", "demos") for path in (ROOT / folder).rglob("*.md")
    ]
    pages += [path.read_text("utf-8") for path in (ROOT / "templates/prompts").glob("*.txt")]
    for line in (ROOT / "tests/tapes/wiki.tape").read_text("utf-8").splitlines():
        text = ""
        for frame in json.loads(line).get("frames", ()):
            text = text[: frame[1]] + frame[2]
        pages.append(text)
    return [page for page in pages if not page.startswith("{")]


def test_real_pages_grow_without_flashes() -> None:
    pages = real_pages()
    assert len(pages) > 20
    for page in pages:
        assert unstable_prefixes(page[:2000], step=7) == []


@few_examples
@given(st.lists(st.sampled_from(STABLE), min_size=2, max_size=3))
def test_paragraphs_do_not_affect_those_after_them(texts: list[str]) -> None:
    texts = [text for text in texts if "unclosed" not in text]  # an open fence lasts to the end of the text
    separate = "".join(shown_text(render(text)) for text in texts)
    assert shown_text(render("\n\n".join(text + "\n\n<!-- -->" for text in texts))).replace("<!---->", "") == separate


def test_little_text_is_held_back() -> None:
    for text in STABLE:
        formatter = new_formatter()
        for length in range(len(text)):
            shown = shown_text(str(formatter.format(text_frame(text[:length], done=False)).html))
            assert len(shown_text(render(text[:length]))) - len(shown) <= LONGEST_WAIT
    paragraph = "A paragraph with | a pipe, a [bracket and a `code. " + "word " * 200
    assert shown_text(render(paragraph, done=False)).endswith("word")


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("Name | Age\n--- | ---\nAda | 36", ["p", "th"]),
        ("Title\n=====\n\nText", ["p", "h2"]),
        ("Title\n-----\n\nText", ["p", "h2"]),
    ],
)
def test_a_block_whose_second_line_decides_changes_once(text: str, types: list[str]) -> None:
    formatter = new_formatter()
    seen = []
    for length in range(1, len(text) + 1):
        blocks = shown_blocks(str(formatter.format(text_frame(text[:length], done=length == len(text))).html))
        seen.append(blocks[0][0][-1])
    assert [seen[0], *(after for before, after in pairwise(seen) if before != after)] == types


def test_a_list_does_not_change_when_it_becomes_a_loose_one() -> None:
    assert render("- a\n- b").startswith("<ul>\n<li>a</li>\n<li>b</li>\n")
    assert render("- a\n- b\n\n- c").startswith("<ul>\n<li>a</li>\n<li>b</li>\n")


# -- emphasis -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "html"),
    [
        # Scripts without spaces
        ("これは**「重要」**な点です。", "これは<strong>「重要」</strong>な点です。"),
        ("**「A」**なので**「B」**", "<strong>「A」</strong>なので<strong>「B」</strong>"),
        ("**灯塔。**是*（注）*的", "<strong>灯塔。</strong>是<em>（注）</em>的"),
        ("**중요(주의)**한", "<strong>중요(주의)</strong>한"),
        ("~~「旧」~~新", "<s>「旧」</s>新"),
        ("は***『本』***を", "は<em><strong>『本』</strong></em>を"),
        ("は_「本」_を 変数_名前_一", "は<em>「本」</em>を 変数_名前_一"),
        ("สวัสดี**(ครับ)**ครับ", "สวัสดี<strong>(ครับ)</strong>ครับ"),
        ("**شرح:**نص", "<strong>شرح:</strong>نص"),
        ("слово**«Цитата»**слово", "слово<strong>«Цитата»</strong>слово"),
        ("**शब्द।**शब्द", "<strong>शब्द।</strong>शब्द"),
        ("値**％：**値", "値<strong>％：</strong>値"),
        ("a**🎉 party 🎉**b", "a<strong>🎉 party 🎉</strong>b"),
        ("the **Note:**text", "the <strong>Note:</strong>text"),
        # CommonMark
        ("foo*bar*", "foo<em>bar</em>"),
        ("**bold**ing", "<strong>bold</strong>ing"),
        ('"**bold**"', '"<strong>bold</strong>"'),
        ("a * foo bar*", "a * foo bar*"),
        ("a ** b", "a ** b"),
        ('a*"foo"*', 'a*"foo"*'),
        ("snake_case_name", "snake_case_name"),
        ("foo-_(bar)_", "foo-<em>(bar)</em>"),
        ("*(*foo*)*", "<em>(<em>foo</em>)</em>"),
        ('**foo "*bar*" foo**', '<strong>foo "<em>bar</em>" foo</strong>'),
        ("*foo**bar**baz*", "<em>foo<strong>bar</strong>baz</em>"),
        ("*foo**bar*", "<em>foo**bar</em>"),
        ("***foo** bar*", "<em><strong>foo</strong> bar</em>"),
        ("**foo *bar***", "<strong>foo <em>bar</em></strong>"),
        ("foo***bar***baz", "foo<em><strong>bar</strong></em>baz"),
        ("_foo_bar_baz_", "<em>foo_bar_baz</em>"),
        # Formulas, file names and footnote marks are no emphasis
        ("2*3 and 4*5, 2**8, f*ck sh*t", "2*3 and 4*5, 2**8, f*ck sh*t"),
        ("2*(3+4)*5", "2*(3+4)*5"),
        ("all *.py files", "all *.py files"),
        ("12 euros* a night, 3** a day (e.g.*).", "12 euros* a night, 3** a day (e.g.*)."),
        ("$a^*$ and $b^*$", "$a^*$ and $b^*$"),
        ("5*6*78, n! = 1*2*...*n, a*b*c, a_1*b_2", "5*6*78, n! = 1*2*...*n, a*b*c, a_1*b_2"),
        ("*2*nd and **3**rd", "<em>2</em>nd and <strong>3</strong>rd"),
        ("**** and ***** stars", "**** and ***** stars"),
        # Names
        ("*args and **kwargs, f(*args, **kwargs)", "*args and **kwargs, f(*args, **kwargs)"),
        ("*args, 2*3, a*b*c and all *.py", "*args, 2*3, a*b*c and all *.py"),
        ("_private, self._x, $HOME/_build, __slots", "_private, self._x, $HOME/_build, __slots"),
        ("__init__ and __main__.py, __two words__", "__init__ and __main__.py, <strong>two words</strong>"),
        ("*Required, 5 stars*", "<em>Required, 5 stars</em>"),
        ("*5 stars", "*5 stars"),
        # Scripts and languages in which a word goes on after emphasis
        ("그는 _이것_이다, 変数_名前", "그는 <em>이것</em>이다, 変数_名前"),
        ('**"Işık"**ı gördü', '<strong>"Işık"</strong>ı gördü'),
        # What a model forgot to close is not shown
        ("A **Bright", "A Bright"),
        ("A ~~bright `day", "A bright day"),
        ("これは**重要", "これは重要"),
    ],
)
def test_emphasis(text: str, html: str) -> None:
    assert render(text) == f"<p>{html}</p>\n"


def test_open_emphasis_and_code_are_closed_at_the_end_while_a_text_grows() -> None:
    assert render("A **bright *new `day", done=False) == (
        "<p>A <strong>bright <em>new <code>day</code></em></strong></p>\n"
    )
    assert render("| a |\n|---|\n| **b", done=False).count("<strong>b</strong></td>") == 1
    assert render("- **A\n- b", done=False) == "<ul>\n<li>A</li>\n<li>b</li>\n</ul>\n"


def test_emphasis_in_the_text_of_a_link() -> None:
    for text in ("[[Sea|the *sea*]]", "[the *sea*](Sea)"):
        assert render(text) == '<p><a href="/wiki/Sea" class="unwritten">the <em>sea</em></a></p>\n'


def test_footnotes_and_tasks_show_no_markup() -> None:
    assert render("x[^1]\n\n[^1]: y") == "<p>x<sup>1</sup></p>\n<p><sup>1</sup> y</p>\n"
    assert render("- [ ] a\n- [x] b") == "<ul>\n<li>☐ a</li>\n<li>☑ b</li>\n</ul>\n"


def test_a_plain_paragraph_equals_a_parsed_one() -> None:
    for text in ('A "b" c: d | e # f; 100 % + 3 = é 漢字 \u3000x', "Ab  ", "x", "Q 1. - a", "A\u2028b\u200b"):
        assert (
            render(f"{text}\n\nLast.") == f"<p>{text.strip(' ')}</p>\n<p>Last.</p>\n" == render(text) + "<p>Last.</p>\n"
        )
