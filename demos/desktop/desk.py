"""The machine: the app, its settings, and what every window has."""

from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from pydantic import BaseModel, Field

from unwritten import App, Example, Page
from unwritten.routing.prompts import read_examples

WORLD = (
    "This is the screen of an old, well-kept computer in a small harbour town. It belongs to Ada Holm, who runs the "
    "ferry office, keeps bees and repairs clocks. The tone is plain, dry and exact."
)

app = App("Halfmoon", folder=__file__, world=WORLD, links="/web/{address:path}")

Wallpaper = Literal["Harbour", "Fog", "Orchard", "Night ferry", "First snow", "Plain paper"]
Accent = Literal["ink", "brick", "moss", "plum", "amber"]


class Look(BaseModel):
    """What is set in Settings; there is one row."""

    id: int | None = None
    machine: str = Field(default="Halfmoon", min_length=1, max_length=24, pattern=r"^[^\[\]<>{}]+$")
    wallpaper: Wallpaper = "Harbour"
    accent: Accent = "ink"
    scheme: Literal["auto", "light", "dark"] = "auto"
    text: Literal["small", "middle", "large"] = "middle"


looks = app.table(Look, first=[Look()])


def look() -> Look:
    return looks.get(1) or Look()


def window(template: str, title: str, **parts: Any) -> Page:
    """A page as a window shows it, in the colours of the machine."""
    return Page(template, title=title, look=look(), **parts)


def examples(name: str) -> tuple[Example, ...]:
    return read_examples(Path(__file__).parent / "examples" / f"{name}.txt")


def fits(key: str) -> bool:
    """Whether an address is short enough to be a page, so that a link may lead there."""
    return len(key) <= 110


def some(words: str, count: int, seed: str) -> list[str]:
    """A few of many, always the same for the same seed: a small model has more ideas when it is given some."""
    many = words.split(", ")
    start = crc32(seed.encode())
    return [many[(start + 3 * step) % len(many)] for step in range(count)]
