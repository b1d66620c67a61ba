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
    """

    def __init__(self, text: str) -> None:
        self.secret = text
        self._shown = _without_passwords(text)

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
        return Path(text).expanduser()
    if scheme.lower() in POSTGRES_SCHEMES:
        return PostgresURL(f"{scheme.lower()}://{rest}")
    if scheme.lower() == "sqlite":
        raise BadSetting(f"A SQLite database is named by its file, without {scheme}://: --database pages.db")
    raise BadSetting(
        f"Databases of the kind {scheme!r} are not supported. Name a SQLite file, or postgresql://user@host/name."
    )


def _without_passwords(text: str) -> str:
    scheme = text.partition("://")[0]
    try:
        parts = urlsplit(text)
        user, at, host = parts.netloc.rpartition("@")
        query = [(name, value) for name, value in parse_qsl(parts.query) if name in _SHOWN_PARAMETERS]
    except ValueError:
        return f"{scheme}://…"
    if "@" in parts.path or parts.fragment:  # an unescaped character in the password has moved it out of its place
        return f"{scheme}://…"
    shown = f"{scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"
    return f"{shown}?{urlencode(query, safe='/')}" if query else shown
