"""Canvases with a schema: checks at start-up, rendering, repair and stored values."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from pydantic import BaseModel, Field
from tests.support.apps import a_linker, browser, follow, in_turn, make_app, templates, text_frame, write
from tests.support.html_checks import inner

from unwritten import App, Canvas, Example, Page
from unwritten.core.errors import BadPage, BadSchema
from unwritten.formats.base import RegionContext
from unwritten.formats.registry import get_format
from unwritten.formats.schema import json_schema_of
from unwritten.formats.schema_repair import repair
from unwritten_engine import Engine, Frame, Prompt, Request, open_engine, scripted
from unwritten_engine.errors import GenerationFailed, RequestRefused
from unwritten_engine.json_grammar import grammar_from_schema
from unwritten_engine.options import check_options
from unwritten_engine.scripted import ABOUT, CUT, HANG, Script, ScriptedEngine

GOOD = '{"kind":"tower","founded":1720}'


class Facts(BaseModel):
    kind: str
    founded: int = Field(ge=1000, le=1999)


FACTS = """{% extends "layout.html" %}{% block main %}
{% block facts %}{{ facts.kind }} of {{ facts.founded }}{% endblock %}{% endblock %}"""


def atlas(home: Path, engine: Engine, **given: Any) -> App:
    """Return an app with pages that have one schema, and a list of their values."""
    listed = """{% extends "layout.html" %}{% block main %}{% for source, facts in app.values("Facts") %}
    <a href="{{ source.key }}">{{ source.title }}: {{ facts.kind }}</a>{% endfor %}
    {% set one = app.value("/place/Tower", "facts") %}[{{ one.kind if one else "none" }}]{% endblock %}"""
    app = make_app(home, engine, folder=templates(home, facts=FACTS, listed=listed))

    @app.page("/place/{name}")
    def place(name: str) -> Page:
        return Page("facts.html", facts=Canvas(f"Facts about {name}.", schema=Facts, fact=True, **given))

    @app.page("/places")
    def places() -> Page:
        return Page("listed.html")

    return app


def test_a_value_is_stored_with_its_page_and_used_by_others(tmp_path: Path) -> None:
    app = atlas(tmp_path, scripted(GOOD))
    with browser(app) as client:
        assert "[none]" in client.get("/places").text
        assert write(client, "/place/Tower")[-1]["state"] == "written"
        assert app.value("/place/Tower", "facts") == Facts(kind="tower", founded=1720)
        assert app.value("/place/Inn", "facts") is None
        ((source, facts),) = app.values(Facts)
        assert (source.title, source.version, facts.founded) == ("Tower", 1, 1720)
        page = client.get("/places").text
        assert '<a href="/place/Tower">Tower: tower</a>' in page and "[tower]" in page


def test_a_value_in_prose_is_repaired_and_the_repairs_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = 'Here you are:\n```json\n{"Kind": "tower", "founded": 2050,}\n```'
    app = atlas(tmp_path, scripted(answer))
    with browser(app) as client, caplog.at_level(logging.INFO, "unwritten"):
        write(client, "/place/Tower")
        assert "tower of 1999" in inner(client.get("/place/Tower").text, "facts")
        stored = app.store.get("/place/Tower")
        assert stored is not None
        facts = stored.canvases["facts"]
        assert facts.text == '{"kind":"tower","founded":1999}'
        assert facts.repairs == ("removed an extra comma; kind: renamed from 'Kind'; founded: changed 2050 to 1999")
    assert "the region 'facts' was repaired: removed an extra comma" in caplog.text


def test_a_value_that_cannot_be_repaired_is_generated_again_with_another_seed(tmp_path: Path) -> None:
    engine = scripted(in_turn("It is a tower, and it is old.", GOOD))
    app = atlas(tmp_path, engine, seed=2**32 - 1)
    with browser(app) as client:
        assert write(client, "/place/Tower")[-1]["state"] == "written"
        assert [request.seed for request in engine.requests] == [2**32 - 1, 0]
        stored = app.store.get("/place/Tower")
        assert stored is not None and stored.canvases["facts"].repairs.startswith("generated again: The generated text")
        assert app.value("/place/Tower", "facts").kind == "tower"


def test_a_page_fails_after_two_values_that_cannot_be_repaired(tmp_path: Path) -> None:
    engine = scripted("It is a tower, and it is old.")
    app = atlas(tmp_path, engine)
    with browser(app) as client:
        last = write(client, "/place/Tower")[-1]
        assert last["state"] == "failed"
        assert last["message"].startswith("Two attempts failed. The generated text does not match the schema Facts: ")
        assert len(engine.requests) == 2
        assert app.value("/place/Tower", "facts") is None and app.values(Facts) == []


def test_an_incomplete_value_is_used_if_it_fits_the_schema(tmp_path: Path) -> None:
    class Endless(BaseModel):
        kind: str
        names: list[str]

    app = make_app(tmp_path, scripted('{"kind":"tower","names":["fog","light house by the ' + "very " * 50))

    @app.page("/")
    def front() -> Page:
        return Page(body=Canvas("Facts.", schema=Endless))

    with browser(app) as client:
        assert write(client, "/")[-1]["state"] == "written"
        names = app.value("/", "body").names
        assert names[0] == "fog" and names[1].startswith("light house by the very") and len(names) == 2


def test_a_page_whose_schema_has_changed_is_generated_again(tmp_path: Path) -> None:
    with browser(atlas(tmp_path, scripted(GOOD))) as client:
        write(client, "/place/Tower")

    class Facts(BaseModel):
        kind: str
        height: int

    app = make_app(tmp_path, scripted('{"kind":"tower","height":30}'), folder=tmp_path)

    @app.page("/place/{name}")
    def place(name: str) -> Page:
        return Page("facts.html", facts=Canvas(f"Facts about {name}.", schema=Facts))

    with browser(app) as client:
        assert app.values(Facts) == [], "values that do not fit are left out"
        assert write(client, "/place/Tower")[-1]["state"] == "written"
        assert app.value("/place/Tower", "facts") == Facts(kind="tower", height=30)


# -- schemas that an engine does not support ------------------------------------------------------------------


class Book(BaseModel):
    code: int = Field(multiple_of=3)


class Refusing(ScriptedEngine):
    """A scripted engine that supports only schemas that can be converted to a grammar."""

    def check(self, request: Request) -> None:
        if request.schema is not None:
            grammar_from_schema(request.schema)


def refusing() -> Engine:
    return Refusing("x", {}, 0.0, ABOUT)


MESSAGE = (
    "The canvas 'body' of the page '/book/{name}' cannot be written by a script (scripted). The schema Book at $.code "
    "has 'multipleOf', which cannot be enforced. Leave it out and check it afterwards."
)


def library(home: Path, *, picky: bool = False) -> App:
    app = make_app(home, refusing())

    @app.page("/book/{name}")
    def book(name: str) -> Page:
        if picky and name == "Lighthouse":
            raise LookupError(name)
        return Page(body=Canvas(f"On {name}.", schema=Book))

    return app


def test_an_unsupported_schema_is_an_error_at_start_up(tmp_path: Path) -> None:
    with pytest.raises(BadSchema) as raised, browser(library(tmp_path)):
        pass
    assert str(raised.value) == MESSAGE


def test_a_page_without_a_sample_is_checked_on_its_first_request(tmp_path: Path) -> None:
    app = library(tmp_path, picky=True)
    app.configure({"debug": True})
    with browser(app) as client:
        answer = client.get("/book/Tea")
        assert answer.status_code == 500
        assert MESSAGE.replace("'", "&#39;") in answer.text
        assert app.store.count() == 0


def test_something_that_is_not_a_schema_is_an_error_at_start_up(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))

    @app.page("/{name}")
    def page(name: str) -> Page:
        return Page(body=Canvas("Words.", schema=int))

    with pytest.raises(BadSchema, match="takes a pydantic model or a dataclass, but got <class 'int'>"), browser(app):
        pass


def test_a_failed_start_up_is_reported_without_a_traceback(tmp_path: Path) -> None:
    async def start() -> dict[str, Any]:
        heard: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            heard.append(message)

        with pytest.raises(BadSchema):
            await library(tmp_path)({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        return dict(heard[-1])

    assert asyncio.run(start()) == {"type": "lifespan.startup.failed", "message": MESSAGE}


# -- rendering during generation -----------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    BLUE = "dark blue"


class Part(BaseModel):
    name: str
    colour: Colour = Colour.RED


@dataclass
class Yard:
    name: str
    parts: list[Part]


class Ship(BaseModel):
    kind: str
    colour: Colour
    yard: Yard
    captain: Part | None
    counts: dict[str, int]


SHIP = """{% extends "layout.html" %}{% block main %}{% block ship %}
{{ ship.kind }}|{{ ship.colour }}|{{ ship.colour.value }}|{{ ship.yard.name }}|
{%- for part in ship.yard.parts %}{{ part.name }} {{ part.colour }},{% endfor %}|
{%- if ship.captain %}{{ ship.captain.name }}{% endif %}|
{%- for name, count in ship.counts.items() %}{{ name }}={{ count }},{% endfor %}{% endblock %}{% endblock %}"""
WHOLE = (
    '{"kind":"brig","colour":"dark blue","yard":{"name":"Old Yard","parts":[{"name":"mast","colour":"red"},'
    '{"name":"keel","colour":"dark blue"}]},"captain":{"name":"Ada","colour":"red"},"counts":{"guns":12}}'
)


def harbour(home: Path, engine: Engine) -> App:
    app = make_app(home, engine, folder=templates(home, ship=SHIP))

    @app.page("/")
    def front() -> Page:
        return Page("ship.html", title="Ship", ship=Canvas("A ship.", schema=Ship))

    return app


def test_nested_values_are_rendered_from_the_first_character_on(tmp_path: Path) -> None:
    steps = [text_frame(WHOLE[:n]) for n in [*range(0, len(WHOLE), 3), len(WHOLE)]]
    app = harbour(tmp_path, scripted(steps))
    with browser(app) as client:
        shell = client.get("/").text
        heard = follow(client, "/")
    assert inner(shell, "ship").split() == ["||||||"]
    assert heard[-1]["state"] == "written"
    shown = ["".join(m["html"].split()) for m in heard if m["type"] == "frame"]
    assert shown[-1] == "brig|darkblue|darkblue|OldYard|mastred,keeldarkblue,|Ada|guns=12,"
    assert all(text.count("|") == 6 for text in shown)


def test_unsettled_parts_of_nested_values_are_marked(tmp_path: Path) -> None:
    at = [WHOLE.index(word) for word in ("dark blue", "keel", "Ada", "12")]
    spans = tuple((a, a + 2) for a in at)
    formatter = get_format("typed").create_formatter(RegionContext(a_linker(), "ship", "", Ship))
    value = formatter.format(Frame(WHOLE, spans)).value
    soft = '<span class="unsettled">'
    for text in (value.colour, value.yard.parts[1].name, value.captain.name, value.counts["guns"]):
        assert str(escape(text)).startswith(soft)
    assert value.colour.value == "dark blue" and value.yard.parts[0].colour.value == "red"
    for n in range(len(WHOLE)):
        value = formatter.format(Frame(WHOLE[:n], ((0, n),) if n else ())).value
        assert value.yard.parts is not None and value.counts is not None


def test_a_union_of_models_is_rendered_incrementally() -> None:
    class Cat(BaseModel):
        kind: str
        lives: int

    class Dog(BaseModel):
        kind: str
        tricks: list[str]

    class Home(BaseModel):
        pet: Cat | Dog | None

    formatter = get_format("typed").create_formatter(RegionContext(a_linker(), "home", "", Home))
    assert formatter.format(Frame('{"pet":{"kind":"do')).value.pet.tricks == ()
    assert formatter.format(Frame("")).value.pet is None


@pytest.mark.anyio
async def test_a_diffusion_model_settles_a_nested_value(tmp_path: Path) -> None:
    engine = await asyncio.to_thread(open_engine, "diffusion", model="random")
    formatter = get_format("typed").create_formatter(RegionContext(a_linker(), "ship", "", Ship))
    request = Request(Prompt("A ship."), canvases=2, seed=3, schema=json_schema_of(Ship), options={"steps": 6})
    frames = [frame async for frame in engine.generate(request)]
    await engine.close()
    for frame in frames[:-1]:
        value = formatter.format(frame).value
        assert value.colour.value in {"red", "dark blue"} and isinstance(value.yard.name, str)
    assert isinstance(formatter.format(frames[-1]).value, Ship)


@pytest.mark.anyio
async def test_nested_values_of_the_embedded_model_are_rendered_incrementally(embedded: Engine) -> None:
    formatter = get_format("typed").create_formatter(RegionContext(a_linker(), "ship", "", Ship))
    request = Request(Prompt("A ship."), canvases=2, seed=3, schema=json_schema_of(Ship))
    embedded.check(request)
    named = set()
    last = None
    async for last in embedded.generate(request):
        if not last.done:
            named.add(formatter.format(last).value.yard.name)
    assert last is not None
    done = repair(Ship, last.text)
    assert done.value.yard.name in named and None in named, "from the empty to the complete name"


# -- seeds and options that an engine does not support --------------------------------------------------------


class Seedless(ScriptedEngine):
    """A scripted engine that refuses seeds and has no options."""

    def check(self, request: Request) -> None:
        check_options(request.options, (), "The engine")
        if request.seed is not None:
            raise RequestRefused("No seed repeats a text.")


def test_a_seed_that_the_engine_refuses_is_an_error_at_start_up(tmp_path: Path) -> None:
    app = make_app(tmp_path, Seedless("x", {}, 0.0, ABOUT))

    @app.page("/tea")
    def tea() -> Canvas:
        return Canvas("Tea.", seed=7)

    with (
        pytest.raises(BadPage, match=r"'body' of the page '/tea' cannot be written by .* No seed repeats a text\."),
        browser(app),
    ):
        pass


def test_an_option_that_the_engine_does_not_have_is_an_error_at_start_up(tmp_path: Path) -> None:
    app = make_app(tmp_path, Seedless("x", {}, 0.0, ABOUT))

    @app.page("/tea")
    def tea() -> Canvas:
        return Canvas("Tea.", options={"temperature": 0.5})

    with pytest.raises(BadPage, match="has no option 'temperature'"), browser(app):
        pass


# -- assumed bounds -------------------------------------------------------------------------------------------


class Recipe(BaseModel):
    title: str
    servings: int
    steps: list[str]


def cookbook(home: Path, engine: Engine, **options: Any) -> App:
    app = make_app(home, engine, **options)

    @app.page("/recipe/{name}")
    def recipe(name: str) -> Page:
        return Page(title=name, body=Canvas(f"The recipe for {name}.", schema=Recipe))

    return app


def recording(asked: list[Request], text: str, **abilities: bool) -> Engine:
    def answer(request: Request) -> str:
        asked.append(request)
        return text

    about = replace(ABOUT, abilities=replace(ABOUT.abilities, **abilities))
    return scripted(answer, about=about)


HUGE = '{"title":"Soup","servings":491509420,"steps":["Boil.","Boil.","Eat."]}'


def test_assumed_bounds_guide_the_engine_and_reject_nothing(tmp_path: Path) -> None:
    asked: list[Request] = []
    app = cookbook(tmp_path, recording(asked, HUGE, patterns=True, instruct=False))
    with browser(app) as client:
        assert write(client, "/recipe/Soup")[-1]["state"] == "written"
        assert app.value("/recipe/Soup", "body") == Recipe(title="Soup", servings=491509420, steps=["Boil.", "Eat."])
    assert asked[0].schema is not None and asked[0].schema["properties"]["servings"]["maximum"] <= 20
    example = asked[0].prompt.examples[0]
    assert "Soup" not in example.ask and example.ask.startswith("The recipe for ")
    Recipe.model_validate_json(example.answer)


def copying(*answers: Script) -> ScriptedEngine:
    """Return an engine that answers in turn; COPY is the answer of the prompt's first example."""
    remaining = list(answers)

    def answer(request: Request) -> Script:
        script = remaining.pop(0)
        return request.prompt.examples[0].answer if script == "COPY" else script

    return scripted(answer, about=replace(ABOUT, abilities=replace(ABOUT.abilities, patterns=True, instruct=False)))


