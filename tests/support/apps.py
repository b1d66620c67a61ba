"""What the tests of the core share: an app over a script, a browser's side of the socket, and a judge of HTML."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import nh3
import uvicorn
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
    """An empty app over a script, with its database in ``home``. Nothing is written ahead, but where it is the test's
    business: most count what was asked of the engine."""
    return App("Fake Wiki", engine=engine, **{"database": str(home / "pages.db"), "prefetch": "off", **given})


def make_wiki(home: Path, engine: Engine, **given: Any) -> App:
    """The five-line app of the README."""
    app = make_app(home, engine, **given)

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An encyclopedia article about {title}."

    return app


TWO = """{% extends "layout.html" %}{% block main %}
{% block lead %}{{ lead }}{% endblock %}{% block body %}{{ body }}{% endblock %}{% endblock %}"""


def templates(home: Path, **sources: str) -> Path:
    """A folder with these templates: ``two="…"`` makes ``two.html``."""
    (home / "templates").mkdir(exist_ok=True)
    for name, source in sources.items():
        (home / "templates" / f"{name}.html").write_text(source, encoding="utf-8")
    return home


def make_two(home: Path, engine: Engine, template: str = TWO, **given: Any) -> App:
    """An app with one page of two regions, ``lead`` and ``body``, at ``/``."""
    app = make_app(home, engine, folder=templates(home, two=template), **given)

    @app.page("/")
    def front() -> Page:
        return Page("two.html", title="Front", lead=Canvas("Lead."), body=Canvas("Body."))

    return app


def make_clock(home: Path, answer: str | None = None) -> App:
    """An app with one page, a program in a box, at ``/clock``; without an answer it can be read, and not written."""
    app = make_app(home, scripted(answer))

    @app.page("/clock")
    def clock() -> Canvas:
        return Canvas("A clock.", format="app")

    return app


def in_turn(*scripts: Script) -> Callable[[Request], Script]:
    """An answer for a scripted engine: the first script for the first request, and so on."""
    left = iter(scripts)
    return lambda request: next(left)


def browser(app: App, **options: Any) -> TestClient:
    """A client that asks for HTML by name and does not follow redirects."""
    return TestClient(app, headers=BROWSER, follow_redirects=False, **options)


def watch(ws: WebSocketTestSession, key: str, **seen: int) -> None:
    """Watch a page, as the browser's script does."""
    ws.send_json({"type": "watch", "page": key, "seen": seen})


def until(ws: WebSocketTestSession, **wanted: Any) -> list[Message]:
    """Messages from the socket up to and with the first one that has these fields."""
    heard: list[Message] = []
    while not heard or any(heard[-1].get(name) != value for name, value in wanted.items()):
        heard.append(ws.receive_json())
    return heard


def until_over(ws: WebSocketTestSession) -> list[Message]:
    """Messages up to and with the one that says that a page has come to its end."""
    heard: list[Message] = []
    while not heard or heard[-1]["type"] != "page" or heard[-1]["state"] not in ENDS:
        heard.append(ws.receive_json())
    return heard


def follow(client: TestClient, key: str, **seen: int) -> list[Message]:
    """Watch a page to its end."""
    with client.websocket_connect(LIVE) as ws:
        watch(ws, key, **seen)
        return until_over(ws)


def write(client: TestClient, key: str) -> list[Message]:
    """Click on a page, and watch it to its end."""
    assert client.get(key).status_code == 200
    return follow(client, key)


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def served(app: App, **options: Any) -> Iterator[str]:
    """The app on a real server in a thread. Yields ``127.0.0.1:port``."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="error", ws="websockets-sansio", access_log=False, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive(), "the server did not stop"


def text_frame(text: str, spans: Sequence[tuple[int, int]] = (), fixed: int = 0, *, done: bool = False) -> Frame:
    """A frame by hand."""
    usage = Usage(1, 1, 0, 1, 1, 0.1, 0.0, "end", 0) if done else None
    return Frame(text, tuple(spans), len(text) if done else fixed, usage=usage)


def a_linker(page: str = "/wiki/Here", pattern: str = "/wiki/{title}") -> Linker:
    """A linker of a world in which only the page "Tower" is written."""
    return Linker(page, PagePattern(pattern).link, lambda keys: {key for key in keys if key.endswith("/Tower")})


def inner(html: str, region: str) -> str:
    """The inner HTML of a region in a page."""
    _, _, rest = html.partition(f'id="region-{region}"')
    _, _, rest = rest.partition(">")
    depth, position = 1, 0
    while depth:
        opening, closing = rest.find("<div", position), rest.find("</div>", position)
        assert closing >= 0, "the region is not closed"
        if 0 <= opening < closing:
            depth, position = depth + 1, opening + 4
        else:
            depth, position = depth - 1, closing + 6
    return rest[: position - 6]


def tables(database: Path) -> dict[str, list[dict[str, Any]]]:
    """Everything in a database, by table, read from outside."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    try:
        names = ("pages", "versions", "canvases", "links", "search")
        read = {name: connection.execute(f"SELECT rowid AS _row, * FROM {name}").fetchall() for name in names}
        return {name: [dict(row) for row in rows] for name, rows in read.items()}
    finally:
        connection.close()


