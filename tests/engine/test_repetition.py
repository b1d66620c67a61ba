"""Texts that repeat themselves without end are cut, and others are not."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from unwritten_engine import About, Draft, Frame, Prompt, Request, Usage, scripted
from unwritten_engine.cleaning import clean_engine
from unwritten_engine.repetition import RepetitionDetector, RepetitionGuard

ONE = "The harbour was built by a company of salt traders. It has three piers, and the longest is closed in winter."
TWO = "In the evening the lamps are lit by hand. The custom has been kept for two hundred years without a break."
NAMES = "Anna Bert Carl Dora Emil Frida Gustav Hanna Ida Jon Karl Lena Mia Nils Otto Paul Rosa Sven Tom Vera".split()
RANDOM = random.Random(3)
VERSES = [
    "The wind goes over the hill at night\nand no one hears it go,",
    "A ship came in with a yellow light\nand a cargo of melting snow,",
    "The miller sleeps in his house of stone\nand dreams of a wheel of bread,",
    "The bell in the harbour rings alone\nfor the living and for the dead,",
]


def find(text: str, step: int, *, is_markup: bool = False) -> str | None:
    """Return what is left of a text that arrives in pieces, or None if it has no loop."""
    detector = RepetitionDetector(is_markup=is_markup)
    kept, end = 0, None
    for start in range(0, len(text), step):
        end = detector.push(text[start : start + step], final=start + step >= len(text))
        if end is not None:
            break
        assert detector.kept >= kept
        kept = detector.kept
    assert end is None or end >= kept  # nothing is removed that was promised to stay
    return None if end is None else text[:end]


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A lamp. " + "The lamp is lit at night. " * 60, "A lamp. The lamp is lit at night."),
        ("It rains. " * 60, "It rains."),
        ("".join(f"{n}. Item\n" for n in range(1, 80)), "1. Item"),
        ("".join(f"{n}. Item {n}\n" for n in range(1, 80)), "1. Item 1"),
        (" ".join(f"{n}) Item" for n in range(1, 80)), "1) Item"),
        ("Steps:\n\n" + "".join(f"{n}. **Step {n}:** Wait.\n" for n in range(1, 80)), "Steps:\n\n1. **Step 1:** Wait."),
        ("".join(f"- Item {n}\n" for n in range(1, 80)), "- Item 1"),
        ("".join(f"## Part {n}\n\n{TWO}\n\n" for n in range(1, 30)), f"## Part 1\n\n{TWO}"),
        (
            "".join(f"- In {n}, the mill burned down.\n" for n in range(1700, 1800)),
            "- In 1700, the mill burned down.\n- In 1701, the mill burned down.",
        ),
        ("".join(f"({n}) It rains in the north. " for n in range(1, 80)), "(1) It rains in the north."),
        ("".join(f"| {n} | {ONE[:48]} |\n" for n in range(1, 80)), f"| 1 | {ONE[:48]} |\n| 2 | {ONE[:48]} |"),
        ("- red\n" + "- blue\n" * 80, "- red\n- blue"),
        (f"A text.\n\n{ONE}\n\n{TWO}\n\n" + f"{ONE}\n\n{TWO}\n\n" * 4, f"A text.\n\n{ONE}\n\n{TWO}"),
        ("The sea is " + "very " * 100, "The sea is very"),
        ("bla" * 200, "bla"),
        ("Hello " + "? ! " * 300, "Hello ? !"),
        ("| A | B |\n|---|---|\n" + "| salt | white |\n" * 30, "| A | B |\n|---|---|\n| salt | white |"),
        ("雨が降る。" * 60, "雨が降る。"),
        ("海" * 300, "海"),
        ("ฝนตกหนักมาก " * 60, "ฝนตกหนักมาก"),
        ("The lamp is lit at night. " * 60 + "Then it ends.", "The lamp is lit at night."),
    ],
)
def test_a_loop_is_cut_to_its_first_round(text: str, left: str, step: int) -> None:
    found = find(text, step)
    assert found is not None and found.rstrip() == left


@pytest.mark.parametrize(
    "text",
    [
        "<p>It rains in the north.</p>" * 80,
        '{"line":"the sea ' + "and the sea " * 200,
        "Code:\n```\n" + "    add(row);\n" * 200,
    ],
)
def test_loops_in_markup_and_code_are_found_later(text: str) -> None:
    found = find(text, 7, is_markup=text[0] in "<{")
    assert found is not None and len(found) < 50


PROSE = {
    "refrain": "\n\n".join(f"{verse}\nOh, the sea, the sea, the sea,\nbring my sailor home." for verse in VERSES * 2),
    "chorus": "\n\n".join([*VERSES, *["Na na na na, na na na na,\nhey hey hey, goodbye."] * 4]),
    "prayer": "Lord, have mercy.\n" * 6 + "Christ, have mercy.\n" * 6,
    "litany": "".join(f"Saint {name}, pray for us.\n" for name in NAMES * 2),
    "contents": "".join(f"- [[Chapter {n}]]\n" for n in range(1, 41)),
    "numbered contents": "".join(f"{n}. Chapter {n}\n" for n in range(1, 41)),
    "pattern": "".join(f"Row {n}: knit 2, purl 2, repeat to end.\n" for n in range(1, 21)),
    "repealed": "".join(f"§ {n}. (repealed)\n" for n in range(1, 30)),
    "versions": "".join(f"### 1.0.{n}\n\n- Bug fixes.\n\n" for n in range(12)),
    "names": "".join(f"word{n} " for n in range(300)),
    "mantra": "Om mani padme hum. " * 8,
    "drums": "Boom boom clap. " * 12,
    "checklist": "- [ ] Water the plants\n" * 7,
    "chorus at the end": "\n\n".join([*VERSES, *["\n".join(VERSES)] * 3]),
    "calendar": "".join(f"| {n} " + "|\n" * (n % 7 == 0) for n in range(1, 32)) * 3,
    "bottles": "".join(f"{n} bottles of beer on the wall, {n} bottles of beer.\n" for n in range(99, 50, -1)),
    "multiplication": "".join(f"{a} × {b} = {a * b}\n" for a in range(1, 11) for b in range(1, 11)),
    "round": "Row, row, row your boat\ngently down the stream.\nMerrily, merrily, merrily, merrily,\n" * 2,
    "laughter": "Ha ha ha ha ha ha ha ha ha ha! said the fox.",
    "table": "|---|---|---|\n" + "".join(f"| {RANDOM.choice(NAMES)} | {1950 + n} | {n * 7} |\n" for n in range(60)),
    "table of states": "|---|---|\n" + "".join(f"| {n} | open |\n" for n in range(1, 60)),
    "years": "".join(f"- Won the cup in {1950 + n}.\n" for n in range(40)),
    "real list": "".join(f"{n}. {NAMES[n % 20]} of {NAMES[n * n % 17]}\n" for n in range(1, 41)),
    "timetable": "".join(f"- {hour}:30 Bus to {RANDOM.choice(NAMES)}\n" for hour in range(1, 24)),
    "sums": "".join(f"{n} x 7 = {n * 7}\n" for n in range(1, 40)),
    "dialogue": "".join(f"**{RANDOM.choice(NAMES)}:** {RANDOM.choice(['Yes.', 'No.'])}\n" for _ in range(60)),
    "code": "```\n" + "".join(f"self.value_{n} = {n}\n" for n in range(60)) + "```",
    "equal lines of code": "```\n" + "    add(row);\n" * 20 + "```",
    "box": f"+{'-' * 78}+\n" + f"|{' ' * 78}|\n" * 12 + f"+{'-' * 78}+\n",
    "triangle": "\n".join("M" * n for n in range(1, 40)),
    "rules": f"One\n{'-' * 120}\nTwo\n{'=' * 120}\n{'* ' * 80}",
    "wide table": f"|{' a |' * 12}\n|{'----------|' * 12}\n| 1 |",
    "form": "".join(f"{name}: ____________________\n" for name in NAMES),
}
MARKUP = {
    "records": "[" + ",".join(f'{{"name":"{RANDOM.choice(NAMES)}","kind":"lamp","value":{n}}}' for n in range(60)),
    "grid of zeros": '{"grid":[' + ",".join(f"[{','.join('0' * 16)}]" for _ in range(16)) + "]}",
    "path": '<path d="' + " ".join(f"L {RANDOM.randint(0, 99)} {RANDOM.randint(0, 99)}" for _ in range(200)),
    "stairs": '<path d="' + "h10v10" * 40,
    "grid": "".join(f'<line x1="{n * 10}" y1="0" x2="{n * 10}" y2="100"/>' for n in range(40)),
    "rows": "<table>" + "".join(f"<tr><td>{n}</td><td>open</td></tr>" for n in range(60)),
}


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("name", [*PROSE, *MARKUP])
def test_texts_with_something_new_in_each_round_are_left_alone(name: str, step: int) -> None:
    assert find(PROSE.get(name) or MARKUP[name], step, is_markup=name in MARKUP) is None


@pytest.mark.parametrize(
    "fragment", ["a", "ab", "word ", "1. Item\n", "a" * 11 + "b", "[[sea]] and ", "abcabcabd", "12 "]
)
def test_the_time_is_linear(fragment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RepetitionDetector, "_is_loop", lambda *_: False)
    text = (fragment * 100_000)[:100_000]
    start = time.thread_time()
    assert find(text, 40) is None
    assert time.thread_time() - start < 3  # a quadratic search takes minutes


# -- behind the engine boundary ---------------------------------------------------------------------------


def collect(engine: object, request: Request) -> list[Frame]:
    async def run() -> list[Frame]:
        return [frame async for frame in clean_engine(engine).generate(request)]  # type: ignore[arg-type]

    return asyncio.run(run())


def test_the_engine_is_stopped_and_nothing_fixed_is_removed() -> None:
    text = "A lamp. " + "The lamp is lit at night. " * 60
    frames = collect(scripted(text), Request(Prompt("A lamp."), canvases=8))
    last = frames[-1]
    assert last.text == "A lamp. The lamp is lit at night."
    assert last.usage is not None and last.usage.reason == "repetition"
    assert max(len(frame.text) for frame in frames) < 400
    assert all(last.text.startswith(frame.text[: frame.fixed]) for frame in frames)


def test_the_iterator_of_the_engine_is_closed() -> None:
    engine = scripted("")
    closed = []

    async def generate(request: Request) -> AsyncGenerator[Frame, None]:
        text = ""
        try:
            for n in range(10_000):
                text += "It rains. "
                yield Frame(text, fixed=len(text), step=n)
        finally:
            closed.append(len(text))

    engine.generate = generate  # type: ignore[method-assign]
    assert collect(engine, Request(Prompt("Rain.")))[-1].text == "It rains."
    assert closed and closed[0] < 2000


def test_drafts_are_judged_once_they_are_fixed() -> None:
    guard = RepetitionGuard(Request(Prompt("Rain.")), _about(drafts=False))
    drafting = RepetitionGuard(Request(Prompt("Rain.")), _about(drafts=True))
    frame = Frame("It rains. " * 60, unsettled=((0, 600),))
    assert guard.check(frame) == len("It rains.")
    assert drafting.check(frame) is None
    assert drafting.check(Frame(frame.text, fixed=600, usage=_usage())) == len("It rains.")


def test_openings_and_edits_are_not_judged() -> None:
    about = scripted("").about
    loop = "It rains. " * 60
    assert RepetitionGuard(Request(Prompt("Rain.", opening=loop)), about).check(Frame(loop + "Then it ends.")) is None
    assert RepetitionGuard(Request(Prompt("Rain."), draft=Draft(loop)), about).check(Frame(loop)) is None


def _about(*, drafts: bool) -> About:
    about = scripted("").about
    return replace(about, abilities=replace(about.abilities, drafts=drafts))


def _usage() -> Usage:
    return Usage(1, 1, 0, 1, 1, 0.1, 0.0, "end", 0)