OWN = '{"title":"Soup","servings":4,"steps":["Boil it.","Eat it."]}'
AGAIN = "generated again: title, steps: copied from the example."
COPIED = "title: copied from the example; steps: copied from the example"
BEGUN = '{"title":"So'


@pytest.mark.parametrize(
    ("answers", "steps", "repairs"),
    [
        (["COPY", OWN], ["Boil it.", "Eat it."], AGAIN),
        (["COPY", "COPY"], None, f"{AGAIN}; {COPIED}"),
        (["COPY", "no value"], None, f"{AGAIN}; the second attempt failed; {COPIED}"),
        (["COPY", ""], None, f"{AGAIN}; the second attempt failed; {COPIED}"),
        (["COPY", [BEGUN, CUT]], None, f"{AGAIN}; the second attempt failed; {COPIED}"),
        (["COPY", [BEGUN, GenerationFailed("No.")]], None, f"{AGAIN}; the second attempt failed; {COPIED}"),
        (["COPY", [BEGUN, HANG]], None, f"{AGAIN}; the second attempt failed; {COPIED}"),
        ([OWN], ["Boil it.", "Eat it."], ""),
    ],
)
def test_a_copy_of_the_example_is_generated_again_once(
    tmp_path: Path, answers: list[Script], steps: list[str] | None, repairs: str
) -> None:
    engine = copying(*answers)
    app = cookbook(tmp_path, engine, time_limit=2)
    with browser(app) as client:
        assert write(client, "/recipe/Soup")[-1]["state"] == "written"
        stored = app.store.get("/recipe/Soup")
        assert stored is not None and stored.canvases["body"].repairs == repairs
        copied = Recipe.model_validate_json(engine.requests[0].prompt.examples[0].answer).steps
        assert app.value("/recipe/Soup", "body").steps == (steps or copied)
    assert len(engine.requests) == len(answers)


