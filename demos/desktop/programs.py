"""New app…: a sentence becomes a program, whose screens are written one by one, each from the clicks before it."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page
from unwritten.core.errors import BadAddress

from .desk import app, examples, some, window

REACH = 3
"""Clicks that an address remembers."""


class Program(BaseModel):
    id: int | None = None
    sentence: str

    @property
    def key(self) -> str:
        """Where its first screen is."""
        return app.url_path_for("program", number=self.id)

    @property
    def name(self) -> str:
        """Its own name, once that is written; until then the first words of the sentence."""
        card = app.value(self.key, "card", Card)
        return card.title if card else short(self.sentence)


class Card(BaseModel):
    title: str = Field(min_length=3, max_length=22)
    purpose: str = Field(min_length=10, max_length=90)


class Screen(BaseModel):
    heading: str = Field(min_length=3, max_length=36)
    says: str = Field(min_length=10, max_length=96)
    items: list[str] = Field(min_length=3, max_length=3)
    buttons: list[str] = Field(min_length=3, max_length=3)


TYPED = ("add", "new", "write", "search", "find", "name", "enter", "ask", "send", "set", "change")
"""A button that begins like this leads to a screen with a field: something is to be typed."""

IDEAS = (
    "what is due today, a list of three things, a result, a message, some numbers, a question, advice for beginners, "
    "what happened lately, three places, a new entry"
)
THINGS = "an amount, a name, a day, a place, a number, a person, a colour, a time, a price, a month, a thing"
VERBS = "Show, Add, Ask, Count, Find, Send, Compare, Check, Begin, Name, Save, Call"
"""What a screen may show, drawn by its way: a small model has more ideas when it is given some."""

programs = app.table(Program)
CARD, SCREEN = examples("card"), examples("screen")


def short(sentence: str) -> str:
    """The first words of a sentence that say something."""
    words = re.sub(
        r"^(?:an?\s+)?(?:(?:app|program|tool|something)\s+)?(?:(?:that|which|to|for)\s+)?", "", sentence, flags=re.I
    )
    return " ".join(words.split()[:3])[:22].strip(" ,.;:").capitalize() or "App"


def press(number: int, trail: str, button: str | None) -> str | None:
    """The key of the screen behind a button: it names the last few clicks, this one included."""
    clean = " ".join((button or "").replace("/", "-").split()).strip(" .")[:36]
    resolver = [*(click for click in trail.split("/") if click), clean][-REACH:]
    return app.url_path_for("screen", number=number, trail="/".join(resolver)) if clean else None


def field(trail: str) -> str:
    """The label of the field on a screen; empty if there is nothing to type."""
    last = trail.rsplit("/", 1)[-1]
    return last if last.lower().startswith(TYPED) and ":" not in last else ""


def found(number: int) -> Program:
    program = programs.get(number)
    if program is None:
        raise BadAddress(f"There is no app {number} on this machine. Make one up with “New app…”.", 404)
    return program


def screen_of(program: Program, trail: str) -> Canvas:
    """One screen: what was clicked, and what stood on the screen before it."""
    *before, last = ["", *trail.split("/")] if trail else [""]
    came_from = app.url_path_for("screen", number=program.id, trail="/".join(before[1:])) if len(before) > 1 else program.key
    way = f"{program.sentence}/{trail}"
    (idea,), things, verbs = some(IDEAS, 1, way), some(THINGS, 3, way), some(VERBS, 3, way)
    idea += f", with {things[0]}, {things[1]} and {things[2]}. Buttons: {', '.join(verbs)}"
    earlier = app.value(came_from, "screen", Screen) if last else None
    ask = f"The app: {program.sentence[:160].rstrip('.')}."
    if last:
        seen = f" The screen “{earlier.heading}” showed {', '.join(earlier.items)}." if earlier else ""
        pressed = f" Pressed before: {', '.join(before[1:])}." if before[1:] else ""
        ask += f"{pressed}{seen} Now “{last}” was pressed. The next screen: {idea}."
    else:
        ask += f" Its first screen: {idea}."
    return Canvas(ask, schema=Screen, canvases=2, examples=SCREEN, tokens=190)


@app.page("/new")
def new() -> Page:
    return window("new.html", "New app", programs=named())


def named() -> list[tuple[int, str, str, str]]:
    """All programs: number, key, name, sentence."""
    return [(row.id or 0, row.key, row.name, row.sentence) for row in programs.select()]


@app.action("/new/make")
def make(sentence: Annotated[str, Field(min_length=4, max_length=300, pattern=r"\w")]) -> str:
    return programs.insert(Program(sentence=" ".join(sentence.split()))).key


@app.action("/new/{number:int}/remove")
def remove(number: int) -> str:
    programs.delete(number)
    return "/new"


@app.page("/app/{number:int}")
def program(number: int) -> Page:
    row = found(number)
    parts: dict[str, Any] = {"screen": screen_of(row, "")}
    if app.supports("app"):
        parts = {"box": Canvas(row.sentence, "app")}
    card = Canvas(
        f"The name of an app, and what it is for: {row.sentence[:200]}", schema=Card, examples=CARD, tokens=60
    )
    return window("program.html", row.name, program=row, trail="", press=press, card=card, **parts)


@app.page("/app/{number:int}/{trail:path}")
def screen(number: int, trail: str, button: str = "", words: str = "") -> Page | Response:
    row = found(number)
    trail = "/".join(part for part in trail.split("/") if part != "-")
    if button:  # a field was filled in: what was typed is a part of what was pressed
        said = f"{button}: {words[:24]}" if words else button
        return RedirectResponse(press(number, trail, said) or row.key, 303)
    parts = {"program": row, "trail": trail, "press": press}
    return window("program.html", row.name, **parts, screen=screen_of(row, trail), field=field(trail))
