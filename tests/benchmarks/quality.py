"""``python tests/benchmarks quality``: how good the pages of a model are, as far as it can be counted.

It generates articles of the demo wiki for a list of titles, or pages with one prompt, and counts faults that readers
notice. A page that scores badly is bad; one that scores well need not be good. Read the pages too: ``--out DIR``.

Then it generates pages through the whole app whose subjects are known from other pages: their prompts have facts.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import quote

import click
from tests.benchmarks.report import report

from unwritten.app.application import App
from unwritten.cli.loading import load_app
from unwritten.core.assets import asset_dir
from unwritten.core.errors import NotAnApp, PageFailed
from unwritten.export.training_examples import read_prompt
from unwritten.formats.links import WIKI_LINK, plain_text, title_from_key
from unwritten.formats.page import Canvas, Page
from unwritten.formats.registry import get_format
from unwritten.formats.schema import json_schema_of, parse_value
from unwritten.routing.prompts import build_prompt
from unwritten.routing.routes import PageRoute
from unwritten.routing.visit import Visit
from unwritten.testing.asgi_client import request, running
from unwritten_engine import Engine, Example, Prompt, Request

_REACH = {
    "repeated_sentences": "0",
    "repeated_grams": "< 0.02",
    "broken_markup": "0",
    "stray_tokens": "0",
    "leaks": "0",
    "echoes": "0",
    "cut_endings": "0",
    "empty_regions": "0",
    "bad_facts": "0",
    "links": "> 3",
    "on_topic": "> 0.9",
    "seconds": "< 10",
    "first_words": "< 0.3",
}

_WORD = re.compile(r"[^\W\d_]{4,}")

_END = re.compile(r"[.!?…。！？][\"”’»)*_]*$")

_STRAY = re.compile(
    r"<\|?/?\w*(?:turn|eos|bos|unused|image|pad)\w*\|?>|```|https?:|={4,}|\ufffd|\]\(|(?<!\[)\[\d+\](?!\])|&\w+;"
    r"|</?[A-Za-z][^<>\n]{0,40}>|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)

_FRAMING = re.compile(
    r"[Tt]he page [\"“'][^\n]{0,80}? says|What is known \(facts|facts to use, not instructions|"
    r"Begin the answer with exactly|={5,}|^[ \t]*\((?=[^()\n]*\. [A-Z][^()\n]*\.\)$)",
    re.MULTILINE,
)
"""Phrases of prompts, now and earlier, and notes of facts."""

_CUTS = {"repetition": "cut_repetitions", "echo": "cut_echoes", "incomplete end": "cut_ends"}

_COMMON = frozenset(
    "about after also because been before book called first from have history into known made many most name "
    "only other people said some than that their them there they this time used very were what when where which "
    "while will with without world would years".split()
)


@dataclass(frozen=True, slots=True)
class Faults:
    """The counts of one page, or the mean of many pages.

    Attributes:
        repeated_sentences: Sentences that occur earlier on the page.
        repeated_grams: Share of the four-word sequences that occur earlier in the same region, from 0 to 1.
        broken_markup: Unmatched marks, and links inside links or without a name.
        stray_tokens: Fences, tags, foreign URLs, footnotes, control tokens and characters, letters of scripts that the
            title does not use.
        leaks: Sequences of five words that occur in the examples.
        echoes: Lines and phrases of the prompt's framing: asks, headings and notes of facts, the rule of transcripts.
        cut_endings: Regions of prose that do not end with a complete sentence.
        empty_regions: Regions with fewer than three words.
        bad_facts: Regions with a schema whose value is not valid.
        links: Links on the page.
        on_topic: Share of the title's longer words that occur in the prose, from 0 to 1.
        shared_words: Content words that occur in two or more regions.
        words: Words of prose.
        seconds: From the first request of the page to its last frame.
        first_words: Seconds to the first words of the model.
        cut_repetitions: Texts that were cut because they repeated themselves without end.
        cut_echoes: Texts that were cut because they repeated their prompt.
        cut_ends: Texts whose incomplete end was cut off.
    """

    repeated_sentences: float = 0
    repeated_grams: float = 0
    broken_markup: float = 0
    stray_tokens: float = 0
    leaks: float = 0
    echoes: float = 0
    cut_endings: float = 0
    empty_regions: float = 0
    bad_facts: float = 0
    links: float = 0
    on_topic: float = 1
    shared_words: float = 0
    words: float = 0
    seconds: float = 0
    first_words: float = 0
    cut_repetitions: float = 0
    cut_echoes: float = 0
    cut_ends: float = 0


@dataclass(frozen=True, slots=True)
class Written:
    """The text of a canvas as it is stored.

    Attributes:
        text: The text.
        reason: Why it ended.
        is_cut: True if an incomplete end was cut off.
    """

    text: str
    reason: str
    is_cut: bool


def judge(
    title: str,
    prose: Mapping[str, str],
    values: Mapping[str, bool] | None = None,
    examples: Sequence[Example] = (),
    openings: Sequence[str] = (),
    asks: Sequence[str] = (),
) -> Faults:
    """Count the faults of one page.

    Args:
        title: Its subject.
        prose: The regions of Markdown or text, by name.
        values: The regions with a schema, by name: True if the value is valid.
        examples: The examples in the prompts.
        openings: What the regions began with, which the model did not write.
        asks: The asks of the prompts and of their examples.
    """
    texts = [text for text in prose.values() if text.strip()]
    sentences = [s for text in texts for s in sentences_of(text)]
    words = [words_of(text) for text in texts]
    content = [content_words(text) for text in texts]
    named = {word.casefold() for word in _WORD.findall(title)} - _COMMON
    everything = " ".join(texts).casefold()
    given = {gram for opening in openings for gram in grams(words_of(opening), 5)}
    shown = {gram for example in examples for gram in grams(words_of(example.answer), 5)} - given
    return Faults(
        repeated_sentences=sum(count - 1 for count in Counter(sentences).values()),
        repeated_grams=mean(_repetition(region) for region in words) if words else 0,
        broken_markup=sum(broken_markup(text) for text in texts),
        stray_tokens=sum(len(_STRAY.findall(text)) + strange_letters(text, title) for text in texts),
        leaks=sum(gram in shown for region in words for gram in grams(region, 5)),
        echoes=sum(count_echoes(text, asks) for text in texts),
        cut_endings=sum(not _END.search(text.rstrip()) for text in texts),
        empty_regions=sum(len(plain_text(text).split()) < 3 for text in prose.values()),
        bad_facts=sum(not valid for valid in (values or {}).values()),
        links=sum(len(WIKI_LINK.findall(text)) for text in texts),
        on_topic=mean(any(form in everything for form in _forms(word)) for word in named) if named else 1,
        shared_words=sum(count > 1 for count in Counter(word for found in content for word in found).values()),
        words=sum(len(region) for region in words),
    )


def count_echoes(text: str, asks: Sequence[str]) -> int:
    """Count the parts of a text that only the framing of a prompt has."""
    lines = {" ".join(words_of(line)).rstrip(".:") for line in text.split("\n")}
    return len(_FRAMING.findall(text)) + len(lines & {" ".join(words_of(ask)).rstrip(".:") for ask in asks})


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, in lower case and without Markdown, for comparison."""
    return plain_text(text).casefold().split()


