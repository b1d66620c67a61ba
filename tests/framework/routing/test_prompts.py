"""Prompts of canvases."""

from __future__ import annotations

import pytest

from unwritten import Canvas, Example
from unwritten.core.assets import asset_dir
from unwritten.formats.registry import FORMATS
from unwritten.routing.prompts import build_prompt, examples_file_for, read_examples


def test_all_pages_of_a_canvas_share_system_and_examples() -> None:
    prompts = [
        build_prompt(world="A calm book.", canvas=Canvas(f"An encyclopedia article about {title}."), subject=title)
        for title in ("Rain", "A Letter to the Recipe", "京都")
    ]
    assert len({(prompt.system, prompt.examples) for prompt in prompts}) == 1
    assert prompts[0].system.startswith("A calm book.")
    assert "Rain" not in prompts[0].system


def test_the_five_line_app_gets_an_article_with_its_opening() -> None:
    prompt = build_prompt(world="", canvas=Canvas("An encyclopedia article about Rain."), subject="Rain")
    assert prompt.opening == "**Rain**"
    assert all(example.answer.startswith("**") for example in prompt.examples)


def test_examples_and_opening_of_the_author_take_precedence() -> None:
    example = Example("A haiku about Salt.", "White.")
    canvas = Canvas("An article about Rain.", examples=[example], opening="Rain:")
    prompt = build_prompt(world="", canvas=canvas, subject="Rain")
    assert prompt.examples == (example,)
    assert prompt.opening == "Rain:"


def test_every_prompt_names_the_subject() -> None:
    assert build_prompt(world="", canvas=Canvas("Three sections."), subject="Rain").ask == (
        "Three sections. The subject is Rain."
    )
    assert build_prompt(world="", canvas=Canvas("All  about\nrain."), subject="Rain").ask == "All about rain."


@pytest.mark.parametrize(
    ("prompt", "subject", "file"),
    [
        ("An encyclopedia article about Tea.", "Tea", "article"),
        ("A recipe for tea.", "tea", "recipe"),
        ("A letter from Tea.", "Tea", "letter"),
        ("A short forum thread about Tea.", "Tea", "thread"),
        ("A story about The Recipe.", "The Recipe", "story"),
        ("What is The Letter?", "The Letter", "note"),
        ("A thread about an article.", "", "thread"),
    ],
)
def test_the_words_of_a_prompt_choose_its_examples(prompt: str, subject: str, file: str) -> None:
    assert examples_file_for(Canvas(prompt), subject) == file


def test_formats_have_their_own_examples() -> None:
    assert examples_file_for(Canvas("An article.", "html"), "") == "html"
    assert examples_file_for(Canvas("An article.", "text"), "") == "text"


FILES = sorted({name for format in FORMATS.values() for name in (*format.topic_examples, format.examples_file) if name})


@pytest.mark.parametrize("file", FILES)
def test_builtin_examples_are_short(file: str) -> None:
    examples = read_examples(asset_dir("templates") / "prompts" / f"{file}.txt")
    assert len(examples) >= 2
    assert sum(len(example.ask) + len(example.answer) for example in examples) < 2000  # about 500 tokens
