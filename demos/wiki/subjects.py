"""Subjects: what titles say. Spelling, meanings in parentheses, and the words of a prompt."""

import re

MEANINGS = "disambiguation"
"""In the parentheses of a title: the page that lists what a word can mean."""


def capital(title: str) -> str:
    """Articles begin with a capital letter: ``[[tea]]`` and ``[[Tea]]`` are one article."""
    return title[:1].upper() + title[1:]


def meaning_of(title: str) -> tuple[str, str]:
    """A title as its word and which of its meanings: "Mercury (planet)" is ("Mercury", "planet")."""
    found = re.fullmatch(r"(.+?) \(([^()]{1,40})\)", title)
    return (found[1], found[2]) if found else (title, "")


def ask_of(title: str) -> str:
    """A title as prompts call it. With a meaning they say that it is one of several."""
    word, meaning = meaning_of(title)
    return f"{title}, which is one meaning of the word {word}" if meaning else title


def opening_of(title: str) -> str:
    """How an article begins. A meaning of a few plain words is said at once: a small model keeps to what it said."""
    word, meaning = meaning_of(title)
    if not re.fullmatch(r"[a-z]+( [a-z]+){0,2}", meaning):
        return f"**{word}**"
    return f"**{word}** is {'an' if meaning[0] in 'aeiou' else 'a'} {meaning}"
