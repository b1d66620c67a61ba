"""What crawlers are asked to leave alone."""

from pathlib import Path
from urllib.robotparser import RobotFileParser

from tests.support.apps import browser, make_wiki

from unwritten_engine import scripted


def test_crawlers_are_asked_to_read_what_is_written_and_nothing_else(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."))) as client:
        answer = client.get("/robots.txt")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    rules = RobotFileParser()
    rules.parse(answer.text.splitlines())
    assert rules.can_fetch("anybot", "/wiki/Tea")
    assert not rules.can_fetch("anybot", "/_unwritten/live")
    assert "Disallow: /*?_s=\nDisallow: /*&_s=\n" in answer.text
