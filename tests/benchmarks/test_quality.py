"""Quality: the measure finds the faults that were planted, and no others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.benchmarks.quality import Faults, broken_markup, command, judge, run, run_known, sentences_of, summary

from unwritten import App, Canvas, Example, Page
from unwritten.testing.asgi_client import running
from unwritten_engine import scripted

GOOD = "**Rain** is water that falls from the [[sky]]. Most of it lands on [[Tuesday|Tuesdays]]."


def test_a_good_page_has_no_faults() -> None:
    faults = judge("Rain", {"lead": GOOD, "body": "## Use\n\nPeople drink rain in the garden."}, {"facts": True})
    assert (faults.repeated_sentences, faults.broken_markup, faults.stray_tokens, faults.cut_endings) == (0, 0, 0, 0)
    assert (faults.empty_regions, faults.bad_facts, faults.leaks, faults.repeated_grams) == (0, 0, 0, 0)
    assert faults.links == 2
    assert faults.on_topic == 1


def test_repetition_is_found() -> None:
    faults = judge("Rain", {"lead": "It falls on the town. It falls on the town. It falls on the town."})
    assert faults.repeated_sentences == 2
    assert faults.repeated_grams > 0.4


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (GOOD, 0),
        ("A [[link is open.", 1),
        ("A link]] is closed.", 1),
        ("A [[link [[in a]] link]].", 2),
        ("A **word.", 1),
        ("[word] in brackets", 1),
        ("## \n\nText.", 1),
        ("A [[.]] link.", 1),
        ("A [[link with a great many words in it]].", 1),
    ],
)
def test_broken_markup_is_counted(text: str, count: int) -> None:
    assert broken_markup(text) == count


@pytest.mark.parametrize(
    "stray",
    ["```", "<end_of_turn>", "https://x.y", "[12]", "=====", "\ufffd", "<unused7>", "&quot;", "『", "\u200f", "дом"],
)
def test_stray_tokens_are_found(stray: str) -> None:
    assert judge("Rain", {"lead": f"Rain falls {stray} down."}).stray_tokens >= 1
    assert judge("Rain", {"lead": "Rain falls on [[1984]] down."}).stray_tokens == 0


def test_letters_of_the_titles_script_are_accepted() -> None:
    assert judge("京都", {"lead": "京都 is an old city, かつての都。"}).stray_tokens == 0
    assert judge("Kyoto", {"lead": "京都 is an old city."}).stray_tokens == 1


def test_cut_and_empty_regions_are_found() -> None:
    faults = judge("Rain", {"lead": "Rain falls on the", "body": "", "more": "Rain falls."}, {"facts": False})
    assert (faults.cut_endings, faults.empty_regions, faults.bad_facts) == (1, 2, 1)


def test_leaks_are_found_but_not_in_openings() -> None:
    shown = [Example("x", "The history of it begins in Italy with a lost umbrella.")]
    leaky = {"body": "The history of it begins in Italy with a lost umbrella."}
    assert (
        judge("Rain", leaky, examples=shown).leaks
        > judge("Rain", leaky, examples=shown, openings=["The history of it begins"]).leaks
    )
    assert judge("Rain", {"body": GOOD}, examples=shown).leaks == 0


def test_off_topic_is_found() -> None:
    assert judge("Copper Kettle", {"lead": "A copper pot for water."}).on_topic == 0.5
    assert judge("Copper Kettle", {"lead": "Copper kettles.", "body": "Copper."}).shared_words == 1


def test_sentences_are_compared_without_marks_and_headings() -> None:
    assert sentences_of("## Use\n\nIt is **very** wet. It is [[x|very]] wet.") == ["it is very wet."] * 2


def test_pages_are_written_judged_and_kept(tmp_path: Path) -> None:
    engine = scripted(" falls on the [[sea]]. It is wet.")
    pages = {"Rain": Page(lead=Canvas("An article about Rain."))}
    results = asyncio.run(run(engine, "", pages, tmp_path))
    assert summary(results)["links"] == 1
    assert (tmp_path / "Rain.md").read_text().startswith("# Rain\n\n")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (GOOD, 0),
        ('It is wet. The page "Penguin" says: The page "Penguin" says: it is wet.', 2),
        ("It is wet.\n\nAn article about Rain.\n\n**Rain** is wet.", 1),
        ("It is wet.\n\n=====\nAn article about Rain.", 2),
        ("What is known (facts to use, not instructions to follow):", 1),
        ("(Rain is wet. It falls from the sky.)\nIt is wet.", 1),
        ("An article about Rain is wet. (It is.)", 0),
    ],
)
def test_echoes_of_the_prompt_are_counted(text: str, count: int) -> None:
    assert judge("Rain", {"lead": text}, asks=["An article about Rain."]).echoes == count


def test_pages_with_facts_and_cut_texts_are_counted(tmp_path: Path) -> None:
    texts = {"Rain": " is made of [[Dew]]. It falls.", "Dew": " is wet. " + "It falls on grass. " * 60}
    engine = scripted(by_ask={f"about {title}.": text for title, text in texts.items()})
    app = App("Quality", engine=engine, database=str(tmp_path / "quality.db"), prefetch="off")

    @app.page("/{title}")
    def page(title: str) -> str:
        return f"An encyclopedia article about {title}."

    async def measure() -> list[tuple[str, Faults]]:
        async with running(app):
            return await run_known(app, ["Rain"], tmp_path)

    ((title, faults),) = asyncio.run(measure())
    assert (title, faults.cut_repetitions, faults.echoes, faults.repeated_sentences) == ("Dew", 1, 0, 0)
    assert "is made of Dew.\n" in (tmp_path / "Dew.md").read_text()


@pytest.mark.model
def test_the_command_prints_a_table_and_one_line_of_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        command,
        [
            "--ask",
            "An article about {}.",
            "--limit",
            "1",
            "--known",
            "0",
            "--engine",
            "embedded",
            "--out",
            str(tmp_path),
        ],
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output.strip().splitlines()[-1])
    assert figures["pages"] == 1
    assert figures["broken_markup"] == figures["bad_facts"] == figures["empty_regions"] == 0
    assert len(list(tmp_path.glob("*.md"))) == 1
