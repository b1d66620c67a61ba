"""The text formats: any prefix of a text becomes safe HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from pydantic import BaseModel
from tests.support.apps import a_linker, text_frame
from tests.support.hostile import VECTORS, few_examples, good_texts, hostile_texts, markdown_texts, prefix_of, spans_in
from tests.support.html_checks import faults

from unwritten.core.errors import PageFailed
from unwritten.formats.base import Formatter, RegionContext
from unwritten.formats.markdown import _parser, split_blocks
from unwritten.formats.registry import FORMATS
from unwritten.formats.unsettled import CLOSE, OPEN, clip_spans, insert_marks, render_marks
from unwritten_engine import Frame
from unwritten_engine.scripted import denoising_frames

FREE = ["markdown", "text", "html"]


class Facts(BaseModel):
    kind: str
    founded: int = 0
    known_for: list[str] = []


@dataclass
class Person:
    name: str
    born: int = 0


@dataclass
class Family:
    people: list[Person] = field(default_factory=list)


def make_formatter(name: str, schema: type | None = None) -> Formatter:
    return FORMATS[name].create_formatter(RegionContext(a_linker(), schema=schema))


def render(name: str, text: str, spans: tuple[tuple[int, int], ...] = (), *, done: bool = True) -> str:
    return str(make_formatter(name).format(text_frame(text, spans, done=done)).html)


def without_spans(html: str) -> str:
    return html.replace('<span class="unsettled">', "").replace("</span>", "")


# -- markdown -------------------------------------------------------------------------------------------------


def test_markdown_with_links_headings_lists_tables_and_emphasis() -> None:
    assert render("markdown", "A **tower** by the *sea*.") == "<p>A <strong>tower</strong> by the <em>sea</em>.</p>\n"
    assert render("markdown", "[[Tower]]") == '<p><a href="/wiki/Tower" class="written">Tower</a></p>\n'
    assert render("markdown", "[[Sea|the sea]]") == '<p><a href="/wiki/Sea" class="unwritten">the sea</a></p>\n'
    assert render("markdown", "[the sea](Sea)") == '<p><a href="/wiki/Sea" class="unwritten">the sea</a></p>\n'
    assert render("markdown", "- one\n- two") == "<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n"
    assert "<td>1</td>" in render("markdown", "| a | b |\n|---|---|\n| 1 | 2 |")


def test_h1_becomes_h2() -> None:
    assert render("markdown", "# Tower") == "<h2>Tower</h2>\n"
    assert render("markdown", "## Tower") == "<h2>Tower</h2>\n"


def test_an_image_becomes_its_alternative_text() -> None:
    assert render("markdown", "![the sea](https://evil.example/b.gif)") == "<p>the sea</p>\n"


def test_a_foreign_link_becomes_its_text() -> None:
    assert render("markdown", "[x](https://evil.example) <https://evil.example>") == "<p>x https://evil.example</p>\n"
    assert render("markdown", "[x](//[)") == "<p>x</p>\n"


def test_brackets_that_form_no_link_are_removed() -> None:
    assert render("markdown", "a [[ b ]] c ]] [[d") == '<p>a <a href="/wiki/b" class="unwritten">b</a> c  d</p>\n'


def test_brackets_of_lists_stay() -> None:
    for text in ("dict[str, list[int]] and x", "[[1, 2], [3, 4]]", "a[b[0]] + c[d[1]]"):
        assert render("markdown", text) == f"<p>{text}</p>\n"
    assert render("markdown", "[[a|b|c]] d") == "<p>b|c d</p>\n"


def test_cells_without_a_column_are_kept() -> None:
    rows = ["| a | b |", "|---|---|", "| 1 | `2|3` | 4 |", "5 | 6 | 7"]
    for first, other in (("", ""), ("> ", "> "), ("- ", "  ")):
        html = render("markdown", first + f"\n{other}".join(rows))
        assert re.findall("<td>(.*?)</td>", html) == ["1", "<code>2|3</code> | 4", "5", "6 | 7"]


def test_line_breaks_and_comments_in_markdown() -> None:
    assert render("markdown", "a<br>b<BR />c") == "<p>a<br>\nb<br>\nc</p>\n"
    assert render("markdown", "a <!-- b -->c\n\n<!-- d -->\n\ne") == "<p>a c</p>\n<p>e</p>\n"
    assert render("markdown", "a <!-- b", done=False) == "<p>a </p>\n"
    assert render("markdown", "a <!-- b") == "<p>a &lt;!-- b</p>\n"


def test_html_in_markdown_is_text() -> None:
    assert render("markdown", "<b>x</b>") == "<p>&lt;b&gt;x&lt;/b&gt;</p>\n"


def test_a_markdown_text_that_begins_with_an_element_is_html() -> None:
    text = '<h2 class="x">Tea</h2>\n<p>Hot <b>[[leaves]]</b>.</p>'
    assert render("markdown", text) == render("html", text)
    for length in range(len(text)):
        assert "&lt;" not in render("markdown", text[:length], done=False)
    for text in ("<p> is an element of HTML.", "< 5 and <b", "<script>x</script>", "Tea.\n\n<p>x</p>"):
        assert render("markdown", text) != render("html", text)
        assert "&lt;" in render("markdown", text)


def test_a_link_with_text_works_in_a_table() -> None:
    html = render("markdown", "| a | b |\n|---|---|\n| [[Sea|the sea]] | 2 |")
    assert '<td><a href="/wiki/Sea" class="unwritten">the sea</a></td>' in html


def test_an_incomplete_link_is_shown_as_unsettled_text() -> None:
    for half in ("See [[Tower|the tow", "See [[Tower|the tow]", "See [the tow](Tow", "See ![the tow](Tow"):
        html = render("markdown", half, done=False)
        assert html == '<p>See <span class="unsettled">the tow</span></p>\n', half


def test_only_settled_links_are_links() -> None:
    text = "See [[Tower|the tower]] there."
    assert "<a " in render("markdown", text, done=False)
    html = render("markdown", text, ((15, 18),), done=False)
    assert html == '<p>See <span class="unsettled">the tower</span> there.</p>\n'


def test_open_emphasis_is_closed_in_drafts_and_removed_at_the_end() -> None:
    assert render("markdown", "A **bright", done=False) == "<p>A <strong>bright</strong></p>\n"
    assert render("markdown", "A **Bright", done=True) == "<p>A Bright</p>\n"


def test_unchanged_blocks_are_not_rendered_again() -> None:
    lines = [f"Paragraph {i} with a [[Link {i}]].\n\n" for i in range(40)]
    asked: list[str] = []
    linker = a_linker()
    linker._find_written = lambda keys: asked.extend(keys) or set()  # type: ignore[func-returns-value]
    markdown = FORMATS["markdown"].create_formatter(RegionContext(linker))
    for i in range(1, 41):
        markdown.format(text_frame("".join(lines[:i])))
    assert len(asked) == 40


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a\n\nb", ["a\n\n", "b"]),
        ("a\n\n- b\n\n- c\n\nd", ["a\n\n- b\n\n- c\n\n", "d"]),
        ("```\na\n\nb\n```\n\nc", ["```\na\n\nb\n```\n\n", "c"]),
        ("1. a\n\n2", ["1. a\n\n2"]),  # the number may become a list item
        ("a\u2028\u2028b\x0b\n\x0bc", ["a\u2028\u2028b\x0b\n\x0bc"]),  # none of these ends a line in Markdown
        ("a\n\xa0\nb", ["a\n\xa0\nb"]),  # and this line is not blank
        ("a\r\n\r\nb\r\rc", ["a\r\n\r\n", "b\r\r", "c"]),
        ("```x`y\n\nb", ["```x`y\n\n", "b"]),  # no fence: a backtick in its name
    ],
)
def test_blocks_end_where_markdown_says(text: str, parts: list[str]) -> None:
    assert [text[start:end] for start, end in split_blocks(text)] == parts


@few_examples
@given(markdown_texts)
def test_blocks_rendered_separately_equal_the_whole_text(text: str) -> None:
    def render_part(part: str) -> str:
        return str(_parser.render(part, {"linker": a_linker()}))

    assert "".join(render_part(text[start:end]) for start, end in split_blocks(text)) == render_part(text)


def test_a_block_with_too_much_markup_is_shown_as_plain_text() -> None:
    block = "*a* <b> " * 1000
    html = render("markdown", f"*One.*\n\n{block}\n\n*Two.*")
    assert html.startswith("<p><em>One.</em></p>\n<p>*a* &lt;b&gt; *a*")
    assert html.endswith("</p>\n<p>*Two.*</p>\n")


def test_the_rest_of_a_text_after_too_much_markup_is_shown_as_plain_text() -> None:
    blocks = [f"**{number}** & <\n\n" for number in range(2000)]
    html = render("markdown", "".join(blocks))
    assert html.startswith("<p><strong>0</strong> &amp; &lt;</p>\n<p><strong>1</strong>")
    assert html.endswith("<p>**1998** &amp; &lt;</p>\n<p>**1999** &amp; &lt;</p>\n")
    assert re.findall("[0-9]+", html) == [str(number) for number in range(2000)]
    formatter = make_formatter("markdown")
    for length in range(0, 2000, 100):  # what has arrived does not change
        text = "".join(blocks[:length])
        assert html.startswith(str(formatter.format(Frame(text, fixed=len(text))).html)[:-100])


# -- text -----------------------------------------------------------------------------------------------------


def test_text_is_paragraphs_and_line_breaks() -> None:
    assert render("text", "a < b\nc\n\n\nd") == "<p>a &lt; b<br>\nc</p>\n<p>d</p>\n"
    assert render("text", "[[Tower]] **x**") == "<p>[[Tower]] **x**</p>\n"


# -- html -----------------------------------------------------------------------------------------------------


def test_html_loses_incomplete_markup_at_its_end() -> None:
    for tail in ("<", "<st", '<a href="Tow', "&", "&am", "&#x3"):
        assert render("html", f"<p>x{tail}", done=False) == "<p>x</p>"


def test_html_links_by_brackets_and_by_bare_name() -> None:
    assert render("html", "[[Sea|x &amp; y]]") == '<a href="/wiki/Sea" class="unwritten">x &amp; y</a>'
    assert render("html", '<a href="Great Auk">x</a>') == '<a href="/wiki/Great_Auk" class="unwritten">x</a>'
    assert render("html", '<a href="Sea">[[Tower]]</a>') == '<a href="/wiki/Sea" class="unwritten">[[Tower]]</a>'


def test_unsettled_spans_never_break_a_tag() -> None:
    text = '<p title="x">loose words</p>'
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            html = render("html", text, ((start, end),), done=False)
            assert faults(html) == []


# -- schemas --------------------------------------------------------------------------------------------------


def test_a_value_grows_field_by_field() -> None:
    formatter = make_formatter("typed", Facts)
    value = formatter.format(text_frame('{"kind":"tow')).value
    assert (value.kind, value.founded, value.known_for) == ("tow", None, ())
    value = formatter.format(text_frame('{"kind":"tower","known_for":["li')).value
    assert value.known_for == ("li",)
    done = formatter.format(text_frame('{"kind":"tower","founded":1720,"known_for":["<light>"]}', done=True))
    assert done.value == Facts(kind="tower", founded=1720, known_for=["<light>"])
    assert done.html == (
        "<dl><dt>kind</dt><dd>tower</dd><dt>founded</dt><dd>1720</dd>"
        "<dt>known for</dt><dd><ul><li>&lt;light&gt;</li></ul></dd></dl>"
    )


def test_an_empty_text_has_empty_fields() -> None:
    value = make_formatter("typed", Facts).format(text_frame("")).value
    assert (value.kind, value.known_for, bool(value)) == (None, (), False)
    with pytest.raises(AttributeError, match="no field 'colour'"):
        _ = value.colour


def test_a_schema_may_be_a_dataclass() -> None:
    formatter = make_formatter("typed", Family)
    assert formatter.format(text_frame('{"people":[{"name":"Ad')).value.people[0].name == "Ad"
    assert formatter.format(text_frame('{"people":[{"name":"Ada"}]}', done=True)).value == Family([Person("Ada")])


def test_a_cut_off_value_is_accepted_if_it_is_enough() -> None:
    assert (
        make_formatter("typed", Facts).format(text_frame('{"kind":"tower","known_for":["a"', done=True)).value.kind
        == "tower"
    )
    with pytest.raises(PageFailed, match="does not match the schema Facts"):
        make_formatter("typed", Facts).format(text_frame('{"founded":17', done=True))
    with pytest.raises(PageFailed, match="does not match the schema Facts"):
        make_formatter("typed", Facts).format(text_frame("It is a tower.", done=True))


@pytest.mark.parametrize(
    "text", ["[", "[1", '"x', "nul", "{" * 3000, '{"kind":' * 500, '{"kind":"\\ud800', "1e999", "\x00"]
)
def test_any_draft_of_a_value_is_rendered(text: str) -> None:
    assert faults(str(make_formatter("typed", Facts).format(text_frame(text)).html)) == []


@few_examples
@given(st.lists(st.sampled_from(VECTORS) | st.text(max_size=10), max_size=4), st.data())
def test_any_prefix_of_a_value_is_safe_and_balanced(values: list[str], data: st.DataObject) -> None:
    import json

    text = json.dumps({"kind": "".join(values), "known_for": values}, ensure_ascii=False)
    assert faults(str(make_formatter("typed", Facts).format(text_frame(prefix_of(data, text))).html)) == []


# -- every format ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FREE)
def test_no_attack_vector_passes_a_format(name: str) -> None:
    for vector in VECTORS:
        middle = len(vector) // 2
        marked = render(name, vector, ((middle // 2, middle),), done=False)
        for html in (render(name, vector), render(name, vector, done=False), marked):
            assert faults(html) == [], vector


@pytest.mark.parametrize("name", FREE)
@few_examples
@given(hostile_texts, st.data())
def test_any_prefix_of_any_text_is_safe_and_balanced(name: str, text: str, data: st.DataObject) -> None:
    prefix = prefix_of(data, text)
    spans = spans_in(data, prefix)
    done = not spans and data.draw(st.booleans(), label="done")
    assert faults(render(name, prefix, spans, done=done)) == []


@pytest.mark.parametrize("name", FREE)
@few_examples
@given(markdown_texts, st.data())
def test_fixed_html_does_not_change(name: str, text: str, data: st.DataObject) -> None:
    """While a text only grows, later frames do not change the fixed part of the HTML."""
    formatter = make_formatter(name)
    lengths = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6), label="lengths"))
    fixed, settled = "", 0
    for length in [*lengths, len(text)]:
        settled = start = data.draw(st.integers(min(settled, length), length), label="settled up to")
        spans = ((start, length),) if start < length else ()
        formatted = formatter.format(Frame(text[:length], spans, fixed=start))
        assert str(formatted.html).startswith(fixed)
        fixed = str(formatted.html)[: formatted.fixed]
    formatted = formatter.format(text_frame(text, done=True))
    assert str(formatted.html).startswith(fixed)
    assert formatted.fixed == len(formatted.html)


@pytest.mark.parametrize("name", FREE)
@few_examples
@given(good_texts, st.data())
def test_unsettled_spans_change_only_the_marks(name: str, text: str, data: st.DataObject) -> None:
    """Without its marks, the HTML of an unsettled draft equals that of a settled one.

    Links are excluded, because unsettled ones are text, and so are code, entities and escapes, which marks break.
    """
    text = re.sub(r"\[.*?\)|[\[\]`~&\\]", "", text)
    spans = spans_in(data, text)
    assert without_spans(render(name, text, spans, done=False)) == without_spans(render(name, text, done=False))


@pytest.mark.parametrize("name", FREE)
def test_every_step_of_a_diffusion_draft_is_safe(name: str) -> None:
    text = "A **lighthouse** is a [[Tower]] with a [[Lamp|bright lamp]].\n\n- <b>one</b>\n- two & three\n"
    formatter = make_formatter(name)
    for frame in denoising_frames(text, canvases=2, steps=5):
        assert faults(str(formatter.format(frame).html)) == []


# -- marks ----------------------------------------------------------------------------------------------------


def test_marks_become_spans_around_text_only() -> None:
    assert render_marks(insert_marks("a bc d", [(2, 4)])) == 'a <span class="unsettled">bc</span> d'
    assert render_marks(f"<p>a{OPEN}b</p><p>c{CLOSE}d</p>") == (
        '<p>a<span class="unsettled">b</span></p><p><span class="unsettled">c</span>d</p>'
    )
    assert render_marks(f'<a title="{OPEN}x{CLOSE}">y</a>') == '<a title="x">y</a>'
    assert render_marks(f"a{OPEN} {CLOSE}b") == "a b"


def test_marks_in_generated_text_are_removed() -> None:
    for name in FREE:
        assert "unsettled" not in render(name, f"a {OPEN}b{CLOSE} c", done=False)


def test_halves_of_surrogate_pairs_are_removed() -> None:
    for name in FREE:
        html = render(name, "a \ud83e **b** \udd80 c", done=False)
        assert html.encode() and "\ufffd" not in html


def test_spans_are_clipped() -> None:
    assert clip_spans([(0, 4), (6, 9)], 2, 8) == ((0, 2), (4, 6))
    assert clip_spans([(0, 4)], 4, 8) == ()


# -- unsettled text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "link"),
    [
        ("markdown", "Go [there](/wiki/Tower) now, or [[Sea]].", "[there](/wiki/Tower)"),
        ("markdown", "Go to [[Tower|there]] now, or [[Sea]].", "[[Tower|there]]"),
        ("html", '<p>Go <a title="x" href="/wiki/Tower">there</a> now, or [[Sea]].</p>', 'href="/wiki/Tower">there'),
        ("html", "<p>Go to [[Tower|there]] now, or [[Sea]].</p>", "[[Tower|there]]"),
    ],
)
def test_a_link_with_any_unsettled_character_is_not_a_link(name: str, text: str, link: str) -> None:
    start = text.index(link)
    for at in range(start, start + len(link)):
        html = render(name, text, ((at, at + 1),), done=False)
        assert "/wiki/Tower" not in html, html
        assert "there" in re.sub(r"<[^<>]*>", "", html)
        assert '<a href="/wiki/Sea"' in html, "the other one is settled"
    assert 'href="/wiki/Tower"' in render(name, text, (), done=False)


def test_unsettled_values_are_marked() -> None:
    formatter = make_formatter("typed", Facts)
    text = '{"kind":"A \\u00e9 & <tower>","founded":1204,"known_for":["salt","kind"]}'
    changing = [text.index("& <"), text.index("1204"), text.rindex("kind")]
    formatted = formatter.format(Frame(text, tuple((at, at + 3) for at in changing)))
    value = formatted.value
    assert value.kind == "A é & <tower>"
    assert value.founded == 1204
    assert value.known_for == ("salt", "kind")
    assert str(escape(value.kind)) == 'A é <span class="unsettled">&amp; &lt;</span>tower&gt;'
    assert str(escape(value.founded)) == '<span class="unsettled">1204</span>'
    assert str(escape(value.known_for[0])) == "salt"
    assert str(escape(value.known_for[1])) == '<span class="unsettled">kin</span>d'
    assert formatted.html.count('<span class="unsettled">') == 3
    assert "unsettled" not in formatter.format(text_frame(text, done=True)).html


def test_an_escaped_character_is_marked_as_a_whole() -> None:
    formatter = make_formatter("typed", Facts)
    text = '{"kind":"a\\ud83d\\ude00\\n\\"b"}'
    for at in range(len(text)):
        formatted = formatter.format(Frame(text, ((at, at + 1),)))
        assert formatted.value.kind == 'a😀\n"b'
        assert without_spans(str(formatted.html)) == str(formatter.format(Frame(text)).html)
    for end in range(len(text)):  # while it grows, too
        plain = formatter.format(Frame(text[:end])).value
        marked = formatter.format(Frame(text[:end], ((0, end),) if end else ())).value
        assert dict(marked) == dict(plain)
