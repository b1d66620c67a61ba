"""Lists of threads: rows of a board, and what the address of a thread says."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from markupsafe import Markup

from unwritten.core.errors import BadAddress
from unwritten.formats.base import Format

from .people import seeded


@dataclass
class Row:
    """A thread on a board. One that the model begins has a ``seat``, and no title before it is written."""

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
    """What the address of a thread says."""

    key: str
    board: str
    author: str
    title: str


def first_sentence(text: str) -> tuple[str, str]:
    """What begins a thread, as its title and the rest."""
    found = re.match(r"(.{12,90}?[.!?])(?:\s+|$)(.*)", " ".join(text.split()))
    title, rest = (found[1], found[2]) if found else (text[:90], "")
    return re.sub(r"[\[\]|]", "", title).strip().removesuffix("."), rest


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def board_name(name: str) -> str:
    """The name of a board, if it is one.

    Raises:
        BadAddress: for a path, or anything else that is no name.
    """
    if not re.fullmatch(r"[^\W_][\w '’&,!?-]{0,39}", name):
        raise BadAddress(
            f"“{name[:60]}” cannot be the name of a board. A board has a short name of letters, digits and spaces, "
            "without slashes and dots. Try /b/Umbrellas, or choose one on the front page.",
            404,
        )
    return name[:1].upper() + name[1:].lower()


def threads(keys: Iterable[str]) -> list[ThreadKey]:
    """Those of some addresses of pages that are threads of the town."""
    found = []
    for key in keys:
        parts = [unquote(part).replace("_", " ") for part in key.split("/")[1:]]
        if len(parts) == 4 and parts[0] == "b" and "?" not in key:
            found.append(ThreadKey(key, *parts[1:]))
    return found


def starter_format(seat: int, key_of: Callable[[str], str]) -> Format:
    """How the beginning of a thread is drawn: its first sentence is the title, and leads to the thread."""

    def draw(text: str) -> str:
        title, rest = first_sentence(text)
        whole = bool(re.search(r"[.!?]", text)) and bool(title)
        linked = Markup('<a href="{}">{}</a>').format(key_of(title), title) if whole else Markup("{}").format(title)
        return Markup('<p class="thread-title">{}</p><p class="teaser">{}</p>').format(linked, rest)

    return Format(
        f"starter{seat}", render=draw, css_classes=["thread-title", "teaser"], placeholder_lines=2, prose=True
    )


def first_score(key: str) -> int:
    """The votes of the town on a thread."""
    return seeded("score", key).randint(3, 40)
