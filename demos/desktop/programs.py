"""New app…: a sentence becomes a program. Its screens are generated one by one, from the clicks before them."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page, Router

from .desk import app, examples, pick, window

router = Router()

MAX_CLICKS = 3
"""How many of the last clicks a screen's address holds."""


class Program(BaseModel):
    id: int | None = None
    sentence: str

    @property
    def key(self) -> str:
        """The key of the first screen."""
        return app.url_path_for("program", number=self.id)

    @property
    def name(self) -> str:
        """The generated name. Until there is one, the first words of the sentence."""
        card = app.value(self.key, "card", Card)
        return card.title if card else short_name(self.sentence)


class Card(BaseModel):
    title: str = Field(min_length=3, max_length=22)
    purpose: str = Field(min_length=10, max_length=90)


class Screen(BaseModel):
    heading: str = Field(min_length=3, max_length=36)
    says: str = Field(min_length=10, max_length=96)
    items: list[str] = Field(min_length=3, max_length=3)
    buttons: list[str] = Field(min_length=3, max_length=3)


INPUT_VERBS = ("add", "new", "write", "search", "find", "name", "enter", "ask", "send", "set", "change")
"""A button that begins with one of these leads to a screen with an input field."""

IDEAS = (
    "what is due today, a list of three things, a result, a message, some numbers, a question, advice for beginners, "
    "what happened lately, three places, a new entry"
)
THINGS = "an amount, a name, a day, a place, a number, a person, a colour, a time, a price, a month, a thing"
VERBS = "Show, Add, Ask, Count, Find, Send, Compare, Check, Begin, Name, Save, Call"
"""Suggestions for a screen, picked by its path: they make a small model less repetitive."""

programs = router.table(Program)
CARD, SCREEN = examples("card"), examples("screen")


def short_name(sentence: str) -> str:
    """Return the first meaningful words of a sentence."""
    words = re.sub(
        r"^(?:an?\s+)?(?:(?:app|program|tool|something)\s+)?(?:(?:that|which|to|for)\s+)?", "", sentence, flags=re.I
    )
    return " ".join(words.split()[:3])[:22].strip(" ,.;:").capitalize() or "App"


def next_trail(trail: str, button: str | None) -> str:
    """Return the last clicks after a button is pressed, joined by slashes. Empty without a usable label."""
    label = " ".join((button or "").replace("/", "-").split()).strip(" .")[:36]
    clicks = [*(click for click in trail.split("/") if click), label]
    return "/".join(clicks[-MAX_CLICKS:]) if label else ""


def press(number: int, trail: str, button: str | None) -> str | None:
    """Return the key of the screen behind a button, or None without a usable label."""
    following = next_trail(trail, button)
    return app.url_path_for("screen", number=number, trail=following, default=None) if following else None


def field_label(trail: str) -> str:
    """Return the label of a screen's input field. Empty if it has none."""
    last = trail.rsplit("/", 1)[-1]
    return last if last.lower().startswith(INPUT_VERBS) and ":" not in last else ""


def get_program(number: int) -> Program:
    """Return a program.

    Raises:
        HTTPException: 404 if there is none with this number.
    """
    found = programs.get(number)
    if found is None:
        raise HTTPException(404, f"There is no app {number} on this machine. Make one with “New app…”.")
    return found


def screen_canvas(row: Program, trail: str) -> Canvas:
    """Return the canvas of a screen. Its prompt says what was clicked, and what the previous screen showed."""
    *before, last = ["", *trail.split("/")] if trail else [""]
    previous = app.url_path_for("screen", number=row.id, trail="/".join(before[1:])) if len(before) > 1 else row.key
    seed = f"{row.sentence}/{trail}"
    (idea,), things, verbs = pick(IDEAS, 1, seed), pick(THINGS, 3, seed), pick(VERBS, 3, seed)
    idea += f", with {things[0]}, {things[1]} and {things[2]}. Buttons: {', '.join(verbs)}"
    earlier = app.value(previous, "screen", Screen) if last else None
    prompt = f"The app: {row.sentence[:160].rstrip('.')}."
    if last:
        seen = f" The screen “{earlier.heading}” showed {', '.join(earlier.items)}." if earlier else ""
        pressed = f" Pressed before: {', '.join(before[1:])}." if before[1:] else ""
        prompt += f"{pressed}{seen} Now “{last}” was pressed. The next screen: {idea}."
    else:
        prompt += f" Its first screen: {idea}."
    return Canvas(prompt, schema=Screen, canvases=2, examples=SCREEN, tokens=190)


@router.page("/new")
def new() -> Page:
    return window("new.html", "New app", programs=all_programs())


def all_programs() -> list[tuple[int, str, str, str]]:
    """Return all programs: number, key, name and sentence of each."""
    return [(row.id or 0, row.key, row.name, row.sentence) for row in programs.select()]


@router.action("/new/make")
def make(sentence: Annotated[str, Field(min_length=4, max_length=300, pattern=r"\w")]) -> str:
    return programs.insert(Program(sentence=" ".join(sentence.split()))).key


@router.action("/new/{number:int}/remove")
def remove(number: int) -> str:
    programs.delete(number)
    return app.url_path_for("new")


@router.page("/app/{number:int}")
def program(number: int) -> Page:
    row = get_program(number)
    canvases: dict[str, Any] = {"screen": screen_canvas(row, "")}
    if app.supports("app"):
        canvases = {"box": Canvas(row.sentence, "app")}
    card = Canvas(
        f"The name of an app, and what it is for: {row.sentence[:200]}", schema=Card, examples=CARD, tokens=60
    )
    return window("program.html", row.name, program=row, trail="", press=press, card=card, **canvases)


@router.page("/app/{number:int}/{trail:path}")
def screen(number: int, trail: str, request: Request, button: str = "", words: str = "") -> Page | Response:
    row = get_program(number)
    trail = "/".join(part for part in trail.split("/") if part != "-")
    if button:  # an input field was sent: its text becomes part of the click
        following = next_trail(trail, f"{button}: {words[:24]}" if words else button)
        if not following:
            return RedirectResponse(request.url_for("program", number=number), 303)
        return RedirectResponse(request.url_for("screen", number=number, trail=following), 303)
    return window(
        "program.html",
        row.name,
        program=row,
        trail=trail,
        press=press,
        screen=screen_canvas(row, trail),
        field=field_label(trail),
    )
