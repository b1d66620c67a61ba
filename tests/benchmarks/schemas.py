"""``python tests/benchmarks schemas``: how often an engine's values of schemas are valid, before and after repair.

Each engine is asked for values of different schemas: flat, nested, a list of objects, choices with bounds, and optional
fields. "As written" is the share that is valid at once, "repaired" the share after repair, "asked again" what an app
shows in the end. The engine ``prose`` is a script that answers like a chatty model without a grammar.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import click
from pydantic import BaseModel, Field, ValidationError
from tests.benchmarks.report import report

from unwritten.core.assets import asset_dir
from unwritten.core.errors import SchemaMismatch
from unwritten.formats.page import Canvas
from unwritten.formats.schema import json_schema_of, type_adapter
from unwritten.formats.schema_repair import repair
from unwritten.routing.prompts import build_prompt
from unwritten_engine import Engine, EngineError, Request, open_engine, scripted

ENGINES = ("embedded", "diffusion", "prose")

Line = Annotated[str, Field(max_length=40)]


class Colour(Enum):
    """A choice."""

    RED = "red"
    DARK_BLUE = "dark blue"
    WHITE = "white"


class Flat(BaseModel):
    """Texts, a number and a list."""

    kind: Line
    founded: int
    known_for: list[Line] = Field(min_length=1, max_length=3)


class Bounded(BaseModel):
    """Choices and numbers with bounds."""

    kind: Literal["town", "river", "mountain", "island"]
    colour: Colour
    height: int = Field(ge=1, le=9000)
    share: float = Field(ge=0, le=1)


class Person(BaseModel):
    """A person."""

    name: Line
    born: int = Field(ge=1000, le=1999)


class Nested(BaseModel):
    """A model in a model."""

    title: Line
    keeper: Person
    rival: Person | None


@dataclass
class Listed:
    """A list of objects, as a dataclass."""

    people: Annotated[list[Person], Field(min_length=1, max_length=3)]


class Optionals(BaseModel):
    """Optional fields, and a date."""

    name: Line
    nickname: Line | None
    height: int | None = Field(ge=0, le=500)
    opened: date
    tags: list[Line] = Field(default=[], max_length=3)


SCHEMAS: Mapping[str, type[Any]] = {
    "flat": Flat,
    "bounded": Bounded,
    "nested": Nested,
    "list of objects": Listed,
    "optional": Optionals,
}


@dataclass
class Count:
    """How many values of one engine or one schema were valid.

    Attributes:
        asked: Values that were requested.
        raw: Valid as they were written.
        repaired: Valid after repair.
        shown: Valid after repair, or after a second request.
    """

    asked: int = 0
    raw: int = 0
    repaired: int = 0
    shown: int = 0
    faults: list[str] = field(default_factory=list)

    def share(self, count: int) -> float:
        """Return a count as a share of what was requested, from 0 to 1."""
        return round(count / self.asked, 3) if self.asked else 0.0


async def measure(
    engine: Engine, requests: int, seed: int = 1, options: Mapping[str, Any] | None = None
) -> dict[str, Count]:
    """Ask an engine for values.

    Args:
        engine: The engine.
        requests: How many, spread over the schemas.
        seed: The seed of the first request.
        options: Sampling options.

    Returns:
        The counts of each schema.
    """
    lines = (asset_dir("demos") / "wiki" / "titles.txt").read_text(encoding="utf-8").splitlines()
    titles = [line for line in lines if line.strip()]
    places = asyncio.Semaphore(max(1, engine.about.parallel))
    counts = {name: Count() for name in SCHEMAS}
    names = list(SCHEMAS)

    async def one(number: int) -> None:
        name = names[number % len(names)]
        async with places:
            canvas = Canvas(
                f"A record about {titles[number % len(titles)]}.",
                schema=SCHEMAS[name],
                seed=seed + number,
                options=options or {},
            )
            await _ask(engine, canvas, counts[name])

    await asyncio.gather(*map(one, range(requests)))
    return counts


async def _ask(engine: Engine, canvas: Canvas, count: Count) -> None:
    assert canvas.schema is not None and canvas.seed is not None
    schema = canvas.schema
    request = Request(
        build_prompt(world="", canvas=canvas, subject=""),
        canvases=canvas.canvases,
        schema=json_schema_of(schema),
        seed=canvas.seed,
        options=canvas.options,
    )
    text = await _text(engine, request)
    count.asked += 1
    count.raw += is_valid(schema, text)
    if _repaired(schema, text, count):
        count.repaired += 1
        count.shown += 1
        return
    again = await _text(engine, replace(request, seed=canvas.seed + 2**20))
    count.shown += _repaired(schema, again, count)


async def _text(engine: Engine, request: Request) -> str:
    text = ""
    try:
        async for frame in engine.generate(request):
            text = frame.text
    except EngineError as error:
        return f"({error})"
    return text


def is_valid(schema: type[Any], text: str) -> bool:
    """True if a text is a valid value of a schema as it is."""
    try:
        type_adapter(schema).validate_json(text)
    except ValidationError:
        return False
    return True


def _repaired(schema: type[Any], text: str, count: Count) -> bool:
    try:
        repair(schema, text)
    except SchemaMismatch as error:
        count.faults.append(str(error))
        return False
    return True


# -- a model that chats ---------------------------------------------------------------------------------------


def prose() -> Engine:
    """Return a script that answers with JSON like a model without a grammar; sometimes with no JSON at all."""
    return scripted(lambda request: with_faults(request.schema or {}, random.Random(request.seed)))


def with_faults(schema: Mapping[str, Any], rng: random.Random) -> str:
    """Return a value of a schema with common faults, each with its own probability."""
    value = sample(schema, schema, rng)
    text = json.dumps(value, indent=rng.choice([None, 2]), ensure_ascii=False)
    chance = rng.random
    if chance() < 0.3:
        text = text.replace("}", ",}").replace("]", ",]")
    if chance() < 0.15:
        text = text.replace('"', "'")
    if chance() < 0.15:
        text = text.replace('{"', '{ // the record\n"', 1)
    if chance() < 0.15:
        text = text.replace("null", "None")
    if chance() < 0.1:
        text = text[: int(len(text) * (0.4 + 0.6 * chance()))]
    if chance() < 0.4:
        text = f"```json\n{text}\n```"
    if chance() < 0.6:
        text = f"Sure! Here is the record (as asked):\n\n{text}\n\nLet me know if it needs more."
    return text if chance() < 0.95 else "I am sorry, but nothing is known about that. It may not exist at all."


def sample(schema: Any, root: Mapping[str, Any], rng: random.Random) -> Any:
    """Return a value as a chatty model might write it: mostly valid, sometimes out of bounds or with other words."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        choice = rng.choice(schema["enum"])
        return choice if rng.random() < 0.6 else rng.choice([str(choice).title(), f"a {choice}"])
    if "anyOf" in schema:
        return sample(rng.choice(schema["anyOf"]), root, rng)
    match schema.get("type"):
        case "object":
            return {name: sample(inner, root, rng) for name, inner in schema["properties"].items()}
        case "array":
            most = schema.get("maxItems", 3) + (rng.random() < 0.2)
            return [sample(schema["items"], root, rng) for _ in range(rng.randint(schema.get("minItems", 0), most))]
        case "string" if schema.get("format") == "date":
            day = date.fromordinal(rng.randint(400_000, 700_000))
            return day.isoformat() if rng.random() < 0.7 else f"{day.day} {day:%B %Y}"
        case "string":
            words = ["old", "stone", "bridge", "of", "the", "north", "harbour", "where", "fog", "begins"]
            return " ".join(rng.choices(words, k=rng.randint(1, 12)))
        case "integer":
            number = rng.randint(schema.get("minimum", 0), schema.get("maximum", 3000))
            odd = rng.random()
            return number if odd < 0.7 else f"about {number:,}" if odd < 0.85 else number * 10
        case "number":
            return round(rng.random() * (1 if rng.random() < 0.8 else 100), 2)
        case _:
            return None


