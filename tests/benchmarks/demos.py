"""``python tests/benchmarks demos``: how long a visitor waits in each demo.

Each demo is served with an empty database. Its journey is what a person does in the first minute: open an unwritten
page, or send a form, over HTTP. Frames arrive over the socket.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx2
from rich.console import Console
from rich.table import Table
from tests.benchmarks.click_latency import Clicked, demo, watch_to_end
from tests.support.servers import AS_OWNER

from unwritten.cli.loading import all_demos
from unwritten.storage.pages import PageStore
from unwritten.testing.html_tree import Node, parse_html
from unwritten_engine.errors import suggestion


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a visitor does several times.

    Attributes:
        does: A description in a few words.
        paths: The pages that are opened for it, one for each time.
        typed: Values for the first form of that page that has these fields. The form is sent and timed. Without values
            opening the page is timed.
        reach: The target in seconds. None: there is none.
    """

    does: str
    paths: tuple[str, ...]
    typed: Mapping[str, str] = field(default_factory=dict)
    reach: float | None = None


JOURNEYS: dict[str, tuple[Step, ...]] = {
    "wiki": (Step("an article is opened", ("/wiki/Lantern_Harbour", "/wiki/Sourdough", "/wiki/Otter")),),
    "forum": (
        Step("a board is opened", ("/b/Kettles", "/b/Night_buses", "/b/Umbrellas")),
        Step(
            "a post is answered",
            ("/b/Kettles", "/b/Night_buses", "/b/Umbrellas"),
            {"title": "My kettle whistles at night", "text": "It is not even on. What can I do about it?"},
        ),
        Step(
            "a reply is answered", ("/n/1", "/n/2", "/n/3"), {"parent": "", "text": "I tried that. It whistles still."}
        ),
    ),
    "desktop": (
        Step("a folder is opened", ("/files/Bees", "/files/Clocks", "/files/Letters")),
        Step("an address is opened", ("/web/ferry.example", "/web/bees.example/honey", "/web/clocks.example")),
    ),
    "todo": (
        Step(
            "words become a working list",
            ("/", "/", "/"),
            {"wish": "a list for the garden with due dates, and who does it"},
            reach=15,
        ),
    ),
}
"""What is done in each demo. A new demo needs an entry."""

UNFINISHED = {"waiting", "writing"}


async def take(port: int, step: Step, path: str) -> tuple[str, Clicked]:
    """Take a step on one page. Return the page that was generated, and how long it took.

    Raises:
        click.ClickException: If the step cannot be taken, or the page fails.
    """
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"accept": "text/html", **AS_OWNER},
        follow_redirects=True,
        timeout=300,
    ) as client:
        if step.typed:
            before = await client.get(path)
            page, seen = being_written(before.text)
            if seen:
                await watch_to_end(port, page, time.perf_counter(), seen)
            to, data = find_form(before.text, step.typed, path)
            begun = time.perf_counter()
            answer = await client.post(to, data=data)
        else:
            begun = time.perf_counter()
            answer = await client.get(path)
    shell = time.perf_counter() - begun
    page, seen = being_written(answer.text)
    if step.typed and not seen and answer.is_success:
        # The engine was finished before the page was requested.
        return answer.url.path, Clicked(shell, shell, shell, shell, 0)
    if answer.is_error or not seen:
        words = " ".join(parse_html(answer.text).line.split()[:40])
        raise click.ClickException(f"The response for {path} is not a page that is being generated: {words}")
    first, frames = await watch_to_end(port, page, begun, seen)
    return page, Clicked(shell, min(first.values()), max(first.values()), time.perf_counter() - begun, frames)


def being_written(html: str) -> tuple[str, dict[str, int]]:
    """Return the key of a page with unfinished regions, and the number of the frame of each region."""
    page, seen = "", dict[str, int]()
    for node in parse_html(html).find_all("div"):
        if node.attributes.get("data-state") in UNFINISHED and "data-region" in node.attributes:
            page = page or node.attributes["data-page"]
            if node.attributes["data-page"] == page:
                seen[node.attributes["data-region"]] = int(node.attributes["data-frame"])
    return page, seen


