"""Tests of the board, without a server, a browser or a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten.testing import VisitedPage, Visitor, answers

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def app() -> App:
    return load_app(str(Path(__file__).parent))


@pytest.fixture
def visitor(app: App) -> Iterator[Visitor]:
    said: dict[str, Any] = {
        "a new thread": " fallen from the sky. It was wet.",
        "the first post": " went to look, and there was nobody.",
        "answers a visitor": " I can hear it too.",
        "the profile of": {
            "home": "lives by the weir",
            "always": "always carries string",
            "never": "never runs",
            "proud": "is proud of a kite",
            "saying": "Up.",
        },
        "in the thread": " is only the rain.",
    }
    with Visitor(app, answers(said)) as visitor:
        yield visitor


def thread(visitor: Visitor) -> VisitedPage:
    return visitor.visit("/b/Kettles").click("For sale")


def test_a_thread_continues_the_opening_shown_on_its_board(visitor: Visitor) -> None:
    board = visitor.visit("/b/kettles")
    assert board.key == "/b/Kettles" and len([name for name in board.regions if name.startswith("starters-")]) == 6
    page = board.click("For sale")
    assert page.heading == "For sale: one kettle, because fallen from the sky"
    assert page.region("op").text.startswith("It was wet.") and "nobody" in page.region("op")
    assert sum(name.startswith("posts-c") for name in page.regions) == 5


def test_a_profile_matches_the_person_in_threads(visitor: Visitor) -> None:
    page = thread(visitor)
    profile = page.click("/u/Victor_Pond")
    assert "Lighthouse painter" in profile and "always carries string" in profile.region("card")
    assert page.heading in profile, "their posts are listed"
    assert visitor.visit("/u/victor_POND").key == profile.key
    assert visitor.visit("/u/Somebody_Else").status == 200, "every name has a profile"


def test_prompts_contain_the_profiles_of_posters(app: App) -> None:
    card = {"home": "x", "always": "always carries string", "never": "y", "proud": "z", "saying": "w"}
    engine = answers({"the profile of": card})
    with Visitor(app, engine) as visitor:
        visitor.visit("/u/Victor_Pond")
        visitor.visit("/b/Kettles/Victor_Pond/My_kettle_sings")
        asks = [request.prompt.ask for request in engine.requests]
        assert any("Victor Pond, a lighthouse painter" in ask and "who always carries string" in ask for ask in asks)


def test_the_author_of_a_post_answers_replies_to_it(visitor: Visitor) -> None:
    page = thread(visitor).submit("Reply", text="Who is it?\n\nReally?", name="Rae", parent="c1")
    assert "Who is it?" in page.region("tree") and "I can hear it too." in page.region("posts-a1-0")
    speaker = visitor.visit(page.key).html.split('id="post-c1" aria-label="')[1].partition('"')[0].partition(" to ")[0]
    assert f'id="post-a1-0" aria-label="{speaker} to Rae"' in page.html
    assert "I can hear it too." in visitor.another().visit(page.key), "the reply is stored and visible to others"


def test_three_people_answer_a_thread_of_a_visitor(visitor: Visitor) -> None:
    page = visitor.visit("/b/Kettles").submit("Post", title="I am new", text="Good evening.", name="Rae")
    assert page.key == "/n/1" and [f"posts-c{n}" in page.regions for n in range(3)] == [True] * 3
    assert "I am new" in visitor.another().visit("/b/Kettles").region("rows")
    assert "I am new" in visitor.visit("/guest/1")


def test_posts_can_have_pictures(visitor: Visitor) -> None:
    page = visitor.visit("/b/Kettles").submit("Post", title="My kettle", text="Look.", pictured=True)
    assert "<img" in page.html and "A pattern in place of A visitor’s photo" in page
    plain = visitor.visit("/b/Kettles").submit("Post", title="No kettle", text="Nothing to see.")
    assert "<img" not in plain.html


def test_a_vote_counts_once_and_can_be_withdrawn(visitor: Visitor) -> None:
    page = thread(visitor).submit("Reply", text="Hello.", parent="")

    def votes(page: VisitedPage) -> str:
        return page.html.split('data-vote="r1"')[1].partition("</svg>")[2].split()[0]

    assert votes(page).startswith("0")
    once = page.submit("/vote/r1")
    assert votes(once).startswith("1")
    assert json.loads(visitor.visit("/you", referer=page.key).text) == {"name": "A visitor", "votes": ["r1"]}
    other = visitor.another()
    both = other.visit(page.key).submit("/vote/r1")
    assert votes(both).startswith("2")
    assert votes(once.submit("/vote/r1")).startswith("1")


def test_sort_orders_show_the_same_posts(visitor: Visitor) -> None:
    page = thread(visitor).submit("Reply", text="The newest.", parent="")
    page = visitor.visit(page.key)  # other orders show only stored posts
    newest = visitor.visit(f"{page.key}?sort=new")
    assert newest.html.index("The newest.") < newest.html.index('id="post-c0"')
    top = visitor.visit(f"{page.key}?sort=top")
    assert "is only the rain." in top and page.region("op").text in top
    assert visitor.visit("/b/Night_buses?sort=top").key == "/b/Night_buses", (
        "a board that is not written yet is written first"
    )
    answered = newest.submit("Reply", text="From here too.", parent="")
    assert answered.key == page.key and "posts-a2-0" in answered.regions


# -- invalid and hostile input ----------------------------------------------------------------------------------------


def test_markup_in_titles_and_names_is_escaped(visitor: Visitor) -> None:
    page = visitor.visit("/b/Kettles").submit("Post", title=HOSTILE, text=HOSTILE, name="<b>\u202eevil\u202c</b>")
    assert page.heading == HOSTILE and HOSTILE not in page.html
    assert "<b>evil</b>" in page.text and "\u202e" not in page.html
    address = visitor.visit("/b/Kettles/%3Ch6%3E/%22%3E%3Ch6%20src=x%3E%20%5B%5Bx%5D%5D")
    assert address.status == 200 and "<h6" not in address.html
    person = visitor.visit("/u/%3Ch6%3Eagnes%E2%80%AE%3C%2Fh6%3E")
    assert person.heading == "<H6>Agnes</H6>" and "<H6" not in person.html and "\u202e" not in person.html
    assert "This name is too long" in visitor.visit(f"/u/{'n' * 200}")


@pytest.mark.parametrize(
    "path", ["/b/..%2F..%2Fetc%2Fpasswd", "/b/a/b/c/d/e", "/b/kettles%2Ftea", "/b/.hidden", "/b/%3Cb%3E"]
)
def test_a_board_whose_name_is_a_path_is_explained(visitor: Visitor, path: str) -> None:
    page = visitor.visit(path)
    assert page.status == 404 and "cannot be the name of a board" in page and "Try /b/Umbrellas" in page
    assert "Open any board" in page.html and "forum.css" in page.html, "error pages have the layout"


def test_a_long_text_is_reported_at_its_field_and_kept(visitor: Visitor) -> None:
    page = thread(visitor)
    long = "marrow " * 9_000
    refused = page.submit("Reply", text=long, name="Rae", parent="c0")
    assert refused.status == 422 and "At most 3,000 characters, please." in refused
    (form,) = [form for form in refused.forms if "Reply" in form.buttons]
    assert form.values == {"text": long, "name": "Rae", "parent": "c0"}


def test_titles_and_names_have_length_limits(visitor: Visitor) -> None:
    refused = visitor.visit("/b/Kettles").submit("Post", title="t" * 200, text="\u200b", name="n" * 60)
    assert refused.status == 422
    for words in ("At most 90 characters, please.", "At least 2 characters, please.", "At most 30 characters, please."):
        assert words in refused


def test_a_visitor_cannot_use_the_name_of_a_character(visitor: Visitor) -> None:
    refused = visitor.visit("/b/Kettles").submit("Post", title="It is me", text="Truly.", name="victor  pond")
    assert refused.status == 422 and "This name is taken. Please choose another one." in refused


def test_the_same_form_sent_twice_adds_one_post(visitor: Visitor) -> None:
    board = visitor.visit("/b/Kettles")
    first = board.submit("Post", title="I am new", text="Good evening.", name="Rae")
    again = board.submit("Post", title="I am new", text="Good evening.", name="Rae")
    reloaded = visitor.visit("/b/Kettles").submit("Post", title="I am new", text="Good evening.", name="Rae")
    assert first.key == again.key == reloaded.key == "/n/1"
    page = first.submit("Reply", text="And?", parent="c0")
    first.submit("Reply", text="And?", parent="c0")
    assert visitor.visit(page.key).html.count(">And?<") == 1


def test_missing_posts_and_visitors_have_error_pages(visitor: Visitor) -> None:
    for path, words in (("/n/77", "no post with the number 77"), ("/guest/9", "no visitor with the number 9")):
        page = visitor.visit(path)
        assert page.status == 404 and words in page
