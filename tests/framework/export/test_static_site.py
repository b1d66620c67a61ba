"""``export``: the stored pages of a world as a static site."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest
from click.testing import CliRunner
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from tests.support.apps import LIGHTHOUSE, browser, database_file, make_app, make_clock, make_wiki, templates, write
from tests.support.html_checks import page_faults

from unwritten import App, Canvas, Page
from unwritten.cli.main import main
from unwritten.core.errors import TransferError
from unwritten.export.static_html import FORM_NOTE
from unwritten.export.static_site import MARKER, ExportReport, export_site, file_of
from unwritten.export.world_import import import_world
from unwritten_engine import Engine, scripted
from unwritten_engine.scripted import ABOUT

TEXT = "A **tower** by the [[Lamp]] and the [[Great Auk|bird]], not by the [[Sea & Shore]]."


def written(home: Path, *pages: str, text: str = TEXT) -> App:
    """Generate pages of the five-line wiki. Return the app without an engine, not prepared."""
    with browser(make_wiki(home, scripted(text))) as client:
        for page in pages:
            write(client, f"/wiki/{page}")
    return make_wiki(home, scripted())


def exported(app: App, folder: Path, **options: bool) -> tuple[ExportReport, dict[str, str]]:
    """Export an app, and check its links. Return the report and the HTML files by name."""
    site = export_site(app, folder, **options)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    pages = {name: path.read_text() for name, path in files.items() if name.endswith(".html")}
    for name, html in pages.items():
        assert page_faults(html) == []
        assert "<script" not in html and "hx-" not in html and "_s=" not in html and 'href="/' not in html
        for url in re.findall(r'(?:href|src)="([^"#]+)', html):
            assert unquote(urljoin(name, url)) in files or ":" in url, f"{name} links to {url}"
    return site, pages


def test_an_export_has_a_file_for_each_page(tmp_path: Path) -> None:
    app = written(tmp_path, "Tower", "Lamp", "Great_Auk")
    site, pages = exported(app, tmp_path / "site")
    assert (site.pages, site.left_out) == (3, [])
    assert sorted(pages) == [
        "index.html",
        "unwritten.html",
        "wiki/Great_Auk.html",
        "wiki/Lamp.html",
        "wiki/Tower.html",
    ]
    tower = pages["wiki/Tower.html"]
    assert '<a href="Lamp.html" class="written">Lamp</a>' in tower
    assert '<a href="Great_Auk.html" class="written">bird</a>' in tower
    assert re.search(r'<a href="../unwritten.html" class="unwritten"[^>]*>Sea &amp; Shore</a>', tower)
    assert '<a class="written" href="wiki/Tower.html">Tower</a>' in pages["index.html"]
    assert "In the running app" in pages["unwritten.html"]
    assert (tmp_path / "site" / "unwritten-static" / "unwritten.css").is_file()
    assert not list((tmp_path / "site").rglob("*.js"))


def test_an_export_generates_no_page(tmp_path: Path) -> None:
    app = written(tmp_path, "Tower")
    exported(app, tmp_path / "site")
    again = make_wiki(tmp_path, scripted())
    with browser(again):
        assert [entry.key for entry in again.store.all()] == ["/wiki/Tower"]


def test_functions_of_the_server_are_left_out(tmp_path: Path) -> None:
    app = written(tmp_path, "Tower")
    _, pages = exported(app, tmp_path / "site")
    tower = pages["wiki/Tower.html"]
    assert "colophon" in tower and "a script" in tower
    assert "Regenerate" not in tower and "/_unwritten/" not in tower


def test_other_pages_are_exported_and_forms_are_disabled(tmp_path: Path) -> None:
    form = """{% extends "layout.html" %}{% block main %}<form action="/search"><input name="q"><button>Go</button>
    </form><a href="/list?sort=1">sorted</a> <a href="/list">all</a> <a href="https://example.org/x">x</a>
    {% endblock %}"""

    def an_app() -> App:
        app = make_app(tmp_path, scripted("Word."), folder=templates(tmp_path, form=form))

        @app.page("/")
        def front() -> Page:
            return Page("form.html")

        @app.page("/list")
        def everything() -> Page:
            return Page("form.html")

        @app.page("/about")
        def about() -> str:
            return "About."

        return app

    with browser(an_app()) as client:
        write(client, "/about")
    site, pages = exported(an_app(), tmp_path / "site")
    assert (site.pages, site.more) == (1, 2)
    front = pages["index.html"]
    assert '<input name="q" disabled><button disabled>Go</button>' in front
    assert FORM_NOTE in front and "action=" not in front
    assert '<a href="unwritten.html">sorted</a> <a href="list.html">all</a> <a href="https://example.org/x">' in front


def test_pages_that_the_app_cannot_render_any_more_are_reported(tmp_path: Path) -> None:
    written(tmp_path, "Tower")
    app = make_app(tmp_path, scripted())

    @app.page("/wiki/{title}")
    def article(title: str) -> Page:
        return Page("page.html", body=Canvas("x"), more=Canvas("A canvas that was not there."))

    site, pages = exported(app, tmp_path / "site")
    assert (site.pages, site.left_out) == (0, ["/wiki/Tower"])
    assert "wiki/Tower.html" not in pages


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("/", "index.html"),
        ("/wiki/Great_Auk", "wiki/Great_Auk.html"),
        ("/wiki/AC%2FDC", "wiki/AC~2FDC.html"),
        ("/wiki/%E4%BA%AC%E9%83%BD", "wiki/京都.html"),
        ("/docs/a/", "docs/a/index.html"),
        ("/search?q=sea&n=1", "search~3Fq=sea~26n=1.html"),
        ("/wiki/C:%5Cx*%22%3C~", "wiki/C~3A~5Cx~2A~22~3C~7E.html"),
        ("/wiki/con", "wiki/~con~.html"),
        ("/wiki/.htaccess", "wiki/~.htaccess~.html"),
        ("/wiki/com¹.x", "wiki/~com¹.x~.html"),
        ("/wiki/..%2F..%2Fx", "wiki/~..~2F..~2Fx~.html"),
        ("/wiki/a%00b%0A", "wiki/a~00b~0A.html"),
        ("/wiki/Tea.", "wiki/~Tea.~.html"),
    ],
)
def test_every_key_has_a_file_name_for_all_systems(key: str, file: str) -> None:
    assert file_of(key) == file


def test_long_names_and_names_that_differ_in_case_do_not_collide(tmp_path: Path) -> None:
    assert len(file_of("/wiki/" + "%E4%BA%AC" * 120).encode()) < 200
    app = written(tmp_path, "Tea", "tea", "TEA", "%2e_x", "AC%2FDC")
    site, pages = exported(app, tmp_path / "site")
    assert site.pages == 5
    names = [name.casefold() for name in pages]
    assert len(names) == len(set(names)) == 7


def test_no_page_takes_the_place_of_another_file_or_folder(tmp_path: Path) -> None:
    """Visitors choose keys. None of them may break an export, or replace one of its files."""
    keys = ["a", "A.html/b", "a.html/b/c", "unwritten-static/icon.svg", "unwritten", "unwritten-pictures/x", "_headers"]
    keys += ["caf%C3%A9", "CAF%C3%89", "x/" * 50 + "y", "index", "index.html/z", "con/nul.x/aux", "world.db/x"]
    app = make_app(tmp_path, scripted("Text."))

    @app.fallback
    def anything(path: str) -> str:
        return f"About {path}."

    with browser(app) as client:
        for key in keys:
            write(client, f"/{key}")
    again = make_app(tmp_path, scripted())
    again.fallback(anything)
    report, pages = exported(again, tmp_path / "site")
    assert report.left_out == []
    assert sum("Text." in html for html in pages.values()) == len(keys)
    assert (tmp_path / "site" / "_headers").read_text().startswith("/*\n  Content-Security-Policy: frame-ancestors")
    assert all(len(name.encode()) <= 205 for name in pages)


def test_files_have_the_type_with_which_the_app_sends_them(tmp_path: Path) -> None:
    app = written(tmp_path, "Tower")

    async def raw(request: Request) -> Response:
        return PlainTextResponse("<script>alert(1)</script>")

    app.router.routes.insert(0, Route("/raw/{name}", raw))

    async def front(request: Request) -> Response:
        return HTMLResponse("".join(f'<a href="/raw/{name}">x</a>' for name in ("a.html", "b.svg", "c.txt", "d")))

    app.router.routes.insert(0, Route("/", front))
    exported(app, tmp_path / "site")
    assert {path.name for path in (tmp_path / "site" / "raw").iterdir()} == {"a.html.txt", "b.svg.txt", "c.txt", "d"}


def test_every_page_has_a_policy(tmp_path: Path) -> None:
    _, pages = exported(written(tmp_path, "Tower"), tmp_path / "site")
    assert len(pages) > 2
    for name, html in pages.items():
        (policy,) = re.findall(r'<head>\s*<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
        assert "default-src 'none'" in policy and "unsafe" not in policy, name


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    app = written(tmp_path, "Tower")
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("mine")
    with pytest.raises(TransferError, match=r"is not empty\. Name another one\."):
        export_site(app, folder)
    with pytest.raises(TransferError, match=rf"has no file {MARKER}, so it is not an export and is not replaced"):
        export_site(app, folder, replace=True)
    with pytest.raises(TransferError, match="exists already and is not a folder"):
        export_site(app, folder / "chapter.txt")
    assert [path.name for path in folder.iterdir()] == ["chapter.txt"]
    with pytest.raises(TransferError, match="No pages are stored yet"):
        export_site(make_app(tmp_path, scripted(), database=str(tmp_path / "none.db")), tmp_path / "x")


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()  # an empty folder may be used
    exported(written(tmp_path, "Tower"), folder)
    (folder / "stale.html").touch()
    with pytest.raises(TransferError, match=r"or replace this earlier export: unwritten export .* --replace"):
        export_site(written(tmp_path, "Lamp"), folder)
    assert (folder / "stale.html").exists()
    exported(written(tmp_path, "Lamp"), folder, replace=True)
    assert (folder / "wiki" / "Lamp.html").is_file() and not (folder / "stale.html").exists()
    assert json.loads((folder / MARKER).read_text())["pages"] == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".site")] == []


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    written(tmp_path, "Tower")
    app = make_wiki(tmp_path, scripted(), folder=templates(tmp_path, exported="{{ 1 / 0 }}"))
    with pytest.raises(Exception, match=r"exported\.html"):
        export_site(app, tmp_path / "site")
    assert [path.name for path in tmp_path.iterdir() if "site" in path.name] == []


def test_the_command_adds_the_database(tmp_path: Path, home: Path) -> None:
    (home / "app.py").write_text(
        "from unwritten import App\napp = App('Book', database='book.db')\n"
        "@app.page('/wiki/{title}')\ndef article(title: str) -> str:\n    return f'About {title}.'\n"
    )
    database_file(written(tmp_path, "Tower")).rename(home / "book.db")
    result = CliRunner().invoke(main, ["export", "site", "--world"])
    assert result.exit_code == 0, result.output
    assert "Exported 1 page of Book to site." in result.output
    assert b"secret" not in (home / "site" / "world.db").read_bytes()


def test_an_added_database_has_no_pages_that_not_everyone_may_read(tmp_path: Path) -> None:
    def wiki(home: Path, engine: Engine, is_allowed: bool) -> App:
        app = make_wiki(home, engine)

        @app.page("/secret/{title}", allow=lambda request: is_allowed)
        def secret(title: str) -> str:
            return f"A secret about {title}."

        return app

    engine = scripted(lambda request: "The word is xyzzy." if "secret" in request.prompt.ask else TEXT)
    with browser(wiki(tmp_path, engine, True)) as client:
        for key in ("/secret/Plan", "/wiki/Tower"):
            write(client, key)
    report, pages = exported(wiki(tmp_path, scripted(), False), tmp_path / "site", world=True)
    assert (report.pages, report.left_out) == (1, ["/secret/Plan"])
    world = tmp_path / "site" / "world.db"
    assert b"xyzzy" not in world.read_bytes() and "xyzzy" not in "".join(pages.values())
    assert import_world(tmp_path / "new.db", world).new == ["/wiki/Tower"]


def test_the_licence_of_a_pages_model_is_shown(tmp_path: Path) -> None:
    engine = scripted(LIGHTHOUSE, about=replace(ABOUT, licence="Terms & conditions."))
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, "/wiki/Tower")
    _, pages = exported(make_wiki(tmp_path, scripted()), tmp_path / "site")
    assert '<p class="licence">Terms &amp; conditions.</p>' in pages["wiki/Tower.html"]


def test_boxes_keep_their_sandbox(tmp_path: Path) -> None:
    with browser(
        make_clock(tmp_path, "<!doctype html><html><title>Clock</title><body><p>12:00</p></body></html>")
    ) as client:
        write(client, "/clock")
    _, pages = exported(make_clock(tmp_path), tmp_path / "site")
    (frame,) = re.findall(r"<iframe [^>]*>", pages["clock.html"])
    assert 'sandbox="allow-scripts"' in frame and " src=" not in frame
    document = frame.partition('srcdoc="')[2]
    assert "Content-Security-Policy" in document and "default-src" in document and "12:00" in document