# -- the command ----------------------------------------------------------------------------------------------


@click.command("schemas")
@click.option(
    "--requests", type=click.IntRange(1), default=100, show_default=True, help="Values to request from each engine."
)
@click.option(
    "--engines",
    default=",".join(ENGINES),
    show_default=True,
    help="Separated by commas: embedded, diffusion (small, with random weights), prose (a chatty script), or "
    "anything that --engine takes.",
)
def command(requests: int, engines: str) -> None:
    """Measure how often an engine's values of schemas are valid."""
    found: dict[str, dict[str, Count]] = {}
    seconds: dict[str, float] = {}
    for name in dict.fromkeys(part.strip() for part in engines.split(",") if part.strip()):
        begun = time.monotonic()
        found[name] = asyncio.run(_measured(name, requests))
        seconds[name] = round(time.monotonic() - begun, 1)
    whole = {name: _sum(counts) for name, counts in found.items()}
    rows = []
    for name, counts in found.items():
        for schema, count in [*counts.items(), ("all", whole[name])]:
            shares = [f"{count.share(n):.2f}" for n in (count.raw, count.repaired, count.shown)]
            rows.append((f"{name}: {schema}", " / ".join(shares), "≥ 0.95 at the end" if schema == "all" else ""))
    document = {
        "requests": requests,
        "valid": {name: count.share(count.shown) for name, count in whole.items()},
        "valid_repaired": {name: count.share(count.repaired) for name, count in whole.items()},
        "valid_raw": {name: count.share(count.raw) for name, count in whole.items()},
        "seconds": seconds,
        "faults": {name: count.faults[:5] for name, count in whole.items() if count.faults},
    }
    report("Valid values of schemas: as written / repaired / asked again", rows, document)


async def _measured(name: str, requests: int) -> dict[str, Count]:
    if name == "prose":
        return await measure(prose(), requests)
    random_weights = name == "diffusion"
    options: dict[str, Any] = {"model": "random"} if random_weights else {}
    engine = await asyncio.to_thread(lambda: open_engine(name, **options))
    try:
        # Random weights write gibberish at any number of steps, and the schema is followed at each.
        return await measure(engine, requests, options={"steps": 6} if random_weights else None)
    finally:
        await engine.close()


def _sum(counts: Mapping[str, Count]) -> Count:
    whole = Count()
    for count in counts.values():
        whole = Count(
            whole.asked + count.asked,
            whole.raw + count.raw,
            whole.repaired + count.repaired,
            whole.shown + count.shown,
            whole.faults + count.faults,
        )
    return whole
