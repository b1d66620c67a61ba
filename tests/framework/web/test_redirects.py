"""Redirects: the framework sends browsers only to pages of the app, whatever a request contains."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from tests.support.apps import browser, make_app, make_clock, make_wiki, write
from tests.support.urls import url_vectors

import unwritten
from unwritten import App
from unwritten.core.errors import BadURL
from unwritten.core.mount import MountPoint
from unwritten.core.paths import page_path
from unwritten.routing.redirects import PageRedirect
from unwritten_engine import scripted

AMENDS_LOCATION = {
    "web/page_handler.py",
    "devtools/middleware.py",
    "generation/page_writer.py",
    "testing/asgi_client.py",
    "testing/visitor.py",
}
"""Modules that read a ``location`` header, or add parameters to one."""


def test_only_one_module_makes_redirects() -> None:
    """A new redirect must be a ``PageRedirect``, which checks its target."""
    home = Path(unwritten.__file__).parent
    found: dict[str, set[str]] = {}
    for file in home.rglob("*.py"):
        name = file.relative_to(home).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Name, ast.Attribute, ast.alias)):
                text = str(getattr(node, "id", "") or getattr(node, "attr", "") or getattr(node, "name", ""))
                if text.endswith("RedirectResponse"):
                    found.setdefault(text, set()).add(name)
            elif isinstance(node, ast.Constant):
                value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
                if isinstance(value, str) and value.lower() in {"location", "content-location"}:
                    found.setdefault(value.lower(), set()).add(name)
    assert found == {
        "RedirectResponse": {"routing/redirects.py", "security/owner.py"},
        "location": AMENDS_LOCATION,
    }


def test_a_redirect_leads_to_a_page_or_is_an_error() -> None:
    mount = MountPoint()
    mount.update("/gu ide")
    response = PageRedirect(mount, "/wiki/Café?x=1#top")
    assert (response.status_code, response.headers["location"]) == (303, "/gu%20ide/wiki/Caf%C3%A9?x=1#top")
    for url in url_vectors():
        if page_path(url) is None:
            with pytest.raises(BadURL, match="is not the URL of a page"):
                PageRedirect(mount, url)


def framework_routes(app: Any) -> list[Any]:
    """Return the framework's own routes, from the running app."""
    (mount,) = (route for route in app.router.routes if isinstance(route, Mount) and route.path == "/_unwritten")
    return list(mount.routes)


def make_everything(home: Path) -> App:
    """Return an app with pages at every URL, in which visitors may edit, and with a route that redirects anywhere."""
    app = make_wiki(home, scripted("A tower."), edits="on", signed_links="on", hosts="*")

    @app.fallback
    def anything(path: str) -> str:
        return f"About {path}."

    async def leave(request: Request) -> Response:
        return RedirectResponse(f"http://testserver{request.query_params['to']}")

    app.router.routes.append(Route("/leave", leave))
    return app


def test_no_request_is_redirected_off_site(tmp_path: Path) -> None:
    statuses = set()
    own_tab = {"sec-fetch-dest": "document", "sec-fetch-site": "same-origin"}
    with browser(make_everything(tmp_path)) as client:
        names = [
            route.path for route in framework_routes(client.app) if not route.path.startswith(("/static", "/live"))
        ]
        assert {"/box", "/write", "/edit", "/restore"} <= set(names)
        for number, url in enumerate(url_vectors()):
            if url.encode("utf-8", "replace").decode() != url:
                continue
            fields = {"page": url, "region": "body", "version": "1", "base": "1"}
            name = names[number % len(names)]
            for path, method in (
                (f"/_unwritten{name}", "GET"),
                (f"/_unwritten{name}", "POST"),
                ("/_unwritten/box", "GET"),
            ):
                data = {"page": url} if name == "/write" else fields
                given: dict[str, Any] = {"params": fields} if method == "GET" else {"data": data}
                response = client.request(method, path, headers=own_tab, **given)
                statuses.add(response.status_code)
                assert response.status_code < 500
                location = response.headers.get("location", "/")
                assert page_path(location.partition("_s=")[0]) is not None, (location, url)
            for target in (f"//{url}", url):
                location = client.get("/leave", params={"to": target}, headers=own_tab).headers["location"]
                assert location.startswith("http://testserver") or page_path(location) is not None, target
    assert {303, 400, 404} <= statuses


def test_a_box_redirects_only_to_pages_that_exist(tmp_path: Path) -> None:
    app = make_clock(tmp_path, "<!doctype html><html><body>x</body></html>")
    with browser(app) as client:
        write(client, "/clock")
        own_tab = {"sec-fetch-dest": "document"}
        found = client.get("/_unwritten/box?page=/clock&region=body", headers=own_tab)
        assert (found.status_code, found.headers["location"]) == (303, "/clock")
        for page in ("/nowhere", "/%5Cevil.example/x", "/%09/evil.example", "/.//evil.example", "/a%0d%0ab"):
            refused = client.get(f"/_unwritten/box?page={page}&region=body", headers=own_tab)
            assert refused.status_code in {400, 404} and "location" not in refused.headers


def test_urls_in_templates_stay_on_this_site(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return title

    async def file(request: Request) -> Response:
        return Response()

    app.router.routes.append(Route("/{path:path}", file, name="file"))
    with browser(app):
        assert app.url_path_for("file", path="a/b") == "/a/b"
        functions = app.site.template_globals
        for path in ("/evil.example/x", "\\evil.example", "./%2e//evil.example"):
            with pytest.raises(BadURL, match="leads to no path of this app"):
                app.url_path_for("file", path=path)
            assert app.url_path_for("file", path=path, default="/none") == "/none"
            assert functions.url_for("file", path=path, default="") == ""
        assert functions.link("/thread/3?x=1#post-4") == "/thread/3?x=1#post-4"
        for url in url_vectors():
            assert (functions.link(url, default=None) is None) == (page_path(url) is None)
