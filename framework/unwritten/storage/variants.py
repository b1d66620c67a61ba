"""Variants of a page in the database: rows whose keys are its URL with a value; see ``routing.vary_rule``."""

from __future__ import annotations

from typing import Literal

from ..core.paths import variant_key


def variants_of(url: str, dialect: Literal["sqlite", "postgres"]) -> tuple[str, tuple[str, ...]]:
    """Return the condition of a query for the variants of the page at a URL, which uses an index, and its parameters.

    The page without a value, which is the shared variant, is not among them.
    """
    if dialect == "sqlite":
        return "key >= ? AND key < ?", (variant_key(url, ""), url + chr(ord("#") + 1))
    return "split_part(key, '#', 1) = ? AND strpos(key, '#') > 0", (url,)  # as in the index pages_variants
