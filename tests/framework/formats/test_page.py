"""What an author's function says that a URL needs."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from unwritten import Canvas, Page
from unwritten.core.errors import BadPage
from unwritten.formats.page import RESERVED_NAMES, as_page


def test_canvases_become_regions_and_the_rest_are_values() -> None:
    page = Page("article.html", title="Lighthouse", lead=Canvas("Lead."), linked_from=[1])
    assert (page.template, page.title) == ("article.html", "Lighthouse")
    assert list(page.canvases) == ["lead"] and page.context == {"linked_from": [1]}
    assert repr(page) == "Page('article.html', title='Lighthouse', canvases=['lead'])"


@pytest.mark.parametrize("name", [*sorted(RESERVED_NAMES - {"self"}), "_private"])
def test_names_that_are_taken(name: str) -> None:
    with pytest.raises(BadPage, match="that name is taken"):
        Page("x.html", **{name: 1})  # type: ignore[arg-type]


def test_two_pages_are_equal_if_they_ask_for_the_same() -> None:
    assert Page("x.html", a=Canvas("A."), n=1) == Page("x.html", a=Canvas("A."), n=1)
    assert Page("x.html", a=Canvas("A.")) != Page("x.html", a=Canvas("B."))
    assert Page("x.html", n=1) != Page("x.html", n=2)
    assert Page("x.html") != "x.html"


def test_a_page_says_what_it_frames() -> None:
    assert Page().embeds == ""
    assert Page(game=Canvas("A game.", "app")).embeds == "boxes"
    assert Page(game=Canvas("A game.", "app"), frames=True).embeds == "pages"
    assert Page(frames=True) != Page()


def test_a_prompt_and_a_canvas_are_a_page_of_one_region() -> None:
    for result in ("A prompt.", Canvas("A prompt.")):
        page = as_page(result, "article")
        assert isinstance(page, Page)
        assert page.canvases == {"body": Canvas("A prompt.")} and page.template == "page.html"
    response = PlainTextResponse("x")
    assert as_page(response, "article") is response


@pytest.mark.parametrize("wrong", [None, 7, ["x"], {"a": 1}, b"x", object, lambda: "x"])
def test_anything_else_is_explained(wrong: object) -> None:
    with pytest.raises(BadPage, match=r"'article' returned .* Return a prompt \(a string\), a Canvas, a Page"):
        as_page(wrong, "article")


def test_an_empty_prompt_is_explained() -> None:
    with pytest.raises(BadPage, match="empty prompt"):
        as_page(" \n", "article")


def test_several_canvases_under_one_name_are_as_many_regions() -> None:
    parts: dict[str, Any] = {"replies": {3: Canvas("A."), "last": Canvas("B.")}, "parts": [Canvas("C.")]}
    page = Page("x.html", **parts, none={}, other=[1])
    assert list(page.canvases) == ["replies-3", "replies-last", "parts-0"]
    assert page.canvas_groups["replies"].regions == {3: "replies-3", "last": "replies-last"}
    assert page.canvas_groups["parts"].is_list and not page.canvas_groups["replies"].is_list
    assert page.context == {"none": {}, "other": [1]}
    assert page == Page(
        "x.html", replies={3: Canvas("A."), "last": Canvas("B.")}, parts=[Canvas("C.")], none={}, other=[1]
    )
    assert page != Page("x.html", replies={3: Canvas("A.")})


def test_what_cannot_be_a_region_of_several_is_said() -> None:
    with pytest.raises(BadPage, match=r"replies=\{2: …\} is 'x', but others beside it are canvases"):
        Page("x.html", replies={1: Canvas("A."), 2: "x"})
    with pytest.raises(BadPage, match=r"The canvas replies=\{'a b': …\} needs a number for a key"):
        Page("x.html", replies={"a b": Canvas("A.")})
