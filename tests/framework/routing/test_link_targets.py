"""Where ``[[Title]]`` leads: patterns with several parameters, and pages that a canvas names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tests.support.apps import browser, make_app, write
from tests.support.html_checks import inner

from unwritten import App, Canvas, Example
from unwritten.core.errors import BadPage
from unwritten.formats.links import title_spellings
from unwritten.routing.link_targets import LinkTargets
from unwritten.routing.patterns import PagePattern
from unwritten.routing.prompts import LINK_NOTE, build_prompt
from unwritten.testing import Visitor
from unwritten_engine import scripted

STREETS = PagePattern("/{country}/{city}/{street}")


def make_guide(home: Path, text: str, **options: Any) -> App:
    """Return a travel guide whose links lead to streets of the same city."""
    app = make_app(home, scripted(text), links="/{country}/{city}/{street}", **options)

    @app.page("/{country}")
    def country(country: str) -> str:
        return f"About {country}."

    @app.page("/{country}/{city}")
    def city(country: str, city: str) -> str:
        return f"About {city}."

    @app.page("/{country}/{city}/{street}")
    def street(country: str, city: str, street: str) -> str:
        return f"About {street}."

    return app


def test_known_parameters_come_from_the_page_and_the_last_from_the_title() -> None:
    known = {"country": "Portugal", "city": "New Lisbon"}
    assert STREETS.link("Rua Augusta", known=known) == "/Portugal/New_Lisbon/Rua_Augusta"
    assert STREETS.link("Rua Augusta", known={**known, "street": "Old"}) == "/Portugal/New_Lisbon/Rua_Augusta"
    assert STREETS.link("..", known=known) is None
    assert STREETS.link("Rua Augusta", known={"country": "Portugal"}) is None


def test_a_known_parameter_that_does_not_fit_leads_nowhere() -> None:
    pattern = PagePattern("/{year:int}/{title}")
    assert pattern.link("Tea", known={"year": 1743}) == "/1743/Tea"
    assert pattern.link("Tea", known={"year": "soon"}) is None
    assert "'soon'" in LinkTargets(pattern, {"year": "soon"}).explain("Tea")


def test_problems_name_what_is_missing() -> None:
    assert "'city'" in LinkTargets(STREETS, {"country": "Portugal"}).explain("Tea")
    assert "'n'" in LinkTargets(PagePattern("/{n:int}")).explain("7")
    assert "links=" in LinkTargets(None).explain("Tea")
    assert "120" in LinkTargets(PagePattern("/{title}")).explain("x" * 121)


def test_pages_of_a_city_link_to_its_streets(tmp_path: Path) -> None:
    with browser(make_guide(tmp_path, "See [[Rua Augusta|the street]].")) as client:
        for path in ("/Portugal/New_Lisbon", "/Portugal/New_Lisbon/Old_Street"):
            write(client, path)
            assert 'href="/Portugal/New_Lisbon/Rua_Augusta"' in inner(client.get(path).text, "body")
        write(client, "/Portugal")
        body = inner(client.get("/Portugal").text, "body")
        assert "the street" in body
        assert "href" not in body


def test_titles_that_lead_nowhere_are_logged_once_and_shown_in_the_panel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "unwritten"):
        visitor = Visitor(make_guide(tmp_path, "See [[Rua Augusta]] and [[Rossio]].", debug=True))
        visitor.visit("/Portugal")
        visitor.visit("/Spain")
        panel = visitor.visit("/_unwritten/developer?page=/Portugal")
    messages = [record.getMessage() for record in caplog.records if "is no link" in record.getMessage()]
    assert len(messages) == 1
    assert "'Rua Augusta'" in messages[0]
    assert "no parameter 'city' for '/{country}/{city}/{street}'" in messages[0]
    assert "[[Rossio]]: the page has no parameter 'city'" in " ".join(panel.text.split())


def test_in_production_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Visitor(make_guide(tmp_path, "See [[Rossio]].")).visit("/Portugal")
    assert not [record for record in caplog.records if "is no link" in record.getMessage()]


def test_links_use_the_canonical_function_of_the_page_they_lead_to(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("See [[the captain]]."), links="/wiki/{title}")

    @app.page("/")
    def home() -> str:
        return "The home page."

    @app.page("/wiki/{title}", canonical=str.title)
    def article(title: str) -> str:
        return f"About {title}."

    with browser(app) as client:
        write(client, "/")
        assert 'href="/wiki/The_Captain"' in inner(client.get("/").text, "body")


def test_titles_match_in_other_cases_and_the_plural() -> None:
    targets = LinkTargets(
        PagePattern("/wiki/{title}"),
        canvases=[
            Canvas("x", links=["Horse", "/people/Captain_Sarah", "Old Cities"]),
            Canvas("y", links={"Box": "/b/1"}),
        ],
    )
    assert targets.key_for("HORSES") == "/wiki/Horse"
    assert targets.key_for("captain  sarah") == "/people/Captain_Sarah"
    assert targets.key_for("old city") == "/wiki/Old_Cities"
    assert targets.key_for("boxes") == "/b/1"
    assert targets.key_for("Glass") == "/wiki/Glass"
    assert title_spellings("Glass") == ["glass"]


def test_an_exact_title_wins_over_a_plural() -> None:
    targets = LinkTargets(None, canvases=[Canvas("x", links={"Cat": "/a", "Cats": "/b"})])
    assert (targets.key_for("cat"), targets.key_for("cats")) == ("/a", "/b")


def test_named_pages_are_linked_even_if_no_pattern_leads_anywhere(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("See [[captain sarah|her]] and [[Rain]]."))

    @app.page("/{a}/{b}")
    def page(a: str, b: str) -> Canvas:
        return Canvas(f"About {a} and {b}.", links={"Captain Sarah": "/people/Sarah"})

    with browser(app) as client:
        write(client, "/x/y")
        body = inner(client.get("/x/y").text, "body")
    assert 'href="/people/Sarah"' in body
    assert body.count("href") == 1


def test_the_prompt_and_its_examples_name_the_pages_to_link_to() -> None:
    canvas = Canvas(
        "About Rain.",
        links=["Captain Sarah", "/wiki/Tin_Bell", "rain"],
        examples=[Example("About Tea.", "A [[drink|d]].")],
    )
    prompt = build_prompt(world="", canvas=canvas, subject="Rain", facts=["It rains."])
    assert prompt.facts == ("It rains.", f"{LINK_NOTE} Captain Sarah; Tin Bell.")
    assert prompt.examples[0].facts == (f"{LINK_NOTE} drink.",)
    without = build_prompt(world="", canvas=Canvas("About Rain."), subject="Rain")
    assert not any(LINK_NOTE in fact for example in without.examples for fact in example.facts)


def test_a_prompt_names_only_as_many_pages_as_fit() -> None:
    canvas = Canvas("About Rain.", links=[f"Page number {number}" for number in range(1000)])
    (note,) = build_prompt(world="", canvas=canvas, subject="Rain").facts
    assert len(note) < 600


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ("Tea", "takes a list"),
        (7, "list of titles"),
        ([7], "titles and keys"),
        ([""], "titles and keys"),
        ({"Tea": "wiki/Tea"}, "begins with a slash"),
        (["//evil.example"], "no page can be"),
        (["/_unwritten/edit"], "no page can be"),
    ],
)
def test_wrong_links_are_rejected(links: Any, message: str) -> None:
    with pytest.raises(BadPage, match=message):
        Canvas("x", links=links)


def test_formats_without_links_take_no_links() -> None:
    with pytest.raises(BadPage, match="has no links"):
        Canvas("x", format="svg", links=["Tea"])
