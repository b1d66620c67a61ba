"""The database's layout, as a series of small named steps. Never edit a step that was released: add one."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x556E7772
"""``PRAGMA application_id`` of our files: "Unwr" in ASCII."""

migrations = Migrations("unwritten")


@migrations()
def m001_pages(db: Database) -> None:
    """Pages with their versions, the canvases of each version, the links of the current one, and search."""
    db.table("pages").create(
        {
            "id": int,
            "key": str,
            "title": str,
            "snippet": str,
            "version": int,
            "written_at": str,
        },
        pk="id",
        not_null={"key", "title", "snippet", "version", "written_at"},
    ).create_index(["key"], unique=True)
    db.table("pages").create_index(["written_at"])
    db.table("versions").create(
        {
            "id": int,
            "page": int,
            "number": int,
            "title": str,
            "written_at": str,
            "engine": str,
            "model": str,
            "prompt_hash": str,
            "seed": int,
            "tokens": int,
            "steps": int,
            "canvases": int,
            "seconds": float,
            "reason": str,
        },
        pk="id",
        foreign_keys=[("page", "pages", "id")],
    ).create_index(["page", "number"], unique=True)
    db.table("canvases").create(
        {
            "version": int,
            "position": int,
            "name": str,
            "format": str,
            "prompt": str,
            "text": str,
            "seed": int,
            "tokens": int,
            "steps": int,
            "canvases": int,
            "seconds": float,
            "reason": str,
        },
        pk=["version", "name"],
        foreign_keys=[("version", "versions", "id")],
    )
    db.table("links").create(
        {"source": str, "target": str, "text": str, "sentence": str, "position": int},
        pk=["source", "target"],
    ).create_index(["target"])
    db.execute("CREATE VIRTUAL TABLE search USING fts5(title, text, tokenize = 'unicode61 remove_diacritics 2')")
