"""``python tests/benchmarks world``: whether later pages know what earlier ones said.

Invented facts are planted on pages, word for word. Then a model writes the pages that they link to: with memory, for a
visitor who clicked the link; without memory; and with memory, for a visitor who typed the URL of a subject that a
page mentions without a link, so that only search can help. Recall is the share of these pages with the planted value.

Gists are measured in the same way: the fact is planted as the hidden note of a link whose sentence does not tell it.
With ``--follow`` the model also writes pages with links and gists itself, and then the pages of these gists, with and
without them. Agreement is the share of the words of a gist that its page has, beyond those that the link shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from tests.benchmarks.planted import FACTS, Planted
from tests.benchmarks.report import report

from unwritten.app.application import App
from unwritten.core.settings import BY_NAME
from unwritten.formats.base import RegionContext
from unwritten.formats.links import Linker, find_anchors, plain_text, title_from_key
from unwritten.formats.page import Canvas
from unwritten.formats.registry import FORMATS
from unwritten.routing.patterns import PagePattern
from unwritten.storage.pages import PageStore
from unwritten.storage.records import PageWrite, Provenance, StoredCanvas
from unwritten.testing.asgi_client import request, running
from unwritten_engine import Engine, Frame, open_engine

PATTERN = PagePattern("/wiki/{title}")

WORLD = "The Book of Ferra is a calm, exact encyclopedia of one small island."


@dataclass(frozen=True, slots=True)
class Way:
    """One way to request the pages.

    Attributes:
        name: The name in the document.
        words: The name in the table.
        memory: Tokens for what earlier pages say.
        linked: True if the planted page links to the subject and that link is clicked. Otherwise the URL is typed.
        told: Where the fact is: in the "sentence" of the planted page, only in the "gist" of its link, or "nowhere".
    """

    name: str
    words: str
    memory: int
    linked: bool
    told: str = "sentence"


def ways(memory: int) -> tuple[Way, ...]:
    """Return the ways, with this many tokens of memory."""
    return (
        Way("on", "link clicked, memory on", memory, True),
        Way("off", "link clicked, memory off", 0, True),
        Way("direct", "URL typed, memory on, by search alone", memory, False),
        Way("gist", "link clicked, fact in the gist alone", memory, True, "gist"),
        Way("no_gist", "link clicked, fact nowhere", memory, True, "nowhere"),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A page that was requested: its planted fact, its text, and True if the text has the value."""

    fact: Planted
    text: str
    recalled: bool


async def measure(
    engine: Engine,
    way: Way,
    facts: Sequence[Planted],
    *,
    tokens: int,
    folder: Path,
    told: Callable[[Asked], None] = lambda asked: None,
) -> list[Asked]:
    """Plant the facts in a new world, and request the page of each subject.

    Args:
        engine: The engine.
        way: How the pages are requested.
        facts: The facts.
        tokens: The largest number of tokens of a page.
        folder: Where the database is created.
        told: Called with each page when it is finished.
    """
    app = App(
        "The Book of Ferra",
        world=WORLD,
        engine=engine,
        database=str(folder / f"{way.name}.db"),
        memory_tokens=way.memory,
        time_limit=600,
    )

    @app.page("/wiki/{title}")
    def article(title: str) -> Canvas:
        return Canvas(f"An encyclopedia article about {title}.", tokens=tokens, seed=sum(title.encode()))

    async with running(app):
        for fact in facts:
            await _plant(app.site.store, fact, way)

        async def one(fact: Planted) -> Asked:
            key = PATTERN.build({"title": fact.subject})
            headers = {"referer": "http://127.0.0.1" + PATTERN.build({"title": fact.page})} if way.linked else {}
            await request(app, f"{key}?plain=1", lambda _: None, headers=headers)
            kept = app.store.get(key)
            text = plain_text("\n".join(canvas.text for canvas in kept.canvases.values())) if kept else ""
            asked = Asked(fact, text, fact.is_in(text))
            told(asked)
            return asked

        return list(await asyncio.gather(*(one(fact) for fact in facts)))


async def _plant(store: PageStore, fact: Planted, way: Way) -> None:
    """Store a page with a fact, as if it had been generated."""
    key = PATTERN.build({"title": fact.page})
    text = fact.text(linked=way.linked) if way.told == "sentence" else fact.text_without_fact
    linker = Linker(key, PATTERN.link, store.exists)
    canvas = StoredCanvas("body", "markdown", "", text, 0, 0, 0, 1, 0.0, "end")
    provenance = Provenance("planted", "none", 0, 0, 0, 1, 0.0, "end")
    html = FORMATS["markdown"].create_formatter(RegionContext(linker)).format(Frame(text)).html
    links = [replace(link, gist=fact.gist if way.told == "gist" else "") for link in find_anchors(str(html))]
    page = PageWrite(key, fact.page, plain_text(text), "", provenance, (canvas,), tuple(links))
    await store.save(page)


def recall(asked: Sequence[Asked]) -> float:
    """Return the share of the pages that know their fact, from 0 to 1."""
    return round(sum(one.recalled for one in asked) / len(asked), 3) if asked else 0.0


@dataclass(frozen=True, slots=True)
class Promise:
    """A gist that the model has written itself, and what became of it.

    Attributes:
        gist: The gist.
        title: The title of its link.
        words: The words of the gist that neither the title nor the sentence of the link has.
        with_gist: The share of these words in the page that was written with the gist.
        without: The share of them in the page that was written without it.
    """

    gist: str
    title: str
    words: frozenset[str]
    with_gist: float
    without: float


