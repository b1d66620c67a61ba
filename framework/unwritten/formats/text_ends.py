"""The ends of texts: cut a text that ran out of tokens, or was stopped, back to where it ends well.

A text ends well after a sentence, a paragraph, an item of a list, a row of a table or a line of code. The ends of
sentences are those of Unicode's property Sentence_Terminal, without abbreviations, initials and decimal points. Where
the choice is unclear, a mark does not count: a text that is a sentence shorter is better than one that ends in "Mr.".

``settled_text`` says which characters ``finalize_text`` keeps whatever follows, so that they can be sent before the
text is finished. All rules therefore depend on what stands before a mark, and at most on the next word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_SPACED = ".!?…‥‼⁇⁈⁉‽"
"""Marks that end a sentence only before white space, or before a script without spaces."""

_UNSPACED = (
    "\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u0f0d\u0f0e\u104a\u104b\u1362"
    "\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b4e\u1b4f\u1b5a\u1b5b\u1b5e"
    "\u1b5f\u1b7d-\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f\u2cf9-\u2cfb\u2e2e\u2e3c\u2e53\u2e54\u3002\ua4ff\ua60e\ua60f\ua6f3"
    "\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe12\ufe15\ufe16\ufe52\ufe56"
    "\ufe57\uff01\uff0e\uff1f\uff61\U00010a56\U00010a57\U00010f55-\U00010f59\U00010f86-\U00010f89\U00011047\U00011048"
    "\U000110be-\U000110c1\U00011141-\U00011143\U000111c5\U000111c6\U000111cd\U000111de\U000111df\U00011238\U00011239"
    "\U0001123b\U0001123c\U000112a9\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9-\U000115d7\U00011641\U00011642"
    "\U0001173c-\U0001173e\U00011944\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c\U00011c41\U00011c42\U00011ef7"
    "\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f\U00016af5\U00016b37\U00016b38\U00016b44\U00016e98\U0001bc9f"
    "\U0001da88"
)
"""The other characters with the property Sentence_Terminal, and the Tibetan shads, as ranges of a character class."""

_CLOSERS = r"\"'”’›»)\]}*_」』）】》〉〕］｣"
_OPENERS = r"\"'“‘‹«„([{*_¡¿「『（【《〈〔［｢"
_UNSPACED_SCRIPT = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff]"
)
"""Letters of scripts that are written without spaces between words."""

# Links, code and addresses hold no ends of sentences. They are limited in length, so that a mark that is never closed
# does not silence the rest of its line.
_ATOM = r"\[\[[^\[\]\n]{0,200}|`[^`\n]{0,200}`?|\]\([^()\s]{0,200}"
_MARK = re.compile(
    rf"{_ATOM}|(?P<mark>[{_SPACED}]+|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]|(?<=[\u0531-\u0587]):|[{_UNSPACED}]+)"
    rf"(?P<close>[{_CLOSERS}]*)"
)
_MARK_START = re.compile(rf"[{_SPACED};:\u037e{_UNSPACED}`\[\]]")  # a single class, which is found ten times as fast
_NEXT = re.compile(rf"(\s*)[{_OPENERS}]{{0,10}}")
_BLANK = re.compile(r"[^\S\n]*\n[^\S\n]*\n")

_TITLES = frozenset(
    "mr mrs ms mx dr prof rev hon st ste mt ft sr jr gen col capt lt cpl sgt maj cmdr gov sen rep pres supt messrs mme "
    "mlle sra srta dra vs approx dept est al viz incl resp ca cf bzw ggf evtl usw geb gest hr fr str nr abs bd jh vgl "
    "env av bibl т г ул им рис стр см напр".split()
)
"""Abbreviations that more of the sentence follows."""

_NUMBERED = frozenset(
    "no nos vol vols p pp fig figs ch sec art eq n ed op ref jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
"""Abbreviations if a number follows, and otherwise words."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"[ \t]*(?:#{2,6}|#(?:[ \t]|$))")
_STRUCTURE = re.compile(r"[ \t]*(?:#{1,6}[ \t]|[-*+•](?:[ \t]|$)|\d{1,9}[.)](?:[ \t]|$)|>|\||`{3}|~{3})")
_DELIMITER_ROW = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?")
_EMPTY_LINE = re.compile(r"(?:[-*+•>]|\d{1,9}[.)]|(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})?")
_BOLD_LINE = re.compile(r"(\*\*|__)(?:(?!\1).)*\1")
_PARTIAL_LINK = re.compile(r"\[\[?([^\[\]\n]{0,200})\]?(?:\([^()\s]{0,200})?$")
_OPEN_LINK = re.compile(r"\[\[(?![^\[\]\n]{1,200}\]\])")
_CLAUSE = re.compile(r"[,;:](?=\s)|[，、；：،؛၊]|\s[—–-](?=\s)|[—–](?=\w)")
_CLAUSE_MARKS = " \t\r\n,;:，、；：،؛၊—–-"
_VERSE_LENGTH = 60
"""In characters. Shorter lines may be verse, which ends well at the end of a line."""

_LINK = re.compile(r"\[\[[^\[\]\n]{0,200}\]\]|\[[^\[\]\n]{0,200}\]\([^()\s]{0,200}\)|`[^`\n]{1,200}`")
_SPAN = re.compile(
    r"\[\[[^\[\]\n]{0,200}\]\]|\[[^\[\]\n]{0,200}\]\([^()\s]{0,200}\)|\\.|`+|\*+|~~|_|[\"“”„«»‘(){}\[\]「」『』（）【】《》]"
)
_PAIRS = {
    "“": "”",
    "„": "“",
    "«": "»",
    "(": ")",
    "{": "}",
    "「": "」",
    "『": "』",
    "（": "）",
    "【": "】",
    "《": "》",
}
_MAX_OPEN = 8
"""More open marks than this in one paragraph are not punctuation, and are not closed."""

_DANGLING = re.compile(rf"(?:^|(?<=\s))[{_OPENERS}]{{1,8}}$")
"""Opening marks with nothing after them."""

CUT_REASONS = frozenset({"length", "repetition", "echo"})
"""The reasons of engines for an end that is not the text's own."""


def finalize_text(text: str, reason: str) -> str:
    """Return a finished text without an incomplete end.

    If the text was cut off, it is cut back to where it ends well, and open quotation marks, brackets, emphasis and
    code fences are closed. If too little would be left, it is cut after a clause or a word and ends in an ellipsis.
    A heading or a list mark with nothing after it is always removed.

    Args:
        text: The text of a prose canvas, Markdown or plain.
        reason: The engine's reason for the end.
    """
    if reason in CUT_REASONS and text.strip():
        text = _cut(text, is_line_complete=reason == "repetition")
    text = text.rstrip()
    return _drop_empty_lines(text) or text


def settled_text(text: str) -> int:
    """Return how many leading characters ``finalize_text`` keeps, independently of what follows.

    That is the text up to its last full sentence, with the white space after it.
    """
    has_fences = "```" in text or "~~~" in text
    # The last full sentence is nearly always in the last paragraphs. Code may begin anywhere before them.
    sizes = (len(text),) if has_fences else (200, 4000, len(text))
    for begin in dict.fromkeys(text.rfind("\n\n", 0, max(0, len(text) - size)) + 1 for size in sizes):
        lines = [(start, end) for start, end, kind in _lines(text, begin) if not kind]
        for start, end in reversed(lines):
            settled = max(
                (position for position, is_certain in _sentence_ends(text, start, end) if is_certain), default=0
            )
            if settled:
                return len(text) - len(text[settled:].lstrip())
    return 0


def has_content(text: str) -> bool:
    """True if a text has a sentence of two words, or three words."""
    words = re.findall(r"[^\W\d_]+", text)
    num_words = sum(len(word) if _UNSPACED_SCRIPT.match(word) else 1 for word in words)
    return num_words > 2 or (num_words == 2 and any(True for _ in _sentence_ends(text, 0, len(text))))


def _drop_empty_lines(text: str) -> str:
    """Remove headings, rules and list marks from the end of a text."""
    end = len(text)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        line = text[start:end].strip()
        if not (_HEADING.match(line) or _EMPTY_LINE.fullmatch(line)):
            break
        end = start - 1
    return text[: max(end, 0)]


# -- lines and sentences ----------------------------------------------------------------------------------


def _lines(text: str, begin: int = 0) -> Iterator[tuple[int, int, str]]:
    """Yield the lines of a text from ``begin``, which lies outside of code: start, end and kind.

    The kind is "" or "heading", "row" (of a table), "fence", "code" or "fence end".
    """
    fence = ""
    in_table = False
    position = begin
    while position <= len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end]
        mark = _FENCE.match(line)
        kind = ""
        if fence:
            closes = mark is not None and mark[1].startswith(fence) and not line.strip(" \t\r" + fence[0])
            kind, fence = ("fence end", "") if closes else ("code", fence)
        elif mark and not (mark[1][0] == "`" and "`" in line[mark.end() :]):
            kind, fence = "fence", mark[1]
        elif line.lstrip().startswith("|") or (in_table and line.strip()):
            kind = "row"
        elif "|" in line and _DELIMITER_ROW.fullmatch(line.strip()):
            kind, in_table = "row", True
        elif _HEADING.match(line):
            kind = "heading"
        in_table = in_table and kind == "row"
        yield position, end, kind
        position = end + 1


