"""The sampler: pages by a model, several at once, filtered, and gone on with where they were stopped."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from research.data import __main__ as command
from research.data.page_prompts import PagePrompt, write_prompts
from research.data.sampling import SampleReport, dropped_file, group_by_prefix, sample_pages, trim_to_sentence
from unwritten_engine import EngineError, Frame, Prompt, Request, Usage, scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import ABOUT, Script, ScriptedEngine
from unwritten_engine.training.dataset import is_held_out, read_pages

TITLES = [f"Thing {number}" for number in range(200)]
WANTED = [
    PagePrompt(Prompt(f"About {title}.", opening=f"**{title}**"), title, "wiki", max_tokens=300)
    for title in TITLES
    if not is_held_out(title)
][:20]


def writes(text: str, *, tokens: int = 0, parallel: int = 4) -> ScriptedEngine:
    """An engine that writes the same after each opening; cut off at its budget, if ``tokens`` says of how many."""

    def answer(request: Request) -> Script:
        if not tokens:
            return text
        usage = Usage(tokens, 1, 0, 1, 1, 1.0, 0.0, "length", 0)
        return [Frame(request.prompt.opening + text, usage=usage)]

    return scripted(answer, about=replace(ABOUT, parallel=parallel))


def run(engine: ScriptedEngine, wanted: Sequence[PagePrompt], out: Path, **options: object) -> SampleReport:
    return asyncio.run(sample_pages(engine, wanted, out, **options))  # type: ignore[arg-type]


def test_good_pages_are_stored_with_their_prompts(tmp_path: Path) -> None:
    out = tmp_path / "sampled.jsonl"
    engine = writes(" is a [[tool]] of the harbour.")
    found = run(engine, WANTED, out)
    assert (found.pages, found.remaining, found.dropped.total()) == (20, 0, 0) and found.tokens > 100
    pages = {page.title: page for page in read_pages(out)}
    assert [pages[wanted.title].prompt for wanted in WANTED] == [wanted.prompt for wanted in WANTED]
    page = pages[WANTED[0].title]
    assert (page.text, page.kind, page.source) == (
        f"**{page.title}** is a [[tool]] of the harbour.",
        "wiki",
        ABOUT.model,
    )
    assert {(request.max_tokens, request.canvases, request.seed) for request in engine.requests} == {(300, 2, None)}


def test_prompts_with_a_common_prefix_are_grouped() -> None:
    wanted = [PagePrompt(Prompt(f"About {n}.", system=f"Book {n % 2}.")) for n in range(100)]
    books = [page.prompt.system for page in group_by_prefix(wanted)]
    assert books == ["Book 0."] * 32 + ["Book 1."] * 32 + ["Book 0."] * 18 + ["Book 1."] * 18
    assert sorted(page.prompt.ask for page in group_by_prefix(wanted)) == sorted(page.prompt.ask for page in wanted)
    assert group_by_prefix([]) == []


def test_several_pages_are_generated_concurrently(tmp_path: Path) -> None:
    most = 0

    def answer(request: Request) -> Script:
        nonlocal most
        most = max(most, engine.running + 1)
        return [0.02, " is a tool of the harbour."]

    engine = scripted(answer, about=replace(ABOUT, parallel=3))
    run(engine, WANTED, tmp_path / "sampled.jsonl")
    assert most == 3


def test_finished_pages_are_skipped(tmp_path: Path) -> None:
    out = tmp_path / "sampled.jsonl"
    bad = replace(WANTED[0], prompt=Prompt("About bad things."), title="Bad")

    def answer(request: Request) -> Script:
        return "It breaks off in the" if "bad" in request.prompt.ask else " is a tool of the harbour."

    first = run(scripted(answer), [bad, *WANTED[:5]], out)
    assert (first.pages, first.dropped) == (5, {"no end": 1})
    with out.open("a", encoding="utf-8") as file:
        file.write('{"title": "cut off by a power cu')
    engine = scripted(answer)
    second = run(engine, [bad, *WANTED], out)
    assert (second.done_before, second.pages, len(engine.requests)) == (6, 15, 15)
    assert len(list(read_pages(out))) == 20
    (dropped,) = [json.loads(line) for line in dropped_file(out).read_text(encoding="utf-8").splitlines()]
    assert (dropped["title"], dropped["reason"], dropped["text"]) == ("Bad", "no end", "It breaks off in the")


def test_it_stops_at_the_time_limit_without_loss(tmp_path: Path) -> None:
    out = tmp_path / "sampled.jsonl"
    found = run(writes(" is a tool of the harbour.", parallel=2), WANTED, out, seconds=0)
    assert (found.pages, found.remaining) == (2, 18) and len(list(read_pages(out))) == 2


def test_held_out_titles_are_never_sampled(tmp_path: Path) -> None:
    held = [PagePrompt(Prompt(f"About {title}."), title) for title in TITLES if is_held_out(title)]
    engine = writes("It is a tool of the harbour.")
    found = run(engine, held, tmp_path / "sampled.jsonl")
    assert held and found.held_out == len(held) and engine.requests == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (" is a tool. It is a good tool. It is a good tool.", "repetition"),
        (" is a [[tool.", "broken marks"),
        (" is a tool of a slave.", "words that call for care"),
        ([GenerationFailed("The lamp broke.")], "refused or failed"),
        ([Frame("Something else is a tool.")], "another opening"),
        ([Frame(WANTED[0].prompt.opening)], "too short"),
    ],
)
def test_bad_pages_are_dropped_with_a_reason(tmp_path: Path, script: Script, reason: str) -> None:
    out = tmp_path / "sampled.jsonl"
    found = run(scripted(script), WANTED[:1], out)
    assert (found.pages, found.dropped) == (0, {reason: 1})
    assert list(read_pages(out)) == []


def test_records_are_requested_with_their_schema(tmp_path: Path) -> None:
    shaped = PagePrompt(Prompt("Facts."), "Tea", schema={"type": "object"}, max_tokens=60)
    for text, kept in (('{"kind":"drink"}', 1), ('{"kind":"dri', 0)):
        engine = scripted(text)
        assert run(engine, [shaped], tmp_path / f"{kept}.jsonl").pages == kept
        assert engine.requests[0].schema == {"type": "object"}


def test_truncated_texts_end_with_a_complete_sentence(tmp_path: Path) -> None:
    out = tmp_path / "sampled.jsonl"
    run(writes(" is a tool of the harbour. It was made in the", tokens=12), WANTED[:1], out)
    assert [page.text for page in read_pages(out)] == [f"**{WANTED[0].title}** is a tool of the harbour."]
    assert trim_to_sentence("## Old\n\nIt is old. It is gr\n\n## Ne") == "## Old\n\nIt is old."
    assert trim_to_sentence("Short. This sentence is long and has no end but it should have") == (
        "Short. This sentence is long and has no end but it should have"
    )


def test_a_seed_makes_every_request_repeatable(tmp_path: Path) -> None:
    seeds = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        engine = writes(" is a tool of the harbour.", parallel=1)
        run(engine, WANTED, tmp_path / f"{name}.jsonl", seed=seed)
        seeds.append([request.seed for request in engine.requests])
    assert seeds[0] == seeds[1] != seeds[2] and len(set(seeds[0])) == 20


def test_files_that_cannot_be_continued_are_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be written .* Give a file in a folder that exists"):
        run(writes("It is."), WANTED, tmp_path / "none" / "sampled.jsonl")
    (tmp_path / "odd.jsonl").write_text("[1]\n", encoding="utf-8")
    with pytest.raises(EngineError, match=r"odd\.jsonl, line 1: this is no page"):
        run(writes("It is."), WANTED, tmp_path / "odd.jsonl")

    async def closed() -> None:
        engine = writes("It is.")
        await engine.close()
        await sample_pages(engine, WANTED, tmp_path / "sampled.jsonl")

    with pytest.raises(EngineError, match="The engine was closed"):
        asyncio.run(closed())


def test_the_command_samples_and_reports_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "sampled.jsonl"
    write_prompts(prompts, WANTED)
    opened: list[tuple[str, dict[str, object]]] = []

    def open_engine(spec: str, **options: object) -> ScriptedEngine:
        opened.append((spec, options))
        return writes(" is a tool of the harbour.")

    monkeypatch.setattr(command, "open_engine", open_engine)
    assert command.main(["sample", str(prompts), "--out", str(out), "--parallel", "3", "--threads", "1"]) == 0
    assert "20 pages kept, 0 dropped, 0 left" in capsys.readouterr().out
    assert opened == [("embedded", {"parallel": 3, "threads": 1})]
    assert command.main(["sample", str(tmp_path / "none.jsonl"), "--out", str(out)]) == 1
    assert "Give a file of prompts" in capsys.readouterr().err
    monkeypatch.undo()
    assert command.main(["sample", str(prompts), "--out", str(out), "--engine", "embeded"]) == 1
    assert "Error: " in capsys.readouterr().err
