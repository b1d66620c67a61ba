"""The short form of the scenario with four worker processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.torture.processes import LIMITS, MISSING, missed, processes


@pytest.mark.skipif(MISSING != "", reason=MISSING)
def test_four_worker_processes_behind_nginx_serve_one_world(tmp_path: Path) -> None:
    figures = processes(tmp_path, short=True)
    log = (tmp_path / "workers.log").read_text()
    assert missed(figures) == {}, log
    assert len(figures.keys() & LIMITS.keys()) > 8
    assert "Traceback" not in log, log
