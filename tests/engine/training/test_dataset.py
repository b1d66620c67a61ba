"""Files of training pages."""

from pathlib import Path

import pytest

from unwritten_engine import EngineError, Example, Prompt
from unwritten_engine.training.dataset import HELD_OUT, TrainingPage, is_held_out, read_pages, write_pages

FULL = TrainingPage(
    prompt=Prompt(
        "An article about Tea.",
        system="A calm book.",
        examples=(Example("An article about Rain.", "**Rain** falls.", ("It is wet.",)), Example("Salt?", "White.")),
        facts=("Tea is hot.", "東京"),
        opening="**Tea**",
    ),
    text="**Tea** is “hot”.\nVery.",
    title="Tea",
    kind="article",
    source="a book",
)


def test_pages_are_read_as_written(tmp_path: Path) -> None:
    bare = TrainingPage(Prompt("Say."), "Said.")
    assert write_pages(tmp_path / "pages.jsonl", [FULL, bare]) == 2
    assert list(read_pages(tmp_path / "pages.jsonl")) == [FULL, bare]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: expected an object with title, kind"),
        ('{"prompt": {"ask": "A"}}', "'text' is missing or empty"),
        ('{"prompt": {}, "text": "B"}', "'prompt' is missing or empty"),
        ('{"prompt": {"ask": 1}, "text": "B"}', "prompt: 'ask' should be a str, not int"),
        ('{"promt": {"ask": "A"}, "text": "B"}', "'promt' is unknown. Known: title"),
        ('{"prompt": {"ask": "A", "opening": "C"}, "text": "B"}', "should begin with the opening, 'C'"),
        ('{"prompt": {"ask": "A", "facts": [1]}, "text": "B"}', "'facts' must be a list of strings"),
        ('{"prompt": {"ask": "A", "examples": [{"ask": "A"}]}, "text": "B"}', "example 1: 'answer' is missing"),
    ],
)
def test_an_invalid_line_is_reported(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "pages.jsonl"
    file.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(EngineError, match=message.replace("(", r"\(")):
        list(read_pages(file))


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be read \(No such file"):
        list(read_pages(tmp_path / "none.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9"}')
    with pytest.raises(EngineError, match="is not UTF-8"):
        list(read_pages(tmp_path / "latin.jsonl"))


def test_titles_are_held_out_by_their_words() -> None:
    titles = [f"Title {number}" for number in range(20_000)]
    held = [title for title in titles if is_held_out(title)]
    assert abs(len(held) / len(titles) - HELD_OUT) < 0.005
    assert all(is_held_out(f"  {title.upper().replace(' ', '_')}! ".replace("_", "-")) for title in held)
    assert not is_held_out("") and not is_held_out("?!")
