"""The report of a benchmark: a table, and one JSON document on the last line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def report(title: str, rows: Sequence[tuple[str, str, str]], document: Mapping[str, Any]) -> None:
    """Print a report.

    Args:
        title: What was measured.
        rows: Name, figure with its unit, and target ("" if there is none).
        document: The same for programs.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("to reach", justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
    print(json.dumps(document))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
