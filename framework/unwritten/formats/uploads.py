"""Uploads: what an author's code sees of a file that a visitor has sent. The content is in the database."""

from __future__ import annotations

import re
import unicodedata

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..core.bidi import remove_controls
from ..core.localization import gettext_lazy as _

UNKNOWN_TYPE = "application/octet-stream"
"""The media type of files that are not images."""

MODEL_IMAGES = frozenset({"image/png", "image/jpeg", "image/webp"})
"""Media types of images that models can see."""

MAX_NAME_LENGTH = 100
"""Maximum length of a file name. A longer one is cut, and keeps its suffix."""


class Upload(BaseModel):
    """A file that a visitor has sent in a form: ``def add(file: Upload)`` above an action.

    It can be a field of a table's model. The file is stored in the database as long as a row refers to it.

    Attributes:
        key: Identifies the content in this world. Equal files are stored once.
        name: The file's name, without folders and invisible characters.
        media_type: ``image/png``, ``image/jpeg``, ``image/webp`` or ``image/gif``, judged by the content, and
            ``application/octet-stream`` for everything else. What the browser says is not used.
        size: The number of bytes that were sent.
    """

    model_config = ConfigDict(frozen=True)

    key: str = Field(pattern=r"^[0-9a-f]{32}$")
    name: str
    media_type: str
    size: int

    @property
    def is_image(self) -> bool:
        """True if browsers show it as an image."""
        return self.media_type != UNKNOWN_TYPE


class ImageUpload(Upload):
    """An ``Upload`` that is a PNG, JPEG or WebP image. In a form, other files are refused beside their field."""

    @field_validator("media_type")
    @classmethod
    def _check_image(cls, media_type: str) -> str:
        if media_type not in MODEL_IMAGES:
            raise ValueError(_("A PNG, JPEG or WebP image, please."))
        return media_type


def media_type_of(start: bytes) -> str:
    """Return the media type of a file, from its first bytes."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return UNKNOWN_TYPE


def safe_name(name: str) -> str:
    """Return a file name from a browser without folders, invisible characters and characters that systems reserve."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    shown = "".join(char for char in remove_controls(last) if unicodedata.category(char)[0] != "C")
    shown = " ".join(re.sub(r'[<>:"|?*]', "_", shown).split()).strip(". ") or "file"
    if len(shown) > MAX_NAME_LENGTH:
        stem, dot, suffix = shown.rpartition(".")
        end = dot + suffix if dot and len(suffix) < 12 else ""
        shown = (stem if end else shown)[: MAX_NAME_LENGTH - len(end)] + end
    return shown