def test_with_examples_of_the_author_nothing_is_assumed(tmp_path: Path) -> None:
    asked: list[Request] = []
    app = make_app(tmp_path, recording(asked, HUGE, patterns=True, instruct=False))
    example = Example("The recipe for bread.", '{"title":"# Bread","servings":900,"steps":["Mix.","Bake."]}')

    @app.page("/recipe/{name}")
    def recipe(name: str) -> Page:
        return Page(title=name, body=Canvas(f"The recipe for {name}.", schema=Recipe, examples=[example]))

    with browser(app) as client:
        assert write(client, "/recipe/Soup")[-1]["state"] == "written"
    assert asked[0].schema == json_schema_of(Recipe) and asked[0].prompt.examples == (example,)


def test_other_engines_get_the_author_s_schema_and_prompt(tmp_path: Path) -> None:
    asked: list[Request] = []
    with browser(cookbook(tmp_path, recording(asked, HUGE))) as client:
        assert write(client, "/recipe/Soup")[-1]["state"] == "written"
    assert asked[0].schema == json_schema_of(Recipe) and asked[0].prompt.examples == ()


def test_assumed_bounds_are_logged_once_in_development(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "unwritten")
    for debug, times in ((False, 0), (True, 1)):
        app = cookbook(tmp_path / str(debug), recording([], HUGE, patterns=True), debug=debug)

        @app.page("/dish/{name}")
        def dish(name: str) -> Page:
            return Page(title=name, body=Canvas(f"A dish: {name}.", schema=Recipe))

        with browser(app) as client:
            write(client, "/recipe/Soup")
            write(client, "/dish/Soup")
        lines = [record.message for record in caplog.records if "Assumed bounds" in record.message]
        assert len(lines) == times
    assert "servings: 1 to 10" in lines[0] and "Field(ge=" in lines[0]