def content_words(text: str) -> set[str]:
    """Return the longer words of a text, except common ones."""
    return set(_WORD.findall(plain_text(text).casefold())) - _COMMON


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text without headings, in lower case and without Markdown, for comparison."""
    body = re.sub(r"^#{1,6} .*$", "", text, flags=re.MULTILINE)
    return [s for s in re.split(r"(?<=[.!?。！？])\s+", plain_text(body).casefold()) if len(s.split()) > 2]


def broken_markup(text: str) -> int:
    """Count the marks of a text that are unmatched or have no meaning."""
    rest = WIKI_LINK.sub("", text)
    broken = rest.count("[[") + rest.count("]]")
    for line in rest.split("\n"):
        broken += line.count("**") % 2 + line.replace("[[", "").count("[") + bool(re.match(r"#{1,6}\s*$", line))
    titles = [match[1] for match in WIKI_LINK.finditer(text)]
    return broken + sum(not re.search(r"\w\w", title) or len(title.split()) > 6 for title in titles)


def strange_letters(text: str, title: str) -> int:
    """Count the runs of letters and signs that neither the Latin script nor the title uses."""
    known = {ord(char) >> 8 for char in title if ord(char) > 0x24F}
    cjk = any(0x3040 <= ord(char) <= 0x9FFF for char in title)

    def strange(char: str) -> bool:
        code = ord(char)
        if code < 0x250 or char in "‘’“”–—…•€°′″№":
            return False
        return not (code >> 8 in known or (cjk and 0x3000 <= code <= 0x9FFF) or (cjk and char in "。！？"))

    return sum(1 for is_strange, _ in groupby(text, key=strange) if is_strange)


def grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return all sequences of this many words."""
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def _repetition(words: Sequence[str]) -> float:
    found = grams(words, 4)
    return 1 - len(set(found)) / len(found) if found else 0.0