def _sentence_ends(text: str, start: int, stop: int) -> Iterator[tuple[int, bool]]:
    """Yield where the sentences of one line end. False if the text that follows may still change that."""
    position = start
    while found := _MARK_START.search(text, position, stop):
        match = _MARK.match(text, found.start(), stop)
        position = match.end() if match else found.end()
        if match is None or match["mark"] is None:
            continue
        mark, end = match["mark"], match.end()
        is_spaced = mark[-1] in _SPACED or mark in ";:\u037e"
        follower = text[end : end + 1]
        if follower and not follower.isspace():
            if is_spaced and not _UNSPACED_SCRIPT.match(follower):
                continue
            closers = match["close"].rstrip("\"'*_")  # those before a letter open something
            end = match.end("mark") + len(closers)
        if mark == "．" and text[match.start() - 1 : match.start()].isdigit() and (not follower or follower.isdigit()):
            continue
        gap = _NEXT.match(text, end)
        word = text[gap.end() : gap.end() + 1] if gap else ""
        is_paragraph = _BLANK.match(text, end) is not None
        if is_spaced and word.islower() and not is_paragraph:
            continue
        if mark == "." and _is_abbreviation(text, start, match.start(), word):
            continue
        yield end, bool(word) or is_paragraph


def _is_abbreviation(text: str, line_start: int, end: int, following: str) -> bool:
    """True if the full stop at ``end`` belongs to an abbreviation, an initial or a number.

    Args:
        text: The text.
        line_start: Where its line starts.
        end: The position of the full stop.
        following: The first character of the next word. "" if there is none yet.
    """
    start = end
    while start > max(line_start, end - 24) and (text[start - 1].isalnum() or text[start - 1] in ".\u2019'"):
        start -= 1
    word = text[start:end].strip("'\u2019").casefold()
    if not word:
        return False
    if word.isdecimal():  # "1." begins a list, "3." may continue as "3.5", and is an ordinal in some languages
        is_item = start - line_start < 16 and not text[line_start:start].strip(" \t>*_(-+")
        return len(word) <= 2 or not following or is_item
    if len(word) == 1:
        return word.upper() != word.lower()
    if "." in word:
        return all(0 < len(part) <= 2 and not part.isdecimal() for part in word.split("."))
    return word in _TITLES or (word in _NUMBERED and (not following or following.isdigit()))


