"""Wrappers around a whole answer are removed, also while it grows. Pages with code blocks stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.apps import text_frame
from tests.support.hostile import few_examples, markdown_texts, spans_in

from unwritten.formats.wrappers import unwrap
from unwritten_engine import Frame

ARTICLE = (
    "# Tea\n\nTea is a **drink** made of [[leaves]]. People like it hot.\n\n- green\n- black\n\nIt grows on hills."
)
TUTORIAL = (
    "# Tea in Python\n\nFirst:\n\n```python\nprint(1)\n```\n\nThen run it:\n\n```\npython tea.py\n```\n\n"
    "The output is one line, and the tea is hot. Repeat it as often as you like."
)
HTML = "<h2>Tea</h2>\n<p>A drink made of leaves, which people like hot.</p>"
DRAWING = '<svg viewBox="0 0 9 9">\n<circle r="3"/>\n</svg>'

PREFACES = [
    "",
    "Sure! Here is the article:\n\n",
    "Of course.\n\n",
    "Here's the text you asked for:\n",
    "Natürlich! Hier ist der Artikel:\n\n",
    "Voici l'article demandé :\n\n",
    "Ось стаття про чай:\n\n",
    "好的，以下是文章：\n\n",
    "もちろんです。記事はこちらです：\n\n",
    "بالتأكيد! إليك المقال:\n\n",
]
POSTSCRIPTS = ["", "\n\nI hope this helps!", "\nLet me know if you want changes.", "\n\n希望对您有帮助！"]
WRAPPED = [
    ("markdown", "markdown", ARTICLE),
    ("markdown", "md", TUTORIAL),
    ("markdown", "", ARTICLE),
    ("markdown", "text", "Tea is a drink made of leaves. People like it hot."),
    ("text", "", "Tea is hot."),
    ("text", "text", "Tea is hot.\n\nPeople like it."),
    ("text", "markdown", "Tea is hot."),
    ("markdown", "html", HTML),
    ("html", "html", HTML),
    ("html", "", HTML),
    ("html", "xml", HTML),
    ("svg", "svg", DRAWING),
    ("svg", "xml", DRAWING),
    ("app", "html", "<!doctype html>\n<title>Tea</title>\n<p>x</p>\n</html>"),
    ("typed", "json", '{"kind":"tea"}'),
    ("poem", "", "White salt,\ngrey sea."),
]


def finished(text: str, format: str = "markdown") -> str:
    return unwrap(text_frame(text, done=True), format).text.strip()


@pytest.mark.parametrize("mark", ["```", "~~~", "````"])
@pytest.mark.parametrize(("format", "info", "answer"), WRAPPED)
@pytest.mark.parametrize("preface", PREFACES)
def test_a_wrapped_answer_is_unwrapped(preface: str, format: str, info: str, answer: str, mark: str) -> None:
    for postscript in POSTSCRIPTS:
        polite = preface.startswith(("Sure", "Of", "Nat", "好", "も", "بالت"))
        if len(answer) < 2 * len(preface + postscript) and format in {"markdown", "text", "poem"} and not polite:
            continue  # as long as the answer, this could be a page that explains a block
        assert finished(f"{preface}{mark}{info}\n{answer}\n{mark}{postscript}", format) == answer
    assert finished(f"{preface}{mark}{info}\n{answer * 3}", format) == answer * 3, "without an end"


ORDINARY = [
    ARTICLE,
    TUTORIAL,
    "Tea is hot.",
    "Here is a list:\n\n- green\n- black",
    "Sure! Here is the article:\n\n# Tea\n\nHot.",
    "To list files, run this command:\n\n```bash\nls\n```",
    "```python\nprint(1)\n```",
    "Here is the program:\n\n```python\nprint(1)\n```\n\nI hope this helps!",
    "Write a heading like this:\n\n```markdown\n# Title\n```\n\nIt is shown larger than the text around it.",
    "```markdown\n# Title\n```\n\nThis is how a heading is written.\n\nThere are six levels.",
    "The board:\n\n```\nX O X\nO X O\n```",
    "```text\n  /\\_/\\\n ( o.o )\n```",
    "```\nnpm install tea\n```",
    "The tree grows by a rule.\n\n```text\nThe first line. The second.\n```",
    "# Tea\n\n```markdown\n" + ARTICLE + "\n```",
    "One paragraph.\n\nAnother.\n\n```markdown\n" + ARTICLE + "\n```",
    "Compare these:\n\n```markdown\n# A\n```\n\nand\n\n```markdown\n## B\n```\n\nThey differ.",
    "`code` and ``more``",
    "",
    "```",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_page_stays_as_it_is(text: str) -> None:
    assert unwrap(text_frame(text, done=True), "markdown").text == text


def frames_of(text: str, format: str = "markdown") -> list[Frame]:
    return [unwrap(Frame(text[:end], fixed=end), format) for end in range(1, len(text) + 1)]


@pytest.mark.parametrize("preface", PREFACES)
@pytest.mark.parametrize("postscript", POSTSCRIPTS)
def test_a_wrapper_is_never_shown(preface: str, postscript: str) -> None:
    for answer in (ARTICLE * 2, TUTORIAL):
        shown = ""
        for frame in frames_of(f"{preface}```markdown\n{answer}\n```{postscript}"):
            assert frame.text.rstrip("\n").startswith(shown), "words vanished"
            assert answer.startswith(frame.text.rstrip("\n")), "the wrapper was shown"
            shown = frame.text.rstrip("\n")


@pytest.mark.parametrize(
    "text", [ARTICLE, TUTORIAL, "Tea is hot.", "Greatness is rare. Here is why.", "Great auks dive."]
)
def test_ordinary_text_is_shown_at_once(text: str) -> None:
    for end, frame in enumerate(frames_of(text), 1):
        assert len(frame.text) >= end - 8, "text is held back"


@pytest.mark.parametrize("text", ORDINARY)
def test_what_an_ordinary_page_has_shown_never_disappears(text: str) -> None:
    shown = ""
    for frame in frames_of(text):
        assert frame.text.startswith(shown)
        shown = frame.text.rstrip()


def test_a_courtesy_without_a_fence_is_shown_in_the_end() -> None:
    text = "Sure! Here is the article:\n\nTea is hot."
    shown = [frame.text for frame in frames_of(text)]
    assert set(shown[:26]) == {""} and shown[-1] == text


@few_examples
@given(st.sampled_from(PREFACES), st.sampled_from(["```markdown\n", "```\n", "```python\n", ""]), markdown_texts)
def test_what_is_fixed_is_never_taken_back(preface: str, opening: str, text: str) -> None:
    whole = preface + opening + text + "\n```\n\nThe end."
    final = unwrap(text_frame(whole, done=True), "markdown").text
    for frame in frames_of(whole):
        assert final.startswith(frame.text[: frame.fixed].rstrip())


@few_examples
@given(st.data(), markdown_texts)
def test_spans_keep_their_words(data: st.DataObject, answer: str) -> None:
    text = f"Sure! Here it is:\n\n```html\n{answer}x"
    spans = spans_in(data, text)
    frame = unwrap(Frame(text, spans), "html")
    assert "".join(frame.text[a:b] for a, b in frame.unsettled) in "".join(text[a:b] for a, b in spans)
    assert all(0 <= a < b <= len(frame.text) for a, b in frame.unsettled)
