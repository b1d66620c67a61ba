"""Testing: visit an app in a test, without a server, a browser or a model.

from unwritten.testing import Visitor, answers

visitor = Visitor(app, answers({"lighthouse": "A lighthouse is a [[Tower]]."}))
page = visitor.visit("/wiki/Lighthouse")
assert "tower" in page.click("Tower").text
"""

from .scripted_engine import answers
from .visited_page import Form, Part, VisitedPage
from .visitor import Visitor

__all__ = ["Form", "Part", "VisitedPage", "Visitor", "answers"]
