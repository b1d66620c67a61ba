"""Tests of the encyclopedia, without a model."""

from pathlib import Path

import pytest

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten.testing import Visitor, answers

# The categories are last, as in articles stored by earlier versions.
FACTS = (
    '{"kind":"drink","found_in":"Cups","first_known":"Long ago","known_for":["Steam","Rest"],'
    '"mistaken_for":"Soup","categories":["Food and drink","Time"]}'
)
BRIEF = '{"kind":"Getränk","found_in":"Tassen","first_known":"Lange","akin_to":"Tasse","opposite":"Salz"}'
SENSES = (
    '{"place":{"kind":"planet","line":"the smallest one"},"work":{"kind":"song","line":"a slow song"},'
    '"creature":{"kind":"horse","line":"a famous horse"},"thing":{"kind":"ship","line":"a ship that sank"}}'
)


@pytest.fixture
def app() -> App:
    return load_app(str(Path(__file__).with_name("app.py")))


@pytest.fixture
def visitor(app: App) -> Visitor:
    return Visitor(
        app,
        answers(
            {
                "opening paragraph of the article on Tea": "**Tea** is poured into a [[cup]] by a [[queen]].",
                "Quick facts": FACTS,
                "Other meanings": SENSES,
                "einleitende Absatz": "**Tee** ist ein Getränk.",
                "Kurz gefasst": BRIEF,
                "short description": "**Time** is what is left.",
            }
        ),
        markup="off",  # as with the embedded model, which cannot draw
    )


def test_articles_link_to_others_and_list_their_backlinks(visitor: Visitor) -> None:
    tea = visitor.visit("/wiki/tea")
    assert "Soup" in tea.region("facts") and "Decorative pattern" in tea.text
    cup = tea.click("cup")
    assert cup.key == "/wiki/Cup"
    assert cup.click("Tea").key == "/wiki/Tea", "backlinks are listed"


def test_each_edition_has_its_own_pages(visitor: Visitor) -> None:
    child = visitor.visit("/wiki/Tea").click("For children")
    assert child.key == "/child/Tea" and "Questions to ask" in child.region("facts")
    german = visitor.visit("/de/Tee")
    assert 'lang="de"' in german.html and german.click("Tasse").key == "/de/Tasse"
    lost = visitor.visit("/graph?edition=nowhere")
    assert lost.status == 404 and "Surprise me" in lost.html and "wiki.css" in lost.html, "error pages have the layout"


def test_other_editions_get_the_facts_of_the_general_article(app: App, visitor: Visitor) -> None:
    visitor.visit("/wiki/Tea")
    visitor.visit("/expert/Tea")
    stored = app.store.get("/expert/Tea")
    assert stored is not None and "mistaken for: Soup" in stored.canvases["lead"].prompt


def test_a_change_is_listed_in_the_history(visitor: Visitor) -> None:
    edit = visitor.visit("/wiki/Tea").click("Edit Lead")
    changed = edit.submit("Save", text="**Tea** is poured into a [[bucket]].")
    assert "bucket" in changed.region("lead")
    history = changed.click("History")
    assert "version 2" in history.text.lower() and "by hand" in history.text


def test_a_disambiguation_page_links_to_each_meaning(visitor: Visitor) -> None:
    meanings = visitor.visit("/wiki/Mercury").click("Other meanings of Mercury")
    assert meanings.key == "/wiki/Mercury_(disambiguation)"
    planet = meanings.click("Mercury (planet)")
    assert (
        planet.key == "/wiki/Mercury_(planet)"
        and "is a planet" in planet.region("lead")
        and "the planet Mercury" in planet.region("body")
    )
    assert planet.click("Other meanings of Mercury").key == meanings.key


def test_categories_come_from_written_articles(app: App, visitor: Visitor) -> None:
    assert "No categories yet" in visitor.visit("/categories").text
    visitor.visit("/wiki/Tea")
    time = visitor.visit("/wiki/Tea").click("Time")
    assert time.key == "/category/Time" and "1 article in this category" in time.text
    assert time.click("Tea").key == "/wiki/Tea"
    assert [name for name in ("Drink", "Food and drink", "Time") if name in visitor.visit("/categories").text] == [
        "Drink",
        "Food and drink",
        "Time",
    ]


def test_a_fact_that_only_repeats_the_title_is_left_out(app: App) -> None:
    facts = (
        '{"kind":"Chess","categories":["Play","Play"],"found_in":"The chess","first_known":"Persia",'
        '"known_for":["chess.","Long silences"],"mistaken_for":"Draughts"}'
    )
    visitor = Visitor(app, answers({"Quick facts": facts}), markup="off")
    box = visitor.visit("/wiki/Chess").region("facts")
    assert "Found in" not in box and "Kind" not in box and "First known" in box and "Draughts" in box
    assert "Long silences" in box and box.html.count("<li>") == 1, "the entry that repeats the title is removed"
    assert "/category/Chess" not in box.html, "the title is not a category"
    assert "/category/Chess" not in visitor.visit("/categories").html


def test_a_box_whose_facts_all_repeat_the_title_has_no_empty_rows(app: App) -> None:
    facts = FACTS.replace('["Steam","Rest"]', '["Tea","the teas"]').replace('"Soup"', '":"')
    box = Visitor(app, answers({"Quick facts": facts}), markup="off").visit("/wiki/Tea").region("facts")
    assert "Known for" not in box and "Mistaken for" not in box and "Cups" in box


def test_the_graph_is_the_same_for_the_same_links(visitor: Visitor) -> None:
    assert "No articles in this edition yet" in visitor.visit("/graph").text
    visitor.visit("/wiki/Tea").click("cup")
    graph, again = (visitor.visit("/graph") for _ in range(2))
    assert graph.html.partition("<svg viewBox")[2] == again.html.partition("<svg viewBox")[2] != ""
    assert "Queen (not written yet)" in graph.html and graph.click("Tea").status == 200


def test_random_opens_a_written_page_and_surprise_an_unwritten_one(app: App, visitor: Visitor) -> None:
    assert visitor.visit("/random").key in {app.url_path_for("wiki", title="Lighthouse")}
    visitor.visit("/wiki/Tea")
    before = {node.key for node in app.store.missing_pages()}
    assert visitor.visit("/surprise").key in before


@pytest.mark.parametrize("title", ["Tea <script>alert(1)", "A (b) (c)", "(disambiguation)", "%2e%2e%2fetc", "ß" * 118])
def test_unusual_titles_are_valid_and_escaped(visitor: Visitor, title: str) -> None:
    page = visitor.visit(f"/wiki/{title}")
    assert page.status == 200 and "<script>alert" not in page.html


def test_search_writes_in_the_chosen_edition(visitor: Visitor) -> None:
    assert visitor.visit("/search?q=tee&write=1&edition=de").key == "/de/Tee"
    assert visitor.visit("/search?q=...").status == 200
    assert visitor.visit("/search?q=x&edition=klingon").status == 404
