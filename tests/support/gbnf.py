"""Generates random texts that a GBNF grammar allows, for tests of grammars."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import TypeAlias

# A node is ("text", str), ("class", str), ("rule", str), ("seq", nodes), ("either", nodes) or ("some", node, m, n).
Node: TypeAlias = tuple[object, ...]

_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<cls>\[(?:[^\]\\]|\\.)*\])|(?P<rule>[a-zA-Z0-9-]+)'
    r"|(?P<mark>[()|?*+])|\{(?P<low>\d+)(?P<comma>,?)(?P<high>\d*)\})"
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass
class Grammar:
    """A parsed grammar.

    Raises:
        AssertionError: If the source is invalid, or uses a rule that it does not define.
    """

    source: str
    rules: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in filter(None, self.source.split("\n")):
            name, _, body = line.partition(" ::= ")
            self._tokens = list(_TOKEN.finditer(body))
            assert "".join(match[0] for match in self._tokens).strip() == body.strip(), line
            self.rules[name] = self._either()
            assert not self._tokens, line
        for node in self.rules.values():
            self._check(node)

    def _check(self, node: Node) -> None:
        if node[0] == "rule":
            assert node[1] in self.rules, f"no rule {node[1]}"
        for part in node[1:]:
            for inner in part if isinstance(part, list) else [part]:
                if isinstance(inner, tuple):
                    self._check(inner)

    def _either(self) -> Node:
        options = [self._sequence()]
        while self._tokens and self._tokens[0]["mark"] == "|":
            self._tokens.pop(0)
            options.append(self._sequence())
        return ("either", options)

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._tokens and self._tokens[0]["mark"] not in (")", "|"):
            match = self._tokens.pop(0)
            if match["text"]:
                parts.append(("text", _unescaped(match["text"][1:-1])))
            elif match["cls"]:
                parts.append(("class", match["cls"]))
            elif match["rule"]:
                parts.append(("rule", match["rule"]))
            elif match["mark"] == "(":
                parts.append(self._either())
                assert self._tokens.pop(0)["mark"] == ")"
            elif match["low"]:
                low = int(match["low"])
                high = int(match["high"]) if match["high"] else low + 5 if match["comma"] else low
                parts[-1] = ("some", parts[-1], low, high)
            else:
                low, high = {"?": (0, 1), "*": (0, 5), "+": (1, 5)}[match["mark"]]
                parts[-1] = ("some", parts[-1], low, high)
        return ("seq", parts)

    def sample(self, rng: random.Random, node: Node | None = None, depth: int = 0) -> str:
        """Return a random text that the grammar allows."""
        kind, *rest = node or ("rule", "root")
        match kind, rest:
            case "text", [str(text)]:
                return text
            case "class", [str(chars)]:
                allowed = [c for c in _SAMPLES if re.fullmatch(chars, c)]
                return rng.choice(allowed)
            case "rule", [str(name)]:
                return self.sample(rng, self.rules[name], depth + 1)
            case "seq", [list(parts)]:
                return "".join(self.sample(rng, part, depth) for part in parts)
            case "either", [list(options)]:
                return self.sample(rng, rng.choice(options), depth)
            case "some", [tuple(part), int(low), int(high)]:
                count = low if depth > 8 else rng.randint(low, min(high, low + 12))
                return "".join(self.sample(rng, part, depth) for _ in range(count))
        raise AssertionError(kind)


_SAMPLES = [chr(n) for n in range(32, 127)] + list("\n\té東🗼\u2028")


def _unescaped(text: str) -> str:
    return re.sub(
        r"\\(x..|.)",
        lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "x" and len(m[1]) > 1 else _ESCAPES.get(m[1], m[1]),
        text,
    )