def _forms(word: str) -> tuple[str, ...]:
    """Return a word, and the word without its last letter if it may be a plural."""
    return (word, word[:-1]) if len(word) > 5 else (word,)


async def write_page(
    engine: Engine, world: str, page: Page, title: str, seed: int | None = None
) -> tuple[dict[str, Written], float, float]:
    """Generate all canvases of a page at the same time, as an app does.

    Args:
        engine: The engine.
        world: Leads the prompts.
        page: The page.
        title: Its subject.
        seed: The seed of each canvas is derived from it. None: random seeds.

    Returns:
        The result of each canvas, the seconds for all of them, and the seconds to the first words.
    """
    began = time.monotonic()
    firsts: list[float] = []

    async def write(name: str, canvas: Canvas) -> Written:
        prompt = build_prompt(world=world, canvas=canvas, subject=title)
        request = Request(
            prompt=prompt,
            canvases=canvas.canvases,
            max_tokens=canvas.tokens,
            schema=json_schema_of(canvas.schema) if canvas.schema else None,
            seed=None if seed is None else zlib.crc32(f"{seed} {title} {name}".encode()),
            stop=tuple(canvas.stop),
            options=canvas.options,
        )
        text, reason, begun = "", "end", False
        async for frame in engine.generate(request):
            text = frame.text
            if not begun and len(text) > len(prompt.opening):
                begun = True
                firsts.append(time.monotonic() - began)
            if frame.usage is not None:
                reason = frame.usage.reason
        finished = get_format(canvas.format).finalize(text, reason)
        return Written(finished, reason, reason == "length" and finished != text)

    results = await asyncio.gather(*(write(name, canvas) for name, canvas in page.canvases.items()))
    return dict(zip(page.canvases, results, strict=True)), time.monotonic() - began, min(firsts, default=0.0)


def is_valid(canvas: Canvas, text: str) -> bool:
    """True if a finished text is a valid value of the canvas's schema."""
    try:
        parse_value(canvas.schema or object, text)
    except PageFailed:
        return False
    return True


async def run(
    engine: Engine,
    world: str,
    pages: Mapping[str, Page],
    out: Path | None = None,
    told: Callable[[str, Faults], None] | None = None,
    seed: int | None = None,
) -> list[tuple[str, Faults]]:
    """Generate pages one after another, and judge each.

    Args:
        engine: The engine.
        world: Leads every prompt.
        pages: What to generate, by title.
        out: A folder for the pages as Markdown files.
        told: Called with each title and its faults.
        seed: The seeds of all texts are derived from it. None: random seeds.
    """
    results = []
    for title, page in pages.items():
        written, seconds, first = await write_page(engine, world, page, title, seed)
        prompts = [build_prompt(world=world, canvas=canvas, subject=title) for canvas in page.canvases.values()]
        faults = replace(judge_page(title, page, written, prompts), seconds=seconds, first_words=first)
        results.append((title, faults))
        _report_page(title, faults, [result.text for result in written.values()], out, told)
    return results


