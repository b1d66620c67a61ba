"""Rate limits."""

from __future__ import annotations

import pytest

from unwritten.security.rate_limits import ClientWindows, SlidingWindow


def test_a_sliding_window_counts_only_recent_entries() -> None:
    window = SlidingWindow(60)
    for at, amount in ((0.0, 1.0), (10.0, 2.0), (30.0, 0.1)):
        window.add(at, amount)
    assert window.total(30) == pytest.approx(3.1)
    assert window.wait(30, 3) == 30  # until the first entry is a minute old
    assert window.wait(30, 1) == 40
    assert window.total(65) == pytest.approx(2.1)
    assert window.total(95) == 0


def test_clients_are_counted_separately_and_the_least_recently_active_one_is_forgotten() -> None:
    windows = ClientWindows(60, max_clients=2)
    for client in ("a", "b", "a", "c"):
        windows[client].add(0)
    assert (windows["a"].total(1), windows["c"].total(1), windows["b"].total(1)) == (2, 1, 0)
