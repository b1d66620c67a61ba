"""Aliases of pages: visits, links, access and the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.testclient import TestClient
from tests.support.apps import browser, database_file, make_app, make_wiki, write
from tests.support.html_checks import inner, page_faults
from tests.support.servers import wait_for

from unwritten import App
from unwritten.cli.main import main
from unwritten.core.errors import BadApp
from unwritten.export.world_file import copy_world
from unwritten.export.world_import import import_world
from unwritten.storage.aliases import AliasStore
from unwritten.storage.pages import PageStore
from unwritten_engine import scripted

CAPTAIN, SARAH = "/wiki/The_Captain", "/wiki/Captain_Sarah"


def run(*arguments: str) -> str:
    """Run ``unwritten`` and return what it prints."""
    result = CliRunner().invoke(main, arguments)
    return f"{result.exit_code} {result.output}{result.exception if result.exit_code == 1 else ''}"


def test_visits_and_links_lead_to_the_page(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("See [[The Captain]]."))
    app.alias("/wiki/The%20Captain", SARAH)  # another spelling
    with browser(app) as client:
        write(client, "/wiki/Home")
        body = inner(client.get("/wiki/Home").text, "body")
        assert f'href="{SARAH}" class="unwritten"' in body
        response = client.get(CAPTAIN)
        assert (response.status_code, response.headers["location"]) == (302, SARAH)
        write(client, SARAH)
        assert f'href="{SARAH}" class="written"' in inner(client.get("/wiki/Home").text, "body")
        assert app.site.store.exists([CAPTAIN, SARAH]) == {SARAH}
        # On the page itself the alias is no link.
        assert "<a" not in inner(client.get(SARAH).text, "body")


def test_a_stored_page_keeps_its_key(tmp_path: Path) -> None:
    engine = scripted("A text.")
    with browser(make_wiki(tmp_path, engine)) as client:
        write(client, CAPTAIN)
    app = make_wiki(tmp_path, engine)
    app.alias(CAPTAIN, SARAH)
    with browser(app) as client:
        assert client.get(CAPTAIN).status_code == 200


def test_an_alias_of_a_running_app_changes_stored_pages_at_once(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("See [[The Captain]]."))
    with browser(app) as client:
        write(client, "/wiki/Home")
        assert f'href="{CAPTAIN}"' in inner(client.get("/wiki/Home").text, "body")
        asyncio.run(app.site.aliases.add(CAPTAIN, SARAH))
        assert f'href="{SARAH}"' in inner(client.get("/wiki/Home").text, "body")
        asyncio.run(app.site.aliases.remove(CAPTAIN))
        assert f'href="{CAPTAIN}"' in inner(client.get("/wiki/Home").text, "body")


def test_a_signed_link_to_an_alias_generates_the_page(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A text."), signed_links="on")
    app.alias(CAPTAIN, SARAH)
    with browser(app) as client:
        response = client.get(app.site.signed_links.sign(CAPTAIN))
        assert response.headers["location"] == SARAH
        assert app.site.jobs.get(SARAH) is not None or app.site.store.exists([SARAH])
        unsigned = client.get(CAPTAIN)
        assert unsigned.headers["location"].startswith(SARAH)


def make_protected(home: Path) -> App:
    """Return an app with a protected page and a public page that links to another name of it."""
    app = make_app(home, scripted(by_ask={"Public": "See [[Nick]].", "Secret": "It is secret."}))

    def allowed(request: Request) -> bool:
        return request.headers.get("x-user") == "sarah"

    @app.page("/secret/{title}", allow=allowed)
    def secret(title: str) -> str:
        return f"Secret {title}."

    @app.page("/wiki/{title}")
    def public(title: str) -> str:
        return f"Public {title}."

    app.alias("/wiki/Nick", "/secret/Plan")
    return app


def test_an_alias_does_not_name_a_protected_page(tmp_path: Path) -> None:
    with browser(make_protected(tmp_path)) as client:
        sarah = {"x-user": "sarah"}
        write(client, "/wiki/Home")
        body = client.get("/wiki/Home").text
        assert 'href="/wiki/Nick"' in inner(body, "body") and "Plan" not in body
        refused, direct = client.get("/wiki/Nick"), client.get("/secret/Plan")
        assert refused.status_code == direct.status_code == 403
        assert "Plan" not in refused.text and "location" not in refused.headers
        assert client.get("/wiki/Nick", headers=sarah).headers["location"] == "/secret/Plan"
        refused = client.get("/wiki/Nick.json")
        assert refused.status_code == 403 and "Plan" not in refused.text and "location" not in refused.headers
        assert client.get("/wiki/Nick.json", headers=sarah).headers["location"] == "/secret/Plan.json"


@pytest.mark.parametrize("way", ["response", "middleware"])
def test_an_alias_does_not_name_a_page_that_its_function_or_middleware_refuses(tmp_path: Path, way: str) -> None:
    def is_refused(request: Request) -> bool:
        return request.url.path.startswith("/secret/") and "x-user" not in request.headers

    async def hide(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return PlainTextResponse("No such page.", 404) if is_refused(request) else await call_next(request)

    app = make_app(tmp_path, scripted("It is secret."))
    if way == "middleware":
        app.add_middleware(BaseHTTPMiddleware, dispatch=hide)

    @app.page("/secret/{title}")
    def secret(title: str, request: Request) -> str | Response:
        return RedirectResponse("/login") if is_refused(request) else f"Secret {title}."

    @app.page("/wiki/{title}")
    def public(title: str) -> str:
        return f"Public {title}."

    app.alias("/wiki/Nick", "/secret/Plan")
    with browser(app) as client:
        for url in ("/wiki/Nick", "/wiki/Nick.json", "/_unwritten/history?page=/wiki/Nick"):
            refused = client.get(url)
            assert refused.headers.get("location") in {None, "/login"} and "Plan" not in refused.text, url
            assert way == "response" or refused.status_code == 404
        member = {"x-user": "sarah"}
        assert client.get("/wiki/Nick", headers=member).headers["location"] == "/secret/Plan"
        assert client.get("/wiki/Nick.json", headers=member).headers["location"] == "/secret/Plan.json"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("/wiki/A", "/elsewhere/B")], "leads to no page"),
        ([("/wiki/A", "/wiki/..%2f")], "."),
        ([("/wiki/A", "/wiki/A")], "circle"),
        ([("/wiki/A_b", "/wiki/A%20b")], "circle"),
        ([("/wiki/A", "/wiki/B"), ("/wiki/B", "/wiki/C"), ("/wiki/C", "/wiki/A")], "circle"),
    ],
)
def test_wrong_aliases_stop_the_app_at_its_start(tmp_path: Path, pairs: list[tuple[str, str]], message: str) -> None:
    app = make_wiki(tmp_path, scripted("x"))
    with pytest.raises(BadApp, match=message):
        for alias, target in pairs:
            app.alias(alias, target)
        app.prepare()


@pytest.mark.parametrize("pair", [("A", "/wiki/B"), ("/wiki/A", "https://evil.example/"), ("/_unwritten/x", "/wiki/B")])
def test_wrong_keys_are_rejected_at_once(tmp_path: Path, pair: tuple[Any, Any]) -> None:
    with pytest.raises(BadApp, match="keys of pages"):
        make_wiki(tmp_path, scripted("x")).alias(*pair)


def test_an_alias_has_one_target(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("x"))
    app.alias("/wiki/A", "/wiki/B")
    with pytest.raises(BadApp, match="one target"):
        app.alias("/wiki/A", "/wiki/C")


def test_aliases_on_the_command_line(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A text."))
    with browser(app) as client:
        write(client, "/wiki/Tea")
    database = f"--database={database_file(app)}"
    assert run("pages", "alias", "/wiki/The Captain", SARAH, database).startswith(
        f"0 {CAPTAIN} is another name of {SARAH}"
    )
    assert run("pages", "alias", database) == f"0 {CAPTAIN} -> {SARAH}\n"
    assert "stored page" in run("pages", "alias", "/wiki/Tea", SARAH, database)
    assert (
        run("pages", "alias", "/wiki/Tea", SARAH, "--replace", database) == f"0 /wiki/Tea is another name of {SARAH}.\n"
    )
    assert run("pages", "alias", "/wiki/Tea", "--remove", database).startswith("0 ")
    assert "Give ALIAS" in run("pages", "alias", "/wiki/Tea", database)
    assert "not the path" in run("pages", "alias", "wiki/Tea", SARAH, database)
    assert run("pages", "alias", CAPTAIN, "--remove", database).startswith("0 ")
    assert "not another name" in run("pages", "alias", CAPTAIN, "--remove", database)


def test_aliases_are_imported_and_copied_with_their_world(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    theirs = make_wiki(tmp_path / "theirs", scripted("A text."))
    theirs.alias(CAPTAIN, SARAH)
    theirs.alias("/wiki/Cup", "/wiki/Tea")
    with browser(theirs) as client:
        write(client, SARAH)
    ours = make_wiki(tmp_path / "ours", scripted("A text."))
    with browser(ours) as client:
        write(client, "/wiki/Cup")
    copy_world(database_file(theirs), tmp_path / "copy.db", public=True, only=[SARAH])
    with_tea = import_world(database_file(ours), database_file(theirs), dry_run=True)
    assert sorted(with_tea.aliases) == ["/wiki/Cup", CAPTAIN]
    assert import_world(database_file(ours), database_file(theirs)).aliases == [CAPTAIN]
    assert import_world(database_file(ours), database_file(theirs)).aliases == []
    for path, expected in ((database_file(ours), [(CAPTAIN, SARAH)]), (tmp_path / "copy.db", [(CAPTAIN, SARAH)])):
        store = PageStore(path)
        assert AliasStore(store.database).all() == expected
        store.close()


def names(client: Any, **fields: str) -> Any:
    """Send the form for other names of the page about Sarah."""
    return client.post("/_unwritten/alias", data={"page": SARAH, **fields})


def test_editors_add_and_remove_other_names(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("A text."), edits="on")
    with browser(app) as client:
        write(client, SARAH)
        write(client, "/wiki/Tea")
        assert names(client, alias="The Captain").headers["location"] == SARAH
        assert names(client, alias="/wiki/Old Sarah").status_code == 303
        assert app.site.aliases.of(SARAH) == ["/wiki/Old_Sarah", CAPTAIN]
        page = client.get(f"/_unwritten/edit?page={SARAH}")
        assert page_faults(page.text) == []
        assert f'value="{CAPTAIN}"' in page.text
        assert client.get(f"/_unwritten/edit?page={CAPTAIN}").status_code == 200  # the forms of the page itself
        for name, message in (
            ("Tea", "stored page"),
            ("Captain Sarah", "itself"),
            ("..", "No page can have"),
            ("/nowhere/x", "No page can have"),
            ("x" * 2000, "This has 2,000 characters"),
        ):
            response = names(client, alias=name)
            assert response.status_code == 400
            assert message in response.text
            assert f'value="{name}"' in response.text
        assert names(client, alias=CAPTAIN, remove="1").status_code == 303
        assert app.site.aliases.of(SARAH) == ["/wiki/Old_Sarah"]
        assert names(client, alias=CAPTAIN, remove="1").status_code == 303  # again


@pytest.mark.parametrize("is_owner", [True, False])
def test_only_the_owner_deletes_the_page_under_a_name(tmp_path: Path, is_owner: bool) -> None:
    app = make_wiki(tmp_path, scripted("A text."), edits="on")
    with browser(app) as client:
        write(client, SARAH)
        write(client, "/wiki/Tea")
        app.owner.owns = lambda scope: is_owner  # type: ignore[method-assign]
        assert ("Delete the page" in client.get(f"/_unwritten/edit?page={SARAH}").text) is is_owner
        assert names(client, alias="Tea", replace="1").status_code == (303 if is_owner else 400)
        assert app.site.store.exists(["/wiki/Tea"]) == (set() if is_owner else {"/wiki/Tea"})


def test_only_editors_change_names(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A text."), edits="off")) as client:
        write(client, SARAH)
        assert names(client, alias="The Captain").status_code == 403


def test_names_of_protected_pages_cannot_be_probed(tmp_path: Path) -> None:
    app = make_protected(tmp_path)
    app.settings = app.settings.model_copy(update={"edits": "on"})
    with browser(app) as client:
        write(client, "/wiki/Home")
        sarah = {"x-user": "sarah"}
        client.get("/secret/Plan", headers=sarah)
        wait_for(lambda: app.site.store.exists(["/secret/Plan"]))
        answers = [
            client.post("/_unwritten/alias", data={"page": "/wiki/Home", "alias": name})
            for name in ("/secret/Plan", "/secret/Other", "/wiki/Nick")
        ]
        assert {answer.status_code for answer in answers} == {400}
        assert all("cannot be used here" in answer.text for answer in answers)
        assert "/secret/Plan" not in answers[2].text


def test_the_variants_of_a_page_have_its_aliases_in_common(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("A note."), edits="on")

    @app.page("/notes/{name}", vary=lambda request: request.headers.get("x-user"))
    def note(name: str) -> str:
        return f"A note on {name}."

    ann, bob = {"x-user": "ann"}, {"x-user": "bob"}
    variant = "/notes/Tea#vary=ann"
    with browser(app) as client:
        client.get("/notes/Tea", headers=ann)
        wait_for(lambda: bool(app.site.store.exists([variant])))
        form = {"page": variant, "alias": "Cuppa"}
        assert client.post("/_unwritten/alias", data=form, headers=ann).status_code == 303
        assert app.site.aliases.all() == [("/notes/Cuppa", "/notes/Tea")]
        assert client.get("/notes/Cuppa", headers=bob).headers["location"] == "/notes/Tea"
        assert "Cuppa" in client.get("/_unwritten/edit?page=/notes/Tea%23vary=ann", headers=ann).text
        client.post("/_unwritten/alias", data={**form, "alias": "/notes/Cuppa", "remove": "1"}, headers=ann)
        assert app.site.aliases.all() == []


def test_links_to_an_alias_of_a_page_with_variants_know_that_it_is_written(tmp_path: Path) -> None:
    def answer(request: Any) -> str:
        return "See [[Cuppa]] and [[Nothing]]." if "Salt" in request.prompt.ask else "A note."

    app = make_app(tmp_path, scripted(answer), links="/notes/{name}")
    app.alias("/notes/Cuppa", "/notes/Tea")

    @app.page("/notes/{name}", vary=lambda request: request.headers.get("x-user"))
    def note(name: str) -> str:
        return f"A note on {name}."

    @app.route("/lists")
    def lists(request: Request) -> Response:
        store = app.store
        values = {
            "to": [page.key for page in store.links_to("/notes/Tea#vary=ann")],
            "missing": [node.key for node in store.missing_pages()],
            "graph": {node.key: node.links for node in store.link_graph()},
        }
        return JSONResponse(values)

    ann, bob = {"x-user": "ann"}, {"x-user": "bob"}
    salt, tea = "/notes/Salt#vary=ann", "/notes/Tea#vary=ann"
    with browser(app) as client:
        for headers, key in ((bob, "/notes/Salt"), (ann, "/notes/Salt"), (ann, "/notes/Tea")):
            write_variant(app, client, key, headers)
        assert 'href="/notes/Cuppa" class="written"' in client.get("/notes/Salt", headers=ann).text
        assert 'href="/notes/Cuppa" class="unwritten"' in client.get("/notes/Salt", headers=bob).text
        assert client.get("/notes/Cuppa", headers=ann).headers["location"] == "/notes/Tea"
        for headers, written in ((ann, [True, False]), (bob, [False, False])):
            document = client.get("/notes/Salt.json", headers=headers).json()
            assert [link["written"] for link in document["links"]] == written
        found = client.get("/lists", headers=ann).json()
        nothing = "/notes/Nothing#vary=ann"
        assert (found["to"], found["missing"]) == ([salt], [nothing])
        assert found["graph"] == {tea: [], salt: [tea, nothing], nothing: []}


def write_variant(app: App, client: TestClient, key: str, headers: dict[str, str]) -> None:
    """Have the page of a user written."""
    client.get(key, headers=headers)
    wait_for(lambda: bool(app.site.store.exists([f"{key}#vary={headers['x-user']}"])))


def test_the_link_graph_does_not_name_the_protected_page_of_an_alias(tmp_path: Path) -> None:
    app = make_protected(tmp_path)

    @app.route("/graph")
    def graph(request: Request) -> Response:
        nodes = [*app.store.link_graph(), *app.store.missing_pages()]
        return JSONResponse([[node.key, *node.links] for node in nodes])

    with browser(app) as client:
        write(client, "/wiki/Home")
        assert "Plan" not in client.get("/graph").text
        assert "/secret/Plan" in client.get("/graph", headers={"x-user": "sarah"}).text
