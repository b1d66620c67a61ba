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


def repeats(said: object, title: str, *, growing: bool = False) -> bool:
    """Whether a fact says nothing but the title: "a lighthouse" of Lighthouse, "Teas" of Tea, or no words at all.

    Args:
        said: a text, or a list of texts that all do.
        title: of the article.
        growing: whether more may come: then it does as long as the title begins like it, so that no row comes and goes.
    """
    if isinstance(said, (list, tuple)):
        return all(repeats(one, title, growing=growing) for one in said)
    if not isinstance(said, str):
        return False
    words, titles = _bare(said), (_bare(title), _bare(meaning_of(title)[0]))
    return not words or words in titles or (growing and any("".join(one).startswith("".join(words)) for one in titles))


def _bare(words: str) -> tuple[str, ...]:
    """Words without capitals, marks, articles and the ends of plurals."""
    found = re.findall(r"\w+", words.casefold())
    return tuple(word.removesuffix("s") for word in found if word not in _ARTICLES)


_ARTICLES = set("a an the der die das ein eine el la los las un una le les une l".split())
