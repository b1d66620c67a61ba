"""The link graph, and missing pages."""

from __future__ import annotations

from collections.abc import Callable

from unwritten import App
from unwritten.storage.pages import LinkNode
from unwritten.testing import Visitor, answers

TEXTS = {
    "lamp": "See [[Oil]], [[Glass]] and [[Lamp]].",
    "oil": "For a [[Lamp]], behind [[Glass]].",
    "moth": "[[Lamp]].",
}


def written() -> App:
    app = App("Things", links="/wiki/{title}")

    @app.page("/wiki/{title}", canonical=str.capitalize)
    def thing(title: str) -> str:
        return f"About {title}."

    @app.page("/list")
    def listed() -> str:
        return "A list of the lamp."

    return app


def test_written_pages_come_first_and_then_those_with_the_most_backlinks(setting: str) -> None:
    app = written()
    visitor = Visitor(
        app, answers({f"About {name.capitalize()}": text for name, text in TEXTS.items()}), database=setting
    )
    for name in TEXTS:
        visitor.visit(f"/wiki/{name}")
    assert app.store.link_graph() == [
        LinkNode("/wiki/Lamp", "Lamp", True, 2, ("/wiki/Oil", "/wiki/Glass")),
        LinkNode("/wiki/Oil", "Oil", True, 1, ("/wiki/Lamp", "/wiki/Glass")),
        LinkNode("/wiki/Moth", "Moth", True, 0, ("/wiki/Lamp",)),
        LinkNode("/wiki/Glass", "Glass", False, 2),
    ]
    assert [(node.title, node.links) for node in app.store.link_graph(2)] == [
        ("Lamp", ("/wiki/Oil",)),
        ("Oil", ("/wiki/Lamp",)),
    ], "links to pages outside of the graph are left out"
    assert app.store.link_graph(prefix="/list") == []
    assert app.store.missing_pages() == [LinkNode("/wiki/Glass", "Glass", False, 2)]
    assert app.store.missing_pages(prefix="/list") == []


def test_an_empty_world_has_an_empty_graph() -> None:
    app = written()
    visitor = Visitor(app)
    assert visitor.visit("/nowhere").status == 404
    assert app.store.link_graph() == app.store.missing_pages() == []


def test_pages_of_one_function_have_names_of_their_own() -> None:
    app = App("Editions")

    def edition(code: str) -> Callable[[str], str]:
        return lambda title: f"About {title} in {code}."

    for code in ("de", "fr"):
        app.page(f"/{code}/{{title}}", name=code)(edition(code))
    assert [app.url_path_for(code, title="Le thé") for code in ("de", "fr")] == ["/de/Le_th%C3%A9", "/fr/Le_th%C3%A9"]
