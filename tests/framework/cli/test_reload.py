"""The error page of an app that cannot start, and the files that a running app depends on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.support.html_checks import page_faults
from tests.support.servers import AS_OWNER, OWNER_TOKEN, PATIENCE

from unwritten.cli.reload import ErrorServer, WatchedFiles, standby_page
from unwritten.security.owner import Owner

OWNER = Owner(8000, OWNER_TOKEN)


def ask(port: int) -> tuple[int, str]:
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=AS_OWNER)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_page_shows_the_authors_line_with_its_style() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        divmod(1, 0)
    page = standby_page(caught.value)
    assert page_faults(page) == []
    assert "<h2>ZeroDivisionError</h2>" in page and "test_reload.py</b>, line" in page
    assert "[data-stop]" in page and ".devtools-error h2" in page and "/* style */" not in page


def test_the_error_server_responds_until_it_is_closed_and_leaves_the_socket_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        standby = ErrorServer(sock, "<p>Why not</p>", OWNER)
        assert ask(port) == ask(port) == (503, "<p>Why not</p>")
        with socket.create_connection(("127.0.0.1", port)):
            pass  # a client that disconnects
        assert ask(port)[0] == 503
        standby.close()
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            connection, _ = sock.accept()
            connection.close()
            assert waiting.recv(10) == b"", "the next server accepts it"


def test_visitors_see_no_details() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        standby = ErrorServer(sock, "<p>Why not</p>", OWNER)
        elsewhere = standby._response(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        standby.close()
    assert elsewhere.startswith(b"HTTP/1.1 503 ") and elsewhere.endswith(
        b"\r\n\r\nThis app cannot start at the moment.\n"
    )


# -- files ------------------------------------------------------------------------------------------------------------

READER = """
import os, sys
from unwritten.cli.reload import _record_files

_record_files(int(sys.argv[1]))
import module_of_test
open("data.json").read()
os.close(os.open("low.json", os.O_RDONLY))
open("log.txt", "a").write("x")
open("state.json").read()
open("state.json", "w").write("{}")
try:
    open("missing.json")
except OSError:
    pass
"""


def test_files_that_a_process_reads_and_writes_are_recorded(home: Path) -> None:
    for name in ("module_of_test.py", "data.json", "low.json", "state.json", "other.json"):
        Path(name).write_text("")
    files = WatchedFiles()
    for _ in range(2):  # the second time the module comes from its cache
        files.clear()
        subprocess.run(
            [sys.executable, "-c", READER, str(files.file.fileno())],
            pass_fds=[files.file.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(home), *sys.path])},
            check=True,
        )
        files.update()
        read = {path.name for path in files.read if path.parent == home}
        assert {"module_of_test.py", "data.json", "low.json", "state.json", "missing.json"} == read
        assert {path.name for path in files.written if path.parent == home} == {"log.txt", "state.json"}
        assert files.needs_restart(home / "module_of_test.py", home) and files.needs_restart(home / "data.json", home)
        for name in ("other.json", "state.json", "log.txt"):
            assert not files.needs_restart(home / name, home)
    files.file.close()


def test_templates_and_static_files_need_no_restart(tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    files = WatchedFiles(folders={folder}, read={folder / "feed.xml", folder / "a.html"})
    for name in ("a.html", "new.html", "feed.xml"):
        assert files.needs_refresh(folder / name)
    assert not files.needs_refresh(folder / "notes.log") and not files.needs_refresh(tmp_path / "a.html")
    assert files.needs_restart(tmp_path / "static" / "a.css", tmp_path), "the first file of a new folder"
    assert files.needs_restart(tmp_path / "static", tmp_path) and not files.needs_restart(folder, tmp_path)
    assert not files.needs_restart(tmp_path / "a.css", tmp_path)
    files.file.close()