# -- cutting ----------------------------------------------------------------------------------------------


def _cut(text: str, *, is_line_complete: bool) -> str:
    """Return a text that was cut off, cut back to where it ends well.

    Args:
        text: The text.
        is_line_complete: True if its last word is complete, and also its last line if that is an item or a row.
    """
    is_word_complete = is_line_complete or text[-1:].isspace()
    text = text.rstrip()
    lines = list(_lines(text))
    end, fence = _last_good_end(text, lines)
    last = lines[-1]
    if (
        is_line_complete
        and last[2] in {"", "row"}
        and _STRUCTURE.match(text, last[0])
        and not _is_lead_in(text[last[0] :])
    ):
        return _close_marks(text)
    if end < len(text) // 3:
        return _cut_in_sentence(text, lines, end, is_word_complete)
    if fence:
        return f"{text[:end]}\n{fence}"
    # A paragraph that the model has ended may have been sent as it is.
    return text[:end] if _BLANK.match(text, end) else _close_marks(text[:end])


def _last_good_end(text: str, lines: Sequence[tuple[int, int, str]]) -> tuple[int, str]:
    """Return the last position at which the text may end, 0 if there is none, and the fence that must follow it."""
    best, closing_fence, fence, cells = 0, "", "", 0
    for number, (start, end, kind) in enumerate(lines):
        line = text[start:end].strip()
        following = lines[number + 1] if number + 1 < len(lines) else None
        cells = cells if kind == "row" else 0
        good = 0
        if kind == "fence":
            fence = line[: len(line) - len(line.lstrip(line[0]))]
        elif kind == "fence end" or (kind == "code" and following):
            good = end
        elif kind == "row" and line:
            # The rows after the delimiter row. The last one may lack cells.
            if cells and (following or (line.endswith("|") and line.count("|") >= cells)):
                good = end
            cells = cells or (line.count("|") if _DELIMITER_ROW.fullmatch(line) else 0)
        elif not kind and line:
            good = max((position for position, _ in _sentence_ends(text, start, end)), default=0)
            next_line = text[slice(*following[:2])] if following else ""
            if following and (not next_line.strip() or _STRUCTURE.match(next_line)) and not _is_lead_in(line):
                good = end
        if good:
            best, closing_fence = good, fence if kind == "code" else ""
    return best, closing_fence


