"""Tests of ``App.include_router``."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from tests.support.apps import browser, make_app, templates
from tests.support.forum import Post

from unwritten import Canvas, Page
from unwritten.app.router import Router
from unwritten.core.errors import BadApp, BadTable
from unwritten.testing import Visitor
from unwritten_engine import scripted


def make_recipes() -> Router:
    router = Router()
    posts = router.table(Post)

    @router.page("/{title}")
    def recipe(title: str) -> str:
        return f"A recipe for {title}."

    @router.action("/{title}/rate")
    def rate(title: str, stars: int) -> None:
        posts.insert(Post(thread=stars, text=title))

    @router.route("/api/count")
    def count(request: Request) -> Response:
        return PlainTextResponse(str(posts.count()))

    return router


def test_a_router_is_included_below_a_prefix(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Boil it."))
    app.include_router(make_recipes(), prefix="/recipes")
    with browser(app) as client:
        assert "Boil it." in client.get("/recipes/Tea?plain=1").text
        assert client.get("/recipes/api/count").text == "0"
        assert client.get("/Tea").status_code == 404
        assert app.url_path_for("recipe", title="Tea") == "/recipes/Tea"
        assert client.get("/recipes/Tea/rate").status_code == 405


def test_invalid_prefixes_and_other_things_are_errors(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("x"))
    router = make_recipes()
    for prefix in ("recipes", "/recipes/"):
        with pytest.raises(BadApp, match="begin with a slash"):
            app.include_router(router, prefix=prefix)
    with pytest.raises(BadApp, match="no parameter 'country'"):
        app.include_router(router, prefix="/{country}")
    with pytest.raises(BadApp, match="takes a Router, but got module"):
        app.include_router(pytest)  # type: ignore[arg-type]
    for included in (make_app(tmp_path, scripted("x")), app):
        with pytest.raises(BadApp, match="An App is mounted"):
            app.include_router(included)
    other = Router()
    other.table(Post)
    app.include_router(router)
    with pytest.raises(BadTable, match="There is a table 'post' already"):
        app.include_router(other)


def test_what_is_declared_after_the_inclusion_is_an_error(tmp_path: Path) -> None:
    router = make_recipes()
    make_app(tmp_path, scripted("x")).include_router(router)
    with pytest.raises(BadApp, match="The page '/late' is declared on a router that was included already"):
        router.page("/late")
    with pytest.raises(BadApp, match="The table 'post' is declared"):
        router.table(Post)


def test_a_router_is_included_twice_and_shares_its_tables(tmp_path: Path) -> None:
    app, router = make_app(tmp_path, scripted("Boil it.")), make_recipes()
    app.include_router(router, prefix="/soups")
    app.include_router(router, prefix="/cakes", name="cakes")
    assert app.url_path_for("recipe", title="Tea") == "/soups/Tea"
    assert app.url_path_for("cakes:recipe", title="Tea") == "/cakes/Tea"
    with browser(app) as client:
        assert "Boil it." in client.get("/cakes/Tea?plain=1").text
        next(iter(router.tables)).insert(Post(thread=1, text="Tea"))
        assert client.get("/cakes/api/count").text == client.get("/soups/api/count").text == "1"


def test_two_inclusions_without_a_name_are_an_error(tmp_path: Path) -> None:
    app, router = make_app(tmp_path, scripted("x")), make_recipes()
    app.include_router(router, prefix="/soups")
    app.include_router(router, prefix="/cakes")
    with pytest.raises(BadApp, match=r"Two pages are called 'recipe': .*include_router\(…, name='more'\)"):
        app.prepare()


def test_all_functions_take_the_parameters_of_a_prefix(tmp_path: Path) -> None:
    router, called = Router(), list[str]()

    @router.page("/wiki/{title}", links="/wiki/{title}")
    def article(lang: str, title: str) -> str:
        return f"An article in {lang} about {title}."

    @router.page("/", links="/about/{title}")
    def front(lang: str) -> str:
        return f"The front page in {lang}."

    @router.on_written("/wiki/{title}")
    def note(lang: str, title: str) -> None:
        called.append(f"{lang} {title}")

    app = make_app(tmp_path, scripted("Words."))

    @app.page("/about/{title}")
    def about(title: str) -> str:
        return f"About {title}."

    app.include_router(router, prefix="/{lang}")
    visitor = Visitor(app)
    assert visitor.visit("/de/wiki/Tee").text.startswith("Tee")
    assert app.url_path_for("article", lang="de", title="Tee") == "/de/wiki/Tee" and called == ["de Tee"]
    links = {page.name: page.links.path for page in app.pages if page.links}
    assert links["article"] == "/{lang}/wiki/{title}", "it leads to a page of the router, and gets the prefix"
    assert links["front"] == "/about/{title}", "it leads to another page of the app"


def test_titles_lead_to_the_same_pages_below_a_prefix_with_a_parameter(tmp_path: Path) -> None:
    router, outer = Router(), Router()

    @router.page("/{title}")
    def article(country: str, lang: str, title: str) -> str:
        return f"An article in {lang} about {title}."

    @router.page("/")
    def front(country: str, lang: str) -> str:
        return f"The front page in {lang}."

    app = make_app(tmp_path, scripted("See [[Green Tea]]."))
    outer.include_router(router, prefix="/{lang}")
    app.include_router(outer, prefix="/{country}")
    visitor = Visitor(app)
    assert visitor.visit("/ch/de/Tee").links["Green Tea"] == "/ch/de/Green_Tea"
    assert "Green Tea" not in visitor.visit("/ch/de/").links, "the parameters of a prefix are no titles"


def test_routers_in_routers(tmp_path: Path) -> None:
    app, outer, recipes = make_app(tmp_path, scripted("Boil it.")), Router(), make_recipes()
    with pytest.raises(BadApp, match="No app includes this router yet"):
        _ = recipes.app
    outer.include_router(recipes, prefix="/recipes", name="food")
    app.include_router(outer, prefix="/kitchen", name="home")
    assert app.url_path_for("home:food:recipe", title="Tea") == "/kitchen/recipes/Tea"
    assert recipes.app is app is outer.app
    assert "Boil it." in Visitor(app).visit("/kitchen/recipes/Tea").text


# -- templates and static files ---------------------------------------------------------------------------

PAGE = '{% extends "layout.html" %}{% block main %}NAME {% block body %}{{ body }}{% endblock %}{% endblock %}'


def make_part(home: Path, name: str, **sources: str) -> Router:
    """Return a router in a folder of its own, with a page at ``/name`` from ``name.html``."""
    folder = home / f"part-{name}"
    (folder / "static").mkdir(parents=True)
    (folder / "static" / f"{name}.css").write_text(f"/* {name} */")
    templates(folder, **{name: PAGE.replace("NAME", f"of {name}"), **sources})
    router = Router(folder=folder)

    @router.page(f"/{name}", name=name)
    def page() -> Page:
        return Page(f"{name}.html", body=Canvas("A text."))

    return router


def test_a_router_brings_its_templates_and_static_files(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, tea=PAGE.replace("NAME", "of the app")))
    for name in ("tea", "salt"):
        app.include_router(make_part(tmp_path, name))
    visitor = Visitor(app)
    assert "of salt Words." in " ".join(visitor.visit("/salt").text.split())
    assert "of the app" in visitor.visit("/tea").text, "the app's template takes precedence"
    assert visitor.visit(app.static_files.url("salt.css")).html == "/* salt */"
    assert len(app.folders) == 5


def test_two_routers_with_the_same_file_are_an_error(tmp_path: Path) -> None:
    parts = [make_part(tmp_path, name, box="x") for name in ("tea", "salt")]
    app = make_app(tmp_path, scripted("x"))
    for part in parts:
        app.include_router(part)
    with pytest.raises(BadApp, match=r"Two routers have the template 'box.html': .*Rename one of them"):
        app.prepare()
    decided = make_app(tmp_path, scripted("x"), folder=templates(tmp_path, box="x"))
    for part in parts:
        decided.include_router(part)
    assert Visitor(decided).visit("/tea").status == 200


def test_a_router_brings_its_translations(tmp_path: Path) -> None:
    entry = 'msgid "{}"\nmsgstr "{}"\n'
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'

    def catalog(home: Path, **texts: str) -> Path:
        path = home / "locale" / "de" / "LC_MESSAGES" / "messages.po"
        path.parent.mkdir(parents=True)
        path.write_text(header + "\n".join(entry.format(*text) for text in texts.items()), encoding="utf-8")
        return home

    app = make_app(tmp_path, scripted("x"), folder=catalog(tmp_path / "app", History="Chronik"), language="de")
    assert app.localization.get().gettext("Salt") == "Salt"  # the catalogs are read again below
    app.include_router(Router(folder=catalog(tmp_path / "part", History="Ablauf", Salt="Salz")))
    found = [app.localization.get().gettext(text) for text in ("History", "Salt", "Edit")]
    assert found == ["Chronik", "Salz", "Bearbeiten"] and len(app.folders) == 2


def test_a_folder_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(BadApp, match=r"The folder .*nowhere does not exist"):
        Router(folder="nowhere")


# -- alone ------------------------------------------------------------------------------------------------


def test_a_router_is_tested_alone_and_knows_its_app(tmp_path: Path) -> None:
    router = make_part(tmp_path, "tea")

    @router.route("/ask")
    async def ask(request: Request) -> Response:
        return PlainTextResponse(await router.app.generate("A line about tea."))

    visitor = Visitor(router, {"about tea": "It is warm."})
    assert "of tea" in visitor.visit("/tea").text and visitor.visit("/ask").html == "It is warm."
    again = Visitor(router)
    assert again.visit("/tea").status == 200, "the first visitor is replaced"
    app = make_app(tmp_path, scripted("Of the app."))
    app.include_router(router, prefix="/hot")
    again.close()
    assert Visitor(app).visit("/hot/ask").html == "Of the app."


def test_a_router_belongs_to_one_running_app(tmp_path: Path) -> None:
    part, first = make_recipes(), make_app(tmp_path, scripted("x"))
    outer = Router()
    outer.include_router(part)
    first.include_router(outer, prefix="/first")
    second = make_app(tmp_path, scripted("y"), database=str(tmp_path / "second.db"))
    second.include_router(part, prefix="/second")
    with browser(first):
        assert part.app is first
        with pytest.raises(BadApp, match=r"'Fake Wiki', which runs in this process.*Make the router in a function"):
            second.prepare()
    with browser(second):
        assert part.app is second
