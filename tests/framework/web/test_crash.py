"""A server that is killed while it generates pages leaves only complete ones."""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.support.apps import tables
from tests.support.servers import AS_OWNER, OWNER_TOKEN, PATIENCE, free_port, wait_for

from unwritten.storage.pages import PageStore

# Every page has two regions and three links. Dozens are generated at the same time.
SERVER = """
import sys
import uvicorn
from unwritten import App, Canvas, Page
from unwritten_engine import scripted

def script(request):
    words = "".join(f"word{number} " for number in range(40))
    return f"About {request.prompt.ask} {words}[[Tower]], [[Lamp]] and [[Sea]]. The end."

app = App("Killed", engine=scripted(script, delay=0.0005), database=sys.argv[1], folder=sys.argv[2], jobs=16)

@app.page("/wiki/{title}")
def article(title: str) -> Page:
    return Page("two.html", lead=Canvas(f"Lead of {title}."), body=Canvas(f"Body of {title}."))

uvicorn.run(app, port=int(sys.argv[3]), log_level="error")
"""

TWO = "{% block lead %}{{ lead }}{% endblock %}{% block body %}{{ body }}{% endblock %}"


def serve(home: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(home / "server.py"), str(home / "pages.db"), str(home), str(port)]
    return subprocess.Popen(command, start_new_session=True, env={**os.environ, "UNWRITTEN_OWNER_TOKEN": OWNER_TOKEN})


def click(port: int, number: int) -> str:
    headers = {"accept": "text/html", **AS_OWNER}  # whose pages are not limited
    request = urllib.request.Request(f"http://127.0.0.1:{port}/wiki/Page_{number}", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def answers(port: int) -> bool:
    try:
        click(port, 0)
    except OSError:
        return False
    return True


def visit(port: int, numbers: Iterator[int], going: threading.Event) -> None:
    """Request pages until the server stops responding."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        for number in numbers:
            click(port, number)
            going.set()


def test_a_killed_server_leaves_only_complete_pages(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "two.html").write_text(TWO)
    database = tmp_path / "pages.db"
    found = 0
    for kill, moment in enumerate((0.02, 0.15, 0.3, 0.5)):
        port = free_port()
        server = serve(tmp_path, port)
        try:
            wait_for(functools.partial(answers, port))
            numbers, going = itertools.count(1 + kill * 1000), threading.Event()
            visitors = [threading.Thread(target=visit, args=(port, numbers, going)) for _ in range(4)]
            for thread in visitors:
                thread.start()
            going.wait(PATIENCE)
            if kill:  # the first kill comes before anything is stored, later ones during many writes
                wait_for(lambda least=12 * kill: kept(database) > least)  # type: ignore[misc]
            time.sleep(moment)
        finally:
            os.kill(server.pid, signal.SIGKILL)
            server.wait(PATIENCE)
        for thread in visitors:
            thread.join(PATIENCE)
        count = whole_pages(database)
        assert count >= found
        found = count
    assert found > 10  # pages were stored before the kill

    store = PageStore(database)  # the next server opens the database and shows its pages
    assert store.count() == found
    assert len(store.search("word", limit=10_000)) == found
    store.close()


def kept(database: Path) -> int:
    """Return the number of stored pages while the server runs."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reading:
        return int(reading.execute("SELECT count(*) FROM pages").fetchone()[0])


def whole_pages(database: Path) -> int:
    """Assert that every stored page is complete. Return their number."""
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    found = tables(database)
    pages = {row["id"]: row for row in found["pages"]}
    assert [row["page"] for row in found["versions"]] == list(pages)
    assert {row["_row"] for row in found["search"]} == set(pages)
    for version in found["versions"]:
        canvases = [row for row in found["canvases"] if row["version"] == version["id"]]
        assert [row["name"] for row in canvases] == ["lead", "body"]
        assert all(row["text"].endswith("The end.") for row in canvases)
        key = pages[version["page"]]["key"]
        assert {row["target"] for row in found["links"] if row["source"] == key} == {
            "/wiki/Tower",
            "/wiki/Lamp",
            "/wiki/Sea",
        }
    return len(pages)
