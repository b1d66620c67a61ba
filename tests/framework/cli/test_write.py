"""``app.write`` and ``unwritten write``: many pages in one run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from tests.support.apps import browser, make_app, make_wiki, write
from tests.support.servers import wait_for

from unwritten import App, Visit
from unwritten.cli.main import main
from unwritten.cli.write import _missing_pages
from unwritten.core.errors import BadApp, StoreReadOnly
from unwritten.generation.page_writer import WriteResult
from unwritten_engine import Priority, scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG


def written(app: App, paths: Sequence[str]) -> WriteResult:
    """Write pages in a script."""

    async def script() -> WriteResult:
        async with app:
            return await app.write(paths)

    return asyncio.run(script())


# -- app.write --------------------------------------------------------------------------------------------


def test_pages_are_written_once_and_skipped_the_next_time(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app = make_wiki(tmp_path, engine, visitor_pages=1, engine_seconds=0.001)
    result = written(app, ["/wiki/Tea", "/wiki/Great Auk", "/wiki/Great_Auk", "/wiki/Salt?utm=1"])
    assert sorted(result.written) == ["/wiki/Great_Auk", "/wiki/Salt", "/wiki/Tea"] and result.failed == {}
    again = written(app, ["/wiki/Tea", "/wiki/Rain"])
    assert (again.written, again.skipped) == (["/wiki/Rain"], ["/wiki/Tea"])
    assert len(engine.requests) == 4
    assert all(request.priority is Priority.PREFETCH for request in engine.requests)


def test_an_alias_and_a_url_with_variants_lead_to_what_visitors_get(tmp_path: Path) -> None:
    def language(request: Request) -> str:
        return request.cookies.get("language", "en")

    app = make_wiki(tmp_path, scripted("Words. [[Salt]]"))
    app.alias("/wiki/Nick", "/wiki/Sarah")

    @app.page("/guide/{city}", vary=language)
    def guide(city: str, visit: Visit) -> str:
        return f"A guide to {city} in {visit.vary}."

    result = written(app, ["/wiki/Nick", "/guide/Bergen", "/guide/Oslo#vary=en", "/guide/Oslo#vary=de"])
    assert sorted(result.written) == ["/guide/Bergen#vary=en", "/guide/Oslo#vary=en", "/wiki/Sarah"]
    assert "variant" in result.failed["/guide/Oslo#vary=de"] and len(result.failed) == 1
    with browser(app) as client:
        assert "Words." in client.get("/guide/Bergen").text
        assert "/guide/Salt#vary=en" in [page.key for page in app.site.store.missing_pages()]
        assert "/guide/Salt" in _missing_pages(app, None)
        assert client.get("/wiki/Nick").headers["location"] == "/wiki/Sarah"


def test_each_path_that_is_no_page_has_a_reason(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words.", by_ask={"Broken": [GenerationFailed("The lamp broke.")]}))

    @app.route("/api")
    def api(request: Request) -> Response:
        return PlainTextResponse("x")

    @app.page("/old/{title}")
    def old(title: str) -> Response:
        return RedirectResponse(app.url_path_for("article", title=title), 303)

    @app.page("/away")
    def away() -> Response:
        return RedirectResponse("https://example.org/")

    @app.page("/loop")
    def loop() -> Response:
        return RedirectResponse("/loop")

    @app.page("/plain")
    def plain() -> Response:
        return PlainTextResponse("x")

    @app.page("/odd")
    def odd() -> str:
        raise ValueError("no idea")

    result = written(
        app,
        [
            *("wiki/Tea", "https://x/wiki/Tea", "", "/nowhere", "/api", "/away", "/loop", "/plain", "/odd"),
            *("/wiki/", "/wiki/%ff", "/wiki/Broken", "/wiki/" + "x" * 500, "/old/Tea"),
        ],
    )
    assert result.written == ["/wiki/Tea"], "a redirect is followed to its page"
    reasons = result.failed
    assert (
        reasons["wiki/Tea"]
        == reasons["https://x/wiki/Tea"]
        == reasons[""]
        == "A path begins with a slash, such as /wiki/Tea."
    )
    assert reasons["/nowhere"] == reasons["/api"] == "No page has this path."
    assert reasons["/away"] == "It redirects to https://example.org/, which is not in this app."
    assert reasons["/loop"] == "It was redirected 5 times without a page."
    assert "a response with the status 200" in reasons["/plain"]
    assert reasons["/odd"] == "Its page function raised ValueError: no idea"
    assert "The lamp broke." in reasons["/wiki/Broken"] and "The limit is 120" in reasons["/wiki/" + "x" * 500]
    assert len(result.failed) == 13


def test_protected_pages_are_written_and_stay_protected(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."))

    @app.page("/members/{title}", allow=lambda request: False)
    def members(title: str) -> str:
        return f"A secret about {title}."

    @app.page("/own/{title}")
    def own(title: str, request: Request) -> str:
        if not request.user.is_authenticated or request.session:
            raise HTTPException(403, "Log in first.")
        return "x"

    result = written(app, ["/members/Tea", "/own/Tea"])
    assert result.written == ["/members/Tea"]
    assert result.failed == {"/own/Tea": "Its page function refuses it with 403: Log in first."}
    with browser(app) as client:
        assert client.get("/members/Tea").status_code in {403, 404}


def test_other_names_and_variants_are_written_where_visitors_read_them(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    app.alias("/wiki/The_Captain", "/wiki/Captain_Sarah")

    @app.page("/guide/{title}", vary=lambda request: request.cookies.get("language", "en"))
    def guide(title: str) -> str:
        return f"A guide to {title}."

    result = written(app, ["/wiki/The_Captain", "/guide/Tea"])
    assert sorted(result.written) == ["/guide/Tea#vary=en", "/wiki/Captain_Sarah"]
    assert written(app, ["/wiki/The_Captain", "/guide/Tea"]).written == []
    with browser(app) as client:
        assert client.get("/wiki/The_Captain", follow_redirects=False).headers["location"] == "/wiki/Captain_Sarah"


def test_visitors_of_a_serving_app_go_first(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Slow": ["Some", 1.0, "Some words."], "": "Words."})
    app = make_wiki(tmp_path, engine, jobs=1)
    results: list[WriteResult] = []

    @app.route("/write")
    async def start(request: Request) -> Response:
        results.append(await app.write(["/wiki/Slow_one", "/wiki/Slow_two"]))
        return PlainTextResponse("x")

    with browser(app) as client:
        thread = threading.Thread(target=client.get, args=("/write",))
        thread.start()
        wait_for(lambda: engine.running)
        write(client, "/wiki/Tea")
        assert not app.store.exists(["/wiki/Slow_one", "/wiki/Slow_two"])
        thread.join()
        assert results[0].written == ["/wiki/Slow_one", "/wiki/Slow_two"]
    assert engine.stopped == 1, "the page that was being written made way for the click"


def test_a_page_of_another_process_is_stored_once(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Tea": ["Some", 0.5, "Some words."]})
    app, other = make_wiki(tmp_path, engine), make_wiki(tmp_path, engine)

    async def script() -> None:
        async with app, other:
            both = await asyncio.gather(app.write(["/wiki/Tea"]), other.write(["/wiki/Tea"]))
            assert not both[0].failed and not both[1].failed
            stored = app.site.store.get("/wiki/Tea")
            assert stored is not None and (stored.version, stored.versions) == (1, 1)

    asyncio.run(script())


def test_a_server_shows_what_another_process_has_written(tmp_path: Path) -> None:
    app, other = make_wiki(tmp_path, scripted("Of the server.")), make_wiki(tmp_path, scripted("Of the command."))
    with browser(app) as client:
        assert written(other, ["/wiki/Tea"]).written == ["/wiki/Tea"]
        assert "Of the command." in client.get("/wiki/Tea").text


def test_what_cannot_work_is_an_error(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("x"))
    with pytest.raises(BadApp, match="not running"):
        asyncio.run(app.write(["/wiki/Tea"]))
    with pytest.raises(TypeError, match=r"app.write\(\['/wiki/Tea'\]\)"):
        written(app, "/wiki/Tea")
    with pytest.raises(StoreReadOnly, match="only reads its database"):
        written(make_wiki(tmp_path, scripted("x"), read_only=True), ["/wiki/Tea"])


def test_cancelling_stops_the_engine_and_keeps_what_is_finished(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Tea": "Words.", "": [HANG]})
    app = make_wiki(tmp_path, engine, jobs=1)

    async def script() -> None:
        async with app:
            run = asyncio.create_task(app.write(["/wiki/Tea", "/wiki/Salt", "/wiki/Rain"]))
            while len(engine.requests) < 2:
                await asyncio.sleep(0.01)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            while engine.running or app.site.jobs.unfinished():
                await asyncio.sleep(0.01)
            assert app.site.store.exists(["/wiki/Tea"])

    asyncio.run(script())


# -- the command ------------------------------------------------------------------------------------------

APP = """
from unwritten import App, Visit
from unwritten_engine import scripted
app = App("Wiki", engine=scripted(by_ask={"Tea": "Tea is [[Salt]].", "": "Words about [[Rain]]."}), prefetch="off")

