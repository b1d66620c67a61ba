"""The bench of small models: what is timed and counted, on texts whose figures were worked out by hand."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.benchmarks import small
from tests.benchmarks.__main__ import FOLDER, main
from tests.benchmarks.subjects import Subject, prompts, subjects
from tests.benchmarks.turns import Writer, Written, in_turn, write
from tests.benchmarks.verdicts import compare, context

from research.judging.judge import Surprisal
from unwritten.core.assets import asset_dir
from unwritten_engine import Engine, Example, Frame, Prompt, Request, Usage, scripted
from unwritten_engine.scripted import ABOUT, Script, Step
from unwritten_engine.training.dataset import TrainingPage, is_held_out, write_pages

USAGE = Usage(
    tokens=10,
    prompt_tokens=5,
    cached_tokens=0,
    steps=8,
    canvases=1,
    seconds=1.0,
    queued_seconds=0.0,
    reason="end",
    seed=1,
)


def written(title: str, own: str, *, first: float = 0.1, settled: float = 1.0, **usage: Any) -> Written:
    """A text that begins with its title and took this long."""
    prompt = Prompt(f"About {title}.", examples=(Example("About Rain.", "Rain falls on the old town."),), opening=title)
    return Written(title, prompt, title + own, first, settled, replace(USAGE, **usage))


def one_nat_a_word(pairs: Sequence[tuple[str, str]]) -> list[Surprisal]:
    """A judge to whom every word is a token that costs one nat, and two if the text is read under another title."""
    return [
        Surprisal(len(text.split()) * (1.0 if text.split()[-1] in before else 2.0), len(text.split()))
        for before, text in pairs
    ]


# -- what is counted ------------------------------------------------------------------------------------------


def test_figures_equal_hand_computed_ones() -> None:
    pairs = [
        (
            written("Copper Kettle", " the old kettle the old kettle the old Kettle", first=0.2, steps=12, canvases=2),
            written("Copper Kettle", " is a [[metal pot]] for hot water <b> that [[sings. Copper", settled=3.0),
        ),
        (
            written("Tea", " is a drink of Tea", first=0.4, settled=2.0, steps=4, tokens=30),
            written("Tea", " is a drink of Tea", settled=3.0),
        ),
    ]
    found = compare(pairs, {"Tea": "Some drink coffee. Nothing else."}, one_nat_a_word)
    ours, theirs = found["diffusion"], found["autoregressive"]

    assert (ours["first_draft_s"], ours["first_draft_s_p90"], found["first_draft_s"]) == (0.3, 0.4, 0.3)
    assert (ours["settled_s"], theirs["settled_s"]) == (1.5, 3.0)
    assert found["settle_ratio"] == 2.25  # of 3 and 1.5
    assert (ours["steps_per_canvas"], ours["steps_per_canvas_p90"]) == (5.0, 6.0)
    assert (ours["tokens_per_s"], ours["tokens_per_s_p90"]) == (12.5, 15.0)
    assert (ours["words_per_s"], ours["words_per_s_p90"]) == (5.75, 9.0)

    # Nine words beside eleven, of which nine are looked at; and five beside five. Bigrams: 8 and 4 of each engine.
    assert ours["distinct2"] == round((3 + 4) / 12, 4) and ours["distinct2_text"] == round((3 / 8 + 1) / 2, 4)
    assert theirs["distinct2"] == round((8 + 3) / 12, 4)  # "is a" stands in both
    assert found["distinct2_ratio"] == round(ours["distinct2"] / theirs["distinct2"], 3)

    assert ours["repeated_grams"] == round((3 / 6 + 0) / 2, 4) and theirs["repeated_grams"] == 0
    assert (theirs["links"], theirs["broken_markup"], theirs["stray_tokens"]) == (0.5, 0.5, 0.5)
    assert (ours["links"], ours["broken_markup"], ours["stray_tokens"]) == (0, 0, 0)
    assert (ours["on_topic"], theirs["on_topic"]) == (1.0, 1.0)
    assert ours["reference_overlap"] == theirs["reference_overlap"] == 0.4  # "drink"; "drink some coffee nothing else"
    assert (ours["words"], theirs["words"], ours["cut_endings"], ours["empty"]) == (7, 8, 1, 0)


def test_copied_examples_and_missed_subjects_are_found() -> None:
    pair = (written("Salt", " falls on the old town."), written("Salt", " is white. Rain falls on the old town."))
    found = compare([pair], {}, one_nat_a_word)
    assert (found["diffusion"]["leaks"], found["autoregressive"]["leaks"]) == (1, 2)
    assert (found["diffusion"]["on_topic"], found["diffusion"]["reference_overlap"]) == (0.0, None)
    assert found["diffusion"]["on_topic_judged"] is None  # there is no other title


def test_the_judge_reads_each_text_under_its_title_and_the_next() -> None:
    pairs = [
        (written("Tea", " a cup of Tea"), written("Tea", " the same Tea")),
        (written("Salt", " not of any Tea"), written("Salt", "")),
    ]
    asked: list[tuple[str, str]] = []

    def reads(given: Sequence[tuple[str, str]]) -> list[Surprisal]:
        asked.extend(given)
        return one_nat_a_word(given)

    found = compare(pairs, {}, reads)
    assert asked[:3] == [
        ("An encyclopedia article about Tea.\n\nTea", " a cup of Tea"),
        ("An encyclopedia article about Salt.\n\nSalt", " not of any Tea"),
        ("An encyclopedia article about Salt.\n\nSalt", " a cup of Tea"),
    ]
    assert context(pairs[0][0]) == asked[0][0]
    assert found["diffusion"]["judge_perplexity"] == 4.48  # 12 nats over 8 tokens
    assert found["diffusion"]["judge_perplexity_text"] == 5.05  # between e and e²
    assert found["autoregressive"]["judge_perplexity"] == 2.72
    assert found["judge_perplexity_ratio"] == round(4.48 / 2.72, 3)
    assert (found["diffusion"]["on_topic_judged"], found["autoregressive"]["on_topic_judged"]) == (0.5, 1.0)
    assert found["autoregressive"]["empty"] == 1
    assert found["reached"] == {
        "first_draft_s": True,
        "settle_ratio": False,
        "judge_perplexity_ratio": False,
        "distinct2_ratio": True,
    }


def test_no_texts_give_no_figures() -> None:
    found = compare([(written("Tea", ""), written("Tea", " is hot."))], {}, one_nat_a_word)
    assert found["judge_perplexity_ratio"] is None and found["distinct2_ratio"] is None
    assert found["diffusion"]["repeated_grams"] is None and found["diffusion"]["empty"] == 1
    assert not found["reached"]["judge_perplexity_ratio"] and not found["reached"]["distinct2_ratio"]


# -- how it is written ----------------------------------------------------------------------------------------


def test_texts_are_timed_to_the_first_word_and_cut_like_pages() -> None:
    frames: list[Step] = [Frame("**Tea**"), 0.05, Frame("**Tea** **"), 0.05, Frame("**Tea** is"), 0.1]
    last = Frame("**Tea** is hot and wet. It is made of [[le", usage=replace(USAGE, reason="length"))
    engine = scripted([*frames, last], about=replace(ABOUT, canvas_length=48))
    found = asyncio.run(write(Writer("one", engine, {"steps": 3}), "Tea", Prompt("Tea?", opening="**Tea**"), 128))
    assert 0.1 <= found.first <= found.settled - 0.1
    assert found.text == "**Tea** is hot and wet." and found.own == " is hot and wet."
    (request,) = engine.requests
    assert (request.canvases, request.max_tokens, request.options) == (3, 128, {"steps": 3})


def test_a_text_without_words_is_timed_to_its_end() -> None:
    found = asyncio.run(
        write(Writer("one", scripted([Frame("**Tea**")]), {}), "Tea", Prompt("A", opening="**Tea**"), 8)
    )
    assert found.first == found.settled > 0


def test_engines_take_turns_and_their_first_texts_are_not_counted() -> None:
    order: list[str] = []

    def writer(name: str) -> Writer:
        def answer(request: Request) -> str:
            order.append(f"{name} {request.prompt.ask}")
            return f"{name} on {request.prompt.ask}"

        return Writer(name, scripted(answer), {})

    async def run() -> list[tuple[Written, ...]]:
        asked = {ask: Prompt(ask) for ask in ("A", "B", "C")}
        return [pair async for pair in in_turn([writer("x"), writer("y")], asked, 8, begun.append)]

    begun: list[str] = []
    pairs = asyncio.run(run())
    assert order == ["x A", "y A", "x A", "y A", "y B", "x B", "x C", "y C"]
    assert begun == ["A", "B", "C"]
    assert [[one.text for one in pair] for pair in pairs] == [[f"{name} on {ask}" for name in "xy"] for ask in "ABC"]


# -- what is written about ------------------------------------------------------------------------------------


def test_built_in_subjects_are_not_in_training_data_or_examples() -> None:
    found = subjects(None, 1000)
    titles = [subject.title for subject in found]
    assert len(titles) == len(set(titles)) >= 200
    assert [title for title in titles if not is_held_out(title)] == []
    shown = (asset_dir("demos") / "wiki" / "examples" / "general" / "lead.txt").read_text(encoding="utf-8")
    assert [title for title in titles if f" on {title}." in shown] == []
    assert [subject.title for subject in subjects(None, 3)] == [titles[at * len(titles) // 3] for at in range(3)]


def test_subjects_from_a_file_have_reference_texts(tmp_path: Path) -> None:
    path = tmp_path / "held_out.jsonl"
    pages = [("Tea", "Hot."), ("", "Nameless."), ("Tea", "Cold."), ("Salt", "White.")]
    write_pages(path, [TrainingPage(Prompt("A"), text, title=title) for title, text in pages])
    assert subjects(path, 200) == [Subject("Tea", "Hot."), Subject("Salt", "White.")]
    assert subjects(path, 1) == [Subject("Tea", "Hot.")]


@pytest.mark.anyio
async def test_prompts_are_those_of_the_wiki() -> None:
    found = await prompts(["Otter", "Mercury (planet)", "Mercury (disambiguation)"])
    assert list(found) == ["Otter", "Mercury (planet)"]
    assert found["Otter"].ask == "The opening paragraph of the article on Otter."
    assert (found["Otter"].opening, found["Mercury (planet)"].opening) == ("**Otter**", "**Mercury** is a planet")
    assert "Unwritten Encyclopedia" in found["Otter"].system and len(found["Otter"].examples) == 4


# -- the command ----------------------------------------------------------------------------------------------


class Judge:
    """Stands for the real one."""

    name = "a judge"

    def surprisals(self, pairs: Sequence[tuple[str, str]], progress: Any) -> list[Surprisal]:
        progress(0.0, "It reads")
        return [Surprisal(2.0 * len(text.split()), len(text.split())) for _, text in pairs]


def run(monkeypatch: pytest.MonkeyPatch, engines: dict[str, Engine], *arguments: str) -> tuple[Result, list[Any]]:
    """The command over scripts; and with which options they were opened."""
    opened: list[Any] = []

    def open_engine(spec: str, **options: Any) -> Engine:
        opened.append((spec, options))
        return engines[spec]

    monkeypatch.setattr(small, "open_engine", open_engine)
    monkeypatch.setattr(small, "_tools", lambda: ((lambda progress: Judge()), lambda: 0.25))
    return CliRunner().invoke(main, ["small", *arguments]), opened


def test_the_whole_benchmark_runs_with_two_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    engines: dict[str, Engine] = {
        "diffusion": scripted(" is one thing among many.", about=replace(ABOUT, model="a small one")),
        "embedded": scripted(" is a [[thing]] that someone has made once, and so on.", delay=0.02),
    }
    result, opened = run(
        monkeypatch, engines, "--model", "some/folder", "--titles", "3", "--threads", "1", "--steps", "7", "--show", "2"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert opened == [("diffusion", {"threads": 1, "model": "some/folder"}), ("embedded", {"threads": 1})]
    assert (found["titles"], found["held_out"], found["tokens"], found["steps"]) == (3, 3, 128, 7)
    assert (found["stopped"], found["busy"], found["judge"]) == (False, 0.25, "a judge")
    ours, theirs = found["diffusion"], found["autoregressive"]
    assert (ours["model"], ours["device"], theirs["model"]) == ("a small one", "none", "a script")
    assert found["first_draft_s"] == ours["first_draft_s"] < theirs["first_draft_s"]
    assert found["settle_ratio"] > 2 and found["reached"]["settle_ratio"] is True
    assert found["judge_perplexity_ratio"] == 1.0 and ours["judge_perplexity"] == 7.39
    # Five words of each text: all bigrams come again in each of the three.
    assert ours["distinct2"] == theirs["distinct2"] == round(4 / 12, 4) and found["distinct2_ratio"] == 1.0
    assert (ours["links"], theirs["links"]) == (0, 1)
    assert "≤ 0.3 s: yes" in result.stdout and "WARNING: others use the processor" in result.stdout
    first = subjects(None, 3)[0].title
    assert f"== {first}\n-- diffusion\n**{first}** is one thing" in result.stdout
    assert result.stdout.count("-- autoregressive\n") == 2


def test_a_stopped_run_reports_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def engines(last: int) -> dict[str, Engine]:
        """The second one is stopped at this request; the first is the one that is not counted."""

        def answer(request: Request) -> Script:
            return [KeyboardInterrupt()] if len(second.requests) == last else " is a thing."

        second = scripted(answer)
        return {"diffusion": scripted(" is a thing."), "embedded": second}

    result, _ = run(monkeypatch, engines(4), "--model", "random", "--titles", "5")
    assert result.exit_code == 0, result.output
    assert "Stopped after 2 of 5 titles" in result.stderr
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert (found["titles"], found["stopped"]) == (2, True)

    result, _ = run(monkeypatch, engines(2), "--model", "random", "--titles", "5")
    assert result.exit_code == 1 and "Aborted!" in result.stderr and result.stdout == ""


def test_invalid_input_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def told(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["small", *arguments])
        assert result.exit_code != 0
        return " ".join(result.stderr.split())

    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"title": "Tea"}\n', encoding="utf-8")
    nameless = tmp_path / "nameless.jsonl"
    write_pages(nameless, [TrainingPage(Prompt("A"), "B")])
    assert "broken.jsonl, line 1: 'prompt' is missing" in told("--model", "random", "--pages", str(broken))
    assert "no page with a title" in told("--model", "random", "--pages", str(nameless))
    assert "cannot be read" in told("--model", "random", "--pages", str(tmp_path / "none.jsonl"))
    assert "Missing option '--model'" in told()
    assert "Did you mean '--titles'?" in told("--model", "random", "--title", "3")
    assert str(tmp_path / "none") in told("--model", str(tmp_path / "none"), "--quick")


def test_without_torch_the_message_names_the_command() -> None:
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['', 'small', '--model', 'random']; "
        f"runpy.run_path({str(FOLDER)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert 'pip install "unwritten[training]"' in done.stderr


@pytest.mark.model
def test_random_weights_get_bad_scores() -> None:
    result = CliRunner().invoke(main, "small --model random --titles 1 --tokens 16 --steps 4 --threads 1".split())
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert found["judge_perplexity_ratio"] > 10 and not found["reached"]["judge_perplexity_ratio"]
    assert found["diffusion"]["steps_per_canvas"] <= 4
    assert 1 < found["autoregressive"]["judge_perplexity"] < 100
