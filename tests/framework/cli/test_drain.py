"""A server process that is told to stop: what its visitors see, and what the next process continues."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.processes import Running, running
from tests.support.servers import AS_OWNER, PATIENCE, wait_for
from tests.support.terminal import write
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from unwritten.storage.pages import PageStore

pytestmark = pytest.mark.usefixtures("home")

SLOW = """
from unwritten import App
from unwritten_engine import scripted

TEXT = "It was always so, and the lamp was lit every evening."

def script(request):
    return ["The beginning", SECONDS, TEXT] if "Slow" in request.prompt.ask else TEXT

app = App("Slow", engine=scripted(script), database="slow.db", prefetch="off")

@app.page("/wiki/{title}")
def article(title: str) -> str:
    return f"An article about {title}."
"""


BROWSER = {"accept": "text/html", **AS_OWNER}


def serve(seconds: float) -> tuple[str, ...]:
    write(SLOW.replace("SECONDS", str(seconds)))
    return "run", "app.py", "--no-reload", "--port", "0"


def address(server: Running) -> str:
    return server.wait_for(r"http://127\.0\.0\.1:\d+").removeprefix("http://")


def click(host: str, key: str = "/wiki/Slow") -> None:
    """Open a page as a browser does, which then follows it on a socket."""
    with closing(http.client.HTTPConnection(host, timeout=PATIENCE)) as connection:
        connection.request("GET", key, headers=BROWSER)
        assert connection.getresponse().read()


def test_running_pages_are_finished_before_the_server_stops() -> None:
    with running(*serve(1.0)) as server:
        host = address(server)
        stream = http.client.HTTPConnection(host, timeout=PATIENCE)
        idle = http.client.HTTPConnection(host, timeout=PATIENCE)
        fresh = socket.create_connection(host.split(":"), timeout=PATIENCE)  # type: ignore[arg-type]
        with (
            closing(stream),
            closing(idle),
            closing(fresh),
            connect(f"ws://{host}/_unwritten/live", additional_headers=AS_OWNER) as ws,
        ):
            idle.request("GET", "/robots.txt")
            assert idle.getresponse().read()
            stream.request("GET", "/wiki/Slow?plain=1", headers=BROWSER)
            answer = stream.getresponse()
            ws.send('{"type":"watch","page":"/wiki/Slow"}')
            assert "beginning" in str(ws.recv(PATIENCE))
            server.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            # A connection that was accepted before is answered, also if its first request comes now.
            time.sleep(0.3)
            fresh.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            assert b'"status":"draining"' in fresh.makefile("rb").read()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(host.split(":"), timeout=PATIENCE)  # type: ignore[arg-type]
            assert "lamp was lit" in answer.read().decode()
            messages = []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    messages.append(str(ws.recv(PATIENCE)))
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
            assert '"state":"written"' in messages[-1]
        server.process.wait(PATIENCE)
        assert time.monotonic() - started > 0.5
    store = PageStore(Path("slow.db"))
    assert store.exists(["/wiki/Slow"])
    store.close()


def test_a_page_that_takes_too_long_is_continued_by_the_next_process() -> None:
    with running(*serve(120), "--drain-seconds", "0.3") as server:
        host = address(server)
        click(host)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)
    with running(*serve(0.1)) as server:
        address(server)
        store = PageStore(Path("slow.db"))
        wait_for(lambda: store.exists(["/wiki/Slow"]))  # no visitor has opened it
        store.close()
