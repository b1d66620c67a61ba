"""The rules by which the benchmark ``plausible`` judges values. Each returns "" or what is wrong.

They know nothing of the bounds that the framework assumes: every schema in ``plausible_cases`` states its own, as wide
as a reader would accept them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import pairwise
from typing import Any, TypeAlias

Rule: TypeAlias = Callable[[Any], str]

_OPEN_ENDS = frozenset(
    "a an and as at but by for from his her in into is its of on or that the their to was which who will with".split()
)
"""A text that ends in one of these words was cut off."""
_MAX_LIST = 12


def number(low: float, high: float) -> Rule:
    """Return the rule for a number."""

    def check(value: Any) -> str:
        if not isinstance(value, int | float | Decimal) or isinstance(value, bool):
            return "no number"
        return "" if low <= value <= high else f"{value} is not in {low:g} to {high:g}"

    return check


def words(low: int, high: int, *, sentence: bool = False) -> Rule:
    """Return the rule for a text: its number of words, and how it begins and ends.

    Args:
        low: Minimum number of words.
        high: Maximum number of words.
        sentence: True if it must end like a sentence.
    """

    def check(value: Any) -> str:
        if not isinstance(value, str):
            return "no text"
        found = re.findall(r"[^\W_]+(?:['’.-][^\W_]+)*", value)
        folded = [word.casefold() for word in found]
        if not low <= len(found) <= high:
            return f"{len(found)} words are not {low} to {high}"
        if not re.match(r"[\"'“‘(¡¿]?[^\W_]", value):
            return "begins with a stray character"
        if re.search(r"[_<>{}|\\\[\]]|\s{2}|[.,:;!?]{2}(?<!\.\.)", value):
            return "contains stray characters"
        if not any(char.isalpha() for char in value):
            return "has no letters"
        if re.search(r"[,;:–—(/&-]$", value.rstrip()) or folded[-1] in _OPEN_ENDS:
            return "ends in the middle"
        if sentence and not re.search(r"[.!?…][\"'”’)]?$", value):
            return "does not end like a sentence"
        if any(a == b for a, b in pairwise(folded)):
            return "repeats a word"
        triples = list(zip(folded, folded[1:], folded[2:], strict=False))
        return "repeats itself" if len(triples) != len(set(triples)) else ""

    return check


def matching(pattern: str, what: str) -> Rule:
    """Return the rule for a text that matches a regular expression."""
    return lambda value: "" if re.fullmatch(pattern, str(value)) else f"{str(value)[:30]!r} is no {what}"


EMAIL = matching(r"[A-Za-z0-9][\w.+-]*@[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}", "e-mail address")
URL = matching(r"(https?://)?(?=[^/]*[A-Za-z])[A-Za-z0-9][\w-]*(\.[\w-]+)*\.[a-z]{2,}(:\d+)?(/[\w./%~?=&#-]*)?", "URL")
PHONE = matching(r"(?=(\D*\d){6,15}\D*$)\+?[\d(][\d ()./-]+\d", "phone number")
CLOCK = matching(r"([01]?\d|2[0-3])[:.][0-5]\d(:[0-5]\d)?( ?[AaPp]\.?[Mm]\.?|Z)?", "time of day")
CODE = matching(r"(?=.*[A-Z0-9])[A-Za-z0-9]+([-/. ][A-Za-z0-9]+){0,4}", "code")


def day(first: int, last: int) -> Rule:
    """Return the rule for a date in these years, as a date or as text that names one."""

    def check(value: Any) -> str:
        if isinstance(value, str):
            for form in ("%Y-%m-%d", "%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y"):
                try:
                    value = datetime.strptime(value.strip(), form).date()
                    break
                except ValueError:
                    continue
        if not isinstance(value, date):
            return f"{str(value)[:30]!r} is no date"
        return "" if first <= value.year <= last else f"the year {value.year} is not in {first} to {last}"

    return check


def items(low: int, high: int, rule: Rule | None = None) -> Rule:
    """Return the rule for a list: its length, no entry twice, and a rule for every entry."""

    def check(value: Any) -> str:
        if not isinstance(value, list):
            return "no list"
        if not low <= len(value) <= high:
            return f"{len(value)} entries are not {low} to {high}"
        folded = [str(entry).casefold().strip(" .") for entry in value]
        if len(set(folded)) < len(folded):
            return "has an entry twice"
        return next((found for entry in value if rule is not None and (found := rule(entry))), "")

    return check


def in_order(value: Any) -> str:
    """Judge the numbers of a list: 1, 2, 3, …"""
    return "" if list(value) == list(range(1, len(value) + 1)) else f"not numbered in order: {list(value)[:8]}"


def distinct(rule: Rule) -> Rule:
    """Return the rule for one field of all entries of a list: distinct, and a rule for each."""
    return items(0, _MAX_LIST, rule)


def maybe(rule: Rule) -> Rule:
    """Return the rule for an optional value."""
    return lambda value: "" if value is None else rule(value)


def anything(value: Any) -> str:
    """Accept a value that the schema restricts enough: a choice or a boolean."""
    return "" if isinstance(value, str | bool | int | Enum) else "no choice"


def at_path(value: Any, path: str) -> Any:
    """Return the part of a value at a path: ``venue.name``, or ``steps[].text`` for a list of all texts."""
    head, _, rest = path.partition(".")
    inner = getattr(value, head.removesuffix("[]"))
    if head.endswith("[]"):
        return [at_path(entry, rest) for entry in inner]
    return at_path(inner, rest) if rest else inner


def judge(value: Any, rules: Sequence[tuple[str, Rule]], copied: Collection[str] = ()) -> dict[str, str]:
    """Return what is wrong with each field of a value, by path; "" for a plausible one.

    Args:
        value: An instance of the schema.
        rules: The rules of its fields.
        copied: Texts that were copied from the prompt's examples. They are not plausible.
    """
    return {path: _judge_field(at_path(value, path), path, rule, copied) for path, rule in rules}


def _judge_field(found: Any, path: str, rule: Rule, copied: Collection[str]) -> str:
    entries = found if isinstance(found, list) else [found]
    if any(isinstance(entry, str) and entry in copied for entry in entries):
        return "copied from the example"
    if "[]." not in path or rule is in_order or getattr(rule, "__qualname__", "").startswith("items."):
        return rule(found)
    return next((problem for entry in found if (problem := rule(entry))), "")