# -- the judge ------------------------------------------------------------------------------------------------

# Written apart from the list that the sanitiser has, so that a slip there does not excuse itself here.
_INLINE = (
    "a abbr b bdi bdo cite code data del dfn em i ins kbd mark meter progress q ruby rp rt s samp small span strong"
)
_TAGS = set(
    f"""{_INLINE} sub sup time u var wbr br hr p pre div section article aside header footer main address blockquote
    details summary figure figcaption h1 h2 h3 h4 h5 h6 ul ol li dl dt dd
    table caption colgroup col thead tbody tfoot tr th td""".split()
)
_VOID = {"br", "hr", "wbr", "col"}
_ATTRIBUTES = set(
    """id lang dir title class href span value open min max low high optimum start reversed type colspan rowspan
    headers scope abbr datetime""".split()
)
_CLASSES = {"written", "unwritten", "unsettled"}


class Judge(HTMLParser):
    """Reads with the parser of the standard library, and collects what must not be there: at least what is no element.

    Attributes:
        faults: what is wrong, in words.
        open: the elements that are open.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []

    def handle_comment(self, data: str) -> None:
        self.faults.append("a comment")

    def handle_decl(self, decl: str) -> None:
        self.faults.append("a declaration")

    def unknown_decl(self, data: str) -> None:
        self.faults.append("a declaration")

    def handle_pi(self, data: str) -> None:
        self.faults.append("a processing instruction")


class _Judge(Judge):
    """Of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[object] = []

    def handle_data(self, data: str) -> None:
        if self.events and isinstance(self.events[-1], str):
            data = str(self.events.pop()) + data
        self.events.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.events.append((tag, attrs))
        if tag not in _TAGS:
            self.faults.append(f"<{tag}> is not allowed")
        if tag == "a" and "a" in self.open:
            self.faults.append("a link stands inside a link")
        if tag not in _VOID:
            self.open.append(tag)
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"<{tag}> has an attribute twice")
        for name, value in attrs:
            self._attribute(tag, name, value or "")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        if name not in _ATTRIBUTES:
            self.faults.append(f"<{tag} {name}> is not allowed")
        if name == "id" and not value.startswith("g-"):
            self.faults.append(f"the id {value!r} has no prefix")
        if name == "class" and value not in _CLASSES:
            self.faults.append(f"the class {value!r} is not ours")
        if name == "href":
            # As a browser reads it: no white space or controls around it, none inside, "\\" is "/".
            seen = "".join(c for c in value if ord(c) > 32).replace("\\", "/")
            if tag != "a" or not (value.startswith("#g-") or (seen == value and _is_local(seen))):
                self.faults.append(f"the address {value!r} leads elsewhere")

    def handle_endtag(self, tag: str) -> None:
        self.events.append((tag,))
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


def _is_local(address: str) -> bool:
    return address.startswith("/") and not address.startswith("//") and not urlsplit(address).netloc


_reader = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=set(),
    attributes={"*": _ATTRIBUTES},
    link_rel=None,
    url_schemes={"http", "https", "javascript", "data"},
)


def _judged(html: str) -> _Judge:
    judge = _Judge()
    judge.feed(html)
    judge.close()
    return judge


def faults(html: str) -> list[str]:
    """What is wrong with a piece of HTML that should be safe and balanced; nothing, if all is well."""
    html = html.replace("\r\n", "\n").replace("\r", "\n")  # as every browser does first
    judge = _judged(html)
    found = judge.faults + [f"<{tag}> is not closed" for tag in judge.open]
    # html5ever reads as browsers do: what it reads and writes again unchanged, no browser will rearrange.
    again = _reader.clean(html)
    if not found and _judged(again).events != judge.events:
        found.append(f"a browser would read it as {again!r}")
    return found


class _Balance(HTMLParser):
    """Only counts tags: every one that is opened must be closed, in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID | {"meta", "link", "input", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")


def page_faults(html: str) -> list[str]:
    """What is wrong with the balance of a whole page."""
    judge = _Balance()
    judge.feed(html)
    judge.close()
    return judge.faults + [f"<{tag}> is not closed" for tag in judge.open]