async def follow(engine: Engine, titles: Sequence[str], *, tokens: int, folder: Path) -> tuple[int, list[Promise]]:
    """Let a model write pages with gists, and then the pages of these gists. Return the number of links, too."""
    texts: dict[bool, dict[str, str]] = {True: {}, False: {}}
    links: list[tuple[str, str, str, str]] = []
    for uses_gists in (True, False):
        app = App(
            "The Book of Ferra",
            world=WORLD,
            engine=engine,
            database=str(folder / "follow.db"),
            gists="on",
            time_limit=600,
        )

        @app.page("/wiki/{title}")
        def article(title: str, length: int = tokens) -> Canvas:
            return Canvas(f"An encyclopedia article about {title}.", tokens=length, seed=sum(title.encode()))

        async with running(app):
            database = app.site.store.database
            if uses_gists:
                for title in titles:
                    await request(app, PATTERN.build({"title": title}) + "?length=120&plain=1", lambda _: None)
                links = database.read("SELECT source, target, sentence, gist FROM links ORDER BY source, position")
            else:
                await database.write(lambda connection: connection.execute("UPDATE links SET gist = ''"))
            for source, target, _, gist in links:
                if not gist:
                    continue
                if not uses_gists:
                    await app.site.store.delete(target)
                headers = {"referer": f"http://127.0.0.1{source}"}
                await request(app, f"{target}?plain=1", lambda _: None, headers=headers)
                stored = app.store.get(target)
                texts[uses_gists][target] = stored.canvases["body"].text if stored else ""
    promises = []
    for _, target, sentence, gist in links:
        title = title_from_key(target)
        words = _words(gist) - _words(f"{sentence} {title}")
        if gist and words:
            shares = [len(words & _words(texts[used][target])) / len(words) for used in (True, False)]
            promises.append(Promise(gist, title, words, *shares))
    return len(links), promises


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w{4,}", text.casefold()))


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 3) if values else 0.0


@click.command("world")
@click.option("--engine", "spec", default="auto", show_default=True, help="The engine to measure.")
@click.option("--model", default=None, help="The model of the engine, as for `unwritten run`.")
@click.option("--limit", type=click.IntRange(1, len(FACTS)), default=len(FACTS), help="The number of facts.")
@click.option("--tokens", type=click.IntRange(8), default=40, show_default=True, help="Tokens of a page, at most.")
@click.option(
    "--memory",
    type=click.IntRange(1),
    default=BY_NAME["memory_tokens"].default,
    help="Tokens of memory, when it is on.",
)
@click.option(
    "--way", "names", multiple=True, type=click.Choice([way.name for way in ways(1)]), help="Measure only this way."
)
@click.option("--follow", "num_followed", type=click.IntRange(0), default=0, help="Pages written with gists.")
@click.option("--show", is_flag=True, help="Print every page.")
def command(
    spec: str,
    model: str | None,
    limit: int,
    tokens: int,
    memory: int,
    names: tuple[str, ...],
    num_followed: int,
    show: bool,
) -> None:
    """Measure whether later pages know what earlier ones said."""
    chosen = [way for way in ways(memory) if way.name in (names or [way.name])]
    options: dict[str, Any] = {"model": model} if model else {}
    engine = open_engine(spec, **options)
    began = time.monotonic()

    def told(asked: Asked) -> None:
        if show:
            click.echo(f"{'knows' if asked.recalled else '  -  '}  {asked.fact.value:9} {asked.text}", err=True)

    async def run() -> tuple[dict[str, list[Asked]], int, list[Promise]]:
        found: dict[str, list[Asked]] = {}
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(engine.close)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for way in chosen:
                if show:
                    click.echo(f"-- {way.words}", err=True)
                found[way.name] = await measure(engine, way, FACTS[:limit], tokens=tokens, folder=folder, told=told)
            titles = [fact.page for fact in FACTS[:num_followed]]
            links, promises = await follow(engine, titles, tokens=tokens, folder=folder) if titles else (0, [])
        return found, links, promises

    found, num_links, promises = asyncio.run(run())
    if show:
        for promise in promises:
            click.echo(f"{promise.with_gist:.2f} {promise.without:.2f}  {promise.title}: {promise.gist}", err=True)
    seconds = time.monotonic() - began
    reach = dict.fromkeys(("on", "direct"), "well above off") | {
        "off": "",
        "gist": "well above the next",
        "no_gist": "",
    }
    rows = [(way.words, f"{sum(a.recalled for a in found[way.name])} of {limit}", reach[way.name]) for way in chosen]
    rows.append(("seconds for all pages", f"{seconds:.0f}", ""))
    agreement = {
        "gist_agreement": _mean([promise.with_gist for promise in promises]),
        "gist_agreement_without": _mean([promise.without for promise in promises]),
    }
    if num_followed:
        with_gist, without = agreement.values()
        rows.append(("links that the model wrote, with a gist", f"{num_links}, {len(promises)}", ""))
        rows.append(("words of these gists in their pages, with and without", f"{with_gist}, {without}", ""))
    about = engine.about
    document = {f"memory_recall_{name}": recall(asked) for name, asked in found.items()}
    report(
        f"Planted facts that the next page knows; {about.model}, {about.device}",
        rows,
        {"model": about.model, "facts": limit, "tokens": tokens, "memory_tokens": memory, **document, **agreement},
    )
