"""Examples from files: what is read, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from unwritten import Example
from unwritten.core.errors import BadPage
from unwritten.routing.prompts import read_examples

SHEET = """\
=== A note on rain.
> It rains in May.
> It is wet.
It rains in May.

Again.

=== A note on snow.
White.
"""


def test_asks_answers_and_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text(SHEET)
    assert read_examples(str(tmp_path / "note.txt")) == (
        Example("A note on rain.", "It rains in May.\n\nAgain.", ("It rains in May.", "It is wet.")),
        Example("A note on snow.", "White."),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("=== A note.\n\n=== Another.\nText.", "'A note.' without an answer"),
        ("Text without an ask.", "must begin with"),
        ("", "must begin with"),
    ],
)
def test_what_is_no_sheet_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    sheet = tmp_path / "sheet.txt"
    sheet.write_text(text)
    with pytest.raises(BadPage, match=problem):
        read_examples(sheet)


def test_a_missing_file_is_named_with_one_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "lead.txt").write_text(SHEET)
    with pytest.raises(BadPage, match=r"There is no file of examples .*leed\.txt\. .*lead\.txt"):
        read_examples(tmp_path / "leed.txt")
    with pytest.raises(BadPage, match=r"no file of examples .*none/lead\.txt\.$"):
        read_examples(tmp_path / "none" / "lead.txt")
