"""Decode tokens of drafts, and encode text exactly.

A draft may have any token at any position. Special tokens, bytes that are not complete characters, control characters,
thoughts, and everything after the first end token are not shown. The bytes of every token are looked up in a table that
is built once, so that a frame needs no tokenizer.

A thought is a channel: ``<|channel>thought\\n…<channel|>``. Even with thinking off, the model may write an empty one,
at the beginning, after an opening, or later.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ...errors import ModelUnsupported
from ...frames import Span

_SAMPLE: Final = "The end, 12 é 東 🗼\n\n<b>a  b</b>"
_SPECIAL: Final = re.compile(r"<unused\d+>|<\|[^<>\s]*>|<[^<>\s]*\|>|\[multimodal\]")
_CONTROLS: Final = {
    code: None for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc" and code not in (9, 10)
}
_LABEL: Final = "thought"
_MASKS: Final = 512
"""Number of cached masks. Each has one byte per token."""


@dataclass(frozen=True, slots=True)
class DecodedText:
    """The text of some tokens.

    Attributes:
        text: the visible text.
        unsettled: spans of ``text`` from unsettled tokens, in order, merged and non-empty.
        ended: an end token was found.
        num_tokens: tokens before the end, without special tokens.
        starts: for every token, the start of its text in ``text``; for a hidden token, that of the next one.
        resumable: more tokens can be decoded after it without decoding these again.
        in_thought: the last token belongs to a thought, which may continue.
    """

    text: str
    unsettled: tuple[Span, ...] = ()
    ended: bool = False
    num_tokens: int = 0
    starts: tuple[int, ...] = ()
    resumable: bool = True
    in_thought: bool = False


class Detokenizer:
    """Decodes the tokens of one model.

    Args:
        tokenizer: a fast tokenizer of ``transformers``.
        end_ids: ids of end tokens; at least one.
        pad_id: id of the padding token.
        vocab_size: number of tokens that the model can write; None for all of the tokenizer. Tokens from this number on
            are not text: they are never encoded or allowed. Neither are those that the tokenizer does not know.

    Raises:
        ModelUnsupported: the tokenizer's decoder is not supported.
    """

    def __init__(self, tokenizer: Any, end_ids: frozenset[int], pad_id: int, vocab_size: int | None = None) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._tokenizer = tokenizer
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.vocab_size: int = vocab_size or 1 + max(vocabulary.values())
        self.end_ids, self.pad_id = end_ids, pad_id
        self.special_ids = self._specials(vocabulary)
        self.end_id: int = next(
            (id for id in sorted(end_ids) if "turn" in str(tokenizer.convert_ids_to_tokens(id))),
            tokenizer.eos_token_id if tokenizer.eos_token_id in end_ids else min(end_ids),
        )
        """The end token of a turn."""
        self._open: int = vocabulary.get("<|channel>", -1)
        self._close: int = vocabulary.get("<channel|>", -1)
        self._strip, raw = _pieces(json.loads(self._backend.to_str()).get("decoder"), vocabulary)
        self._bytes: list[bytes] = [b""] * self.vocab_size
        for id, piece in raw.items():
            if id < self.vocab_size and id not in self.special_ids:
                self._bytes[id] = piece
        # Text for tokens of complete characters, bytes for parts of characters, None for hidden tokens.
        self._table: list[str | bytes | None] = [_text(piece) for piece in self._bytes]
        self._ids = {piece: id for id, piece in reversed(list(enumerate(self._bytes))) if piece}
        names = sorted((name for name, id in vocabulary.items() if id in self.special_ids), key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._masks: dict[tuple[str, bool, tuple[int, ...]], bytes] = {}
        self._check()

    def decode(
        self,
        ids: Sequence[int],
        unsettled: Sequence[bool],
        *,
        kept_span: Span | None = None,
        before: DecodedText | None = None,
    ) -> DecodedText:
        """Return the text of tokens.

        Args:
            ids: all tokens so far.
            unsettled: for each token, whether it may still change.
            kept_span: first kept position and end of the last, for edits: end tokens before its end do not count, and
                kept text is not hidden as a thought.
            before: an earlier result for the first ``len(before.starts)`` tokens, which have not changed since.
        """
        count, tokens = 0, 0
        parts: list[str] = []
        starts: list[int] = []
        spans: list[Span] = []
        if before is not None and before.resumable and not before.ended and kept_span is None and before.text:
            begin, parts, count, tokens = len(before.starts), [before.text], len(before.text), before.num_tokens
            starts, spans = list(before.starts), list(before.unsettled)
            thoughts, in_thought = self._thoughts(ids, begin, None, before.in_thought)
            begun = True
        else:
            thoughts, in_thought = self._thoughts(ids, 0, kept_span, False)
            begin = thoughts[0][1] if thoughts and thoughts[0][0] == 0 else 0
            starts = [0] * begin
            begun = begin < len(ids) or begin == 0
        hidden = {at for start, end in thoughts for at in range(start, end)}
        # A space is only dropped at the very beginning, not in kept text after free tokens.
        first = begin if count == 0 else -1
        least, table, size = kept_span[1] if kept_span else 0, self._table, self.vocab_size
        run: list[tuple[bytes, bool]] = []
        ended = False
        for at in range(begin, len(ids)):
            id = ids[at]
            piece = table[id] if 0 <= id < size and at not in hidden else None
            if run and not isinstance(piece, bytes):
                count += _flush(run, parts, spans, count)
            starts.append(count)
            if piece is None:
                if id in self.end_ids and at >= least:
                    ended = True
                    break
                continue
            tokens += 1
            if isinstance(piece, bytes):
                run.append((piece, bool(unsettled[at])))
                continue
            if at == first and self._strip:
                piece = piece[1:] if piece.startswith(" ") else piece
            if piece:
                parts.append(piece)
                if unsettled[at]:
                    _mark(spans, count, count + len(piece))
                count += len(piece)
        resumable = begun and not run
        count += _flush(run, parts, spans, count)
        text = "".join(parts)
        resumable = resumable and not _LABEL.startswith(text.strip())  # a thought may start here
        if in_thought and thoughts[-1][0] > begin:  # noise may follow an opening marker instead of its label
            resumable = resumable and len("".join(map(self._piece, ids[thoughts[-1][0] + 1 :]))) >= len(_LABEL)
        starts.extend([count] * (len(ids) - len(starts)))
        return DecodedText(text, tuple(spans), ended, tokens, tuple(starts), resumable, in_thought)

    def token_bytes(self, id: int) -> bytes:
        """Return the bytes of a token; empty if it is not text."""
        return self._bytes[id] if 0 <= id < self.vocab_size else b""

    def token_for(self, piece: bytes) -> int | None:
        """Return the token that is exactly these bytes, or None."""
        return self._ids.get(piece)

    def matching_tokens(self, pattern: str) -> tuple[int, ...]:
        """Return the tokens of complete characters that match the pattern."""
        test = re.compile(pattern).fullmatch
        return tuple(id for id, piece in enumerate(self._table) if isinstance(piece, str) and test(piece))

    def token_mask(self, *, pattern: str = "", parts: bool = False, ids: tuple[int, ...] = ()) -> bytes:
        """Return a mask of the vocabulary, one byte per token, 1 for allowed tokens. Masks are cached.

        Args:
            pattern: allow tokens that match it.
            parts: also allow tokens of incomplete characters.
            ids: allow these tokens.
        """
        key = (pattern, parts, ids)
        if key not in self._masks:
            if len(self._masks) >= _MASKS:
                self._masks.clear()
            mask = bytearray(self.vocab_size)
            for id in (*ids, *(self.matching_tokens(pattern) if pattern else ())):
                mask[id] = 1
            if parts:
                for id, piece in enumerate(self._table):
                    mask[id] |= isinstance(piece, bytes)
            self._masks[key] = bytes(mask)
        return self._masks[key]

    def encode(self, text: str) -> tuple[int, ...]:
        """Return tokens that decode to exactly this text.

        Names of special tokens are plain text. Nothing is normalized.

        Raises:
            ModelUnsupported: no tokens give this text.
        """
        parts, done = [], 0
        for match in self._names.finditer(text):
            parts.append(text[done : match.start() + 1])  # split after the first character of the name
            done = match.start() + 1
        parts.append(text[done:])
        return tuple(id for part in parts if part for id in self._plain(part))

    def protect_leading_space(self, text: str) -> str:
        """Return the text with its first space doubled, for tokenizers that drop one at the beginning."""
        return f" {text}" if self._strip and text.startswith(" ") else text

    def _plain(self, text: str) -> tuple[int, ...]:
        wanted = text.encode()
        ids = tuple(self._backend.encode(text, add_special_tokens=False).ids)
        raw = b"".join(map(self.token_bytes, ids))
        if raw == b" " + wanted:  # some tokenizers prepend a space
            rest = self.token_bytes(ids[0])[1:]
            head = () if not rest else (self._ids.get(rest, -1),)
            if -1 not in head:
                return (*head, *ids[1:])
        if raw == wanted and not self.special_ids.intersection(ids):
            return ids
        if len(text) > 1:
            half = len(text) // 2
            return self._plain(text[:half]) + self._plain(text[half:])
        single = [self._ids.get(bytes([byte])) for byte in wanted]
        whole_id = self._ids.get(wanted)
        if whole_id is not None:
            return (whole_id,)
        if None in single:
            raise ModelUnsupported(
                f"The tokenizer has no tokens for {text!r}. Use a model whose tokenizer has a byte fallback."
            )
        return tuple(id for id in single if id is not None)

    def _specials(self, vocabulary: dict[str, int]) -> frozenset[int]:
        added: dict[int, Any] = self._tokenizer.added_tokens_decoder
        special_ids = {id for id, token in added.items() if token.special} | set(self._tokenizer.all_special_ids)
        special_ids |= {id for piece, id in vocabulary.items() if piece[0] in "<[" and _SPECIAL.fullmatch(piece)}
        return frozenset(special_ids | self.end_ids | {self.pad_id})

    def _thoughts(
        self, ids: Sequence[int], start: int, kept: Span | None, open_before: bool
    ) -> tuple[list[Span], bool]:
        """Return the positions of all thoughts from ``start`` on, and whether the last one is still open.

        Kept text is never hidden: a thought ends before it. Within a text, an opening marker needs its label, because
        in a draft it may be noise, which must not hide the rest.
        """
        if not open_before and self._open not in ids and self._close not in ids:
            return [], False
        thoughts: list[Span] = []
        begin = start if open_before else -1  # of the current thought
        first = len(ids) if start == 0 and not open_before else -1  # first position with text
        floor, end = start, len(ids)  # a label cannot begin before the floor
        for at in range(start, len(ids)):
            id = ids[at]
            if kept is not None and kept[0] <= at < kept[1]:
                if begin >= 0:
                    thoughts.append((begin, at))
                begin, first, floor = -1, min(first, at), at + 1
            elif id in self.end_ids and (kept is None or at >= kept[1]):
                end = at
                break
            elif id == self._open and begin < 0 and (at < first or self._has_label(ids, at + 1)):
                begin = 0 if at < first else at
            elif id == self._close:
                if begin < 0:  # the opening marker is not settled yet
                    begin = self._label_before(ids, at, floor)
                    begin = 0 if begin <= first else begin
                thoughts.append((begin, at + 1))
                begin, first, floor = -1, first if first < begin else len(ids), at + 1
            elif begin < 0 and at < first and self.token_bytes(id).strip():
                first = at
        if 0 <= begin < end:
            thoughts.append((begin, end))
        leading = sum(begin == 0 for begin, _ in thoughts)
        return thoughts[max(0, leading - 1) :], begin >= 0 and end == len(ids)

    def _piece(self, id: int) -> str:
        """Return the text of a token of complete characters, else an empty string."""
        piece = self._table[id] if 0 <= id < self.vocab_size else None
        return piece if isinstance(piece, str) else ""

    def _has_label(self, ids: Sequence[int], at: int) -> bool:
        """True if the label of a thought, or as much of it as there are tokens, is at a position."""
        return _LABEL.startswith("".join(map(self._piece, ids[at : at + len(_LABEL)]))[: len(_LABEL)])

    def _label_before(self, ids: Sequence[int], at: int, floor: int) -> int:
        """Return where the label of a thought starts, if it is directly before a position, else the position."""
        text = ""
        for start in range(at - 1, floor - 1, -1):
            text = self._piece(ids[start]) + text
            if text.rstrip() == _LABEL:
                return start
            if not self._piece(ids[start]) or not _LABEL.endswith(text.rstrip()):
                break
        return at

    def _check(self) -> None:
        """Check that the table agrees with the tokenizer."""
        ids = self._backend.encode(_SAMPLE, add_special_tokens=False).ids
        ids = [id for id in ids if id not in self.special_ids]
        expected = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        decoded = self.decode(ids, [False] * len(ids)).text
        if decoded != expected:
            raise ModelUnsupported(
                f"The tokenizer decodes a sample as {expected!r}, but its pieces give {decoded!r}. "
                "Use a model with a SentencePiece-like or a byte-level tokenizer."
            )


def cut_at_stop(reading: DecodedText, stops: Sequence[str], begin: int = 0) -> DecodedText:
    """Cut the text at the first stop string in settled text. The stop string is removed.

    Stop strings that start before ``begin`` are ignored.
    """
    matches = [place for stop in stops if stop for place in [_settled(reading, stop, begin)] if place is not None]
    if not matches:
        return reading
    end = min(matches)
    return replace(
        reading,
        text=reading.text[:end],
        unsettled=tuple((a, min(b, end)) for a, b in reading.unsettled if a < end),
        ended=True,
        num_tokens=min(reading.num_tokens, len({start for start in reading.starts if start < end})),
        starts=tuple(min(start, end) for start in reading.starts),
    )


def find_unshowable(text: str) -> str | None:
    """Return the first character that is never shown, or None."""
    return next((char for char in text if ord(char) in _CONTROLS or "\ud800" <= char <= "\udfff"), None)


def _settled(reading: DecodedText, stop: str, begin: int) -> int | None:
    at = reading.text.find(stop, begin)
    while at >= 0:
        if not any(a < at + len(stop) and at < b for a, b in reading.unsettled):
            return at
        at = reading.text.find(stop, at + 1)
    return None


def _mark(spans: list[Span], start: int, end: int) -> None:
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


def _flush(run: list[tuple[bytes, bool]], parts: list[str], spans: list[Span], count: int) -> int:
    """Decode a run of bytes and append its complete characters. Return their number."""
    data = b"".join(piece for piece, _ in run)
    flags = [flag for piece, flag in run for _ in piece]
    run.clear()
    at, added = 0, 0
    while at < len(data):
        lead = data[at]
        width = (
            1 if lead < 0x80 else 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if lead >= 0xF0 else 0
        )
        try:
            char = data[at : at + width].decode().translate(_CONTROLS)
        except UnicodeDecodeError:
            width, char = 1, ""
        if char:
            parts.append(char)
            if any(flags[at : at + width]):
                _mark(spans, count + added, count + added + 1)
            added += 1
        at += width or 1
    return added


def _text(piece: bytes) -> str | bytes | None:
    if not piece:
        return None
    try:
        return piece.decode().translate(_CONTROLS) or None
    except UnicodeDecodeError:
        return piece


def _pieces(decoder: Any, vocabulary: dict[str, int]) -> tuple[bool, dict[int, bytes]]:
    """Return whether the first space of a text is dropped, and the bytes of every token."""
    steps = decoder["decoders"] if decoder and decoder["type"] == "Sequence" else [decoder] if decoder else []
    kinds = [step["type"] for step in steps]
    if "ByteLevel" in kinds and set(kinds) <= {"ByteLevel", "Fuse"}:
        bytes_of_chars = _byte_level()
        return False, {
            id: bytes(bytes_of_chars[c] for c in piece) if all(c in bytes_of_chars for c in piece) else piece.encode()
            for piece, id in vocabulary.items()
        }
    spaces = [step for step in steps if step["type"] in ("Replace", "Metaspace")]
    plain = all(
        step["type"] == "Metaspace" or (step["pattern"] == {"String": "▁"} and step["content"] == " ")
        for step in spaces
    )
    if len(spaces) != 1 or not plain or not set(kinds) <= {"Replace", "Metaspace", "ByteFallback", "Fuse", "Strip"}:
        raise ModelUnsupported(
            f"The tokenizer's decoder is {' and '.join(kinds) or 'empty'}. "
            "Use a model with a SentencePiece-like or a byte-level tokenizer."
        )
    strip = any(step["type"] == "Strip" and step["start"] for step in steps)
    strip = strip or any(step.get("prepend_scheme", "never") != "never" for step in spaces)
    fallback = re.compile(r"<0x([0-9A-Fa-f]{2})>" if "ByteFallback" in kinds else r"(?!)")
    return strip, {
        id: bytes([int(match[1], 16)]) if (match := fallback.fullmatch(piece)) else piece.replace("▁", " ").encode()
        for piece, id in vocabulary.items()
    }


def _byte_level() -> dict[str, int]:
    """Return the bytes by their characters in byte-level vocabularies."""
    readable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in readable]
    return {chr(byte): byte for byte in readable} | {chr(256 + n): byte for n, byte in enumerate(others)}
