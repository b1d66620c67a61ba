"""Examples from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from unwritten import Example
from unwritten.core.errors import BadPage
from unwritten.routing.prompts import read_examples

EXAMPLES = """\
=== A note on rain.
> It rains in May.
> It is wet.
It rains in May.

Again.

=== A note on snow.
White.
"""


def test_a_file_has_prompts_facts_and_answers(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text(EXAMPLES)
    assert read_examples(str(tmp_path / "note.txt")) == (
        Example("A note on rain.", "It rains in May.\n\nAgain.", ("It rains in May.", "It is wet.")),
        Example("A note on snow.", "White."),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("=== A note.\n\n=== Another.\nText.", "'A note.' without an answer"),
        ("Text without a prompt.", "must begin with"),
        ("", "must begin with"),
    ],
)
def test_an_invalid_file_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "file.txt"
    file.write_text(text)
    with pytest.raises(BadPage, match=problem):
        read_examples(file)


def test_the_error_for_a_missing_file_suggests_another(tmp_path: Path) -> None:
    (tmp_path / "lead.txt").write_text(EXAMPLES)
    with pytest.raises(BadPage, match=r"There is no file of examples .*leed\.txt\. .*lead\.txt"):
        read_examples(tmp_path / "leed.txt")
    with pytest.raises(BadPage, match=r"no file of examples .*none/lead\.txt\.$"):
        read_examples(tmp_path / "none" / "lead.txt")
