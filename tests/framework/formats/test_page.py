"""``Page``, and what page functions may return."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from unwritten import Canvas, Page
from unwritten.core.errors import BadPage
from unwritten.formats.page import RESERVED_NAMES, as_page


def test_canvases_become_regions_and_other_arguments_values() -> None:
    page = Page("article.html", title="Lighthouse", lead=Canvas("Lead."), linked_from=[1])
    assert (page.template, page.title) == ("article.html", "Lighthouse")
    assert list(page.canvases) == ["lead"] and page.context == {"linked_from": [1]}
    assert repr(page) == "Page('article.html', title='Lighthouse', canvases=['lead'])"


@pytest.mark.parametrize("name", [*sorted(RESERVED_NAMES - {"self"}), "_private"])
def test_reserved_names_are_rejected(name: str) -> None:
    with pytest.raises(BadPage, match="the name is reserved"):
        Page("x.html", **{name: 1})  # type: ignore[arg-type]


def test_pages_are_equal_if_their_arguments_are() -> None:
    assert Page("x.html", a=Canvas("A."), n=1) == Page("x.html", a=Canvas("A."), n=1)
    assert Page("x.html", a=Canvas("A.")) != Page("x.html", a=Canvas("B."))
    assert Page("x.html", n=1) != Page("x.html", n=2)
    assert Page("x.html") != "x.html"


def test_the_policy_depends_on_embedded_content() -> None:
    assert Page().embeds == ""
    assert Page(game=Canvas("A game.", "app")).embeds == "boxes"
    assert Page(game=Canvas("A game.", "app"), embeds=True).embeds == "pages"
    assert Page(embeds=True) != Page()


def test_a_prompt_and_a_canvas_are_a_page_of_one_region() -> None:
    for result in ("A prompt.", Canvas("A prompt.")):
        page = as_page(result, "article")
        assert isinstance(page, Page)
        assert page.canvases == {"body": Canvas("A prompt.")} and page.template == "page.html"
    response = PlainTextResponse("x")
    assert as_page(response, "article") is response


@pytest.mark.parametrize("wrong", [None, 7, ["x"], {"a": 1}, b"x", object, lambda: "x"])
def test_other_results_are_rejected_with_a_message(wrong: object) -> None:
    with pytest.raises(BadPage, match=r"'article' returned .* Return a prompt \(a string\), a Canvas, a Page"):
        as_page(wrong, "article")


def test_an_empty_prompt_is_rejected() -> None:
    with pytest.raises(BadPage, match="empty prompt"):
        as_page(" \n", "article")


def test_a_mapping_or_list_of_canvases_becomes_several_regions() -> None:
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


def test_mixed_groups_and_invalid_keys_are_rejected() -> None:
    with pytest.raises(BadPage, match=r"replies=\{2: …\} is 'x', but other members are canvases"):
        Page("x.html", replies={1: Canvas("A."), 2: "x"})
    with pytest.raises(BadPage, match=r"The canvas replies=\{'a b': …\} needs an integer as its key"):
        Page("x.html", replies={"a b": Canvas("A.")})
