"""The machine: the app, its settings, and what all windows share."""

from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from pydantic import BaseModel, Field

from unwritten import App, Example, Page, read_examples

WORLD = (
    "This is the screen of an old, well-kept computer in a small harbour town. It belongs to Ada Holm, who runs the "
    "ferry office, keeps bees and repairs clocks. The tone is plain, dry and exact."
)

app = App("Halfmoon", folder=__file__, world=WORLD, links="/web/{address:path}")

Wallpaper = Literal["Harbour", "Fog", "Orchard", "Night ferry", "First snow", "Plain paper"]
Accent = Literal["ink", "brick", "moss", "plum", "amber"]


class Look(BaseModel):
    """The settings. The table has one row."""

    id: int | None = None
    machine: str = Field(default="Halfmoon", min_length=1, max_length=24, pattern=r"^[^\[\]<>{}]+$")
    wallpaper: Wallpaper = "Harbour"
    accent: Accent = "ink"
    scheme: Literal["auto", "light", "dark"] = "auto"
    text: Literal["small", "middle", "large"] = "middle"


looks = app.table(Look, initial=[Look()])


def look() -> Look:
    """Return the current settings."""
    return looks.get(1) or Look()


def window(template: str, title: str, **values: Any) -> Page:
    """Return a page that a window shows, with the settings of the machine."""
    return Page(template, title=title, look=look(), **values)


def examples(name: str) -> tuple[Example, ...]:
    """Return the examples in ``examples/name.txt``."""
    return read_examples(Path(__file__).parent / "examples" / f"{name}.txt")


def is_short(path: str) -> bool:
    """True if a path is short enough for a URL, so that a link may lead there."""
    return len(path) <= 110


def pick(choices: str, count: int, seed: str) -> list[str]:
    """Return a few of several choices, the same for the same seed. Suggestions make a small model less repetitive."""
    options = choices.split(", ")
    start = crc32(seed.encode())
    return [options[(start + 3 * step) % len(options)] for step in range(count)]
