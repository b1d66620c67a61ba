"""The lock of the server on a SQLite file. The operating system releases it when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
from pathlib import Path

from ..core.errors import StoreLocked

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

log = logging.getLogger("unwritten")

_LOCKED = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_OFFSET = 1 << 20
"""The byte that is locked on Windows. It is beyond the text, because there other processes cannot read locked bytes."""

_held: dict[Path, tuple[int, int]] = {}
"""The locks of this process: a descriptor, and how many ``ServerLock`` objects share it."""

_held_lock = threading.Lock()


class ServerLock:
    """The right of this process to serve a database. Several apps of one process share it.

    The locked file is another one than the database: SQLite would lose its own locks if the database were closed here.

    Args:
        database: The SQLite file.

    Raises:
        StoreLocked: If another process has it. The message names the process.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.absolute().with_name(f"{database.name}-server")
        with _held_lock:
            descriptor, count = _held.get(self._path, (-1, 0))
            if not count:
                descriptor = _lock_file(self._path, database)
            _held[self._path] = descriptor, count + 1

    def release(self) -> None:
        """Let another process serve the database."""
        with _held_lock:
            descriptor, count = _held.pop(self._path)
            if count > 1:
                _held[self._path] = descriptor, count - 1
            elif descriptor >= 0:
                with contextlib.suppress(OSError):  # Windows deletes no open files
                    self._path.unlink()
                os.close(descriptor)


def _lock_file(path: Path, database: Path) -> int:
    """Return the descriptor of the locked file, or -1 if it cannot be created."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            log.warning("Whether another process serves %s is unknown: %s cannot be created: %s", database, path, error)
            return -1
        try:
            _lock(descriptor)
            if os.fstat(descriptor).st_ino != path.stat().st_ino:
                raise FileNotFoundError  # the previous owner has just deleted it
        except FileNotFoundError:
            os.close(descriptor)
            continue
        except OSError as error:
            with contextlib.suppress(OSError, ValueError):
                owner = int(os.pread(descriptor, 20, 0)) if hasattr(os, "pread") else int(path.read_text())
                os.close(descriptor)
                raise StoreLocked(explain_second_server(database, f"the process {owner}")) from None
            os.close(descriptor)
            if error.errno in _LOCKED:
                raise StoreLocked(explain_second_server(database, "another process")) from None
            log.warning("Whether another process serves %s is unknown: %s", database, error)  # no locks on this disk
            return -1
        with contextlib.suppress(OSError):  # the disk may be full
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        return descriptor


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def explain_second_server(database: object, owner: str) -> str:
    """Return why a second server is refused, and what to do."""
    return (
        f"The database {database} is served by {owner} already. Two servers without a broker would generate the same "
        "pages twice. Name another database (--database), only read this one (--read-only), or connect the servers "
        "(--broker)."
    )