def _is_lead_in(line: str) -> bool:
    """True if a line announces what follows: a heading in bold, the words before a list, or an empty item."""
    mark = _STRUCTURE.match(line)
    line = line[mark.end() if mark else 0 :].strip()
    return not line or line.rstrip(" *_")[-1:] in _CLAUSE_MARKS or _BOLD_LINE.fullmatch(line) is not None


def _cut_in_sentence(text: str, lines: Sequence[tuple[int, int, str]], begin: int, is_word_complete: bool) -> str:
    """Return a text without its last word or clause, with an ellipsis.

    Args:
        text: The text, cut off somewhere.
        lines: Its lines.
        begin: The last position at which it could end, too early.
        is_word_complete: True if its last word is complete.
    """
    whole, kept = text, list(lines)
    while len(kept) > 1 and kept[-1][0] >= begin and (kept[-1][2] or not text[slice(*kept[-1][:2])].strip()):
        kept.pop()
    if len(kept) < len(lines):
        text, is_word_complete = text[: kept[-1][1]].rstrip(), True
        if len(text) <= begin:
            return text[:begin]
    if kept[-1][2]:
        return _cut_structure(whole, lines)
    verse = _end_of_verse(text, kept, begin)
    if verse:
        return text[:verse].rstrip(_CLAUSE_MARKS) + ("…" if text[verse - 1] in _CLAUSE_MARKS else "")
    link = _PARTIAL_LINK.search(text, max(begin, len(text) - 420))
    if link:
        label = link[1].rpartition("|")[2]
        is_word_complete = is_word_complete or "](" in link[0]
        text = text[: link.start()] + label
    text = text[:begin] + _OPEN_LINK.sub("", text[begin:])
    end = len(text) if is_word_complete else _end_of_word(text, begin)
    clauses = [match.start() for match in _CLAUSE.finditer(text, begin)]
    if clauses and (clauses[-1] - begin) * 3 >= (len(text) - begin) * 2:
        end = clauses[-1]
    end = next((link.end() for link in _LINK.finditer(text, begin) if link.start() < end < link.end()), end)
    dangling = _DANGLING.search(text, max(begin, end - 9), end)
    end = dangling.start() if dangling else end
    while end > begin and text[end - 1] in _CLAUSE_MARKS:
        end -= 1
    if end <= begin:
        return text[:begin] or f"{text}…"
    ends_sentence = any(
        position == end for position, _ in _sentence_ends(text[:end], text.rfind("\n", 0, end) + 1, end)
    )
    return _close_marks(text[:end], "" if ends_sentence else "…")


def _cut_structure(text: str, lines: Sequence[tuple[int, int, str]]) -> str:
    """Return a text that is nothing but a table, code or headings, none of them complete, without its last line."""
    if lines[-1][2] == "code":
        fence = _FENCE.match(text)
        return f"{text}\n{fence[1]}" if fence else text
    return text[: lines[-2][1]] if len(lines) > 1 else text


def _end_of_word(text: str, begin: int) -> int:
    """Return where the last word ends that is certainly complete; the end of the text if there is none."""
    end = max(text.rfind(" ", begin), text.rfind("\n", begin))
    if end <= begin:
        return len(text)
    # Scripts without spaces have them between phrases, if at all.
    return len(text) if (end - begin) * 3 < len(text) - begin and _UNSPACED_SCRIPT.match(text, end + 1) else end


