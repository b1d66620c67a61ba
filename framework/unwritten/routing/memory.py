"""Memory: what the world knows about the subject of a page that is about to be written.

Later pages should agree with earlier ones, so what these say reaches the prompt as facts, one statement each, the most
relevant first: the sentence around the link that was clicked, what authors have marked as facts, the sentences of
other links that lead here, and sentences of other pages that mention the subject.

Earlier pages are text that strangers had a hand in: it is shortened, put on one line and quoted as data, and it never
reaches the part of a prompt that tells the model what to do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.settings import Settings
from ..formats.links import plain_text, title_of
from ..storage.pages import PageStore
from ..storage.values import facts

if TYPE_CHECKING:
    from .routes import PageRequest
    from .visit import Visit

LONGEST = 300
"""Characters of one statement; a longer one ends in an ellipsis."""


_MARKED = 200


_PAGES = 8


_PER_PAGE = 2


_LINKS = 24


_NAMES = 8


_NEAR = 0.75
"""Share of the words that two statements have in common from which on they are taken for one."""


_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])")


_MARKUP = frozenset({"markdown", "text"})


_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


_ROLE = re.compile(
    r"(?<![^\W_])(?:system|assistant|user|human|developer|model|(?:new |previous )?instructions?)\s*:\s*", re.I
)


_FENCE = re.compile(r"={3,}|`{3,}|#{2,}|-{3,}|\[\[|\]\]")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a page says.

    Attributes:
        source: the title of the page.
        text: a sentence of it.
    """

    source: str
    text: str

    def __str__(self) -> str:
        return f'The page "{self.source}" says: {self.text}'


