from __future__ import annotations

import os

import pytest

from unwritten_engine.threads import choose_num_threads


def test_the_number_of_threads_fits_the_machine_and_has_a_reason() -> None:
    threads, reason = choose_num_threads()
    assert 1 <= threads <= min(8, os.cpu_count() or 1)
    assert reason.startswith(f"{threads} thread")
    assert reason.endswith(".")


def test_the_limit_of_openmp_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten_engine.threads.os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr("unwritten_engine.threads._physical_cores", lambda usable: 4)
    monkeypatch.setattr("unwritten_engine.threads._quota", lambda: None)
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    assert choose_num_threads() == (1, "1 thread: OMP_THREAD_LIMIT allows no more.")
    monkeypatch.setenv("OMP_THREAD_LIMIT", "64")
    assert choose_num_threads()[0] == 3
