"""Budgets of clients."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.apps import browser, make_wiki, write

from unwritten import App
from unwritten.core.errors import Busy, OverBudget
from unwritten.core.settings import Settings
from unwritten.generation.budgets import HOUR, MINUTE, Budgets
from unwritten.security.exposure import Exposure
from unwritten.security.rate_limits import LocalWindows
from unwritten_engine import scripted
from unwritten_engine.scripted import HANG


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def budgets(public: bool = True, **settings: Any) -> tuple[Budgets, Clock]:
    clock = Clock()
    exposure = Exposure(Settings(signed_links="on" if public else "off"))
    return Budgets(Settings(**settings), exposure, LocalWindows(clock)), clock


@pytest.mark.anyio
async def test_each_client_has_its_own_budget_of_pages_per_hour() -> None:
    accounts, clock = budgets(visitor_pages=3)
    for _ in range(3):
        await accounts.spend("a")
        clock.now += 100
    with pytest.raises(OverBudget) as caught:
        await accounts.spend("a")
    assert caught.value.budget == "visitor_pages"
    assert caught.value.retry_after == HOUR - 300
    assert str(caught.value) == (
        "You have started 3 new pages within an hour, which is the limit for one visitor. Try again in about "
        "55 minutes. Pages that are already written can be read meanwhile."
    )
    await accounts.spend("b")
    clock.now += HOUR - 300
    await accounts.spend("a")


@pytest.mark.anyio
async def test_a_refusal_is_a_busy_error_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.budgets.VISITOR_BURST", 1)
    accounts, clock = budgets(visitor_pages=2)
    await accounts.spend("a")
    for _ in range(5):
        with pytest.raises(Busy, match="within a minute"):
            await accounts.spend("a")
    clock.now += MINUTE
    await accounts.spend("a")
    clock.now += MINUTE
    with pytest.raises(OverBudget, match="within an hour"):
        await accounts.spend("a")


@pytest.mark.anyio
async def test_searches_have_a_smaller_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.budgets.SEARCH_PAGES", 1)
    accounts, _ = budgets()
    await accounts.spend("a", searched=True)
    with pytest.raises(OverBudget, match="by search or by button"):
        await accounts.spend("a", searched=True)
    await accounts.spend("a")


def test_on_loopback_only_budgets_that_were_set_apply() -> None:
    accounts, _ = budgets(public=False, visitor_seconds=2)
    assert {name: accounts.limit(name) for name in ("visitor_pages", "search_pages", "visitor_seconds")} == {
        "visitor_pages": 0,
        "search_pages": 0,
        "visitor_seconds": 2,
    }
    assert budgets()[0].limit("visitor_pages") == 240
    assert budgets(visitor_pages=0)[0].limit("visitor_pages") == 0


def slow_wiki(home: Path, **settings: Any) -> App:
    return make_wiki(home, scripted(["Slow", 0.3, "Slow words."]), **settings)


def test_seconds_are_charged_to_the_client_that_started_the_page(tmp_path: Path) -> None:
    with browser(slow_wiki(tmp_path, visitor_seconds=0.25)) as client:
        write(client, "/wiki/One")
        answer = client.get("/wiki/Two")
        assert answer.status_code == 429
        assert 3590 < int(answer.headers["retry-after"]) <= 3600
        assert "Your new pages took 0.25 seconds within an hour" in answer.text
        assert 'http-equiv="refresh" content="3' not in answer.text, "pages do not reload themselves after an hour"
        assert client.get("/wiki/One").status_code == 200, "stored pages are free"


def test_the_seconds_of_running_jobs_count(tmp_path: Path) -> None:
    with browser(slow_wiki(tmp_path, engine_seconds=0.1)) as client:
        assert client.get("/wiki/One").status_code == 200
        time.sleep(0.15)
        answer = client.get("/wiki/Two")
        assert answer.status_code == 429
        assert "limit for all visitors together" in answer.text
        assert client.get("/wiki/One").status_code == 200, "joining a job is free"


def test_a_rewrite_costs_as_much_as_a_new_page(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("Words."), visitor_pages=1)) as client:
        write(client, "/wiki/One")
        answer = client.post("/_unwritten/rewrite", data={"page": "/wiki/One"})
        assert answer.status_code == 429
        assert "Try again</a>" not in answer.text, "a link cannot send a form again"


def test_a_page_that_finds_no_place_in_the_queue_is_not_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend, charged = Budgets.spend, []

    async def spend_slowly(self: Budgets, *args: Any, **options: Any) -> None:
        charged.append(args)
        await asyncio.sleep(0.3)  # as if another process counted
        await spend(self, *args, **options)

    monkeypatch.setattr(Budgets, "spend", spend_slowly)
    with (
        browser(make_wiki(tmp_path, scripted(["A", HANG]), jobs=1, queue_limit=1)) as client,
        ThreadPoolExecutor(4) as crowd,
    ):
        answers = list(crowd.map(client.get, [f"/wiki/Page_{number}" for number in range(4)]))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
    assert len(charged) == 2
