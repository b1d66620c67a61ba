"""Forms: what the examples look like becomes a grammar, and nothing that it allows is malformed."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from tests.benchmarks.quality import broken_markup
from tests.support.gbnf import Grammar

from unwritten.core.assets import asset_dir
from unwritten.formats.gists import example_without_gists
from unwritten.routing.prompts import read_examples
from unwritten_engine.example_grammar import grammar_from_examples

SHEETS = [
    *sorted((asset_dir("templates") / "prompts").glob("*.txt")),
    *sorted(asset_dir("demos").glob("*/examples/**/*.txt")),
]


def allows(grammar: str, text: str) -> bool:
    """Whether a grammar without recursion, written as one regular expression, fits the text."""
    rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines())
    token = re.compile(r'("(?:\\.|[^"\\])*")|(\[(?:\\.|[^\]\\])*\])|([a-z]+)|(\{[^}]*\}|[()|?*+])|\s+')

    def expand(body: str) -> str:
        parts = []
        for match in token.finditer(body):
            if match[1]:
                literal = match[1][1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
                parts.append(f"(?:{re.escape(literal)})")
            elif match[2]:
                parts.append(match[2])
            elif match[3]:
                parts.append(f"(?:{expand(rules[match[3]])})")
            elif match[4]:
                parts.append("(?:" if match[4] == "(" else match[4])
        return "".join(parts)

    return re.fullmatch(expand(rules["root"]), text) is not None


LEADS = [
    "**Salt** is a white mineral that comes from the [[sea]]. It keeps food fresh.",
    "**Wool** is the hair of a patient animal. People in the north wear it all [[winter]].",
]


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_whatever_the_grammar_allows_is_complete_and_well_formed(sheet: object) -> None:
    answers = [example.answer for example in read_examples(str(sheet))]
    grammar = grammar_from_examples(answers, "", "\n\n=====")
    if grammar is None:
        prose = Path(str(sheet)).stem not in {"html", "svg", "app"} and not all(
            text.startswith("{") for text in answers
        )
        assert not prose, "only what is no prose has no form"
        return
    rng = random.Random(7)
    for _ in range(8):
        text = Grammar(grammar).sample(rng)
        assert text.endswith("\n\n=====")
        assert broken_markup(re.sub(r"\[\[[^\]|]*\]\]", "[[a link]]", text.removesuffix("\n\n====="))) == 0, text


@pytest.mark.parametrize("sheet", ["note", "letter", "story", "article"])
def test_every_example_matches_its_grammar(sheet: str) -> None:
    examples = read_examples(asset_dir("templates") / "prompts" / f"{sheet}.txt")
    answers = [example_without_gists(example).answer for example in examples]
    opened = "**X**" if sheet == "article" else ""
    grammar = grammar_from_examples(answers, opened, "\n")
    assert grammar is not None
    for answer in answers:
        rest = answer.partition("**")[2].partition("**")[2] if opened else answer
        assert allows(grammar, rest + "\n"), rest


def test_a_text_must_have_as_many_sentences_as_the_examples() -> None:
    grammar = grammar_from_examples(LEADS, "**Rain**", "\n")
    assert grammar is not None
    assert allows(grammar, " is the water that falls from the [[sky]]. It makes people late for work.\n")
    assert not allows(grammar, " is the water that falls from the [[sky]].\n")
    assert not allows(
        grammar, " is the water that falls from the [[sky]]. It makes people late for work. It ends in the end.\n"
    )


@pytest.mark.parametrize(
    "rest",
    [
        " is the water that falls from the [[sky. It makes people late for work.\n",
        " is the water that falls from [[the [[sky]]]]. It makes people late for work.\n",
        " is the water that falls from the sky [1]. It makes people late for work.\n",
        " is the water that falls from the [[sky]]. It makes people late for work\n",
        " is the water that falls from the sky.It makes people late.It does so for work.\n",
        " is the water that falls from http://sky. It makes people late for work.\n",
        " is the [[rain]] and [[rain]] and [[rain]] and [[rain]]. It makes people late for work.\n",
        " is the water ``` that falls. It makes people late for work.\n",
        " is the water that falls from the [[a-z]]. It makes people late for work.\n",
        " is the water that falls from the [[1984]]. It makes people late for work.\n",
    ],
)
def test_common_defects_are_not_allowed(rest: str) -> None:
    grammar = grammar_from_examples(LEADS, "**Rain**", "\n")
    assert grammar is not None
    assert not allows(grammar, rest)


def test_numbers_and_initials_keep_their_periods() -> None:
    grammar = grammar_from_examples(LEADS, "**Rain**", "\n")
    assert grammar is not None
    assert allows(grammar, " is 3.5 metres of water that fell on 1,200 people. It began in 40 B.C. and was late.\n")


def test_scripts_are_allowed_where_the_subject_has_them() -> None:
    rest = " is the old name of 京都 in the [[west]]. People in the north call it home.\n"
    plain, japanese = (
        grammar_from_examples(LEADS, "**Kyoto**", "\n"),
        grammar_from_examples(LEADS, "**京都**", "\n", "About 京都."),
    )
    assert plain is not None and japanese is not None
    assert not allows(plain, rest)
    assert allows(japanese, rest)
    assert not allows(japanese, rest.replace("old", "ol\u200bd"))


def test_a_started_heading_is_continued() -> None:
    answers = ["## Use\n\nPeople eat it with bread.", "## Kinds\n\nThere are two kinds of it."]
    for opening, rest in [("", "## Past\n\nIt was eaten with bread."), ("## ", "Past\n\nIt was eaten with bread.")]:
        grammar = grammar_from_examples(answers, opening, "\n\n=====")
        assert grammar is not None
        assert allows(grammar, rest + "\n\n=====")


def test_an_opening_may_reach_into_the_second_block() -> None:
    answers = ["## Use\n\nPeople eat it with bread.", "## Kinds\n\nThere are two kinds of it."]
    grammar = grammar_from_examples(answers, "## History\n\nThe history of Salt begins", "\n\n=====")
    assert grammar is not None
    assert allows(grammar, " with a walk by the sea.\n\n=====")
    assert not allows(grammar, "\n\n## Kinds\n\nThere are two kinds of it.\n\n=====")


def test_examples_of_different_forms_give_a_loose_grammar() -> None:
    grammar = grammar_from_examples(["It is a white mineral.", "- salt from the sea\n- bread"], "", "\n\n=====")
    assert grammar is not None
    assert allows(grammar, "It is a white mineral.\n\n- salt\n- bread\n\n=====")


@pytest.mark.parametrize(
    "answers", [[], ['{"kind":"Rock"}'], ["<p>Salt.</p>"], ["| a | b |\n|---|---|"], ["```\nx\n```"]]
)
def test_text_that_is_not_prose_has_no_grammar(answers: list[str]) -> None:
    assert grammar_from_examples(answers, "", "\n") is None


@pytest.mark.parametrize("answer", ["", " \n\n ", "One line.\n\n" * 2000], ids=["empty", "blank", "very long"])
def test_answers_without_a_form_give_no_grammar(answer: str) -> None:
    """A visitor's edit becomes an example of the next revision, whatever is in it."""
    assert grammar_from_examples(["A lamp is lit.", answer], "", "\n") is None
