"""Visit the app without a server, a browser or a model: pytest"""

from unwritten.testing import Visitor

from app import app

ANSWERS = {
    "article": "**Tea** is a drink that is made of [[water]] and patience.",
    "facts": {"kind": "drink", "found_in": "kitchens"},
}


def test_a_page_is_generated_when_it_is_clicked() -> None:
    page = Visitor(app, ANSWERS).visit("/").click("Tea")
    assert page.heading == "Tea"
    assert "made of water and patience" in page.region("text")
    assert "kitchens" in page.region("facts")


def test_links_lead_to_other_pages() -> None:
    page = Visitor(app, ANSWERS).visit("/about/Tea").click("water")
    assert page.key == "/about/water" and page.state == "written"


def test_the_front_page_lists_recent_pages() -> None:
    visitor = Visitor(app)  # writes placeholders of the right form
    visitor.visit("/about/Paper")
    assert "Recent pages" in visitor.visit("/")
