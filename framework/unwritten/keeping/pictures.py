"""Pictures that were painted: each once, and kept with its world, with its model, its seed and its time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from unwritten_engine.text_to_image import Painted

from .database import Database


@dataclass(frozen=True, slots=True)
class Ask:
    """What a picture was asked for with.

    Attributes:
        prompt: what is on it.
        width: in pixels.
        height: in pixels.
    """

    prompt: str
    width: int
    height: int

    @property
    def key(self) -> str:
        """The picture's key: equal asks are one picture."""
        text = json.dumps([self.prompt, self.width, self.height])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def seed(self) -> int:
        """The picture's seed, from its words alone: the same in every world."""
        return int.from_bytes(hashlib.sha256(self.prompt.encode("utf-8", "replace")).digest()[:4], "big")


@dataclass(frozen=True, slots=True)
class Picture:
    """A painted picture as it is kept.

    Attributes:
        content: the file.
        media_type: of the file.
        model: who painted it.
    """

    content: bytes
    media_type: str
    model: str


def kept_picture(database: Database, ask: Ask) -> Picture | None:
    """A picture, if it was painted."""
    rows = database.read("SELECT content, media_type, model FROM pictures WHERE key = ?", (ask.key,))
    return Picture(*rows[0]) if rows else None


def painter_of(database: Database, ask: Ask) -> str:
    """The model that painted a picture; "" if nobody has."""
    rows = database.read("SELECT model FROM pictures WHERE key = ?", (ask.key,))
    return str(rows[0][0]) if rows else ""


async def keep_picture(database: Database, ask: Ask, painted: Painted, model: str, seconds: float) -> Picture:
    """Keep a picture; the one that was first, if another server on the same file was quicker.

    Raises:
        StoreError: it was not kept.
    """
    row = {
        "key": ask.key,
        "prompt": ask.prompt,
        "width": ask.width,
        "height": ask.height,
        "media_type": painted.media_type,
        "content": painted.content,
        "model": model,
        "seed": painted.seed,
        "steps": painted.steps,
        "seconds": round(seconds, 3),
        "painted_at": datetime.now(UTC).isoformat(),
    }
    await database.write(lambda tables: tables.table("pictures").insert(row, ignore=True))
    return kept_picture(database, ask) or Picture(painted.content, painted.media_type, model)
