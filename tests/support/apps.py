"""Apps with a scripted engine, clients of them, and the browser's side of the live socket."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from starlette.testclient import TestClient, WebSocketTestSession

from unwritten import App, Canvas, Page
from unwritten.formats.links import Linker
from unwritten.routing.patterns import PagePattern
from unwritten_engine import Engine, Frame, Request, Usage
from unwritten_engine.scripted import Script, scripted

Message: TypeAlias = dict[str, Any]

BROWSER = {"accept": "text/html,application/xhtml+xml"}
LIVE = "/_unwritten/live"
ENDS = {"written", "stopped", "failed", "unwritten"}

LIGHTHOUSE = (
    "A **lighthouse** is a [[Tower]] with a [[Lamp|bright lamp]]. It stands by the sea.\n\n"
    "## History\n\nThe first one burned wood.\n\n- stone\n- light\n"
)


def make_app(home: Path, engine: Engine, **given: Any) -> App:
    """Return an empty app with its database in ``home``. It prefetches nothing: most tests count requests."""
    return App("Fake Wiki", engine=engine, **{"database": str(home / "pages.db"), "prefetch": "off", **given})


def database_file(app: App) -> Path:
    """Return the SQLite file of an app."""
    assert isinstance(app.database, Path)
    return app.database


def make_wiki(home: Path, engine: Engine, **given: Any) -> App:
    """Return the five-line app of the README."""
    app = make_app(home, engine, **given)

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An encyclopedia article about {title}."

    return app


TWO = """{% extends "layout.html" %}{% block main %}
{% block lead %}{{ lead }}{% endblock %}{% block body %}{{ body }}{% endblock %}{% endblock %}"""


def templates(home: Path, **sources: str) -> Path:
    """Write templates into ``home``, and return it: ``two="…"`` makes ``two.html``."""
    (home / "templates").mkdir(exist_ok=True)
    for name, source in sources.items():
        (home / "templates" / f"{name}.html").write_text(source, encoding="utf-8")
    return home


def make_two(home: Path, engine: Engine, template: str = TWO, **given: Any) -> App:
    """Return an app with one page of two regions, ``lead`` and ``body``, at ``/``."""
    app = make_app(home, engine, folder=templates(home, two=template), **given)

    @app.page("/")
    def front() -> Page:
        return Page("two.html", title="Front", lead=Canvas("Lead."), body=Canvas("Body."))

    return app


def make_clock(home: Path, answer: str | None = None) -> App:
    """Return an app with a boxed app at ``/clock``. Without an answer, it can be read and not generated."""
    app = make_app(home, scripted(answer))

    @app.page("/clock")
    def clock() -> Canvas:
        return Canvas("A clock.", format="app")

    return app


def let_age(app: App, age: timedelta, *, kind: str = "%") -> None:
    """Let the stored versions of an app look as if they were made some time earlier."""
    with contextlib.closing(sqlite3.connect(database_file(app))) as connection, connection:
        for row, at in connection.execute("SELECT id, written_at FROM versions WHERE kind LIKE ?", (kind,)).fetchall():
            earlier = datetime.fromisoformat(at) - age
            connection.execute("UPDATE versions SET written_at = ? WHERE id = ?", (earlier.isoformat(), row))


def in_turn(*scripts: Script) -> Callable[[Request], Script]:
    """Return an answer for a scripted engine: the first script for the first request, and so on."""
    left = iter(scripts)
    return lambda request: next(left)


def browser(app: App, **options: Any) -> TestClient:
    """Return a client that accepts HTML, as browsers do, and does not follow redirects."""
    return TestClient(app, headers=BROWSER, follow_redirects=False, **options)


def watch(ws: WebSocketTestSession, key: str, **seen: int) -> None:
    """Send the message that watches a page."""
    ws.send_json({"type": "watch", "page": key, "seen": seen})


def until(ws: WebSocketTestSession, **wanted: Any) -> list[Message]:
    """Return the messages up to the first one that has these fields."""
    messages: list[Message] = []
    while not messages or any(messages[-1].get(name) != value for name, value in wanted.items()):
        messages.append(ws.receive_json())
    return messages


def until_over(ws: WebSocketTestSession) -> list[Message]:
    """Return the messages up to the one that says that a page has reached its final state."""
    messages: list[Message] = []
    while not messages or messages[-1]["type"] != "page" or messages[-1]["state"] not in ENDS:
        messages.append(ws.receive_json())
    return messages


def follow(client: TestClient, key: str, **seen: int) -> list[Message]:
    """Watch a page to its end. Return the messages."""
    with client.websocket_connect(LIVE) as ws:
        watch(ws, key, **seen)
        return until_over(ws)


def write(client: TestClient, key: str) -> list[Message]:
    """Request a page, and watch it to its end. Return the messages."""
    assert client.get(key).status_code == 200
    return follow(client, key)


def text_frame(text: str, spans: Sequence[tuple[int, int]] = (), fixed: int = 0, *, done: bool = False) -> Frame:
    """Return a frame."""
    usage = Usage(1, 1, 0, 1, 1, 0.1, 0.0, "end", 0) if done else None
    return Frame(text, tuple(spans), len(text) if done else fixed, usage=usage)


def a_linker(page: str = "/wiki/Here", pattern: str = "/wiki/{title}") -> Linker:
    """Return a linker for a world in which only the page "Tower" is written."""
    return Linker(page, PagePattern(pattern).link, lambda keys: {key for key in keys if key.endswith("/Tower")})


def tables(database: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a database by table, read through a separate connection."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    try:
        names = ("pages", "versions", "canvases", "links", "search")
        read = {name: connection.execute(f"SELECT rowid AS _row, * FROM {name}").fetchall() for name in names}
        return {name: [dict(row) for row in rows] for name, rows in read.items()}
    finally:
        connection.close()
