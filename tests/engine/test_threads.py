from __future__ import annotations

import os

from unwritten_engine.threads import choose_num_threads


def test_the_number_of_threads_fits_the_machine_and_has_a_reason() -> None:
    threads, reason = choose_num_threads()
    assert 1 <= threads <= min(8, os.cpu_count() or 1)
    assert reason.startswith(f"{threads} thread")
    assert reason.endswith(".")
