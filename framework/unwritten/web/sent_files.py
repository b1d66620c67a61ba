"""The files of a submitted form: examined before its action runs, and stored in its transaction.

A form is read to its end before its action runs. Small files are in memory, larger ones in temporary files, which the
operating system deletes with the process. The content of a file is read into memory once, in the transaction of the
action, so the memory in use does not depend on the number of visitors.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile

from ..formats.image_metadata import without_metadata
from ..formats.uploads import media_type_of, safe_name
from ..security.signer import Signer
from ..storage.database import Connection
from ..storage.transactions import Transaction
from ..storage.uploads import delete_unreferenced, has_upload, save_upload

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file of a submitted form.

    Attributes:
        field: The name of its field.
        file: The file.
        key: Identifies the content in this world. It cannot be computed without the secret of the world.
        media_type: Judged by the content.
        size: In bytes.
    """

    field: str
    file: UploadFile
    key: str
    media_type: str
    size: int

    def as_upload(self) -> dict[str, Any]:
        """Return the values of an ``Upload``."""
        return {
            "key": self.key,
            "name": safe_name(self.file.filename or ""),
            "media_type": self.media_type,
            "size": self.size,
        }


async def examine_files(files: Sequence[tuple[str, UploadFile]], signer: Signer) -> list[SentFile]:
    """Read the files of a form once, for their keys and types. Fields without a file are left out."""
    found = []
    for field, file in files:
        digest, start, size = hashlib.sha256(), b"", 0
        await file.seek(0)
        while chunk := await file.read(_CHUNK):
            digest.update(chunk)
            start = start or chunk[:16]
            size += len(chunk)
        await file.seek(0)
        if size or file.filename:  # a browser sends a field without a file as an empty file without a name
            key = signer.digest("file", digest.hexdigest())
            found.append(SentFile(field, file, key, media_type_of(start), size))
    return found


async def store_files(transaction: Transaction, files: Sequence[SentFile]) -> None:
    """Store the files of a form in the transaction of its action."""
    for sent in files:
        if await asyncio.to_thread(transaction.execute, lambda connection, key=sent.key: has_upload(connection, key)):
            continue
        content = await sent.file.read()
        await sent.file.seek(0)

        def save(connection: Connection, sent: SentFile = sent, content: bytes = content) -> None:
            save_upload(connection, sent.key, sent.media_type, without_metadata(content, sent.media_type))

        await asyncio.to_thread(transaction.execute, save)


async def delete_unused(transaction: Transaction, files: Sequence[SentFile]) -> None:
    """Delete the files that the action has put into no row."""
    keys = {sent.key for sent in files}
    await asyncio.to_thread(transaction.execute, lambda connection: delete_unreferenced(connection, keys))
