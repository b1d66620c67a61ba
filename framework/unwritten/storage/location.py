"""Where a database is: a SQLite file, or the URL of a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

from ..core.errors import BadSetting

POSTGRES_SCHEMES = ("postgresql", "postgres")

_SHOWN_PARAMETERS = frozenset({"host", "port", "dbname", "user", "sslmode", "options"})
"""Parameters of a URL that are shown. Others may be secrets, such as ``password``."""


class PostgresURL:
    """The URL of a PostgreSQL database. Its text form, ``str(url)``, leaves out passwords.

    Args:
        text: The URL, as libpq understands it.

    Attributes:
        secret: The URL with its password. Never show it.
        is_valid: False if it cannot be told which part is the password.
    """

    def __init__(self, text: str) -> None:
        self.secret = text
        shown = _without_passwords(text)
        self.is_valid = bool(shown)
        self._shown = shown or f"{text.partition('://')[0]}://…"

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"PostgresURL({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PostgresURL) and self.secret == other.secret

    def __hash__(self) -> int:
        return hash(self.secret)


Location: TypeAlias = Path | PostgresURL
"""A SQLite file or a PostgreSQL database. Both can be shown to people with ``str``."""


def parse_location(text: str) -> Location:
    """Return the location that a setting names.

    Raises:
        BadSetting: For the URL of another kind of database.
    """
    scheme, colon, rest = text.partition("://")
    if not colon:
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise BadSetting(f"The database {text!r} is in the folder of a user who does not exist.") from None
    if scheme.lower() in POSTGRES_SCHEMES:
        return PostgresURL(f"{scheme.lower()}://{rest}")
    if scheme.lower() == "sqlite":
        raise BadSetting(f"A SQLite database is named by its file, without {scheme}://: --database pages.db")
    raise BadSetting(
        f"Databases of the kind {scheme!r} are not supported. Name a SQLite file, or postgresql://user@host/name."
    )


def _without_passwords(text: str) -> str:
    """Return a URL without its passwords. Empty if they cannot be told from the rest."""
    scheme = text.partition("://")[0]
    try:
        parts = urlsplit(text)
        user, at, host = parts.netloc.rpartition("@")
        query = [(name, value) for name, value in parse_qsl(parts.query) if name in _SHOWN_PARAMETERS]
        _ = parts.port  # raises if it is no number
    except ValueError:
        return ""
    # A special character that is not escaped may have moved a part of the password out of its place.
    if "@" in text[text.index(parts.netloc) + len(parts.netloc) :] or parts.fragment:
        return ""
    shown = f"{scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"
    return f"{shown}?{urlencode(query, safe='/')}" if query else shown
