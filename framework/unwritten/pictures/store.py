"""The store of painted pictures in the database. A picture is identified by its prompt and size."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from unwritten_engine.text_to_image import Painted

from ..storage.database import Database, insert_row


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """A picture that a template requests.

    Attributes:
        prompt: What it shows.
        width: In pixels.
        height: In pixels.
    """

    prompt: str
    width: int
    height: int

    @property
    def key(self) -> str:
        """Its key: equal requests are one picture."""
        text = json.dumps([self.prompt, self.width, self.height])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def seed(self) -> int:
        """Its seed. It depends on the prompt alone, so it is the same in every world."""
        return int.from_bytes(hashlib.sha256(self.prompt.encode("utf-8", "replace")).digest()[:4], "big")


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A painted picture.

    Attributes:
        content: The bytes of the file.
        media_type: Its media type.
        model: The model that painted it.
    """

    content: bytes
    media_type: str
    model: str


def get_picture(database: Database, picture: PictureRequest) -> StoredPicture | None:
    """Return a picture, or None if it is not painted yet."""
    rows = database.read("SELECT content, media_type, model FROM pictures WHERE key = ?", (picture.key,))
    return StoredPicture(*rows[0]) if rows else None


def get_painter(database: Database, picture: PictureRequest) -> str:
    """Return the model that painted a picture, or "" if it is not painted yet."""
    rows = database.read("SELECT model FROM pictures WHERE key = ?", (picture.key,))
    return str(rows[0][0]) if rows else ""


async def save_picture(
    database: Database, picture: PictureRequest, painted: Painted, model: str, seconds: float
) -> StoredPicture:
    """Save a picture. If another server on the same database was faster, return its picture.

    Raises:
        StoreError: If it could not be saved.
    """
    row = {
        "key": picture.key,
        "prompt": picture.prompt,
        "width": picture.width,
        "height": picture.height,
        "media_type": painted.media_type,
        "content": painted.content,
        "model": model,
        "seed": painted.seed,
        "steps": painted.steps,
        "seconds": round(seconds, 3),
        "painted_at": datetime.now(UTC).isoformat(),
    }
    await database.write(lambda connection: insert_row(connection, "pictures", row, ignore_existing=True))
    return get_picture(database, picture) or StoredPicture(painted.content, painted.media_type, model)