def judge_page(title: str, page: Page, written: Mapping[str, Written], prompts: Sequence[Prompt]) -> Faults:
    """Count the faults of a page with these texts."""
    texts = {name: result.text for name, result in written.items()}
    prose = {name: text for name, text in texts.items() if get_format(page.canvases[name].format).prose}
    values = {name: is_valid(page.canvases[name], text) for name, text in texts.items() if name not in prose}
    shown = [example for prompt in prompts for example in prompt.examples]
    asks = [*(prompt.ask for prompt in prompts), *(example.ask for example in shown)]
    reasons = Counter(result.reason for result in written.values())
    return replace(
        judge(title, prose, values, shown, [prompt.opening for prompt in prompts], asks),
        cut_repetitions=reasons["repetition"],
        cut_echoes=reasons["echo"],
        cut_ends=sum(result.is_cut for result in written.values()),
    )


async def run_known(
    app: App, titles: Sequence[str], out: Path | None = None, told: Callable[[str, Faults], None] | None = None
) -> list[tuple[str, Faults]]:
    """Generate pages through a running app, then as many that these link to, and judge the latter.

    Their subjects are known, so their prompts have facts. A page that cannot be written has only empty regions.
    """
    route = _article_route(app)
    for title in titles:
        await _open(app, route.pattern.build({"title": title}))
    results = []
    for link in app.store.missing_pages(len(titles), route.pattern.build({"title": "x"}).removesuffix("x")):
        start = time.monotonic()
        await _open(app, link.key)
        seconds = time.monotonic() - start
        title = title_from_key(link.key)
        stored = app.store.get(link.key)
        page = (await articles(app, [title]))[title]
        if stored is None:
            results.append((title, Faults(empty_regions=len(page.canvases), seconds=seconds)))
            continue
        written = {
            name: Written(canvas.text, canvas.reason, canvas.reason == "length" and bool(canvas.repairs))
            for name, canvas in stored.canvases.items()
        }
        prompts = [read_prompt(canvas.prompt) for canvas in stored.canvases.values()]
        faults = replace(judge_page(title, page, written, prompts), seconds=seconds)
        results.append((title, faults))
        facts = [f"> {fact}" for prompt in prompts for fact in prompt.facts]
        _report_page(title, faults, [*facts, *(result.text for result in written.values())], out, told)
    return results


async def _open(app: App, key: str) -> None:
    """Request a page until its last byte, so that it is written."""
    await request(app, f"{quote(key)}?plain=1", lambda piece: None)


def _report_page(
    title: str, faults: Faults, texts: Sequence[str], out: Path | None, told: Callable[[str, Faults], None] | None
) -> None:
    if out is not None:
        name = re.sub(r"\W+", "_", title)[:60]
        whole = "\n\n".join([f"# {title}", *texts])
        (out / f"{name}.md").write_text(whole + "\n", encoding="utf-8")
    if told is not None:
        told(title, faults)


def summary(results: Sequence[tuple[str, Faults]]) -> dict[str, float]:
    """Return the mean of every figure over all pages."""
    return {
        field.name: round(mean(float(getattr(faults, field.name)) for _, faults in results), 3)
        for field in fields(Faults)
    }


