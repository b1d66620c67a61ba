"""Tests of the recipe box, without a model."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from unwritten.cli.loading import load_app
from unwritten.testing import Visitor, answers

app = load_app(str(Path(__file__).parent / "app.py"))

SOUP = {
    "summary": "A thick soup for cold evenings.",
    "servings": 4,
    "minutes": 25,
    "ingredients": [{"name": "White beans", "amount": "400 g"}],
    "steps": ["Soak the beans.", "Cook them slowly."],
}
ANSWERS: dict[str, Any] = {
    "recipe for": SOUP,
    "tip for cooking": "Serve it with [[Rye bread]].",
    "menu for a week": "Monday: soup.",
    "A dish with": {"title": "Bean soup", "minutes": 25},
}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with Visitor(app, answers(ANSWERS)) as one:
        yield one


def join(visitor: Visitor, name: str) -> None:
    page = visitor.visit("/login").submit("Join", name=name, password="long enough")
    assert page.heading == "My cookbook"


def test_a_recipe_is_data_that_the_front_page_uses(visitor: Visitor) -> None:
    page = visitor.visit("/").click("Bean soup")
    assert "400 g" in page.region("recipe")
    assert page.click("Rye bread").heading == "Rye bread"
    assert "Ready in half an hour" in visitor.visit("/")


def test_a_cookbook_is_for_its_cook_alone(visitor: Visitor) -> None:
    assert visitor.visit("/recipes/cookbook").heading == "Log in"
    join(visitor, "ada")
    for title in ("Bean soup", "Rye bread"):
        visitor.visit(f"/recipes/{title.replace(' ', '_')}").submit("Keep it in my cookbook")
    page = visitor.visit("/recipes/cookbook")
    assert "kept by ada" in page and "Monday: soup." in page
    other = visitor.another()
    join(other, "ben")
    assert "kept by ben" in other.visit("/recipes/cookbook") and "Monday" not in other.visit("/recipes/cookbook")
    page.submit("Log out")
    assert visitor.visit("/recipes/cookbook").heading == "Log in"


def test_passwords_are_checked(visitor: Visitor) -> None:
    join(visitor, "ada")
    other = visitor.another()
    wrong = other.visit("/login").submit("Log in", name="ada", password="a guess")
    assert wrong.status == 403 and "do not match" in wrong
    assert other.visit("/login").submit("Log in", name="ada", password="long enough").heading == "My cookbook"
    assert other.another().visit("/login").submit("Join", name="ada", password="long enough").status == 403


def test_cooks_add_photos(visitor: Visitor, tmp_path: Path) -> None:
    photo = tmp_path / "soup.png"
    photo.write_bytes(PIXEL)
    assert visitor.visit("/recipes/Bean_soup").submit("Add the photo", photo=photo).heading == "Log in"
    join(visitor, "ada")
    page = visitor.visit("/recipes/Bean_soup").submit("Add the photo", photo=photo)
    assert 'alt="Bean soup, by ada"' in page.html


def test_other_urls_have_a_page_of_their_own(visitor: Visitor) -> None:
    lost = visitor.visit("/nowhere/at/all")
    assert lost.status == 404 and lost.heading == "No such recipe"
    assert lost.click("the box").heading == "The Recipe Box"


def test_programs_read_and_ask(tmp_path: Path) -> None:
    app.override(answers(ANSWERS), {"database": str(tmp_path / "box.db")})
    with TestClient(app) as client:
        assert client.get("/recipes/Bean_soup.json").status_code == 404, "reading never writes"
        client.get("/recipes/Bean_soup?plain=1")
        data = client.get("/recipes/Bean_soup.json").json()
        assert data["canvases"]["recipe"]["value"]["minutes"] == 25
        assert client.get("/api/search?q=white+beans").json() == [{"title": "Bean soup", "url": "/recipes/Bean_soup"}]
        assert client.get("/api/idea?with=beans").json() == {
            "title": "Bean soup",
            "minutes": 25,
            "url": "/recipes/Bean_soup",
        }
        assert "Bean soup" in client.get("/feed.atom").text
