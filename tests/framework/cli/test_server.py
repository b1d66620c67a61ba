"""``unwritten run``: addresses, output, and restarts after a change."""

import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.apps import make_app
from tests.support.processes import fetch, running
from tests.support.servers import PATIENCE
from tests.support.terminal import APP, message, unwritten, write

from unwritten.cli.loading import load_app
from unwritten.cli.reload import watched_folders
from unwritten.cli.server import bind, print_summary, url_of
from unwritten.core.errors import BadSetting
from unwritten_engine import Abilities, Recorder, scripted
from unwritten_engine.named_models import Machine
from unwritten_engine.scripted import ABOUT

pytestmark = pytest.mark.usefixtures("home")


def test_a_port_in_use_gets_a_free_one_suggested() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadSetting, match=rf"Port {port} is in use by another program. Try --port \d+"):
            bind("127.0.0.1", port)
        write(APP)
        assert f"Port {port} is in use" in message("run", "app.py", "--port", str(port))


@pytest.mark.parametrize(
    ("host", "port", "answer"),
    [
        ("127.0.0.1", 70000, "the largest port is 65535"),
        ("no.such.host.invalid", 8000, "is not an address of this machine"),
        ("203.0.113.7", 8000, "cannot be used"),
    ],
)
def test_an_invalid_address_is_an_error(host: str, port: int, answer: str) -> None:
    with pytest.raises(BadSetting, match=answer):
        bind(host, port)


def test_the_printed_address_can_be_opened() -> None:
    with bind("0.0.0.0", 0) as sock:
        assert url_of(sock).startswith("http://127.0.0.1:")


def test_ipv6_addresses_are_in_brackets() -> None:
    try:
        sock = bind("::1", 0)
    except BadSetting:
        pytest.skip("this machine has no IPv6")
    with sock:
        assert url_of(sock).startswith("http://[::1]:")


def test_run_prints_a_summary_and_the_address_and_stops_quietly() -> None:
    write(APP)
    with running("run", "app.py", "--no-reload", "--port", "0") as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+")
        shown = "".join(server.lines)
        assert "Small" in shown and "a script" in shown and "small.db (no pages yet)" in shown
        assert "It is a" in fetch(f"{url}/wiki/Lamp?plain=1")
        assert server.stop() == 0
        assert "".join(server.lines).rstrip().endswith("Stopped. All finished pages are stored.")
        assert "Traceback" not in "".join(server.lines)


def test_an_app_on_the_embedded_model_names_a_better_one_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Machine(memory=16 * 10**9, free=12 * 10**9, threads=4)
    monkeypatch.setattr("unwritten.cli.server.this_machine", lambda: here)
    for name, is_named in (("embedded", True), ("llamacpp", False)):
        (tmp_path / name).mkdir()
        app = make_app(tmp_path / name, scripted("A text.", about=replace(ABOUT, engine=name)))
        app.page("/{title}")(lambda title: f"A page about {title}.")
        app.prepare()
        print_summary(app)
        printed = " ".join(capsys.readouterr().out.split())
        best = "better Best fit for this machine: --engine qwen3-4b (Qwen3 4B, 2.5 GB to download, Apache 2.0)."
        assert (best in printed) is is_named


def test_a_second_ctrl_c_stops_at_once() -> None:
    slow = """
import asyncio

async def close() -> None:
    await asyncio.sleep(60)

app.close = close
"""
    write(APP + slow)
    with running("run", "app.py", "--no-reload", "--port", "0") as server:
        server.wait_for(r"http://127\.0\.0\.1:\d+")
        server.process.send_signal(signal.SIGINT)
        server.wait_for("Ctrl-C again stops at once")
        assert server.stop() == 128 + signal.SIGINT
        assert "Traceback" not in "".join(server.lines)


def test_a_change_restarts_the_app_at_the_same_address() -> None:
    write(APP)
    with running("run", "app.py", "--port", "0") as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+")
        assert "<title>Lamp · Small</title>" in fetch(f"{url}/wiki/Lamp")
        time.sleep(0.6)  # the watcher has begun
        write(APP.replace('"Small"', '"Large"'))
        server.wait_for("app.py changed: restarting")
        server.wait_for(f"Ready again at {url}")
        assert "<title>Lamp · Large</title>" in fetch(f"{url}/wiki/Lamp")
        write("1 / 0\n")
        server.wait_for("ZeroDivisionError")
        server.wait_for("Waiting for a change")
        write(APP.replace('"Small"', '"Mended"'))
        server.wait_for(f"Ready again at {url}(?s:.*)Ready again at {url}")
        assert "Mended" in fetch(f"{url}/wiki/Lamp")
        assert server.stop() == 0
        assert "Aborted" not in "".join(server.lines)


