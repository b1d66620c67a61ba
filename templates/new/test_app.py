"""The app as a visitor sees it: no server, no browser and no model. Type: pytest"""

from unwritten.testing import Visitor

from app import app

ANSWERS = {
    "article": "**Tea** is a drink that is made of [[water]] and patience.",
    "facts": {"kind": "drink", "found_in": "kitchens"},
}


def test_a_page_is_written_when_it_is_clicked() -> None:
    page = Visitor(app, ANSWERS).visit("/").click("Tea")
    assert page.heading == "Tea"
    assert "made of water and patience" in page.region("text")
    assert "kitchens" in page.region("facts")


def test_its_links_lead_on() -> None:
    page = Visitor(app, ANSWERS).visit("/about/Tea").click("water")
    assert page.key == "/about/water" and page.state == "written"


def test_what_was_written_is_on_the_front_page() -> None:
    visitor = Visitor(app)  # stand-ins of the right form for everything
    visitor.visit("/about/Paper")
    assert "Written last" in visitor.visit("/")
