"""Lists of threads: the rows of a board, and what a thread's key says."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from markupsafe import Markup
from starlette.exceptions import HTTPException

from unwritten import Format

from .people import seeded_random


@dataclass
class Row:
    """A thread on a board.

    Attributes:
        name: The author's name.
        guest: The author's number if a visitor began the thread, otherwise 0.
        seat: The number of the canvas that begins the thread, or -1 for a visitor's thread. Its title is empty until
            it is generated.
    """

    name: str
    guest: int = 0
    seat: int = -1
    key: str = ""
    title: str = ""
    teaser: str = ""
    posts: int = 0
    score: int = 0


@dataclass(frozen=True)
class ThreadKey:
    """The parts of a thread's key."""

    key: str
    board: str
    author: str
    title: str


def split_title(text: str) -> tuple[str, str]:
    """Split the first post of a thread into its title, which is the first sentence, and the rest."""
    text = " ".join(text.split())
    found = re.match(r"(.{12,90}?[.!?])(?:\s+|$)(.*)", text)
    title, rest = (found[1], found[2]) if found else (text[:90], text[90:])
    return re.sub(r"[\[\]|]", "", title).strip().removesuffix("."), rest


def capitalize_first(text: str) -> str:
    """Return a text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def board_name(name: str) -> str:
    """Return the canonical name of a board.

    Raises:
        HTTPException: 404 for a path, or anything else that cannot be a name.
    """
    if not re.fullmatch(r"[^\W_][\w '’&,!?-]{0,39}", name):
        raise HTTPException(
            404,
            f"“{name[:60]}” cannot be the name of a board. Board names consist of letters, digits and spaces, "
            "up to 40 characters. Try /b/Umbrellas, or choose a board on the home page.",
        )
    return name[:1].upper() + name[1:].lower()


def threads_among(keys: Iterable[str]) -> list[ThreadKey]:
    """Return those keys that are threads of the town, split into their parts."""
    found = []
    for key in keys:
        parts = [unquote(part).replace("_", " ") for part in key.split("/")[1:]]
        if len(parts) == 4 and parts[0] == "b" and "?" not in key:
            found.append(ThreadKey(key, *parts[1:]))
    return found


def starter_format(seat: int, key_of: Callable[[str], str]) -> Format:
    """Return the format of a thread's first post on its board: the first sentence is a link to the thread.

    Args:
        seat: The number of the canvas.
        key_of: Returns the key of the thread with a title.
    """

    def render(text: str) -> str:
        title, rest = split_title(text)
        is_complete = bool(re.search(r"[.!?]", text)) and bool(title)
        linked = (
            Markup('<a href="{}">{}</a>').format(key_of(title), title) if is_complete else Markup("{}").format(title)
        )
        return Markup('<p class="thread-title">{}</p><p class="teaser">{}</p>').format(linked, rest)

    return Format(
        f"starter{seat}", render=render, css_classes=["thread-title", "teaser"], placeholder_lines=2, prose=True
    )


def initial_score(key: str) -> int:
    """Return the number of votes that a thread of the town begins with."""
    return seeded_random("score", key).randint(3, 40)
