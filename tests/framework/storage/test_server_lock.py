"""One server per database: a second process is refused with an explanation."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.apps import browser, make_wiki
from tests.support.servers import wait_for

from unwritten.core.errors import StoreLocked
from unwritten.storage.location import Location
from unwritten.storage.open import open_database
from unwritten_engine import scripted

SERVE = """
import sys
from unwritten.storage.location import parse_location
from unwritten.storage.open import open_database
database = open_database(parse_location(sys.argv[1]))
database.acquire_server_lock()
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def other_server(setting: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process that serves a database."""
    command = [sys.executable, "-c", SERVE, setting]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_server_is_refused_until_the_first_one_is_killed(location: Location, setting: str) -> None:
    database = open_database(location)
    with other_server(setting) as other:
        with pytest.raises(StoreLocked) as caught:
            database.acquire_server_lock()
        message = str(caught.value)
        assert f"the process {other.pid}" in message
        assert "--database" in message and "--read-only" in message and "--broker" in message
        database.write_sync(lambda connection: connection.execute("DELETE FROM world WHERE name = 'x'"))
        other.send_signal(signal.SIGKILL)
        other.wait()

        def acquire() -> bool:
            with contextlib.suppress(StoreLocked):
                database.acquire_server_lock()
                return True
            return False

        wait_for(acquire)
        database.acquire_server_lock()  # it may be called again
    database.close()


def test_apps_of_one_process_share_the_lock(location: Location, setting: str) -> None:
    one, two = open_database(location), open_database(location)
    one.acquire_server_lock()
    two.acquire_server_lock()
    two.close()
    with pytest.raises(AssertionError), other_server(setting):
        pass
    one.close()


def test_an_app_is_not_served_twice_but_read_beside_its_server(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        assert client.get("/wiki/Tea").status_code == 200
        assert (tmp_path / "pages.db-server").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "pages.db-server").exists()
    with other_server(str(tmp_path / "pages.db")):
        with pytest.raises(StoreLocked, match="is served by the process"), browser(make_wiki(tmp_path, scripted("W."))):
            pass
        with browser(make_wiki(tmp_path, scripted("Words."), read_only=True)) as client:
            assert client.get("/wiki/Tea").status_code in {200, 503}
