"""The schema of the database, as a series of named migrations. Never change a released one: add another.

The names of migrations are stored in databases, and keep the terms of their time.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlite_utils import Database, Migrations

from .search import value_text

APPLICATION_ID = 0x556E7772
"""``PRAGMA application_id`` of our databases: "Unwr" in ASCII."""

migrations = Migrations("unwritten")


@migrations()
def m001_pages(db: Database) -> None:
    """Create pages with their versions, the canvases of each version, and links and search index of the current one."""
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


@migrations()
def m002_world(db: Database) -> None:
    """Create the world table: values of the app as a whole, by name, such as its secret."""
    db.table("world").create({"name": str, "value": str}, pk="name", not_null={"value"})


@migrations()
def m003_values(db: Database) -> None:
    """Create the values of canvases with a schema, for current versions. Add schema and repairs to canvases."""
    db.table("shaped").create(
        {"page": int, "name": str, "shape": str, "value": str, "fact": int, "version": int, "written_at": str},
        pk=["page", "name"],
        foreign_keys=[("page", "pages", "id")],
        not_null={"shape", "value", "fact", "version", "written_at"},
    ).create_index(["shape", "written_at"])
    db.execute("CREATE INDEX shaped_facts ON shaped (written_at) WHERE fact")
    canvases = db.table("canvases")
    canvases.add_column("shape", str, not_null_default="")
    canvases.add_column("fact", int, not_null_default=0)
    canvases.add_column("repairs", str, not_null_default="")


@migrations()
def m004_state(db: Database) -> None:
    """Create the models of the author's tables, and the responses of actions."""
    db.table("tables").create({"name": str, "columns": str, "model": str}, pk="name", not_null={"columns", "model"})
    db.table("actions").create(
        {"action": str, "key": str, "content": str, "answer": str, "at": float},
        pk=["action", "key", "content"],
        not_null={"answer", "at"},
    ).create_index(["at"])


@migrations()
def m005_history(db: Database) -> None:
    """Add to versions their kind, the visitor's note, the version they are based on, and the changed regions (JSON)."""
    versions = db.table("versions")
    versions.add_column("means", str, not_null_default="written")
    versions.add_column("note", str, not_null_default="")
    versions.add_column("base", int)
    versions.add_column("regions", str, not_null_default="[]")


@migrations()
def m008_ahead(db: Database) -> None:
    """Add to versions the seconds between a prefetch and the first visit; -1 before the first visit."""
    db.table("versions").add_column("ahead", float)


@migrations()
def m009_boxes(db: Database) -> None:
    """Create the saved state (JSON) of apps in boxes. It is deleted with its page."""
    db.table("boxes").create(
        {"page": str, "region": str, "state": str, "saved_at": str},
        pk=["page", "region"],
        not_null={"state", "saved_at"},
    )
    db.execute("CREATE TRIGGER boxes_of_pages AFTER DELETE ON pages BEGIN DELETE FROM boxes WHERE page = OLD.key; END")


@migrations()
def m010_pictures(db: Database) -> None:
    """Create painted pictures, by the hash of the request, with their provenance."""
    db.table("pictures").create(
        {
            "key": str,
            "prompt": str,
            "width": int,
            "height": int,
            "media_type": str,
            "content": bytes,
            "model": str,
            "seed": int,
            "steps": int,
            "seconds": float,
            "painted_at": str,
        },
        pk="key",
        not_null={"media_type", "content", "model", "seed", "painted_at"},
    )


@migrations()
def m011_standard_names(db: Database) -> None:
    """Rename columns and a table to the terms that the code uses: kind, schema, opened_after, canvas_values."""
    for statement in (
        "ALTER TABLE versions RENAME COLUMN means TO kind",
        "ALTER TABLE versions RENAME COLUMN ahead TO opened_after",
        "ALTER TABLE canvases RENAME COLUMN shape TO schema",
        "DROP INDEX shaped_facts",
        "DROP INDEX idx_shaped_shape_written_at",
        "ALTER TABLE shaped RENAME TO canvas_values",
        "ALTER TABLE canvas_values RENAME COLUMN shape TO schema",
        "CREATE INDEX canvas_values_of_schema ON canvas_values (schema, written_at)",
        "CREATE INDEX canvas_values_facts ON canvas_values (written_at) WHERE fact",
    ):
        db.execute(statement)


@migrations()
def m012_unfinished(db: Database) -> None:
    """Create the pages that were not finished when a server stopped, with their finished canvases (JSON)."""
    db.table("unfinished").create(
        {"key": str, "canvases": str, "saved_at": float}, pk="key", not_null={"canvases", "saved_at"}
    )


@migrations()
def m013_search_values(db: Database) -> None:
    """Add the values of schemas to the search index. FTS5 has no ALTER TABLE, so that the index is built again."""
    texts = db.execute("SELECT rowid, title, text FROM search ORDER BY rowid").fetchall()
    db.execute("DROP TABLE search")
    db.execute("CREATE VIRTUAL TABLE search USING fts5(title, text, value, tokenize = 'unicode61 remove_diacritics 2')")
    values: dict[int, list[str]] = {}
    for page, value in db.execute("SELECT page, value FROM canvas_values ORDER BY page, name"):
        values.setdefault(page, []).append(value)

    def rows() -> Iterator[tuple[int, str, str, str]]:
        for page, title, text in texts:
            yield page, title, text, value_text(values.get(page, ()))

    db.conn.executemany("INSERT INTO search (rowid, title, text, value) VALUES (?, ?, ?, ?)", rows())


@migrations()
def m014_uploads(db: Database) -> None:
    """Create the files that visitors have sent, by the key of their content."""
    db.table("uploads").create(
        {"key": str, "media_type": str, "content": bytes, "uploaded_at": str},
        pk="key",
        not_null={"media_type", "content", "uploaded_at"},
    )


@migrations()
def m015_aliases_and_gists(db: Database) -> None:
    """Create aliases: keys that are other names of pages. Add to links what the target was said to be about."""
    db.table("aliases").create(
        {"alias": str, "target": str, "declared": int}, pk="alias", not_null={"target", "declared"}
    ).create_index(["target"])
    db.table("links").add_column("gist", str, not_null_default="")
