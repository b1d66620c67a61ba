"""Files of prompts: what an app asks a model for, written down."""

from pathlib import Path

import pytest

from research.data.page_prompts import PagePrompt, read_prompts, write_prompts
from unwritten_engine import EngineError, Example, Prompt

FULL = PagePrompt(
    prompt=Prompt(
        "Quick facts about Tea.",
        system="A calm book.",
        examples=(Example("Quick facts about Salt.", '{"kind":"mineral"}', ("It is white.",)),),
        facts=("Tea is hot.",),
        opening="{",
    ),
    title="Tea",
    kind="wiki",
    source="the demo wiki",
    schema={"type": "object"},
    max_tokens=170,
)


def test_prompts_are_read_as_written(tmp_path: Path) -> None:
    assert write_prompts(tmp_path / "prompts.jsonl", [FULL, PagePrompt(Prompt("Say."))]) == 2
    assert list(read_prompts(tmp_path / "prompts.jsonl")) == [FULL, PagePrompt(Prompt("Say."))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: expected an object with title, kind"),
        ('{"title": "A"}', "'prompt' is missing or empty"),
        ('{"prompt": {"ask": "A"}, "text": "B"}', "'text' is unknown. Known: title"),
        ('{"prompt": {"ask": "A"}, "max_tokens": -1}', "'max_tokens' is -1. Give at least 1."),
        ('{"prompt": {"ask": "A"}, "max_tokens": true}', "'max_tokens' should be a int, not bool"),
        ('{"prompt": {"ask": "A"}, "schema": "B"}', "'schema' should be a dict, not str"),
        ('{"prompt": {"ask": "A", "facts": [1]}}', "'facts' must be a list of strings"),
    ],
)
def test_an_invalid_prompt_line_is_reported(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(EngineError, match=message):
        list(read_prompts(file))


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Give a file of prompts \(\.jsonl\)"):
        list(read_prompts(tmp_path / "none.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"title": "\xe9"}')
    with pytest.raises(EngineError, match="is not UTF-8"):
        list(read_prompts(tmp_path / "latin.jsonl"))
