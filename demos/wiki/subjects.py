"""Titles: capitalization, meanings in parentheses, and titles in prompts."""

import re

MEANINGS = "disambiguation"
"""What is in the parentheses of the page that lists the meanings of a word."""


def capitalize_first(title: str) -> str:
    """Return a title with its first letter in upper case: ``[[tea]]`` and ``[[Tea]]`` are one article."""
    return title[:1].upper() + title[1:]


def split_title(title: str) -> tuple[str, str]:
    """Split a title into a word and a meaning: "Mercury (planet)" into "Mercury" and "planet"."""
    found = re.fullmatch(r"(.+?) \(([^()]{1,40})\)", title)
    return (found[1], found[2]) if found else (title, "")


def prompt_title(title: str) -> str:
    """Return a title for prompts. If it has a meaning, say that it is one of several."""
    word, meaning = split_title(title)
    return f"{title}, which is one meaning of the word {word}" if meaning else title


def opening_of(title: str) -> str:
    """Return how an article begins. A simple meaning is part of it, so that a small model keeps to it."""
    word, meaning = split_title(title)
    if not re.fullmatch(r"[a-z]+( [a-z]+){0,2}", meaning):
        return f"**{word}**"
    return f"**{word}** is {'an' if meaning[0] in 'aeiou' else 'a'} {meaning}"


def repeats_title(value: object, title: str, *, incomplete: bool = False) -> bool:
    """True if a fact only repeats the title, such as "a lighthouse" or "Teas", or has no words.

    Args:
        value: A text, or a list of texts, all of which must repeat it.
        title: The article's title.
        incomplete: True if the text may continue. Then it repeats the title as long as the title begins with it, so
            that rows do not appear and disappear.
    """
    if isinstance(value, (list, tuple)):
        return all(repeats_title(item, title, incomplete=incomplete) for item in value)
    if not isinstance(value, str):
        return False
    words, titles = _normalize(value), (_normalize(title), _normalize(split_title(title)[0]))
    if not words or words in titles:
        return True
    return incomplete and any("".join(name).startswith("".join(words)) for name in titles)


def _normalize(text: str) -> tuple[str, ...]:
    """Return the words of a text without capitals, punctuation, articles and plural endings."""
    found = re.findall(r"\w+", text.casefold())
    return tuple(word.removesuffix("s") for word in found if word not in _ARTICLES)


_ARTICLES = set("a an the der die das ein eine el la los las un una le les une l".split())
