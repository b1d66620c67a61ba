"""``python tests/benchmarks first``: a click right after the start of a server, and clicks once it is warm.

The demo wiki is started several times in new processes, with an empty database. As soon as it says its URL, an
unwritten article is requested. Some seconds after that page is finished, more are requested. The first start finds no
evaluated prefixes on disk, as on a new machine. The later ones do.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import click
from tests.benchmarks.click_latency import TITLES, Clicked, click_on, demo
from tests.benchmarks.report import report

from unwritten.storage.pages import PageStore
from unwritten_engine.downloads import models_folder


def _click(port: int, title: str) -> Clicked:
    return asyncio.run(click_on(port, _path(title)))


def _path(title: str) -> str:
    return "/wiki/" + quote(title.replace(" ", "_"))


def _median(clicks: Sequence[Clicked], name: str) -> float:
    values: list[float] = [getattr(one, name) for one in clicks]
    return round(statistics.median(values), 2)


@click.command()
@click.option("--engine", default="auto", show_default=True, help="Engine, as for `unwritten demo`.")
@click.option("--starts", default=3, show_default=True, help="Starts after the first one.", type=click.IntRange(1, 9))
@click.option("--warm-up", default=12.0, show_default=True, help="Seconds from the first page to the next click.")
def command(engine: str, starts: int, warm_up: float) -> None:
    """Measure a click right after the start, without and with evaluated prefixes on disk, and once warm."""
    first: list[Clicked] = []
    later: list[Clicked] = []
    warm: list[Clicked] = []
    tokens: dict[str, list[int]] = {"first": [], "later": [], "warm": []}
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name, "cache")
        (cache / "unwritten").mkdir(parents=True)
        if models_folder().is_dir():
            (cache / "unwritten" / "models").symlink_to(models_folder())
        for start in range(starts + 1):
            folder = Path(name, f"start-{start}")
            folder.mkdir()
            title, *others = (TITLES[(start + number) % len(TITLES)] for number in range(3))
            with demo("wiki", folder, engine, {"XDG_CACHE_HOME": str(cache)}) as port:
                (later if start else first).append(_click(port, title))
                time.sleep(warm_up)
                warm += [_click(port, other) for other in others]
            store = PageStore(folder / "wiki.db")
            try:
                for kind, titles in (("later" if start else "first", [title]), ("warm", others)):
                    pages = [store.get(_path(one)) for one in titles]
                    tokens[kind] += [page.provenance.tokens for page in pages if page]
            finally:
                store.close()
    document = {
        "starts": starts + 1,
        "load": round(os.getloadavg()[0], 1),
        **{
            f"{kind}_{figure}_s": _median(clicks, attribute)
            for kind, clicks in (("first", first), ("later", later), ("warm", warm))
            for figure, attribute in (("words", "first_words"), ("settled", "settled"))
        },
        **{f"{kind}_tokens": round(statistics.median(counts)) for kind, counts in tokens.items() if counts},
    }
    document["later_settled_ratio"] = round(_median(later, "settled") / _median(warm, "settled"), 2)
    document["first_settled_ratio"] = round(_median(first, "settled") / _median(warm, "settled"), 2)
    rows = [
        (f"{what}, click to {words}", f"{document[f'{kind}_{figure}_s']} s", target)
        for kind, what in (("first", "first start"), ("later", "later starts"), ("warm", "warm"))
        for words, figure, target in (
            ("first words", "words", "≤ 1.5 s" if kind != "warm" else ""),
            ("finished page", "settled", "≤ 1.3 × warm" if kind != "warm" else ""),
        )
    ]
    rows += [("later starts, finished, relative to warm", f"{document['later_settled_ratio']} ×", "≤ 1.3")]
    report(f"The first minute, load average {document['load']}", rows, document)
