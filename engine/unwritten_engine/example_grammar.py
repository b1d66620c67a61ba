"""Derive a grammar from examples that keeps a base model to their form.

A small model that continues a transcript mostly copies the form of the examples. Sometimes it nests links, chains forty
of them, invents footnotes or never ends. The grammar (GBNF) encodes the form of the examples: the sequence of blocks,
sentences per paragraph, words and links per sentence, and the markup in use. Words are free, and every paragraph ends
with a complete sentence. Instruct models do not need this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

# Explicit letters, because models reproduce text with a broken encoding (Ã, Â and similar).
_LATIN = "A-Za-z0-9àáâãäåæçèéêëìíîïñòóôõöøœùúûüßÁÄÅÆÇÈÉÖØŒÜ"
_SIGNS = "'’%&+$€£°–—-"
_LINK = re.compile(r"\[\[[^\[\]\n]+\]\]")
_SENTENCE = re.compile(r"(?<=[.!?])[\"”’)]?\s+(?=[^\sa-z])")
_BLANK = re.compile(r"\n(?:[^\S\n]*+\n)++")
_SPEAKER = re.compile(r"\*\*[^*\n]+:\*\* ")
_LINE = {
    "heading": re.compile(r"#{1,6} "),
    "item": re.compile(r"[-*] "),
    "step": re.compile(r"\d+[.)] "),
    "speech": _SPEAKER,
}
_LONGEST = 10_000
"""In characters. Longer answers have no form that a grammar could keep a model to."""
_SLACK = 1.6
"""Limit of a sentence's length, relative to the longest example. At the limit a model that is not finished runs words
together, so the limit only catches endless sentences.
"""


def grammar_from_examples(answers: Sequence[str], opening: str, end: str, subject: str = "") -> str | None:
    """Return the common form of answers as a grammar for the text after ``opening``.

    Args:
        answers: the answers of the examples.
        opening: text that the answer begins with.
        end: what follows an answer in the transcript; the model writes it when it has finished.
        subject: a text whose scripts are allowed besides Latin. Letters are listed explicitly, because a model that is
            denied one character tends to use a look-alike.

    Returns:
        GBNF, or None without examples, or if one is empty, very long, or not prose (HTML, JSON, code, tables).
    """
    answers = [answer.strip() for answer in answers]
    if not answers or any(not answer or len(answer) > _LONGEST or _is_not_prose(answer) for answer in answers):
        return None
    bodies = [_after_opening(answer, opening) for answer in answers]
    answer_blocks = [_blocks(answer) for answer in answers]
    kinds = [[kind for kind, _ in blocks] for blocks in answer_blocks]
    open_kinds = [kind for kind, _ in _blocks(opening[:_LONGEST])] if opening.strip() else []
    rules = _rules([text for blocks in answer_blocks for _, text in blocks], bodies, subject)
    if all(kind == kinds[0] for kind in kinds) and _continues(open_kinds, kinds[0]):
        blocks = _strict(answer_blocks, kinds[0])[max(0, len(open_kinds) - 1) :]
        if open_kinds:
            blocks[0] = _rest_of_block(blocks[0], opening)
        root = [blocks[0], *(f'"\\n\\n" {block}' for block in blocks[1:])]
    else:
        longest = max(len(kind) for kind in kinds)
        rules["block"] = " | ".join(sorted({f"({_loose(kind)})" for block_kinds in kinds for kind in block_kinds}))
        root = [
            _rest_of_block(_loose(open_kinds[-1]), opening) if open_kinds else "block",
            f'("\\n\\n" block){{0,{longest}}}',
        ]
    rules = _reachable_rules({"root": " ".join([*root, _quoted(end)]), **rules})
    return "\n".join(f"{name} ::= {rule}" for name, rule in rules.items()) + "\n"


def _reachable_rules(rules: dict[str, str]) -> dict[str, str]:
    """Return the rules that are reachable from the root; smaller grammars load faster."""
    needed, waiting = set(), ["root"]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            symbols = re.sub(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]', " ", rules[name])
            waiting += re.findall(r"[a-z]+", symbols)
    return {name: rule for name, rule in rules.items() if name in needed}


def _continues(open_kinds: Sequence[str], kinds: Sequence[str]) -> bool:
    """True if the blocks of the opening, the last of them unfinished, can be the first of ``kinds``."""
    if not open_kinds:
        return True
    *complete, last = open_kinds
    fits = len(open_kinds) <= len(kinds) and list(kinds[: len(complete)]) == complete
    return fits and (kinds[len(complete)] == last or (last == "line" and kinds[len(complete)] == "prose"))


def _is_not_prose(answer: str) -> bool:
    marks = _LINK.sub("", answer)
    return bool(re.match(r"[{<\[]", marks)) or "```" in marks or bool(re.search(r"</?\w|^\|", marks, re.MULTILINE))


def _after_opening(answer: str, opening: str) -> str:
    """Return the answer without its own opening, which has the same form as the given one."""
    if opening.startswith("**") and answer.startswith("**"):
        return answer.partition("**")[2].partition("**")[2]
    return answer


def _blocks(answer: str) -> list[tuple[str, str]]:
    """Return the blocks of a text between blank lines, each with its kind."""
    blocks = []
    for block in _BLANK.split(answer):
        lines = block.split("\n")
        kinds = [next((kind for kind, mark in _LINE.items() if mark.match(line)), "prose") for line in lines]
        for kind, group in groupby(zip(kinds, lines, strict=True), key=lambda pair: pair[0]):
            text = "\n".join(line for _, line in group)
            if kind == "prose" and not re.search(r"[.!?…][\"”’)]*$", text):
                kind = "line"
            blocks.append((kind, text))
    return blocks


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in _SENTENCE.split(_SPEAKER.sub("", text)) if sentence.strip()]


def _scripts(text: str) -> str:
    """Return the non-Latin letters of a text, as ranges of whole blocks."""
    ranges = set()
    for code in (ord(char) for char in text if char.isalpha() and ord(char) > 0x24F):
        if 0x3040 <= code <= 0x30FF or 0x4E00 <= code <= 0x9FFF:
            ranges.update({"\u3040-\u30ff", "\u4e00-\u9fff"})
        else:
            ranges.add(f"{chr(code & ~0xFF)}-{chr(code | 0xFF)}")
    return "".join(sorted(ranges))


def _rules(blocks: Sequence[str], bodies: Sequence[str], subject: str) -> dict[str, str]:
    """Return the rules below blocks: sentences, words, links, emphasis."""
    prose = [s for block in blocks for s in _sentences(block)]
    words = max(8, round(_SLACK * max(len(sentence.split()) for sentence in prose)))
    links = min(3, max(len(_LINK.findall(sentence)) for sentence in prose))
    piped = any("|" in link for block in blocks for link in _LINK.findall(block))
    bold = any("**" in _SPEAKER.sub("", body) for body in bodies)
    before = [len(_LINK.split(sentence)[0].split()) for sentence in prose if _LINK.search(sentence)]
    least = min(5, max(1, min(before, default=3) - 1))
    word = "word | bold" if bold else "word"
    others = _scripts(" ".join([subject, *blocks]))
    letter = _LATIN + others
    first = letter.replace("0-9", "")
    rules = {
        "char": f"[{letter}{_SIGNS}]",
        "core": "number char* | initials | char+",
        "number": '[0-9]+ ("," [0-9]{3})* ("." [0-9]+)?',
        "initials": '[A-Za-z] "." [A-Za-z] ("." [A-Za-z])* "."?',
        "close": '[,;:)"’]',
        "word": '["(]? core close? close?',
        "some": f"([ \u00a0] ({word})){{{least},{words}}}",
        "rest": "some tail end" if links else "some end",
        "sentence": "start rest" + (' | bold rest | [A-Z] char* " " bold rest' if bold else ""),
        "start": f'["(]? [A-ZÁÄÅÆÇÈÉÖØŒÜ{others}] char* close?',
        "end": '[.!?。！？] [")]?' if others else '[.!?] [")]?',
        "name": f'[{first}] [{letter}] ([{letter}\'’-]* [{letter}])? | [{first}] "-" [{letter}] [{letter}]+',
        "label": f'[A-Z0-9{others}] char* (" " char+){{0,4}}',
        "line": f'["(]? core close? (" " ({word})){{0,{words}}} [,.!?:]?',
        "item": '"- " line ("\\n- " line){1,7}',
        "step": '"1. " line ("\\n" [2-9] ". " line){1,6}',
    }
    if links:
        target = 'name (" " name){0,3}'
        rules["tail"] = '(" " link more' + f' ( " " ({word}) " " link more' * (links - 1) + " )?" * links
        rules["more"] = f"ending? close? ([ \u00a0] ({word})){{0,{words}}}"
        rules["ending"] = '"s" | "es" | "\'s" | "’s"'
        rules["link"] = f'"[[" {target} ("|" {target})? "]]"' if piped else f'"[[" {target} "]]"'
    if bold:
        rules["bold"] = '"**" word (" " word){0,4} "**"'
    return rules


def _strict(answer_blocks: Sequence[Sequence[tuple[str, str]]], kinds: Sequence[str]) -> list[str]:
    """Return one rule per block of a sequence that all examples share, with as many sentences as they have."""
    rules = []
    for place, kind in enumerate(kinds):
        texts = [blocks[place][1] for blocks in answer_blocks]
        counts = [len(_sentences(text)) for text in texts]
        if len(texts) > 1 and len(set(texts)) == 1:
            rules.append(_quoted(texts[0]))
        elif kind == "prose":
            rules.append(_prose(min(counts), max(counts)))
        elif kind == "speech":
            rules.append(f'"**" name (" " name)? ":** " {_prose(min(counts), max(counts))}')
        elif kind == "heading":
            rules.append(f"{_quoted(texts[0].split(' ')[0] + ' ')} label")
        elif kind == "line":
            ends = {text[-1] if text[-1] in ",.!?:" else "" for text in texts}
            max_words = 2 * max(len(text.split()) for text in texts)
            end = _quoted(ends.pop()) if len(ends) == 1 else "[,.!?:]?"
            rules.append(f'["(]? core close? (" " word){{0,{max_words}}} {end}')
        else:
            rules.append(kind)
    return rules


def _prose(low: int, high: int) -> str:
    return "sentence" + (f' (" " sentence){{{low - 1},{high - 1}}}' if high > 1 else "")


def _loose(kind: str) -> str:
    speech = f'"**" name (" " name)? ":** " {_prose(1, 3)}'
    return {"heading": '"## " label', "prose": _prose(1, 5), "speech": speech}.get(kind, kind)


def _rest_of_block(rule: str, opening: str) -> str:
    """Return the rule of a block that the opening has started."""
    if rule.startswith('"#') and rule.endswith(" label"):
        heading = re.search(r"(?:^|\n)#+( ?)$", opening)
        if heading is None:
            return 'char* (" " char+){0,4}'
        return "label" if heading[1] else '" " label'
    if not rule.startswith(("sentence", '"')):
        return f"[a-z]* close? rest{_prose(1, 5).removeprefix('sentence')}"
    return re.sub(r"^sentence", "[a-z]* close? rest", rule)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