def _end_of_verse(text: str, lines: Sequence[tuple[int, int, str]], begin: int) -> int:
    """Return where the last complete line of a verse ends; 0 if the text does not end in verse."""
    *before, last = lines
    if not before or before[-1][0] < begin or before[-1][2]:
        return 0
    start, end, _ = before[-1]
    is_verse = text[start:end].strip() and max(end - start, last[1] - last[0]) <= _VERSE_LENGTH
    return end if is_verse and end * 3 >= len(text) and not _STRUCTURE.match(text, last[0]) else 0


def _close_marks(text: str, ellipsis: str = "") -> str:
    """Return a text with an ellipsis and the closing marks of what its last paragraph has opened."""
    begin = text.rfind("\n\n") + 1
    line = text.rfind("\n") + 1
    begin = line if _STRUCTURE.match(text, line) else begin
    fence = max(text.rfind("\n```"), text.rfind("\n~~~"))
    if fence >= max(0, begin - 1):  # it ends a block of code
        begin = text.find("\n", fence + 1) + 1 or len(text)
    marks: list[tuple[int, str]] = []
    for match in _SPAN.finditer(text, begin):
        mark, at = match[0], match.start()
        before, after = text[at - 1 : at] if at > begin else "", text[match.end() : match.end() + 1]
        if len(marks) > _MAX_OPEN:
            return text + ellipsis
        if mark[0] == "`" and (not marks or marks[-1][1] != mark):
            marks.append((at, mark))
        elif marks and marks[-1][1][0] == "`":
            if mark == marks[-1][1]:
                marks.pop()
        elif len(mark) > 2 or mark[0] == "\\":
            continue
        elif any(mark == close for _, close in marks) and before.strip():
            while marks.pop()[1] != mark:
                pass
        elif mark in _PAIRS and before not in {":", ";", "="}:
            marks.append((at, _PAIRS[mark]))
        elif mark in {'"', "*", "**", "_", "~~"} and after.strip() and (mark == "**" or not before.isalnum()):
            marks.append((at, mark))
    return text + ellipsis + "".join(close for _, close in reversed(marks))


# -- HTML -------------------------------------------------------------------------------------------------

_HTML_TOKEN = re.compile(r"<!--(?:(?!-->)[\s\S])*+(?:-->)?|<(/?)([A-Za-z][A-Za-z0-9]*+)[^<>]*+>|[^<]+|<")
_UNDIVIDED = frozenset("tr thead h1 h2 h3 h4 h5 h6 dt summary caption title style script pre svg a".split())
"""Elements that are shown whole or not at all."""

_BLOCKS = frozenset(
    "p li ul ol dl dd tr tbody table blockquote div section article header footer main aside details pre svg".split()
)
"""Elements after which a page may end. A heading needs something after it."""


def finalize_html(text: str, reason: str) -> str:
    """Return finished HTML without an incomplete end.

    If it was cut off, it is cut back to its last complete block or sentence, or else after a word.
    Open elements are closed when the HTML is sanitized.

    Args:
        text: The HTML, a prefix of a document or a fragment.
        reason: The engine's reason for the end.
    """
    if reason not in CUT_REASONS:
        return text
    best = word = 0
    undivided = last_opened = ""
    for token in _HTML_TOKEN.finditer(text):
        closing, name = token[1], (token[2] or "").lower()
        if name in _BLOCKS and name == last_opened and not closing and undivided in {"", name}:
            best, undivided = token.start(), ""  # HTML allows to omit </p>, </li> and </tr>
        if undivided:
            if not (closing and name == undivided):
                continue
            undivided = ""
        elif name in _UNDIVIDED and not closing:
            undivided = name
        if name in _BLOCKS:
            last_opened = "" if closing else name
        if closing:
            best = token.end() if name in _BLOCKS else best
            word = token.end()
        elif not name and token[0][0] != "<":
            for end, _ in _sentence_ends(text, token.start(), token.end()):
                best = end
            space = max(text.rfind(" ", token.start(), token.end()), text.rfind("\n", token.start(), token.end()))
            word = max(word, space)
    if best >= len(text.rstrip()) // 3:
        return text[:best]
    return f"{text[:word].rstrip(_CLAUSE_MARKS)}…" if word > best else text
