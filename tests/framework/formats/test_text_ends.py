"""Finished texts without an incomplete end."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unwritten.formats.text_ends import finalize_html, finalize_text, settled_text


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("It rains. It snows in the", "It rains."),
        ("It rains.\n\n## Snow\n\nIt is col", "It rains."),
        ("", ""),
        # Too little would be left: a clause or a word, and an ellipsis.
        ("Ok. A very long sentence that was cut bef", "Ok. A very long sentence that was cut…"),
        ("The harbour takes whatever the tide mig", "The harbour takes whatever the tide…"),
        ("The boats return at noon when the wind drops, and whatever", "The boats return at noon when the wind drops…"),
        ("Lighthouse", "Lighthouse…"),
        ("It is **very blue and we", "It is **very blue and…**"),
        ("A boat called “", "A boat called…"),
        ("See the [[harbour mu", "See the harbour…"),
        ("See the [[harbour, " + "the mill " * 30, f"See the harbour, {'the mill ' * 29}the mill…"),
        ("See [the harbour](http://x.y/wh", "See the harbour…"),
        ("The mill of [[Salt Traders, Ltd", "The mill of Salt Traders…"),
        ("The mill of [[Salt Traders]]", "The mill of [[Salt Traders]]…"),
        ("The mill of [the salt traders](/salt)", "The mill of [the salt traders](/salt)…"),
        ("The mill of `the salt`", "The mill of `the salt`…"),
        # Not the ends of sentences.
        ("The mill was sold to Mr. Brown, Dr. Sm", "The mill was sold to Mr. Brown…"),
        ("The mill of E. A. Poe and the U.S. Navy, e.g. the sec", "The mill of E. A. Poe and the U.S. Navy…"),
        ("Water, milk and vol. 3. It weighs 3.5 kg or mo", "Water, milk and vol. 3. It weighs 3.5 kg or…"),
        ("It is worth about 3.", "It is worth about…"),
        ("Der Vertrag wurde am 3. Mai unterzeich", "Der Vertrag wurde am 3. Mai…"),
        (
            "Visit example.com/a?b and `x. Y` or [[St. Ives. B]] fo",
            "Visit example.com/a?b and `x. Y` or [[St. Ives. B]]…",
        ),
        ("“Stop!” he said and “Why?” she asked wh", "“Stop!” he said and “Why?” she asked…"),
        # Open marks.
        ('He said "It rains. It sn', 'He said "It rains."'),
        ("Er sagte: „Es regnet. Es schn", "Er sagte: „Es regnet.“"),
        ("A boat (built in 1890. It was re", "A boat (built in 1890.)"),
        ("It is **very blue. And we", "It is **very blue.**"),
        ("He smiled :( and went. Then he c", "He smiled :( and went."),
        # Lists, tables, code and verse.
        ("- red\n- green\n- bl", "- red\n- green"),
        ("1. Take the egg\n2. Boil the wat", "1. Take the egg"),
        ("It has three parts:\n\n- th", "It has three parts…"),
        ("| A | B |\n|---|---|\n| 1 | 2 |\n| 3 | ", "| A | B |\n|---|---|\n| 1 | 2 |"),
        ("| A | B |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |", "| A | B |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"),
        ("It rains.\n\n| A. B | C |\n|---|---|\n| 1", "It rains."),
        ("It rains here.\n\n**History**\n\nThe fi", "It rains here."),
        ("It runs:\n\n```\nx = 1\ny = 2. Z\nz", "It runs:\n\n```\nx = 1\ny = 2. Z\n```"),
        ("It runs well.\n\n```\nx = 1. Y", "It runs well."),
        ("It runs:\n\n```\nx = 1\n\ny = 2\n```", "It runs:\n\n```\nx = 1\n\ny = 2\n```"),
        ("```\nx = 1\n```\nIt (is. It w", "```\nx = 1\n```\nIt (is.)"),
        ("Roses are red,\nviolets are bl", "Roses are red…"),
        # Other scripts.
        ("雨が降る。雪が", "雨が降る。"),
        ("“雨。”雪が", "“雨。”"),
        ("雨が降る、雪も降る、風が", "雨が降る、雪も降る…"),
        ("هل تمطر؟ نعم إنها", "هل تمطر؟"),
        ("یہ بارش ہے۔ یہ", "یہ بارش ہے۔"),
        ("यह बारिश है। यह", "यह बारिश है।"),
        ("ฝนตกหนักมาก ที่กรุงเทพ และเชียงให", "ฝนตกหนักมาก ที่กรุงเทพ…"),
        ("ዝናብ ነው። በረ", "ዝናብ ነው።"),
        ("Անձրև է։ Ձյո", "Անձրև է։"),
        ("Անձրև է: Ձյո", "Անձրև է:"),
        ("Βρέχει; Ναι", "Βρέχει;"),
    ],
)
def test_a_cut_text_ends_well(text: str, finished: str) -> None:
    assert finalize_text(text, "length") == finished


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        ("It rains. It sn", "It rains. It sn"),
        ("It rains.\n\n## Snow", "It rains."),
        ("It rains.\n\n- ", "It rains."),
        ("It rains.\n\n---\n", "It rains."),
        ("A walk.\n\n#rain #sun", "A walk.\n\n#rain #sun"),
    ],
)
def test_a_text_that_the_model_has_ended_only_loses_empty_headings(text: str, finished: str) -> None:
    assert finalize_text(text, "end") == finalize_text(text, "stop") == finished


@pytest.mark.parametrize(
    ("html", "finished"),
    [
        ("<p>It rains. It sn", "<p>It rains."),
        ("<p>It rains all the wa", "<p>It rains all the…"),
        ("<p>It rains.</p><p class='a", "<p>It rains.</p>"),
        ("<p>One.</p><h2>Snow</h2><p>", "<p>One.</p>"),
        ("<ul><li>red</li><li>gre", "<ul><li>red</li>"),
        ("<ul><li>red<li>gre", "<ul><li>red"),
        ("<table><tr><td>1. X</td></tr><tr><td>2. Y", "<table><tr><td>1. X</td></tr>"),
        ("<p>See <a href='x'>the. Se", "<p>See…"),
    ],
)
def test_cut_html_ends_with_a_block_or_a_sentence(html: str, finished: str) -> None:
    assert finalize_html(html, "length") == finished
    assert finalize_html(html, "end") == html


FRAGMENTS = [
    *(
        "It rains. ",
        "Mr. ",
        "e.g. ",
        "## Head\n\n",
        "\n\n",
        "\n",
        "- item",
        "1. ",
        "| a | b |\n",
        "|---|---|\n",
        "```\n",
    ),
    *(
        "`",
        "**",
        "[[",
        "]]",
        "](x",
        '"',
        "“",
        "”",
        "(",
        ")",
        "雨。",
        "が降る",
        "ฝน ตก ",
        "; ",
        "…",
        "?! ",
        "3.5",
        "a",
        "B",
    ),
    *(" ", "*", "_", "> ", "#", "<p>", "<tr>"),
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join), st.integers(0, 80))
def test_settled_text_is_never_removed(whole: str, length: int) -> None:
    text = whole[:length]
    sure = text[: settled_text(text)].rstrip()
    for reason in ("length", "end"):
        end = finalize_text(whole, reason)
        assert end.startswith(sure) or not end.strip()


@pytest.mark.parametrize(
    "fragment", [*FRAGMENTS, "a. ", "((", "x, ", "[[a", "[a](", "`a", "|", "<a", "<!--", "- a\n", "**a"]
)
def test_hostile_texts_take_linear_time(fragment: str) -> None:
    text = (fragment * 40_000)[:40_000]
    start = time.thread_time()
    finalize_text(text, "length")
    settled_text(text)
    finalize_html(text, "length")
    assert time.thread_time() - start < 2  # a quadratic rule takes ten seconds
