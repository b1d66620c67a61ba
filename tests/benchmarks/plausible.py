"""``python tests/benchmarks plausible``: how plausible the values are that a model writes for everyday schemas.

Forty schemas without bounds and examples, as authors write them first, are each generated for several subjects: once
held to the author's schema alone ("before"), and once with the bounds and the example that the framework derives
("after"). Hand-written rules judge every field; see ``plausible_rules``. A value is plausible if all its fields are.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import click
from tests.benchmarks.plausible_cases import CASES, Case
from tests.benchmarks.plausible_rules import judge
from tests.benchmarks.report import report

from unwritten.core.errors import SchemaMismatch
from unwritten.formats.assumed_schema import assume
from unwritten.formats.page import Canvas
from unwritten.formats.schema import json_schema_of
from unwritten.formats.schema_repair import repair
from unwritten.formats.schema_tidy import sample_texts
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Engine, EngineError, Request, Usage, open_engine

WORLD = "Short, plain records for a town's web pages."


@dataclass
class Tally:
    """The values of one run.

    Attributes:
        fields: Judged fields.
        plausible_fields: Those without a problem.
        values: Generated values.
        plausible_values: Those of which all fields are plausible.
        failed: Values that did not match the author's schema, also after another attempt.
        again: Values that needed another attempt.
        tokens: Generated tokens.
        texts: Texts in the values.
        copied: Those that also stand in the prompt's examples.
        seconds: Seconds of the engine, which several values share.
        problems: Problems by schema and field.
    """

    fields: int = 0
    plausible_fields: int = 0
    values: int = 0
    plausible_values: int = 0
    failed: int = 0
    again: int = 0
    tokens: int = 0
    texts: int = 0
    copied: int = 0
    seconds: float = 0.0
    problems: Counter[str] = field(default_factory=Counter)
    by_schema: dict[str, list[int]] = field(default_factory=dict)


async def measure(engine: Engine, names: list[str], subjects: int, seed: int, labels: list[str]) -> dict[str, Tally]:
    """Generate and judge values, of all runs in turn, so that they share the load of the machine.

    Args:
        engine: The engine.
        names: Names of the cases.
        subjects: How many subjects of each.
        seed: The first seed.
        labels: The runs: "before" is held to the author's schema alone, "after" as an app does.
    """
    runs = {label: Tally() for label in labels}
    places = asyncio.Semaphore(max(1, engine.about.parallel))

    async def one(name: str, number: int, label: str) -> None:
        case = CASES[name]
        subject = case.subjects[number % len(case.subjects)]
        async with places:
            await _judge(engine, name, case, subject, seed + number, label == "after", runs[label])

    await asyncio.gather(*(one(name, number, label) for number in range(subjects) for name in names for label in runs))
    return runs


async def _judge(engine: Engine, name: str, case: Case, subject: str, seed: int, derived: bool, tally: Tally) -> None:
    canvas = Canvas(case.prompt.format(subject), schema=case.schema)
    about = engine.about
    assumed = assume(case.schema, about.canvas_length) if derived and about.abilities.patterns else None
    prompt = build_prompt(
        world=WORLD, canvas=canvas, subject=subject, with_examples=derived and not about.abilities.instruct
    )
    request = Request(prompt, schema=assumed.json_schema if assumed else json_schema_of(case.schema), seed=seed)
    tally.values += 1
    value: Any = None
    final = problem = ""
    for attempt in range(2):
        tally.again += attempt
        text, usage = await _text(engine, replace(request, seed=seed + 1000 * attempt))
        tally.tokens += usage.tokens if usage else 0
        tally.seconds += usage.seconds if usage else 0.0
        try:
            repaired = repair(case.schema, text, assumed, sample_texts(example.answer for example in prompt.examples))
        except SchemaMismatch as error:
            problem = f"{text} ({error})"
            continue
        value, final = repaired.value, repaired.text
        if not repaired.copied:
            break
    text = problem if value is None else final
    counts = tally.by_schema.setdefault(name, [0, 0])
    if value is None:
        tally.failed += 1
        problems = {path: "no value" for path, _ in case.rules}
    else:
        own = {found.casefold() for example in prompt.examples for found in texts_of(example.answer)}
        copied = {found for found in texts_of(text) if found.casefold() in own and not is_choice(found, request.schema)}
        problems = judge(value, case.rules, copied)
        tally.texts += len(texts_of(text))
        tally.copied += sum(found in copied for found in texts_of(text))
    tally.fields += len(problems)
    counts[1] += len(problems)
    good = sum(not problem for problem in problems.values())
    tally.plausible_fields += good
    counts[0] += good
    tally.plausible_values += good == len(problems)
    wrong = {path: problem for path, problem in problems.items() if problem}
    tally.problems.update(
        f"{name}.{path}: {re.sub(r'-?[0-9.]+', 'N', problem)[:60]}" for path, problem in wrong.items()
    )
    click.echo(f"{'after' if derived else 'before'}: {name} / {subject}: {text}\n    {wrong or 'plausible'}", err=True)


def texts_of(text: str) -> list[str]:
    """Return all texts in a value given as JSON."""
    return list(_texts(json.loads(text)))


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, dict | list):
        for inner in data.values() if isinstance(data, dict) else data:
            yield from _texts(inner)
    elif isinstance(data, str):
        yield data


def is_choice(text: str, schema: Any) -> bool:
    """True if a text is one of the choices of an enum, or of a pattern such as that of currencies."""
    return json.dumps(text) in json.dumps(schema) or re.fullmatch("[A-Z]{3}", text) is not None


async def _text(engine: Engine, request: Request) -> tuple[str, Usage | None]:
    text, usage = "", None
    try:
        async for frame in engine.generate(request):
            text, usage = frame.text, frame.usage
    except EngineError as error:
        return f"({error})", usage
    return text, usage


@click.command("plausible")
@click.option("--subjects", type=click.IntRange(1, 30), default=3, show_default=True, help="Values of each schema.")
@click.option("--schemas", default="", help="Names of schemas, separated by commas. All by default.")
@click.option("--engine", "engine_name", default="embedded", show_default=True, help="Anything that --engine takes.")
@click.option("--seed", default=1, show_default=True, help="The first seed.")
@click.option("--threads", type=int, help="Threads of the embedded model.")
@click.option("--plain/--no-plain", default=True, show_default=True, help="Measure without the derivation too.")
def command(subjects: int, schemas: str, engine_name: str, seed: int, threads: int | None, plain: bool) -> None:
    """Measure how plausible the values of everyday schemas are, before and after the derivation."""
    names = schemas.split(",") if schemas else list(CASES)
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        raise click.UsageError(f"There are no schemas {', '.join(unknown)}. Known: {', '.join(CASES)}.")
    runs = asyncio.run(_run(engine_name, threads, names, subjects, seed, plain))
    rows: list[tuple[str, str, str]] = []
    for name in names:
        shares = [f"{good / of:.2f}" for good, of in (run.by_schema[name] for run in runs.values())]
        rows.append((name, " / ".join(shares), ""))
    for what, figure in _figures().items():
        rows.append((what, " / ".join(figure(run) for run in runs.values()), ""))
    document = {
        label: {what: figure(run) for what, figure in _figures().items()} | {"problems": run.problems.most_common(25)}
        for label, run in runs.items()
    }
    report(f"Plausible fields by schema, then in all: {' / '.join(runs)}", rows, document)


def _figures() -> dict[str, Any]:
    return {
        "plausible fields": lambda run: f"{run.plausible_fields / run.fields:.3f}",
        "plausible values": lambda run: f"{run.plausible_values / run.values:.3f}",
        "failed values": lambda run: f"{run.failed} of {run.values}",
        "second attempts": lambda run: str(run.again),
        "tokens per value": lambda run: f"{run.tokens / run.values:.0f}",
        "seconds per value": lambda run: f"{run.seconds / run.values:.2f}",
        "texts copied from the example": lambda run: f"{run.copied / max(1, run.texts):.3f}",
    }


async def _run(
    engine_name: str, threads: int | None, names: list[str], subjects: int, seed: int, plain: bool
) -> dict[str, Tally]:
    options: dict[str, Any] = {"threads": threads} if threads else {}
    engine = await asyncio.to_thread(lambda: open_engine(engine_name, **options))
    try:
        return await measure(engine, names, subjects, seed, ["before", "after"] if plain else ["after"])
    finally:
        await engine.close()