READING = """
import json
from pathlib import Path

import helper
from unwritten import App, Page
from unwritten_engine import scripted

app = App("Reader", engine=scripted("Words."), folder=__file__)
Path("written.json").write_text("{}")

@app.page("/data/{name}")
def data(name: str) -> str:
    json.loads(Path("data.json").read_text())
    return f"About {name}."

@app.page("/")
def front() -> Page:
    return Page("front.html")
"""


def test_only_files_that_the_app_has_read_restart_it() -> None:
    write(READING)
    write("VALUE = 1\n", "helper.py")
    write("{}", "data.json")
    write("{% extends 'layout.html' %}{% block main %}First{% endblock %}", "templates/front.html")
    with running("run", "app.py", "--port", "0") as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+")
        assert "First" in fetch(f"{url}/")
        fetch(f"{url}/data/Tea?plain=1")
        time.sleep(0.6)  # the watcher has begun
        for name in ("server.txt", "notes.md", "other.json", "picture.png", "unused.py", "written.json"):
            write("1", name)
        time.sleep(2.5)
        assert "changed" not in "".join(server.lines)
        write("{% extends 'layout.html' %}{% block main %}Second{% endblock %}", "templates/front.html")
        server.wait_for("front.html changed: updating open pages")
        assert "Second" in fetch(f"{url}/") and "restarting" not in "".join(server.lines)
        for restarts, (name, text) in enumerate((("data.json", "[]"), ("helper.py", "VALUE = 22\n")), 1):
            write(text, name)
            server.wait_for(f"{name} changed: restarting")
            server.wait_for("(?s:" + ".*".join(["Ready again at"] * restarts) + ")")
            fetch(f"{url}/data/Tea?plain=1")
        assert server.stop() == 0


def test_the_first_template_restarts_the_app() -> None:
    write(READING)
    write("VALUE = 1\n", "helper.py")
    with running("run", "app.py", "--port", "0") as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+")
        time.sleep(0.6)
        write("{% extends 'layout.html' %}{% block main %}First{% endblock %}", "templates/front.html")
        server.wait_for("(templates|front.html).* changed: restarting")
        server.wait_for("Ready again at")
        assert "First" in fetch(f"{url}/")
        assert server.stop() == 0


def test_template_folders_elsewhere_are_watched_too(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "templates").mkdir(parents=True)
    write(APP.replace('App("Small"', f'App("Small", folder={str(elsewhere)!r}'))
    assert watched_folders(load_app("app.py"), "app.py") == [Path.cwd(), elsewhere / "templates"]


def test_a_child_process_inherits_the_socket() -> None:
    with bind("127.0.0.1", 0) as sock:
        code = f"import socket; print(socket.socket(fileno={sock.fileno()}).getsockname()[1])"
        shown = subprocess.run(
            [sys.executable, "-c", code], pass_fds=[sock.fileno()], capture_output=True, text=True, check=True
        )
        assert int(shown.stdout) == sock.getsockname()[1]
        assert isinstance(sock, socket.socket)


def test_a_server_stops_when_its_parent_is_killed() -> None:
    write(APP)
    with running("run", "app.py", "--port", "0") as server:
        url = server.wait_for(r"http://127\.0\.0\.1:\d+")
        assert fetch(url + "/wiki/Lamp")
        server.process.kill()
        server.process.wait()
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                fetch(url + "/wiki/Lamp")
            except OSError:
                return
            time.sleep(0.1)
        raise AssertionError("the server is still running")


PICKY = """
from pydantic import BaseModel, Field
from unwritten import App, Canvas, Page

class Book(BaseModel):
    code: str = Field(pattern="x")

app = App("Books")

@app.page("/book/{name}")
def book(name: str) -> Page:
    return Page(body=Canvas("A book.", schema=Book))
"""


def test_a_schema_that_the_engine_cannot_follow_is_one_clear_message() -> None:
    Recorder(scripted("", about=replace(ABOUT, abilities=Abilities(schemas=False))), "no-schemas.tape")
    write(PICKY)
    beginning = "The canvas 'body' of the page '/book/{name}'"
    for command in (("run", "app.py", "--no-reload", "--port", "0"), ("get", "/book/Tea", "--app", "app.py")):
        shown = message(*command, "--engine", "no-schemas.tape")
        assert shown.startswith(beginning) and "no-schemas.tape" in shown
        doctor = unwritten("doctor", "--app", "app.py", "--engine", "no-schemas.tape").output
        assert f"  FAULT {shown}" in doctor and "App" in doctor.rpartition("Faults in: ")[2]