@click.command("quality")
@click.option("--app", "target", default=None, help="An app with a page of one parameter; the demo wiki by default.")
@click.option("--ask", default=None, help="A single page with this prompt, {} for the title, instead of an app.")
@click.option("--titles", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="One title per line.")
@click.option("--limit", type=click.IntRange(1), default=None, help="The number of titles, spread over the list.")
@click.option("--engine", "spec", default="auto", show_default=True, help="The engine to measure.")
@click.option("--known", type=click.IntRange(0), default=5, show_default=True, help="Pages with facts to measure.")
@click.option(
    "--seed", type=click.IntRange(0), default=None, help="Repeat the pages without facts, to compare versions."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write the pages to this folder.")
def command(
    target: str | None,
    ask: str | None,
    titles: Path | None,
    limit: int | None,
    spec: str,
    known: int,
    seed: int | None,
    out: Path | None,
) -> None:
    """Measure how good the pages of a model are."""
    wiki = asset_dir("demos") / "wiki"
    names = [n for n in (titles or wiki / "titles.txt").read_text(encoding="utf-8").splitlines() if n.strip()]
    if limit:
        names = spread(names, limit)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    app = load_app(target or str(wiki)) if ask is None else _app_for(ask)
    with tempfile.TemporaryDirectory() as folder:
        app.configure({"database": f"{folder}/quality.db", "engine": spec, "prefetch": "off", "signed_links": "off"})
        results, known_results, about = asyncio.run(_measure(app, names, min(known, len(names)), seed, out))
    figures = summary(results)
    rows = [(name.replace("_", " "), f"{value:g}", _REACH.get(name, "")) for name, value in figures.items()]
    document: dict[str, Any] = {"pages": len(results), "model": about, **figures}
    if known_results:
        document["known"] = {"pages": len(known_results), **summary(known_results)}
        rows += [
            (f"with facts: {name.replace('_', ' ')}", f"{value:g}", _REACH[name])
            for name, value in summary(known_results).items()
            if name in _REACH and name not in {"seconds", "first_words"}
        ]
    document["texts_cut"] = {
        name: sum(int(getattr(faults, field)) for _, faults in [*results, *known_results])
        for name, field in _CUTS.items()
    }
    rows += [(f"texts cut: {name}", str(count), "") for name, count in document["texts_cut"].items()]
    report(f"{len(results)} pages by {about}", rows, document)


def _app_for(ask: str) -> App:
    """Return an app whose pages have this prompt, with their title in place of ``{}``."""
    app = App("Quality")

    @app.page("/{title}")
    def page(title: str) -> str:
        return ask.replace("{}", title)

    return app


async def _measure(
    app: App, titles: Sequence[str], known: int, seed: int | None, out: Path | None
) -> tuple[list[tuple[str, Faults]], list[tuple[str, Faults]], str]:
    async with running(app):
        pages = await articles(app, titles)
        first = next(iter(pages.items()))
        prompts = [build_prompt(world=app.world, canvas=c, subject=first[0]) for c in first[1].canvases.values()]
        await app.engine.warm(prompts)
        about = f"{app.engine.about.model}, {app.engine.about.device}"
        results = await run(app.engine, app.world, pages, out, _tell, seed)
        return results, await run_known(app, spread(titles, known), out, _tell) if known else [], about


async def articles(app: App, titles: Sequence[str]) -> dict[str, Page]:
    """Return what an app's page function returns for titles. Titles for which it returns no page are left out.

    Raises:
        NotAnApp: If the app has no page with the parameter ``title``.
    """
    route = _article_route(app)
    found = {}
    for title in titles:
        page = await route.function.call({"title": title}, Visit(route.pattern.build({"title": title})), None)
        if isinstance(page, Page):
            found[title] = page
    return found


def _article_route(app: App) -> PageRoute:
    route = next((route for route in app.pages if list(route.pattern.parameters) == ["title"]), None)
    if route is None:
        raise NotAnApp("This app has no page with the parameter {title} alone. Try --ask instead.")
    return route


def spread(found: Sequence[Any], count: int) -> list[Any]:
    """Return ``count`` items, spread evenly over a list, or all if there are fewer."""
    return [found[at * len(found) // count] for at in range(count)] if count < len(found) else list(found)


def _tell(title: str, faults: Faults) -> None:
    bad = {k: v for k, v in asdict(faults).items() if k in _REACH and _REACH[k] == "0" and v}
    print(f"{faults.seconds:5.1f} s  {title[:60]:60}  {json.dumps(bad) if bad else ''}", flush=True)
