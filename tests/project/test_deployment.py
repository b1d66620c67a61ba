"""The configuration files of the documentation: nginx serves an app with them, and systemd reads its units."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest
from tests.project.test_docs import commands
from tests.support.engine_servers import EngineServerThread
from tests.support.servers import PATIENCE, free_port, wait_for
from tests.tools.readme import DOCS
from websockets.sync.client import connect
from websockets.typing import Origin

from unwritten.core.settings import BY_NAME
from unwritten_engine import Request, scripted
from unwritten_engine.scripted import HANG, Script

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
TEXT = (DOCS / "deployment.md").read_text(encoding="utf-8")
HOST = "harbour.example"

APP = """
from unwritten import App

app = App("Harbour", links="/place/{name}", database="harbour.db", prefetch="off")

@app.page("/place/{name}")
def place(name: str) -> str:
    return f"A short description of {name}."

@app.page("/")
def front() -> str:
    return "A welcome, with links to places."
"""


def block(name: str) -> str:
    """Return the block of the documentation with this name in the comment above it."""
    found = re.search(rf"^<!-- deploy: {re.escape(name)} -->\n```\w*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    return found[1]


def nginx_conf(folder: Path, port: int, upstream: int, *, prefix: bool, extra: Sequence[tuple[str, str]] = ()) -> Path:
    """Write a complete configuration around the documented one. Only ports and paths differ from the documentation."""
    site = block("nginx")
    if prefix:
        documented = block("nginx, prefix")
        head = documented.partition("        # ")[0]
        site, count = re.subn(r"    location / \{\n        proxy_pass [^\n]+\n", lambda _: head, site)
        assert count == 1
    changes = [("listen 80;", f"listen 127.0.0.1:{port};"), ("127.0.0.1:8000", f"127.0.0.1:{upstream}"), *extra]
    for old, new in changes:
        assert old in site, old
        site = site.replace(old, new)
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off;\n{'user root;' if os.geteuid() == 0 else ''}\nworker_processes 1;\npid {folder}/nginx.pid;\n"
        f"error_log {folder}/nginx.log warn;\nevents {{}}\n"
        f"http {{\naccess_log off;\nclient_body_temp_path {folder}/body;\n{temporary}{site}\n}}\n"
    )
    return conf


def script(request: Request) -> Script:
    """Write the first words of "Slow" pages, and no more until the page is stopped."""
    ask = request.prompt.ask
    if "Slow" in ask:
        return ["The first words of a slow page are here.\n\nThe second paragraph", HANG]
    if "welcome" in ask:
        return "See the [[Pier]], the [[Inn? 50% off]], the [[Slow stream]] and the [[Slow socket]]."
    return "Stones and ropes."


class Deployed:
    """``unwritten run`` behind nginx, both as documented.

    Attributes:
        client: A browser that reaches nginx by the public host name.
        port: The port of nginx.
        upstream: The port of the app.
        prefix: The prefix of all URLs.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        assert NGINX is not None
        self.port, self.prefix = free_port(), prefix
        upstream = self.upstream = free_port()
        url = f"http://127.0.0.1:{self.port}"
        self.client = httpx2.Client(base_url=url, headers={"Host": HOST, "Accept": "text/html"}, timeout=PATIENCE)
        self._log = (folder / "app.log").open("w+b")
        (folder / "app.py").write_text(APP)
        self._engine = EngineServerThread(scripted(script), "deployed")
        command = [sys.executable, "-m", "unwritten", "run", "app.py", "--port", str(upstream), "--no-reload"]
        command += [
            "--drain-seconds",
            "1",
            "--hosts",
            HOST,
            "--trusted-proxies",
            "127.0.0.1",
            "--engine",
            self._engine.url,
        ]
        command += ["--root-path", prefix] if prefix else []
        environment = {**os.environ, "UNWRITTEN_ENGINE_TOKEN": "deployed", "PYTHONUNBUFFERED": "1"}
        self._app = subprocess.Popen(command, cwd=folder, env=environment, stdout=self._log, stderr=self._log)
        conf = nginx_conf(folder, self.port, upstream, prefix=bool(prefix))
        check = [NGINX, "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(conf)]
        tested = subprocess.run([*check, "-t"], capture_output=True, text=True)
        assert tested.returncode == 0, tested.stderr
        self._nginx = subprocess.Popen(check)
        wait_for(lambda: b"Ctrl-C stops" in self.log or self._app.poll() is not None)
        assert self._app.poll() is None, self.log.decode()
        wait_for(self.is_ready)

    @property
    def log(self) -> bytes:
        """What the app has printed."""
        self._log.flush()
        return Path(self._log.name).read_bytes()

    def text(self, path: str) -> str:
        """Return a page."""
        response = self.client.get(path)
        assert response.status_code == 200, f"{response.status_code} {path}: {response.text}\n{self.log.decode()}"
        return response.text

    def is_ready(self) -> bool:
        """True if the app answers through nginx."""
        with contextlib.suppress(httpx2.TransportError):
            return self.client.get(f"{self.prefix}/health").status_code == 200
        return False

    def close(self) -> None:
        """Stop everything."""
        self.client.close()
        self._app.send_signal(signal.SIGTERM)
        try:
            self._app.wait(40)
        except subprocess.TimeoutExpired:
            self._app.kill()
            self._app.wait()
        self._nginx.terminate()
        self._nginx.wait(20)
        self._engine.close()
        self._log.close()


@pytest.fixture(scope="module", params=["", "/harbour"], ids=["root", "prefix"])
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    if NGINX is None:
        pytest.skip("nginx is not installed: apt install nginx")
    running = Deployed(tmp_path_factory.mktemp("deployed"), request.param)
    try:
        yield running
    finally:
        running.close()


def links(html: str) -> dict[str, str]:
    """Return the URLs of the links of a page by their texts."""
    return {text: url.replace("&amp;", "&") for url, text in re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', html)}


@pytest.mark.timeout(300)
def test_pages_links_and_files_work_behind_nginx(deployed: Deployed) -> None:
    prefix = deployed.prefix
    front = deployed.text(f"{prefix}/?plain=1")
    found = links(front)
    assert found["Pier"].startswith(f"{prefix}/place/Pier?"), "signed, because the app is on the open web"
    for title in ("Pier", "Inn? 50% off"):
        moved = deployed.client.get(f"{found[title]}&plain=1")
        assert "Stones and ropes." in deployed.text(moved.headers["location"])
    sheet = re.search(r'href="([^"]+\.css[^"]*)"', front)
    assert sheet is not None and sheet[1].startswith(f"{prefix}/")
    assert "font" in deployed.text(sheet[1])
    if prefix:
        response = deployed.client.get(prefix)
        assert (response.status_code, response.headers["location"]) == (301, f"http://{HOST}{prefix}/")


def offered(deployed: Deployed, title: str) -> str:
    """Return the signed URL of a page, which the front page links to."""
    return links(deployed.text(f"{deployed.prefix}/?plain=1"))[title]


@pytest.mark.timeout(300)
def test_a_streamed_page_arrives_while_it_is_written(deployed: Deployed) -> None:
    moved = deployed.client.get(offered(deployed, "Slow stream") + "&plain=1")
    received = ""
    with deployed.client.stream("GET", moved.headers["location"]) as response:
        for piece in response.iter_text():  # settled paragraphs
            received += piece
            if "first words of a" in received:
                break
    assert "first words of a" in received
    assert "</html>" not in received, "the page is still being written"


@pytest.mark.timeout(300)
def test_frames_arrive_over_the_socket(deployed: Deployed) -> None:
    moved = deployed.client.get(offered(deployed, "Slow socket"))
    shell = deployed.text(moved.headers["location"])
    assert f'data-root="{deployed.prefix}"' in shell or not deployed.prefix
    sock = socket.create_connection(("127.0.0.1", deployed.port), PATIENCE)
    with connect(f"ws://{HOST}{deployed.prefix}/_unwritten/live", sock=sock, origin=Origin(f"http://{HOST}")) as live:
        live.send(json.dumps({"type": "watch", "page": "/place/Slow_socket"}))
        while "first words of a" not in (message := str(live.recv(PATIENCE))):
            assert '"state":"failed"' not in message, message


@pytest.mark.timeout(300)
def test_forms_with_files_and_sockets_pass_nginx_on_any_port(deployed: Deployed) -> None:
    photo = b"0" * int(BY_NAME["upload_limit"].default * 1_000_000)
    response = deployed.client.post(f"{deployed.prefix}/place/Pier", files={"photo": photo})
    assert response.status_code == 405, "the app has answered, which accepts no form here; nginx would say 413"
    host = f"{HOST}:{deployed.port}"
    sock = socket.create_connection(("127.0.0.1", deployed.port), PATIENCE)
    with connect(f"ws://{host}{deployed.prefix}/_unwritten/live", sock=sock, origin=Origin(f"http://{host}")):
        pass
    if deployed.prefix:
        moved = deployed.client.get(deployed.prefix, headers={"Host": host})
        assert moved.headers["location"] == f"http://{host}{deployed.prefix}/"


@pytest.mark.timeout(300)
def test_other_host_names_are_refused(deployed: Deployed) -> None:
    response = deployed.client.get(f"{deployed.prefix}/", headers={"Host": "elsewhere.example"})
    assert response.status_code == 421


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    assert SYSTEMD_ANALYZE is not None
    documented = block("harbour.service")
    program = re.search(r"^ExecStart=(\S+)", documented, re.MULTILINE)
    assert program is not None
    unit = tmp_path / "harbour.service"
    unit.write_text(documented.replace(program[1], sys.executable))  # the program must exist
    checked = subprocess.run([SYSTEMD_ANALYZE, "verify", str(unit)], capture_output=True, text=True, timeout=120)
    complaints = [line for line in checked.stderr.splitlines() if "harbour.service" in line]
    assert complaints == []


def command_lines() -> list[str]:
    """Return the commands of the framework in the unit, the Dockerfile and the crontab."""
    unit = re.findall(r"^ExecStart=\S+/unwritten (.+)$", block("harbour.service"), re.MULTILINE)
    container = re.findall(r"^CMD (\[.+\])$", block("Dockerfile"), re.MULTILINE)
    nightly = re.findall(r"/unwritten (.+)$", block("crontab"), re.MULTILINE)
    return unit + nightly + [" ".join(json.loads(line)[1:]) for line in container]


@pytest.mark.parametrize("line", command_lines())
def test_the_commands_in_configuration_files_exist(line: str) -> None:
    words = line.split()
    commands()[words[0]].make_context(words[0], words[1:], resilient_parsing=False)


def test_the_health_check_of_the_container_works(deployed: Deployed) -> None:
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.+?\])$", block("Dockerfile"), re.DOTALL | re.MULTILINE)
    assert found is not None
    program, *words = json.loads(found[1])
    assert program == "python"
    for port, expected in ((deployed.upstream, 0), (free_port(), 1)):
        words[-1] = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", words[-1])
        assert subprocess.run([sys.executable, *words], capture_output=True, timeout=120).returncode == expected
