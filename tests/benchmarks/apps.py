"""The servers that ``web`` measures, each in a process of its own.

``python -m tests.benchmarks.apps ours|bare FOLDER`` serves on a free port and prints it.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from jinja2 import DictLoader, Environment
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from tests.support.servers import OwnerConnections

from unwritten.app.application import App
from unwritten.cli.server import bind
from unwritten_engine import Request as EngineRequest
from unwritten_engine import scripted

ROOT = Path(__file__).resolve().parents[2]

WORDS = (
    "The **{0}** is known in every harbour of the coast. It was first described by a [[Surveyor|surveyor]] who had "
    "lost his way in the [[Fog]], and it has been repaired more often than anybody can say. In winter the "
    "[[Keeper]] writes down each ship that passes, and in summer nobody asks for the list.\n\n"
)

HEADING = "## Chapter {1}\n\n"


def long_text(subject: str, size: int) -> str:
    """Return a text of ``size`` characters, with headings, emphasis and links, always the same."""
    parts: list[str] = []
    length = 0
    while length < size:
        number = len(parts)
        part = (HEADING if number % 4 == 3 else "") + WORDS
        parts.append(part.format(subject, number))
        length += len(parts[-1])
    return "".join(parts)[:size]


def ours(folder: Path) -> App:
    """Return an app with a scripted engine: 60 frames per page, 5 ms apart."""

    def write(request: EngineRequest) -> list[str]:
        text = long_text(request.prompt.ask.removeprefix("About ").rstrip("."), 2000)
        return [text[: round(len(text) * (i + 1) / 60)] for i in range(60)]

    async def started(request: Request) -> Response:
        return JSONResponse({"started": app.site.jobs.num_submitted, "memory_mb": _memory()})

    app = App(
        "Bench",
        engine=scripted(write, delay=0.005),
        database=str(folder / "bench.db"),
        jobs=64,
        queue_limit=1000,
        routes=[Route("/started", started)],
    )

    @app.page("/page/{title}")
    async def page(title: str) -> str:
        return f"About {title}."

    @app.page("/sync/{title}")
    def sync_page(title: str) -> str:
        return f"About {title}."

    return app


def _memory() -> int:
    """Return this process's memory in MB, or 0 if it is not known."""
    status = Path("/proc/self/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) // 1024 if found else 0


def bare(folder: Path) -> Starlette:
    """Return the smallest app that sends the same bytes: Starlette routes, one Jinja2 template, one page."""
    html = Markup((folder / "kept.html").read_text(encoding="utf-8"))
    template = Environment(loader=DictLoader({"page.html": "{{ page }}"}), autoescape=True).get_template("page.html")

    async def page(request: Request) -> Response:
        return HTMLResponse(template.render(page=html))

    def sync_page(request: Request) -> Response:
        return HTMLResponse(template.render(page=html))

    return Starlette(routes=[Route("/page/{title}", page), Route("/sync/{title}", sync_page)])


@contextlib.contextmanager
def served(which: str, folder: Path) -> Iterator[int]:
    """Run one of the servers. Yields its port."""
    command = [sys.executable, "-m", "tests.benchmarks.apps", which, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def main(which: str, folder: Path) -> None:
    """Serve on a free port, and print it."""
    app = ours(folder) if which == "ours" else bare(folder)
    sock = bind("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(OwnerConnections(app), log_level="error", access_log=False)).run(sockets=[sock])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
