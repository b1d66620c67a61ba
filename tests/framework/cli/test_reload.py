"""What a browser is told while the app cannot be started."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest
from tests.support.apps import page_faults

from unwritten.cli.reload import ErrorServer, standby_page

pytestmark = pytest.mark.timeout(30)


def ask(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_page_shows_the_authors_line_with_its_style() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        divmod(1, 0)
    page = standby_page(caught.value)
    assert page_faults(page) == []
    assert "<h2>ZeroDivisionError</h2>" in page and "test_cli_standby.py</b>, line" in page
    assert "[data-stop]" in page and ".devtools-error h2" in page and "/* style */" not in page


def test_it_answers_until_it_is_stopped_and_leaves_the_socket_to_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        standby = ErrorServer(sock, "<p>Why not</p>")
        assert ask(port) == ask(port) == (503, "<p>Why not</p>")
        with socket.create_connection(("127.0.0.1", port)):
            pass  # somebody who leaves without a word
        assert ask(port)[0] == 503
        standby.stop()
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            connection, _ = sock.accept()
            connection.close()
            assert waiting.recv(10) == b"", "whoever listens now has it"


def test_browsers_elsewhere_learn_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        standby = ErrorServer(sock, "<p>Why not</p>")
        elsewhere = standby._response("10.0.0.7")
        standby.stop()
    assert elsewhere.startswith(b"HTTP/1.1 503 ") and elsewhere.endswith(b"\r\n\r\nThis app is being mended.\n")