@app.page("/wiki/{title}")
def article(title: str) -> str:
    return f"An article about {title}."
"""


@pytest.fixture(autouse=True)
def same_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the priority of the test process."""
    monkeypatch.setattr("unwritten.cli.write._lower_priority", lambda: None)


def run(home: Path, *arguments: str, stdin: str = "") -> Result:
    """Run ``unwritten write`` with the app of these tests."""
    (home / "app.py").write_text(APP)
    database = f"--database={home / 'wiki.db'}"
    return CliRunner().invoke(main, ["write", *arguments, f"--app={home / 'app.py'}", database], input=stdin)


def test_the_command_writes_skips_and_reports_lines(tmp_path: Path) -> None:
    listed = tmp_path / "paths.txt"
    listed.write_text("\ufeff# the first pages\n/wiki/Tea\n\nwiki/Salt\n/wiki/Tea\n/nowhere\n", encoding="utf-8")
    result = run(tmp_path, "--file", str(listed), "/wiki/Snow")
    assert result.exit_code == 1
    assert f"{listed}:4: wiki/Salt: A path begins with a slash" in result.stderr
    assert f"{listed}:6: /nowhere: No page has this path." in result.stderr
    assert "of 4" in result.stderr and result.stdout == "Pages: 2 written, 2 failed.\n"
    again = run(tmp_path, "/wiki/Snow", "/wiki/Tea")
    assert (again.exit_code, again.stdout) == (0, "Pages: 0 written, 2 were stored already.\n")