class Memory:
    """What is remembered of earlier pages.

    Args:
        store: the pages.
        settings: ``memory_tokens``.
        context: tokens that one request of the engine may use; a small one leaves less room for facts.
    """

    def __init__(self, store: PageStore, settings: Settings, context: int = 0) -> None:
        self._store = store
        self._tokens: int = settings.memory_tokens
        if context:
            self._tokens = min(self._tokens, context // 8)

    def facts(self, page_request: PageRequest, visit: Visit) -> list[str]:
        """What is known about the subject of a page, most relevant first, within the budget.

        Args:
            click: which page is wanted.
            visit: where it is wanted from.
        """
        if self._tokens <= 0:
            return []
        statements = deduplicate(self._statements(page_request.key, page_request.title, visit))
        return fit_to_budget((str(statement) for statement in statements), self._tokens)

    def _statements(self, key: str, title: str, visit: Visit) -> Iterator[Statement]:
        if visit.sentence and visit.came_from:
            yield Statement(_data(title_of(visit.came_from), 80), _data(visit.sentence))
        links = self._links(key)
        names = _names([title, *(text for _, text, _ in links)])
        for source, text, sentence in links:
            if _says_something(sentence, [text]):
                yield Statement(_data(source, 80), _data(sentence))
        yield from self._marked(key, names, visit)
        yield from self._mentions(key, names)

    def _marked(self, key: str, names: Sequence[str], visit: Visit) -> Iterator[Statement]:
        """What authors have marked as facts: of pages with this subject's name, of those that mention it, and of the
        page that was left."""
        called = {name.casefold() for name in names}
        ranked: list[tuple[int, Statement]] = []
        for source, title, _, fields in facts(self._store.database, _MARKED):
            text = "; ".join(f"{name.replace('_', ' ')}: {said}" for name, said in _fields(fields))
            own = bool(called & {name.casefold() for name in _names([title])})
            near = (own, _mentions(text, names), source == visit.came_from)
            if text and source != key and any(near):
                ranked.append((near.index(True), Statement(_data(title, 80), _data(text))))
        ranked.sort(key=lambda pair: pair[0])
        yield from (statement for _, statement in ranked[:_PAGES])

    def _links(self, key: str) -> list[tuple[str, str, str]]:
        """The links that lead to a page: title of their page, words, sentence."""
        return self._store.database.read(
            """SELECT p.title, l.text, l.sentence FROM links l JOIN pages p ON p.key = l.source
               WHERE l.target = ? AND l.source <> ? ORDER BY l.position, p.id LIMIT ?""",
            (key, key, _LINKS),
        )

    def _mentions(self, key: str, names: Sequence[str]) -> Iterator[Statement]:
        """Sentences of other pages in which one of these names stands; those of the best page first."""
        terms = [_phrase(name) for name in names if len(name) > 2 or not name.isascii()]
        if not terms:
            return
        rows = self._store.database.read(
            """SELECT p.id, p.title FROM search JOIN pages p ON p.id = search.rowid
               WHERE search MATCH ? AND p.key <> ? ORDER BY bm25(search, 2.0, 1.0), p.id LIMIT ?""",
            ("{text} : (" + " OR ".join(terms) + ")", key, _PAGES),
        )
        for page, title in rows:
            told = [s for s in self._sentences(page) if _mentions(s, names) and _says_something(s, names)]
            # A sentence that begins with the subject is about it; in others it may be an aside.
            told.sort(key=lambda sentence: not _mentions(sentence[: len(max(names, key=len)) + 8], names))
            for sentence in told[:_PER_PAGE]:
                yield Statement(_data(title, 80), _data(sentence))

    def _sentences(self, page: int) -> list[str]:
        """The sentences of a page's current version. Headings are none."""
        texts = self._store.database.read(
            """SELECT c.text, c.format FROM pages p JOIN versions v ON v.page = p.id AND v.number = p.version
               JOIN canvases c ON c.version = v.id WHERE p.id = ? ORDER BY c.position""",
            (page,),
        )
        if all(format in _MARKUP for _, format in texts):
            lines = [line for text, _ in texts for line in text.split("\n") if not line.lstrip().startswith("#")]
        else:  # what was made searchable of the other formats
            lines = [text for (text,) in self._store.database.read("SELECT text FROM search WHERE rowid = ?", (page,))]
        return [sentence for line in lines for sentence in _SENTENCE.split(plain_text(line)) if sentence]


def estimate_tokens(text: str) -> int:
    """A cheap estimate of how many tokens a text takes: one for four ASCII characters, and one for every other
    character. It errs on the high side for most models."""
    ascii_count = sum(char.isascii() for char in text)
    return -(-ascii_count // 4) + len(text) - ascii_count


def fit_to_budget(facts: Iterable[str], tokens: int) -> list[str]:
    """The first facts that fit a budget of tokens. One that does not is left out; a shorter one after it may fit."""
    kept: list[str] = []
    for fact in facts:
        cost = estimate_tokens(fact) + 2
        if cost <= tokens:
            kept.append(fact)
            tokens -= cost
        if tokens < 12:
            break
    return kept


def deduplicate(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Statements without those that say almost the same as an earlier one."""
    seen: list[set[str]] = []
    for statement in statements:
        words = set(re.findall(r"\w+", statement.text.casefold()))
        if words and not any(len(words & other) >= _NEAR * len(words | other) for other in seen):
            seen.append(words)
            yield statement


def _data(text: str, limit: int = LONGEST) -> str:
    """Text of an earlier page as data: on one line, visible, without what looks like a prompt's own marks, not longer
    than ``limit`` characters."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in _HIDDEN)
    text = " ".join(_ROLE.sub("", _FENCE.sub(" ", text)).replace('"', "'").split())
    return text if len(text) <= limit else text[: limit - 1].rsplit(" ", 1)[0] + "…"


def _fields(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a record as words; those of records inside it with the name of the outer one before theirs."""
    for name, said in value.items():
        if isinstance(said, Mapping):
            yield from _fields(said, f"{before}{name} ")
        elif isinstance(said, list):
            simple = [str(one) for one in said if isinstance(one, str | int | float)]
            if simple:
                yield before + name, ", ".join(simple)
        elif said is not None and said != "":
            yield before + name, str(said)


def _names(texts: Iterable[str]) -> list[str]:
    """What a subject is called, each name once, the first one first; an article before it is no part of it."""
    names: dict[str, str] = {}
    for text in texts:
        name = re.sub(r"^(?:the|an?)\s+(?=\S{3})", "", " ".join(plain_text(text).split()), flags=re.I)
        if re.search(r"\w", name):
            names.setdefault(name.casefold(), name)
    return list(names.values())[:_NAMES]


def _phrase(name: str) -> str:
    words = re.findall(r"\w+", name)
    return f'"{" ".join(words)}" OR "{" ".join(words)}s"'


def _mentions(sentence: str, names: Iterable[str]) -> bool:
    folded = sentence.casefold()
    return any(re.search(rf"(?<!\w){re.escape(name.casefold())}(?:e?s)?(?!\w)", folded) for name in names)


def _says_something(sentence: str, names: Iterable[str]) -> bool:
    """Whether there is more in a sentence than the name: an entry of a list says nothing."""
    rest = sentence.casefold()
    for name in names:
        rest = rest.replace(name.casefold(), " ")
    return len(re.findall(r"\w+", rest)) >= 3
