"""Tests of the travel guide, without a model."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from unwritten.cli.loading import load_app
from unwritten.testing import Visitor, answers

HERE = Path(__file__).parent
app = load_app(str(HERE / "app.py"))

ANSWERS: dict[str, Any] = {
    "know of": "Portugal looks west. See [[Lisbon]]{Lisbon burnt in 1755.}.",
    "walk through": "Hills, and the [[Old Market]], in [[Portugal]].",
    "Facts about": {"population": 545000, "known_for": ["tiles", "trams"]},
    "these days": "Sardines are grilled.",
    "The sight": "Fish in the morning.",
}


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with Visitor(app, answers(ANSWERS)) as one:
        yield one


def test_links_lead_from_a_country_to_a_street(visitor: Visitor) -> None:
    city = visitor.visit("/en/Portugal").click("Lisbon")
    assert city.key == "/en/Portugal/Lisbon"
    assert "tiles, trams" in city.region("facts")
    assert city.click("Old Market").key == "/en/Portugal/Lisbon/Old_Market"
    assert city.click("Portugal").key == "/en/Portugal"
    assert visitor.visit("/en/Portugal/Lisboa").key == "/en/Portugal/Lisbon", "another name"


def test_each_language_has_pages_of_its_own(visitor: Visitor) -> None:
    for lang, text in (("en", "All countries"), ("de", "Alle Länder"), ("fr", "Tous les pays")):
        page = visitor.visit(f"/{lang}/Portugal")
        assert text in page and f'lang="{lang}"' in page.html
    assert visitor.visit("/xx/Portugal").status == 404
    assert visitor.visit("/").key == "/en/"


def test_a_gist_of_a_page_reaches_its_prompt() -> None:
    engine = answers(ANSWERS)
    with Visitor(app, engine, gists="on") as visitor:
        assert "1755" not in visitor.visit("/en/Portugal")
        visitor.visit("/en/Portugal").click("Lisbon")
        walk = [request for request in engine.requests if "walk through" in request.prompt.ask]
        assert "Lisbon burnt in 1755." in str(walk[0].prompt)


def test_pages_are_written_ahead(tmp_path: Path) -> None:
    app.override(answers(ANSWERS), {"database": str(tmp_path / "guide.db")})

    async def write() -> tuple[int, int]:
        async with app:
            first = await app.write((HERE / "paths.txt").read_text().split())
            second = await app.write((HERE / "paths.txt").read_text().split())
            return len(first.written), len(second.skipped)

    assert asyncio.run(write()) == (4, 4)


@contextlib.asynccontextmanager
async def lifespan(site: Starlette) -> AsyncIterator[None]:
    async with app.router.lifespan_context(app):
        yield


def test_links_stay_below_a_prefix() -> None:
    site = Starlette(routes=[Mount("/travel", app)], lifespan=lifespan)
    with Visitor(site, answers(ANSWERS)) as visitor:
        page = visitor.visit("/travel/de/Portugal").click("Lisbon")
        assert page.key == "/travel/de/Portugal/Lisbon"
        assert page.click("Alle Länder").click("Norway").key == "/travel/de/Norway"


def test_a_day_later_there_is_something_else_to_do(tmp_path: Path) -> None:
    file = tmp_path / "guide.db"
    season = iter(["Sardines are grilled.", "Chestnuts are roasted."])
    app.override(answers({**ANSWERS, "these days": lambda request: next(season)}), {"database": str(file)})
    with TestClient(app) as client:
        assert "Sardines" in client.get("/en/Portugal/Lisbon?plain=1").text
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE versions SET written_at = '2025-01-01T00:00:00+00:00'")
    with TestClient(app) as client:
        assert "Sardines" in client.get("/en/Portugal/Lisbon").text, "the old version, at once"
        deadline = time.monotonic() + 60
        while "Chestnuts" not in client.get("/en/Portugal/Lisbon").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "Hills" in client.get("/en/Portugal/Lisbon").text, "the other canvases are kept"
