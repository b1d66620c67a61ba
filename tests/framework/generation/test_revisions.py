"""Revisions: from an instruction and an old text to requests, and from their frames to the new text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.apps import browser, follow, make_app, text_frame, write
from tests.support.hostile import few_examples

from unwritten import Canvas
from unwritten.core.errors import BadEdit, PageFailed
from unwritten.generation.revisions import (
    EDIT_KINDS,
    Revision,
    RevisionTask,
    classify_edit,
    editable_spans,
    plan_revision,
    plan_rewrite,
    split_sentences,
)
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Abilities, Frame, Prompt, open_engine

EDITS = Abilities(instruct=True, edits=True)
PLAIN = Abilities(instruct=True)
BASE = Abilities()

OLD = "**Tea** is a drink. It is hot!\n\n## History\n\nIt came by sea.\n\n- one cup.\n- two cups."


def cut(text: str, spans: Any) -> list[str]:
    return [text[a:b] for a, b in spans]


def test_a_text_is_split_into_sentences_headings_and_items() -> None:
    assert cut(OLD, split_sentences(OLD)) == [
        "**Tea** is a drink.",
        "It is hot!",
        "## History",
        "It came by sea.",
        "- one cup.",
        "- two cups.",
    ]
    assert cut("No end", split_sentences("No end")) == ["No end"]
    assert split_sentences(" \n ") == []
    long = "A line. With two.\n" * 50
    assert cut(long, split_sentences(long)) == ["A line. With two."] * 50


@few_examples
@given(st.text(alphabet="ab. \n-#!", max_size=80), st.sets(st.integers(0, 8)))
def test_editable_and_kept_spans_cover_the_whole_text(text: str, keep: set[int]) -> None:
    sentences = split_sentences(text)
    kept = [number for number in sorted(keep) if number < len(sentences)]
    try:
        editable = editable_spans(text, kept)
    except BadEdit:
        return
    for number in kept:
        assert all(b <= sentences[number][0] or a >= sentences[number][1] for a, b in editable)
    assert all(text[a:b] == text[a:b].strip() for a, b in editable)
    left = "".join(
        c for n, c in enumerate(text) if not any(a <= n < b for a, b in [*editable, *(sentences[k] for k in kept)])
    )
    assert not any(c.isalnum() for c in left)


def test_only_a_part_of_the_text_may_change() -> None:
    assert cut(OLD, editable_spans(OLD, [], "It is hot! ## History")) == ["It is hot!\n\n## History"]
    assert cut(OLD, editable_spans(OLD, [2], "It is hot! ## History")) == ["It is hot!"]
    assert cut(OLD, editable_spans(OLD, [0, 3])) == ["It is hot!\n\n## History", "- one cup.\n- two cups."]
    with pytest.raises(BadEdit, match="is not in the text"):
        editable_spans(OLD, [], "cold")
    with pytest.raises(BadEdit, match="more than once"):
        editable_spans(OLD, [], "It")
    with pytest.raises(BadEdit, match="no sentence 10"):
        editable_spans(OLD, [9])
    with pytest.raises(BadEdit, match="The whole text is marked to be kept"):
        editable_spans(OLD, range(6))


@pytest.mark.parametrize(
    ("instruction", "strength"),
    [
        ("fix the spelling", 0.35),
        ("Make it shorter.", 0.85),
        ("make it funnier", 0.65),
        ("rewrite it completely", 1.0),
        ("it should be about cats", 0.75),
        ("", 0.75),
    ],
)
def test_the_strength_depends_on_the_kind_of_the_instruction(instruction: str, strength: float) -> None:
    assert classify_edit(instruction).strength == strength
    assert len(EDIT_KINDS) == 4


def test_an_engine_that_edits_gets_the_old_text_with_pins() -> None:
    revision = plan_revision(
        OLD, "call it coffee", Prompt("Tea."), abilities=EDITS, prose=True, editable=editable_spans(OLD, [0, 3])
    )
    draft = revision.task.draft
    assert draft is not None and draft.text == OLD
    assert cut(OLD, draft.keep) == ["**Tea** is a drink.", "It came by sea."]
    assert revision.task.prompt.opening == ""
    # Pinned text cannot move. A span that becomes shorter is generated alone, so that what follows it can move up.
    revision = plan_revision(
        OLD, "make it shorter", Prompt("Tea."), abilities=EDITS, prose=True, editable=editable_spans(OLD, [0])
    )
    draft = revision.task.draft
    assert draft is not None and draft.keep == () and draft.text.startswith("It is hot!")


def test_a_base_model_continues_the_first_words_and_gets_no_context() -> None:
    editable = editable_spans(OLD, [1])
    small = plan_revision(OLD, "shorter", Prompt("Tea."), abilities=BASE, prose=True, editable=editable).task.prompt
    large = plan_revision(OLD, "shorter", Prompt("Tea."), abilities=PLAIN, prose=True, editable=editable).task.prompt
    assert small.opening == "" and small.facts == ()  # three words are most of this span
    assert large.opening == "" and large.facts == (f"It is a part of this text: {OLD}",)
    assert (
        plan_revision(OLD, "shorter", Prompt("Tea."), abilities=BASE, prose=True).task.prompt.opening == "**Tea** is a"
    )
    assert plan_revision('{"a":1}', "shorter", Prompt("Tea."), abilities=BASE, prose=False).task.prompt.opening == ""


def test_too_many_separate_parts_are_an_error() -> None:
    text = " ".join(f"Sentence {n}." for n in range(20))
    with pytest.raises(BadEdit, match="has 10 separate parts, and up to 8"):
        plan_revision(
            text, "shorter", Prompt("A"), abilities=PLAIN, prose=True, editable=editable_spans(text, range(0, 20, 2))
        )


def test_frames_of_spans_are_merged_into_frames_of_the_whole_text() -> None:
    old = "One. Two. Three. Four."
    spans = editable_spans(old, [0, 2])
    revision = Revision(old, [RevisionTask(span, Prompt("A")) for span in spans], prose=True, kept=["One.", "Three."])
    assert revision.initial_frame() == Frame(old, ((5, 9), (17, 22)))
    frame = revision.merge(text_frame("\n New\nwo", [(6, 8)], 5))
    assert frame.text == "One. New wo Three. Four."
    assert cut(frame.text, frame.unsettled) == ["wo", "Four."]
    assert frame.text[: frame.fixed] == "One. New"
    frame = revision.merge(text_frame("New two.\n", done=True))
    assert frame.usage is None and frame.text == "One. New two. Three. Four." and revision.num_done == 1
    frame = revision.merge(text_frame("Five.", done=True))
    assert frame.text == "One. New two. Three. Five." and frame.usage is not None
    assert frame.usage.tokens == 2 and frame.usage.seconds == 0.2


def test_a_revision_fails_if_kept_text_is_lost_or_nothing_is_written() -> None:
    lost = Revision("Keep. This.", [RevisionTask((0, 11), Prompt("A"))], kept=["Keep."])
    with pytest.raises(PageFailed, match=r"changed 'Keep\.', which must be kept"):
        lost.merge(text_frame("Kept. That.", done=True))
    with pytest.raises(PageFailed, match="wrote nothing"):
        plan_rewrite("Old.", Prompt("A", opening="**Tea**"), prose=True).merge(text_frame("**Tea** ", done=True))


def test_a_rewrite_uses_the_prompt_unchanged() -> None:
    prompt = build_prompt(world="W", canvas=Canvas("An article."), subject="Tea")
    revision = plan_rewrite("", prompt, prose=True)
    assert revision.task.prompt is prompt and revision.task.tokens is None and revision.initial_frame().unsettled == ()
    assert revision.merge(text_frame("A text", [(2, 6)])) == text_frame("A text", [(2, 6)])


def test_a_diffusion_model_keeps_pinned_sentences(tmp_path: Path) -> None:
    """The random model writes noise. Pinned sentences stay the same, and the others change."""
    engine = open_engine("diffusion", model="random", threads=1)
    app = make_app(tmp_path, engine)

    @app.page("/")
    def front() -> Canvas:
        return Canvas("A page.", tokens=120, seed=1, options={"steps": 4})

    old = "A lighthouse has a lamp. It stands by the sea. Its keeper reads the newspaper."
    with browser(app) as client:
        write(client, "/")
        data = {"page": "/", "region": "body", "base": "1"}
        client.post("/_unwritten/edit", data={**data, "means": "by hand", "text": old})
        data["base"] = "2"
        answer = client.post(
            "/_unwritten/edit", data={**data, "means": "asked", "ask": "by a lake", "keep": ["0", "2"]}
        )
        assert answer.status_code == 303, answer.text
        heard = follow(client, "/")
        assert heard[-1]["state"] == "written", heard[-1]["message"]
        new = app.store.get("/").canvases["body"].text  # type: ignore[union-attr]
        assert new.startswith("A lighthouse has a lamp.") and new.endswith("Its keeper reads the newspaper.")
        assert "It stands by the sea." not in new
        assert app.store.history("/")[0].change.kind == "asked"
    asyncio.run(engine.close())


@given(text=st.text(alphabet="ab \n\t\u2028", max_size=40), data=st.data())
@few_examples
def test_a_part_is_found_whatever_its_white_space(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    part = text[start : data.draw(st.integers(start, len(text)))].strip()
    if not part or " ".join(text.split()).count(" ".join(part.split())) != 1:
        return
    ((found, end),) = editable_spans(text, [], part.replace(" ", "  "))
    assert text[found:end].split() == part.split()