def test_a_hostile_list_of_paths_cannot_control_the_terminal(tmp_path: Path) -> None:
    lines = ["/wiki/a\0b", "/wiki/\x1b[2Jred", "/wiki/\u202ertl", "/wiki/" + "x" * 5000]
    result = run(tmp_path, "--file", "-", stdin="\n".join(lines))
    assert result.exit_code == 1 and not {"\0", "\x1b", "\u202e"} & set(result.output)
    assert "stdin:1: /wiki/a\ufffdb: No page has this path." in result.stderr
    assert "xx…: This name has 5,000 characters" in result.stderr and len(result.output) < 2000


def test_ten_thousand_paths_with_invalid_ones_among_them(tmp_path: Path) -> None:
    run(tmp_path, "/wiki/Tea")
    lines = "".join(f"/wiki/Tea?n={n}\n" if n % 1000 else f"no path {n}\n" for n in range(1, 10_001))
    result = run(tmp_path, "--file", "-", stdin=lines)
    assert result.exit_code == 1 and result.stdout == "Pages: 0 written, 9,990 were stored already, 10 failed.\n"
    assert "stdin:3000: no path 3000: A path begins with a slash" in result.stderr


def test_missing_pages_are_those_that_stored_pages_link_to(tmp_path: Path) -> None:
    assert "there is no database" in run(tmp_path, "--missing").output
    run(tmp_path, "/wiki/Tea", "/wiki/Snow")
    limited = run(tmp_path, "--missing", "--limit", "1")
    assert limited.stdout == "Pages: 1 written.\n"
    assert run(tmp_path, "--missing").stdout == "Pages: 1 written.\n"
    done = run(tmp_path, "--missing")
    assert done.exit_code == 0 and "No page is missing." in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name the pages, such as /wiki/Tea, or give --file or --missing."),
        (["--limit", "3", "/wiki/Tea"], "--limit belongs to --missing."),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run(tmp_path, *arguments)
    assert result.exit_code == 2 and message in result.output


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    listed = tmp_path / "paths.txt"
    listed.write_bytes(b"/wiki/\xff\n")
    for file, reason in ((listed, "it is not UTF-8"), (tmp_path / "none.txt", "No such file or directory")):
        result = run(tmp_path, "--file", str(file))
        assert result.exit_code == 1 and f"The list of paths {file} cannot be read: {reason}." in result.output


def test_ctrl_c_says_how_to_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unwritten.cli.write._write", interrupted)
    result = run(tmp_path, "/wiki/Tea")
    assert result.exit_code == 130 and "The same command continues with the others." in result.output
