"""Wrappers: models often put a whole answer into a code fence, with a polite sentence before and after it.

The structure decides, so that it works in any language: short prose, one fence around everything else, short prose. The
info string and the proportions tell an answer from a page with a code block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from unwritten_engine import Frame, Span

from .unsettled import clip_spans

_MAX_PROSE = 300
"""Maximum length of the prose before or after a fence that is removed with it."""

_ALWAYS_WRAPPED = frozenset({"html", "svg", "app", "typed"})
"""Formats in which a fence has no meaning, and neither has prose around it."""

_DOCUMENT_INFO = frozenset({"markdown", "md", "mdx", "gfm", "commonmark", "html", "xhtml"})
_NEUTRAL_INFO = frozenset({"", "text", "txt", "plain", "plaintext"})
"""Info strings that fit a document as well as a listing: in Markdown the first lines decide."""

_MARKUP_INFO = frozenset({"html", "xhtml", "xml", "svg", "json", "jsonc", "json5"})
"""Info strings of listings in Markdown, and of wrappers in other formats."""

# Words that begin a polite sentence. Text that begins so is held back until it is clear what follows.
_COURTESIES = (
    "sure", "sure thing", "certainly", "of course", "absolutely", "okay", "ok", "great", "gladly", "with pleasure",
    "no problem", "understood", "got it", "gerne", "natürlich", "klar", "selbstverständlich", "bien sûr",
    "avec plaisir", "d'accord", "certainement", "volontiers", "claro", "por supuesto", "con gusto", "com certeza",
    "certo", "certamente", "volentieri", "natuurlijk", "zeker", "graag", "oczywiście", "jasne", "självklart", "elbette",
    "tabii", "конечно", "хорошо", "звичайно", "بالتأكيد", "بالطبع", "حسنا", "בטח", "בהחלט",
    "当然", "好的", "没问题", "當然", "もちろん", "はい", "承知", "かしこまりました", "물론", "네", "알겠습니다",
)  # fmt: skip
_ANNOUNCEMENTS = (
    "here is", "here's", "here are", "below is", "hier ist", "hier sind", "voici", "aquí tienes", "aquí está",
    "aqui está", "ecco", "hier is", "oto", "här är", "işte", "вот", "ось", "إليك", "הנה",
    "以下", "这是", "這是", "下面是", "こちら", "다음은",
)  # fmt: skip

_FENCE = re.compile(r"^ {0,3}(`{3,}+|~{3,}+)[ \t]*+([^\s`]*+)([^`\n]*+)$", re.M)
_PARTIAL_FENCE = re.compile(r"(?:\A|\n) {0,3}(?:`{1,}+|~{1,}+)\Z")
_BLANK_LINE = re.compile(r"\n[ \t]*+(?:\n|\Z)")
_MARKUP_LINE = re.compile(r"^\s*+(?:[#>|<{=*+]|-[ \t-]|\d+[.)][ \t]|\[)", re.M)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？]")
_SENTENCE_MARK = re.compile(r"[.!?。！？]")
_PROSE_CHARACTER = re.compile(r"[^\W_]|[ ,.;:'’\"“”!?、。，！？*()\[\]\n-]")
_NEWLINES = re.compile(r"\n*+")
_FIRST_TAG = re.compile(r"\s*+<!?\w++")
_HEADING = re.compile(r"#{1,6} \S[^\n]*+\Z")


@dataclass(frozen=True, slots=True)
class _Kept:
    """Which spans of a text are the answer, and whether more text may change that."""

    spans: Sequence[Span]
    is_final: bool


def unwrap(frame: Frame, format: str, opening: str = "") -> Frame:
    """Return a frame without the wrapper around the answer: a fence, and a polite sentence before and after it.

    Text that may turn out to be a wrapper is left out until that is clear, and is not fixed.

    Args:
        frame: A frame with the whole text of the model so far.
        format: The name of the canvas's format.
        opening: The requested opening, which the text begins with. It is removed if the answer has its own.
    """
    start = len(opening) if frame.text.startswith(opening) else 0
    kept = _find_answer(frame.text[start:], frame.done, format)
    if start:
        kept = _join_opening(frame.text, opening, kept)
    if kept.spans == [(0, len(frame.text))]:
        return frame if kept.is_final else replace(frame, fixed=0)
    parts: list[str] = []
    unsettled: list[Span] = []
    length = fixed = parts_end = 0
    for start, end in kept.spans:
        separator = "\n\n" if parts and start != parts_end else ""
        length += len(separator)
        unsettled += [(a + length, b + length) for a, b in clip_spans(frame.unsettled, start, end)]
        parts.append(separator + frame.text[start:end])
        if frame.fixed > start:
            fixed = length + min(frame.fixed, end) - start
        length += end - start
        parts_end = end
    return replace(frame, text="".join(parts), unsettled=tuple(unsettled), fixed=fixed if kept.is_final else 0)


def _join_opening(text: str, opening: str, kept: _Kept) -> _Kept:
    """Return what is left of a text that begins with an opening.

    Models that repeat the opening inside a fence, or begin a drawing or a document again, have their own beginning.
    """
    spans = [(start + len(opening), end + len(opening)) for start, end in kept.spans]
    answer = text[spans[0][0] : spans[0][0] + len(opening) + 8].lstrip().casefold() if spans else ""
    tag = _FIRST_TAG.match(opening)
    is_unwrapped = kept.spans != [(0, len(text) - len(opening))]
    repeated = opening.strip().casefold()
    if (tag and answer.startswith(tag[0].casefold())) or (is_unwrapped and answer and answer.startswith(repeated)):
        return _Kept(spans, kept.is_final)
    if spans and spans[0][0] == len(opening):
        return _Kept([(0, spans[0][1]), *spans[1:]], kept.is_final)
    return _Kept([(0, len(opening)), *spans], kept.is_final)


def _find_answer(text: str, done: bool, format: str) -> _Kept:
    """Return what is left of a text without its wrapper."""
    everything = _Kept([(0, len(text))], is_final=True)
    lead = len(text) - len(text.lstrip())
    begin = text[lead : lead + _MAX_PROSE + 8]
    fences = _FENCE.finditer(text) if "```" in begin or "~~~" in begin else iter(())
    opening = next(fences, None)
    if opening is None or (opening.end() == len(text) and not done):
        return everything if done else _find_answer_before_fence(text, opening)
    preface = text[: opening.start()].strip()
    if preface and not _is_sentence(preface):
        return everything
    polite = _is_courtesy(preface)
    if not _is_document(opening[2].lower(), format):
        if opening[2].lower() not in _NEUTRAL_INFO or not (polite or _announces(preface)):
            return everything
        is_prose = _is_prose(text, opening.end(), done)
        if not is_prose:
            return _hold_back(text, opening.start()) if is_prose is None else everything
    start, close = opening.end() + 1, _Close.find(text, opening, fences, done)
    content = (start, max(start, close.start))
    size = len(text[slice(*content)].strip())
    rest = text[close.end :].strip()
    if format in _ALWAYS_WRAPPED:
        return _Kept([content], is_final=True)
    # From here on a longer text cannot become a page with a code block.
    is_final = close.first - start >= max(200, 2 * len(preface))
    if not (done or is_final or _is_held_back(preface)):
        return _Kept([(0, opening.start())], is_final=False)
    if not rest:
        if is_final or polite or size >= len(preface):
            return _Kept([content], is_final)
        return everything if done else _hold_back(text, opening.start())
    if not _is_short_prose(rest):
        return (
            _Kept([content, (len(text) - len(text[close.end :].lstrip()), len(text))], True) if is_final else everything
        )
    if done and not (is_final or polite or size >= 2 * (len(preface) + len(rest))):
        return everything
    return _Kept([content], is_final)


def _find_answer_before_fence(text: str, opening: re.Match[str] | None) -> _Kept:
    """Return what may be shown of a text that has no complete opening fence yet."""
    partial = opening or _PARTIAL_FENCE.search(text, max(0, len(text) - 200))
    head = text[: partial.start()] if partial else text
    if head.strip() and not _is_sentence(head.strip()):
        return _Kept([(0, len(text))], is_final=True)
    return _hold_back(text, len(head))


def _hold_back(text: str, end: int) -> _Kept:
    """Return what may be shown while it is undecided whether what follows ``end`` is a wrapper.

    Text that begins like a polite sentence is held back from its first character. Other text was shown already, and
    must not disappear and come back.
    """
    return _Kept([] if _is_held_back(text[:end].strip()) else [(0, end)], is_final=False)


def _is_held_back(head: str) -> bool:
    """True if the text before a fence is empty, or begins like a polite sentence."""
    return not head or _is_courtesy(head, growing=True) or _begins_announcement(head)


@dataclass(frozen=True, slots=True)
class _Close:
    """The end of a fence that may contain other fences.

    Attributes:
        start: Where its content ends.
        end: Where the text after it begins.
        first: Where the first line is that could close it.
    """

    start: int
    end: int
    first: int

    @classmethod
    def find(cls, text: str, opening: re.Match[str], fences: Iterator[re.Match[str]], done: bool) -> _Close:
        """Return the end of a fence, or the end of the text."""
        inner = ""
        first = None
        last = _last_fence(text)
        for fence in fences:
            mark, bare = fence[1], not (fence[2] or fence[3].strip())
            if fence.end() == len(text) and not done:  # the line may be incomplete
                return cls(fence.start(), len(text), fence.start() if first is None else first)
            if inner:
                if bare and mark.startswith(inner):
                    inner = ""
                continue
            if not bare or not mark.startswith(opening[1]):
                inner = mark
                continue
            first = fence.start() if first is None else first
            # A line that closes a fence is followed by a blank line or, if it is the last fence, by a little prose.
            is_last = fence.start() == last and len(text) - fence.end() <= _MAX_PROSE
            if _BLANK_LINE.match(text, fence.end()) or fence.end() == len(text) or is_last:
                return cls(fence.start(), fence.end(), first)
            inner = mark
        partial = None if done else _PARTIAL_FENCE.search(text, max(0, len(text) - 200))
        end = partial.start() if partial else len(text)
        return cls(end, len(text), end if first is None else first)


def _last_fence(text: str) -> int:
    """Return where the last line is that begins with a fence."""
    at = max(text.rfind("\n```"), text.rfind("\n~~~"))
    return at + 1


def _is_document(info: str, format: str) -> bool:
    """True if a fence with this info string around a whole answer of this format is always a wrapper."""
    if format in _ALWAYS_WRAPPED or format == "text":
        return True
    return info in _DOCUMENT_INFO or (
        format != "markdown" and (info == format or info in _MARKUP_INFO or info in _NEUTRAL_INFO)
    )


def _is_sentence(text: str) -> bool:
    """True if a text can be a polite sentence: one short paragraph without markup."""
    return _is_short_prose(text) and not _BLANK_LINE.search(text)


def _is_short_prose(text: str) -> bool:
    """True if a text is one short paragraph without markup, or two."""
    return (
        len(text) <= _MAX_PROSE
        and text.count("\n") <= 3
        and not _MARKUP_LINE.search(text)
        and not _FENCE.search(text)
        and "[[" not in text
    )


def _is_courtesy(text: str, *, growing: bool = False) -> bool:
    """True if a text begins as an answer to a person does: "Sure! …". Growing: if it may come to begin so."""
    start = _folded(text)
    for phrase in _COURTESIES:
        if growing and phrase.startswith(start):
            return True
        if start.startswith(phrase) and (not phrase.isascii() or not start[len(phrase) : len(phrase) + 1].isalnum()):
            return start[len(phrase) : len(phrase) + 1] in "!,.:;，！。、：" or _is_unspaced(phrase)
    return False


def _announces(text: str) -> bool:
    """True if a text is empty or announces what follows: "Here is the article", or anything with a colon."""
    return not text or text.endswith((":", "：")) or _has_announcement(text)


def _begins_announcement(text: str) -> bool:
    """True if a text is the beginning of an announcement in the list, with or without a colon at its end."""
    start = _folded(text)
    return any(phrase.startswith(start) for phrase in _ANNOUNCEMENTS) or _has_announcement(text)


def _has_announcement(text: str) -> bool:
    """True if a text begins with an announcement in the list, and is one sentence so far."""
    return _folded(text).startswith(_ANNOUNCEMENTS) and not _SENTENCE_END.search(text)


def _folded(text: str) -> str:
    return text[:_MAX_PROSE].casefold().replace("’", "'")


def _is_unspaced(phrase: str) -> bool:
    """True for scripts without spaces between words."""
    return phrase[0] >= "\u3000"


def _is_prose(text: str, start: int, done: bool) -> bool | None:
    """True if the content of a fence begins like a document, not like a listing. None: too little of it is known."""
    newlines = _NEWLINES.match(text, start)
    begin = newlines.end() if newlines else start
    blank, fence = _BLANK_LINE.search(text, begin), _FENCE.search(text, begin)
    if blank and not done and blank[0].count("\n") < 2:
        blank = None  # the next line may follow
    ends = [match.start() for match in (blank, fence) if match is not None]
    if not done and not ends and len(text) < begin + 200:
        return None
    block = text[begin : min([*ends, begin + 200])].rstrip()
    if _HEADING.match(block):
        return True
    if re.search(r"^[ \t]", block, re.M) or not (len(block) > 190 or _SENTENCE_MARK.search(block)):
        return False
    return len(_PROSE_CHARACTER.findall(block)) >= 0.95 * len(block)
