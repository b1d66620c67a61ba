"""Memory: what earlier pages say about the subject of a page that is about to be generated.

Later pages should agree with earlier ones, so the prompt lists statements of earlier pages as facts, the most
relevant first: the sentence around the clicked link, values that authors have marked as facts, the sentences of other
links to the page, and sentences of other pages that mention the subject.

Earlier pages are untrusted text. Statements are shortened, put on one line and quoted as data, and they never become
part of the instructions for the model. They stand for themselves: a frame around each, such as "The page … says", is
what small models repeat.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..core.paths import url_of_key
from ..core.settings import Settings
from ..formats.links import plain_text
from ..storage.pages import LEADS_TO, PageStore
from ..storage.search import find_mentions
from ..storage.values import facts
from .access import PageAccess
from .routes import PageRequest
from .visit import Visit

MAX_STATEMENT_LENGTH = 300
"""Maximum length of one statement. A longer one is cut and ends in an ellipsis."""

_MAX_FACTS = 200
"""Maximum number of values marked as facts that are considered."""

_MAX_PAGES = 8
"""Maximum number of pages whose facts are used, and of pages whose mentions are used."""

_MAX_SENTENCES = 2
"""Maximum number of sentences of one page that mention the subject."""

_MAX_LINKS = 24
"""Maximum number of links to the page that are considered."""

_MAX_NAMES = 8
"""Maximum number of names of the subject: its title and the texts of links to it."""

_MIN_FACT_TOKENS = 12
"""The number of tokens below which no further fact is looked for."""

_SAME = 0.75
"""Two statements with at least this share of common words count as the same."""

_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])")
_TEXT_FORMATS = frozenset({"markdown", "text"})
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_ROLE = re.compile(
    r"(?<![^\W_])(?:system|assistant|user|human|developer|model|(?:new |previous )?instructions?)\s*:\s*", re.I
)
_PROMPT_MARK = re.compile(r"={3,}|`{3,}|#{2,}|-{3,}|\[\[|\]\]")


class Memory:
    """Finds statements about a subject on earlier pages.

    Args:
        store: The stored pages.
        settings: ``memory_tokens``.
        access: Decides which pages everyone may read. Others are not used, because all visitors see the result.
        context: The engine's context size in tokens. A small one leaves less room for facts. 0: unknown.
    """

    def __init__(self, store: PageStore, settings: Settings, access: PageAccess, context: int = 0) -> None:
        self._store = store
        self._access = access
        self._max_tokens: int = settings.memory_tokens
        if context:
            self._max_tokens = min(self._max_tokens, context // 8)

    async def facts(self, page_request: PageRequest, visit: Visit) -> list[str]:
        """Return what is known about the subject of a page, the most relevant first, within the budget of tokens."""
        if self._max_tokens <= 0:
            return []
        scope = page_request.request.scope
        links = self._links(page_request.key)
        if self._access.is_restricted:  # the names of the subject come from the links, so they are checked first
            links = [link for link in links if await self._access.is_public(link[0], scope)]
        statements = self._statements(page_request.key, page_request.title, visit, links)
        if not self._access.is_restricted:
            return fit_to_budget(deduplicate(text for _, text in statements), self._max_tokens)
        public: list[str] = []
        fitting: list[str] = []
        for key, text in statements:
            if await self._access.is_public(key, scope):
                public.append(text)
                fitting = fit_to_budget(deduplicate(public), self._max_tokens)
                if sum(estimate_tokens(fact) + 2 for fact in fitting) > self._max_tokens - _MIN_FACT_TOKENS:
                    break
        return fitting

    def _statements(
        self, key: str, title: str, visit: Visit, links: Sequence[tuple[str, str, str, str]]
    ) -> Iterator[tuple[str, str]]:
        """Yield statements, each with the key of its page."""
        if visit.sentence and visit.came_from:
            yield visit.came_from, as_data(visit.sentence)
        for source, _, _, gist in sorted(links, key=lambda link: link[0] != visit.came_from):
            if gist:
                yield source, as_data(gist)
        names = _names([title, *(text for _, text, _, _ in links)])
        for source, text, sentence, _ in links:
            if _is_informative(sentence, [text]):
                yield source, as_data(sentence)
        yield from self._facts(key, names, visit)
        yield from self._mentions(key, names)

    def _facts(self, key: str, names: Sequence[str], visit: Visit) -> Iterator[tuple[str, str]]:
        """Yield values marked as facts: of pages with the subject's name, then of pages that mention it, then of the
        page that the visitor comes from."""
        folded_names = {name.casefold() for name in names}
        ranked: list[tuple[int, str, str]] = []
        for source, title, _, fields in facts(self._store.database, _MAX_FACTS):
            text = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in _flatten(fields))
            has_name = bool(folded_names & {name.casefold() for name in _names([title])})
            reasons = (has_name, _mentions(text, names), source == visit.came_from)
            if text and source != key and any(reasons):
                ranked.append((reasons.index(True), source, f"{as_data(title, 80)}: {as_data(text)}"))
        ranked.sort(key=lambda pair: pair[0])
        yield from ((source, statement) for _, source, statement in ranked[:_MAX_PAGES])

    def _links(self, key: str) -> list[tuple[str, str, str, str]]:
        """Return the links to a page: the page with the link, its text, the sentence around it, and its gist."""
        return self._store.database.read(
            f"""SELECT l.source, l.text, l.sentence, l.gist FROM links l JOIN pages p ON p.key = l.source
                WHERE {LEADS_TO} AND l.source <> ? ORDER BY l.position, p.id LIMIT ?""",  # noqa: S608
            (key, url_of_key(key), key, _MAX_LINKS),
        )

    def _mentions(self, key: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield sentences of other pages that contain one of the names, those of the best match first."""
        terms = [name for name in names if len(name) > 2 or not name.isascii()]
        for page, source in find_mentions(self._store.database, terms, key, _MAX_PAGES):
            sentences = [s for s in self._sentences(page) if _mentions(s, names) and _is_informative(s, names)]
            # A sentence that begins with the subject is about it. In others it may be an aside.
            sentences.sort(key=lambda sentence: not _mentions(sentence[: len(max(names, key=len)) + 8], names))
            for sentence in sentences[:_MAX_SENTENCES]:
                yield source, as_data(sentence)

    def _sentences(self, page: int) -> list[str]:
        """Return the sentences of a page's current version, without headings."""
        texts = self._store.database.read(
            """SELECT c.text, c.format FROM pages p JOIN versions v ON v.page = p.id AND v.number = p.version
               JOIN canvases c ON c.version = v.id WHERE p.id = ? ORDER BY c.position""",
            (page,),
        )
        if all(format in _TEXT_FORMATS for _, format in texts):
            lines = [line for text, _ in texts for line in text.split("\n") if not line.lstrip().startswith("#")]
        else:  # other formats have plain text only in the search index
            lines = [text for (text,) in self._store.database.read("SELECT text FROM search WHERE rowid = ?", (page,))]
        return [sentence for line in lines for sentence in _SENTENCE.split(plain_text(line)) if sentence]


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens of a text: a quarter of its ASCII characters, and one for each other character.

    The result is too high for most models.
    """
    num_ascii = sum(char.isascii() for char in text)
    return -(-num_ascii // 4) + len(text) - num_ascii


def fit_to_budget(facts: Iterable[str], tokens: int) -> list[str]:
    """Return the first facts that fit into a number of tokens. One that does not fit is left out."""
    fitting: list[str] = []
    for fact in facts:
        cost = estimate_tokens(fact) + 2
        if cost <= tokens:
            fitting.append(fact)
            tokens -= cost
        if tokens < _MIN_FACT_TOKENS:
            break
    return fitting


def deduplicate(statements: Iterable[str]) -> Iterator[str]:
    """Yield statements without those that say almost the same as an earlier one."""
    seen: list[set[str]] = []
    for statement in statements:
        words = set(re.findall(r"\w+", statement.casefold()))
        if words and not any(len(words & other) >= _SAME * len(words | other) for other in seen):
            seen.append(words)
            yield statement


def as_data(text: str, max_length: int = MAX_STATEMENT_LENGTH) -> str:
    """Return text of an earlier page on one line, without invisible characters and what looks like part of a prompt."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in _HIDDEN)
    text = " ".join(_ROLE.sub("", _PROMPT_MARK.sub(" ", text)).replace('"', "'").split())
    return text if len(text) <= max_length else text[: max_length - 1].rsplit(" ", 1)[0] + "…"


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of a record as names and texts. Fields of inner records have the outer names before theirs."""
    for name, field in value.items():
        if isinstance(field, Mapping):
            yield from _flatten(field, f"{prefix}{name} ")
        elif isinstance(field, list):
            items = [str(item) for item in field if isinstance(item, str | int | float)]
            if items:
                yield prefix + name, ", ".join(items)
        elif field is not None and field != "":
            yield prefix + name, str(field)


def _names(texts: Iterable[str]) -> list[str]:
    """Return the names of a subject, without duplicates and without a leading article."""
    names: dict[str, str] = {}
    for text in texts:
        name = re.sub(r"^(?:the|an?)\s+(?=\S{3})", "", " ".join(plain_text(text).split()), flags=re.I)
        if re.search(r"\w", name):
            names.setdefault(name.casefold(), name)
    return list(names.values())[:_MAX_NAMES]


def _mentions(sentence: str, names: Iterable[str]) -> bool:
    folded = sentence.casefold()
    return any(re.search(rf"(?<!\w){re.escape(name.casefold())}(?:e?s)?(?!\w)", folded) for name in names)


def _is_informative(sentence: str, names: Iterable[str]) -> bool:
    """True if a sentence has at least three words besides the names. An item of a list may have none."""
    rest = sentence.casefold()
    for name in names:
        rest = rest.replace(name.casefold(), " ")
    return len(re.findall(r"\w+", rest)) >= 3
