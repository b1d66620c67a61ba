"""Tests of the desktop, without a model."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten.testing import Visitor, answers

FOLDER = {
    "folders": [{"name": "Swarms", "kb": 30, "day": 2, "month": "May"}],
    "texts": [{"name": name, "kb": 3, "day": 31, "month": "June"} for name in ("Hive book", "a/../b", "...")],
    "pictures": [{"name": "Queen", "kb": 90, "day": 4, "month": "May"}],
}
LETTERS = {
    "letters": [
        {
            "sender": f"Sender {n}",
            "subject": f"Subject {n}",
            "day": 1,
            "month": "May",
            "first_line": f"This is line {n}.",
        }
        for n in range(4)
    ]
}
SITE = {
    "title": "The Tea Museum",
    "motto": "Nine hundred cups.",
    "menu": ["Visit us", "Cups", "Shop"],
    "elsewhere": [
        {"address": "www.spoons.org/old", "words": "Old spoons"},
        {"address": "javascript:alert(1)", "words": "No page"},
    ],
}
SCREEN = {
    "heading": "Thirsty",
    "says": "Two plants need water.",
    "items": ["Fern", "Basil", "Rose"],
    "buttons": ["Water the fern", "Add a plant", "Week"],
}
ANSWERS: dict[str, Any] = {
    "the files in": FOLDER,
    "the text of the file": "Nine hives, and all of them hum.",
    "what the picture": "A queen on a leaf.",
    "the mail of": LETTERS,
    "answers ada holm": "Thank you for your words.",
    "the letter": "And so on.",
    "the head of the web page": SITE,
    "the text of the web page": "Open on Mondays.",
    "web pages about": {"results": [{"address": "a.example", "words": f"Result {n}"} for n in range(4)]},
    "a note, and how": " And then it rained.",
    "the command:": "It is warm enough.",
    "the name of an app": {"title": "Watering Can", "purpose": "It says who is thirsty."},
    "now “water the fern” was pressed": SCREEN | {"heading": "Watered"},
    "the app:": SCREEN,
}


@pytest.fixture(scope="module")
def app() -> App:
    return load_app(str(Path(__file__).parent / "app.py"))


@pytest.fixture
def visitor(app: App) -> Visitor:
    return Visitor(app, answers(ANSWERS), markup="off")


def test_a_folder_stays_the_same_and_its_entries_open(visitor: Visitor) -> None:
    page = visitor.visit("/files").click("Bees")
    assert "Hive book.txt" in page.region("listing")
    assert "Nine hives" in page.click("Hive book.txt").region("words")
    assert "queen" in page.click("Queen.jpg").region("words")
    again = visitor.visit("/files//Bees/")
    assert again.key == page.key and again.text == page.text
    assert "/..." not in page.html, "an invalid name has no link"
    assert "/file/Bees/a-..-b.txt" in page.html
    assert page.click("Swarms").status == 200


def test_the_terminal_shows_the_same_files(visitor: Visitor) -> None:
    def run(line: str) -> str:
        return visitor.visit("/terminal").submit("Run", line=line).text

    assert "Bees/" in run("ls")
    assert "does not exist until you open it in Files" in run("ls Bees")
    visitor.visit("/files/Bees")
    run("cd Bees")
    assert "Hive book.txt" in run("ls -l")
    visitor.visit("/file/Bees/" + quote("Hive book.txt"))
    assert "Nine hives" in run("cat 'Hive book.txt'")
    assert "no such file" in run("cat Bread")
    assert "It is warm enough." in run("stoke --fast 'the oven")
    assert "saved as note 2" in run("note Buy sugar for the bees")
    assert "Buy sugar for the bees" in visitor.visit("/notes").text
    assert "~" in run("cd ../../..") and "stoke" not in run("clear")


def test_impossible_dates_are_corrected(visitor: Visitor) -> None:
    page = visitor.visit("/files/Bees").region("listing")
    assert "2 May" in page and "30 June" in page and "31 June" not in page
    assert "1 May" in visitor.visit("/mail").region("box")


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("31 July,", "31 July"),
        (":11 August", "11 August"),
        ("June", "1 June"),
        ("Feb 30", "29 February"),
        ("?", "1 Jan"),
    ],
)
def test_dates_stored_as_text_are_still_shown(app: App, stored: str, shown: str) -> None:
    folder = json.loads(json.dumps(FOLDER).replace('"day": 2, "month": "May"', f'"changed": "{stored}"'))
    letters = {"letters": [{**letter, "date": stored} for letter in LETTERS["letters"]]}
    for letter in letters["letters"]:
        del letter["day"], letter["month"]
    visitor = Visitor(app, answers({"the files in": folder, "the mail of": letters}), markup="off")
    assert shown in visitor.visit("/files/Bees").region("listing")
    assert shown in visitor.visit("/mail").region("box")


def test_mail_is_read_and_answered(visitor: Visitor) -> None:
    page = visitor.visit("/mail").click("Subject 2")
    assert "This is line 2" in page.region("letter")
    page = page.submit("Send", text="Here is my answer.")
    assert "Here is my answer." in page.region("thread")
    assert "Thank you for your words." in page.text
    page = visitor.visit("/mail/new").submit("Send", to="The King", subject="A / odd_subject?", text="Come for tea.")
    assert "Thank you for your words." in page.text and "to The King" in page.text
    assert "odd subject" in visitor.visit("/mail").text
    assert visitor.visit("/mail").submit("Check for mail").key == "/mail/box/2"
    assert visitor.visit("/mail").key == "/mail/box/2" and "Older" in visitor.visit("/mail").text


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("https://Tea-Museum.example/opening/", "/web/tea-museum.example/opening"),
        ("//gulls.org#top", "/web/gulls.org"),
        ("localhost:8000", "/web/localhost:8000"),
        ("old bells", "/search/old_bells"),
        ("javascript:alert(1)", "/search/javascript:alert(1)"),
        ("x.org/../../etc", "/web/x.org/etc"),
    ],
)
def test_addresses_open_sites_and_other_text_is_searched_for(visitor: Visitor, typed: str, key: str) -> None:
    page = visitor.visit("/web").submit("Go", to=typed)
    assert page.key == key
    assert "Open on Mondays" in page.text or "Result 3" in page.text


def test_links_of_a_site_stay_in_the_browser(visitor: Visitor) -> None:
    page = visitor.visit("/web/tea.example")
    assert page.click("Visit us").key == "/web/tea.example/visit-us"
    assert page.click("Old spoons").key == "/web/www.spoons.org/old"
    assert "javascript:alert(1)" not in [link for link in page.html.split('"') if link.startswith("javascript")]


def test_notes_are_kept_after_a_restart(app: App, tmp_path: Path) -> None:
    file = tmp_path / "desk.db"
    with Visitor(app, answers(ANSWERS), database=file) as visitor:
        page = visitor.visit("/notes").submit("New note")
        page = page.submit("Save", text="Sugar\n\nThree pounds <b>.")
        page = page.submit("Continue writing", text="Sugar\n\nThree pounds.")
        assert "And then it rained." in page.region("more")
        page = page.submit("Add to the note")
        assert "Three pounds. And then it rained." in page.text
        page.submit("Delete")
        assert "was deleted" in visitor.visit("/notes").text
        visitor.visit("/notes").submit("Undo")
    with Visitor(app, answers(ANSWERS), database=file) as visitor:
        assert "And then it rained." in visitor.visit("/notes").click("Sugar").text


def test_settings_are_stored_and_used_in_prompts(app: App) -> None:
    engine = answers(ANSWERS)
    visitor = Visitor(app, engine, markup="off")
    page = visitor.visit("/settings").submit("Save", machine="Otter", scheme="dark", accent="moss")
    assert 'data-scheme="dark"' in page.html and 'data-accent="moss"' in visitor.visit("/").html
    visitor.visit("/files/Clocks")
    assert "Otter" in engine.requests[-1].prompt.ask
    page = visitor.visit("/settings").submit("Save", machine="<script>", scheme="dark")
    assert page.status == 422


def test_an_app_made_from_a_sentence_reacts_to_clicks(app: App) -> None:
    engine = answers(ANSWERS)
    visitor = Visitor(app, engine, markup="off")
    page = visitor.visit("/new").submit("Create", sentence="An app that tells me which plant to water")
    assert "Watering Can" in page.text and "Two plants need water" in page.text
    page = page.click("Water the fern")
    assert page.key == "/app/1/Water%20the%20fern"
    asked = engine.requests[-1].prompt.ask
    assert "“Thirsty” showed Fern, Basil, Rose. Now “Water the fern” was pressed" in asked
    page = page.click("Add a plant").submit("Continue", words="Moss / <b>")
    assert "Pressed before: Water the fern, Add a plant." in engine.requests[-1].prompt.ask
    assert "Now “Add a plant: Moss - <b>” was pressed" in engine.requests[-1].prompt.ask
    assert "Watering Can" in visitor.visit("/").html
    assert visitor.visit("/app/77").status == 404
    visitor.visit("/new").submit("Remove")
    assert "Watering Can" not in visitor.visit("/").html


def test_the_desktop_may_frame_only_its_own_pages(visitor: Visitor) -> None:
    page = visitor.visit("/")
    for name in ("Files", "Mail", "Browser", "Notes", "Terminal", "Settings", "New app"):
        assert name in page.html
    assert "frame-src 'self'" in page.headers["content-security-policy"]
    assert "frame-src" not in visitor.visit("/files").headers["content-security-policy"]


def test_fifty_simultaneous_pages_are_all_written(visitor: Visitor) -> None:
    for n in range(50):
        visitor.visit(f"/files/Box{n}", wait=False)
    visitor.wait()
    assert "Hive book" in visitor.visit("/files/Box49").text