def find_form(html: str, typed: Mapping[str, str], path: str) -> tuple[str, dict[str, str]]:
    """Return the URL of the first form with these fields, and what it sends.

    Raises:
        click.ClickException: If there is no such form.
    """
    for form in parse_html(html).find_all("form"):
        fields = {node.attributes.get("name", ""): node for node in form.find_all("input", "textarea", "select")}
        if typed.keys() <= fields.keys():
            sent = {name: value for name, node in fields.items() if name and (value := _value(node)) is not None}
            return form.attributes.get("action") or path, {**sent, **typed}
    raise click.ClickException(f"{path} has no form with the fields {', '.join(typed)}.")


def _value(node: Node) -> str | None:
    """Return what a browser sends for a field that was not changed, or None."""
    kind = node.attributes.get("type", "")
    if node.tag == "select":
        every = list(node.find_all("option"))
        options = [option for option in every if "selected" in option.attributes] or every
        return options[0].attributes.get("value", options[0].text) if options else None
    if node.tag == "textarea":
        return node.text
    if kind in {"checkbox", "radio"} and "checked" not in node.attributes:
        return None
    if kind in {"submit", "button", "file", "image"}:
        return None
    return node.attributes.get("value", "on" if kind == "checkbox" else "")


def measure(port: int, name: str, times: int) -> list[tuple[Step, list[tuple[str, Clicked]]]]:
    """Take the journey of a demo, each step at most ``times`` times."""
    journey = []
    for step in JOURNEYS[name]:
        click.echo(f"{name}: {step.does} …", err=True)
        journey.append((step, [asyncio.run(take(port, step, path)) for path in step.paths[:times]]))
    return journey


def figures(name: str, step: Step, taken: list[tuple[str, Clicked]], store: PageStore) -> dict[str, Any]:
    """Return the medians of a step."""
    kept = [page.provenance for key, _ in taken if (page := store.get(key))]
    results = [clicked for _, clicked in taken]
    return {
        "demo": name,
        "does": step.does,
        "model": kept[0].model if kept else "",
        "times": len(results),
        "shell_ms": round(statistics.median(result.shell for result in results) * 1000, 1),
        "first_words_s": round(statistics.median(result.first_words for result in results), 2),
        "settled_s": round(statistics.median(result.settled for result in results), 2),
        "settled_worst_s": round(max(result.settled for result in results), 2),
        "tokens_per_s": round(statistics.median(one.tokens_per_second for one in kept), 1) if kept else 0.0,
        "tokens": round(statistics.median(one.tokens for one in kept)) if kept else 0,
        "reach_s": step.reach,
    }


@click.command()
@click.argument("names", nargs=-1, metavar="[DEMO]...")
@click.option("--engine", default="embedded", show_default=True, help="Engine, as for `unwritten demo`.")
@click.option("--times", default=3, show_default=True, help="The largest number of times for each step.")
@click.option("--warm-up", default=12.0, show_default=True, help="Seconds between start and the first click.")
def command(names: tuple[str, ...], engine: str, times: int, warm_up: float) -> None:
    """Measure how long a visitor waits in each demo, or in those that are named."""
    for name in names:
        if name not in JOURNEYS:
            raise click.UsageError(f"There is no journey through a demo {name!r}.{suggestion(name, JOURNEYS)}")
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in names or [name for name in JOURNEYS if name in all_demos()]:
            with demo(name, folder, engine) as port:
                time.sleep(warm_up)
                journey = measure(port, name, times)
            store = PageStore(folder / f"{name}.db")
            try:
                found += [figures(name, step, taken, store) for step, taken in journey]
            finally:
                store.close()
    show(found)


def show(found: list[dict[str, Any]]) -> None:
    """Print a table, and one JSON document on the last line."""
    table = Table(title=f"How long a visitor waits: {found[0]['model']}", title_justify="left")
    table.add_column("demo")
    table.add_column("what is done")
    for heading in ("shell", "first words", "settled", "worst", "to reach", "tokens", "a second"):
        table.add_column(heading, justify="right")
    for row in found:
        reach = f"≤ {row['reach_s']:g} s" if row["reach_s"] else ""
        seconds = [f"{row[key]:.1f} s" for key in ("first_words_s", "settled_s", "settled_worst_s")]
        table.add_row(
            row["demo"],
            row["does"],
            f"{row['shell_ms']} ms",
            *seconds,
            reach,
            str(row["tokens"]),
            f"{row['tokens_per_s']:.0f}",
        )
    Console(width=110).print(table)
    print(json.dumps({"demos": found}))
