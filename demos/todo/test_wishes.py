"""Tests of how requests are parsed: which words name fields, of which kinds, and which words do not."""

import sys
from pathlib import Path
from typing import Any

import pytest

from unwritten.cli.loading import load_app

load_app(str(Path(__file__).parent / "app.py"))
wishes: Any = next(module for name, module in reversed(sys.modules.items()) if name.endswith(".wishes"))


def fields(wish: str) -> list[tuple[str, str]]:
    return [(column.label, column.kind) for column in wishes.read(wish).columns]


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ("books to read with author and rating", "Author person, Rating number"),
        ("job applications with company and status", "Company text, Status choice"),
        ("recipes with minutes and day", "Minutes number, Day date"),
        ("films with year and stars", "Year number, Stars number"),
        ("bugs with severity and who fixes it", "Severity choice, Who person"),
        ("Einkaufen mit Datum und Preis", "Datum date, Preis number"),
        (
            "Bücher mit Erscheinungsjahr, Seitenzahl und Verlag",
            "Erscheinungsjahr number, Seitenzahl number, Verlag text",
        ),
        ("películas con director y año", "Director person, Año number"),
        ("wines with grape, country and price", "Grape text, Country text, Price number"),
        ("plants, each with soil and days between watering", "Soil text, Days number"),
        ("plants, each with a pot", "Pot text"),
        ("trips we want to make, including distance and cost", "Distance number, Cost number"),
        ("birds with columns for habitat, wingspan", "Habitat text, Wingspan text"),
        ("bikes with frame and fork", "Frame text, Fork text"),
        ("books with their authors", "Author person"),
        ("songs with its verses and key", "Verse text, Key text"),
        ("tasks with a deadline and a priority", "Deadline date, Priority choice"),
        ("lessons with a teacher and a room", "Teacher person, Room text"),
        (
            "books with number of pages and publication year for my club",
            "Number of pages number, Publication year number",
        ),
        ("expenses by category", "Category text"),
        ("songs sorted by mood", "Mood text"),
        ("workouts by muscle with sets and weight", "Muscle text, Sets number, Weight number"),
        ("clothes for the trip with the kids, with how many and packed", "How many number, Packed check"),
        ("things to buy with friends and price", "Price number"),
        ("a list for the garden with due dates, and who does it", "Due date, Who person"),
        ("dates with date and date", "Date date"),
    ],
)
def test_fields_named_in_a_request_are_recognized(wish: str, found: str) -> None:
    assert ", ".join(f"{label} {kind}" for label, kind in fields(wish)) == found


@pytest.mark.parametrize(
    "wish",
    [
        "a picnic with my mother",
        "a trip with friends",
        "a walk with a dog",
        "things to finish with care",
        "burgers with chips and peas",
        "an evening with wine and cheese",
        "a party with Ann and Ben",
        "Ausflüge mit Anna und Ben",
        "un viaje con mi madre",
        "job interviews with Google and Apple",
        "lunch with a client",
        "a cake with 3 eggs and milk",
        "finish the report by Friday",
        "finish the report by the end of June",
        "trips by train and bus",
        "books by Jane Austen",
        "spaghetti with meatballs",
        "letters with love",
        "games with the children and their father",
    ],
)
def test_people_and_manners_are_not_fields(wish: str) -> None:
    assert fields(wish) == []


def test_numbers_have_bounds_that_fit_their_field() -> None:
    year, stars, pages = wishes.read("films with year, stars and number of pages").columns
    assert year.least >= 1900 and (stars.least, stars.most) == (1, 5) and pages.most > 100


def test_the_topic_is_the_text_before_the_fields() -> None:
    assert wishes.read("books to read with author and rating").topic == "books to read"
    assert wishes.read("expenses of the shop by category").topic == "expenses of the shop"
    assert wishes.read("trips by train and bus").topic == "trips by train and bus"


def test_a_request_has_at_most_five_fields_with_unique_ids() -> None:
    ids = [column.id for column in wishes.read("albums with artist, year, genre, rating, label and price").columns]
    assert ids == ["artist", "year", "genre", "rating", "label"]


def test_tasks_and_collections_are_distinguished() -> None:
    assert not wishes.read("garden jobs with due dates, who and price").collects
    assert not wishes.read("Einkaufen mit Datum und Preis").collects
    assert wishes.read("books with author").collects
