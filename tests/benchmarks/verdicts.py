"""What is counted on the texts of two engines, and how one stands to the other.

Everything is counted on what the engines wrote themselves, after the opening that they were given. None of it says
whether a text is good or true. Perplexity prefers what the judge would have written, and what repeats itself; distinct
bigrams prefer gibberish. Read them together, and read the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.benchmarks.quality import content_words, grams, judge, words_of
from tests.benchmarks.report import percentile
from tests.benchmarks.turns import Written

if TYPE_CHECKING:
    from research.judging.judge import Surprisal

Reads: TypeAlias = "Callable[[Sequence[tuple[str, str]]], Sequence[Surprisal]]"
"""How surprising each text is after its context, to the judge: ``Judge.surprisals``."""


Figures: TypeAlias = dict[str, Any]


REACH: Final = {
    "first_draft_s": ("≤", 0.3),
    "settle_ratio": ("≥", 2.0),
    "judge_perplexity_ratio": ("≤", 1.5),
    "distinct2_ratio": ("≥", 0.8),
}
"""What a diffusion model should reach beside the autoregressive one."""


def compare(pairs: Sequence[tuple[Written, ...]], references: Mapping[str, str], reads: Reads) -> Figures:
    """The figures of both engines, and the ratios between them.

    Args:
        pairs: for each title what the diffusion engine wrote, and what the autoregressive one did; at least one.
        references: texts by people, by title; they may be missing.
        reads: the judge.

    Returns:
        Under "diffusion" and "autoregressive" the figures of each; beside them those that are to be reached, and under
        "reached" whether they are. A figure that nothing can be said of is None.
    """
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    matched = [_matched(words_of(one.own), words_of(other.own)) for one, other in pairs]
    sides = []
    for at, texts in enumerate((ours, theirs)):
        variety = _variety([words[at] for words in matched])
        sides.append({**_times(texts), **_counts(texts, references), **variety, **_surprise(texts, reads)})
    found: Figures = {
        "first_draft_s": sides[0]["first_draft_s"],
        "settle_ratio": round(median(their.settled / our.settled for our, their in pairs), 3),
        "judge_perplexity_ratio": _ratio(sides[0]["judge_perplexity"], sides[1]["judge_perplexity"]),
        "distinct2_ratio": _ratio(sides[0]["distinct2"], sides[1]["distinct2"]),
    }
    reached = {
        name: found[name] is not None and (found[name] <= bound if sign == "≤" else found[name] >= bound)
        for name, (sign, bound) in REACH.items()
    }
    return {**found, "reached": reached, "diffusion": sides[0], "autoregressive": sides[1]}


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 3) if ours is not None and theirs else None


def _times(texts: Sequence[Written]) -> Figures:
    """Medians, and the values that nine in ten stay below."""
    values = {
        "first_draft_s": [text.first for text in texts],
        "settled_s": [text.settled for text in texts],
        "steps_per_canvas": [text.usage.steps / text.usage.canvases for text in texts],
        "words_per_s": [len(words_of(text.own)) / text.settled for text in texts],
        "tokens_per_s": [text.usage.tokens / text.settled for text in texts],
        "tokens": [float(text.usage.tokens) for text in texts],
    }
    found = {}
    for name, each in values.items():
        found[name] = round(median(each), 3)
        found[f"{name}_p90"] = round(percentile(each, 0.9), 3)
    return found


def _counts(texts: Sequence[Written], references: Mapping[str, str]) -> Figures:
    faults = [judge(text.title, {"lead": text.own}, None, text.prompt.examples) for text in texts]
    full = [one for one in faults if not one.empty_regions]
    overlaps = [_overlap(text.own, references[text.title]) for text in texts if references.get(text.title)]
    return {
        "words": median(one.words for one in faults),
        "empty": sum(one.empty_regions for one in faults),
        "repeated_grams": round(mean(one.repeated_grams for one in full), 4) if full else None,
        "on_topic": round(mean(float(one.on_topic > 0) for one in faults), 3),
        "reference_overlap": round(mean(overlaps), 3) if overlaps else None,
        "links": round(mean(one.links for one in faults), 2),
        "broken_markup": round(mean(one.broken_markup for one in faults), 2),
        "stray_tokens": round(mean(one.stray_tokens for one in faults), 2),
        "leaks": round(mean(one.leaks for one in faults), 2),
        "cut_endings": round(mean(one.cut_endings for one in faults), 3),
    }


def _overlap(text: str, reference: str) -> float:
    """The words that two texts share, common ones left out: twice those over all of both, from 0 to 1."""
    ours, theirs = content_words(text), content_words(reference)
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours or theirs else 0.0


def _matched(*texts: list[str]) -> list[list[str]]:
    """Texts cut to as many words as the shortest has: the longer a text, the more of its bigrams came before."""
    shortest = min(map(len, texts))
    return [words[:shortest] for words in texts]


def _variety(texts: Sequence[Sequence[str]]) -> Figures:
    """The share of bigrams that are distinct: over all texts together, and within one on the average."""
    each = [grams(words, 2) for words in texts]
    each = [bigrams for bigrams in each if bigrams]
    every = [bigram for bigrams in each for bigram in bigrams]
    return {
        "distinct2": round(len(set(every)) / len(every), 4) if every else None,
        "distinct2_text": round(mean(len(set(bigrams)) / len(bigrams) for bigrams in each), 4) if each else None,
    }


def context(text: Written) -> str:
    """What the judge reads before a text."""
    return f"An encyclopedia article about {text.title}.\n\n{text.prompt.opening}"


def _surprise(texts: Sequence[Written], reads: Reads) -> Figures:
    """Perplexity of the texts that are not empty; and how many of them the judge finds likelier under their own title
    than under the next one, which is the same for both engines."""
    others = {text.title: other for text, other in zip(texts, [*texts[1:], texts[0]], strict=True)}
    full = [text for text in texts if len(words_of(text.own)) >= 3]
    if not full:
        return {"judge_perplexity": None, "judge_perplexity_text": None, "on_topic_judged": None}
    given = [(context(text), text.own) for text in full]
    swapped = [(context(others[text.title]), text.own) for text in full]
    found = reads(given + swapped)
    own, other = found[: len(full)], found[len(full) :]
    whole = sum(own[1:], start=own[0])
    closer = [float(mine.nats < their.nats) for mine, their in zip(own, other, strict=True)]
    return {
        "judge_perplexity": _rounded(whole.perplexity),
        "judge_perplexity_text": _rounded(median(one.perplexity for one in own if one.perplexity is not None)),
        "on_topic_judged": round(mean(closer), 3) if len(texts) > 1 else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
