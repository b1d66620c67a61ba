"""The figures that the checks return, their targets, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must be.

    Attributes:
        label: What it counts.
        most: The largest value. None: no limit.
        unit: The unit.
        least: The smallest value. None: no limit.
    """

    label: str
    most: float | None = 0
    unit: str = ""
    least: float | None = None

    def met(self, value: float) -> bool:
        """True if a figure meets the target."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def __str__(self) -> str:
        if self.most is None:
            return "" if self.least is None else f"≥ {self.least:,g} {self.unit}".strip()
        same = self.least == self.most or (self.most == 0 and self.least is None)
        lower = "" if same or self.least is None else f"{self.least:,g} to "
        return f"{'' if same or lower else '≤ '}{lower}{self.most:,g} {self.unit}".strip()


TARGETS: Mapping[str, Target] = {
    "broken": Target("checks that could not be run"),
    "texts": Target("hostile texts of 100 kB, by the model and as edits", None),
    "longest_stall_ms": Target("longest stall of the event loop by any text", 250, "ms"),
    "texts_that_stall": Target("texts that stall longer than 250 ms"),
    "texts_without_answer": Target("texts without an answer"),
    "largest_page_kb": Target("largest page made of one text", 2_000, "kB"),
    "peak_memory_mb": Target("peak memory of the server", 500, "MB"),
    "watchdog_stalls": Target("stalls that the server counted itself", None),
    "watchdog_longest_ms": Target("the longest of them", None, "ms"),
    "behaviours": Target("ways in which the model server breaks the protocol", None),
    "behaviours_unanswered": Target("pages without an answer"),
    "behaviours_5xx": Target("pages with status 5xx"),
    "behaviours_stall_ms": Target("longest stall", 250, "ms"),
    "behaviours_memory_mb": Target("memory that it costs", 200, "MB"),
    "behaviours_longest_page_s": Target("longest wait for a page", 45, "s"),
    "secrets_leaked": Target("pages that show the server's error texts or addresses"),
    "characters_for_100_tokens": Target("characters that a server without limits writes for 100 tokens", 6_500),
    "requests_left_open": Target("requests to the model server that are never closed"),
    "vectors": Target("public attack vectors in Chromium, without a policy", None),
    "vector_pieces": Target("the same: pieces of HTML, each vector alone in each format", None),
    "vector_placements": Target("the same: placements in pages, end to end", None),
    "vector_boxes": Target("the same: programs in boxes that try to escape", None),
    "scripts_run": Target("the same: scripts run"),
    "foreign_requests": Target("the same: foreign requests"),
    "navigations_off_site": Target("the same: navigations off site"),
    "box_escapes": Target("the same: boxes that reached something"),
    "half_open_failures": Target("1,100 half-open requests: requests of others that fail"),
    "half_open_stall_ms": Target("the same: longest wait of others", 1_000, "ms"),
    "half_open_log_kb": Target("the same: growth of the log", 100, "kB"),
    "half_open_left": Target("the same: still open after 45 s"),
    "slow_bodies_left": Target("forms whose body never comes: still open after 45 s"),
    "subscribers": Target("tabs that follow one page, three of which never read", None),
    "subscribers_without_frames": Target("the same: tabs that get no frame"),
    "subscriber_mb": Target("the same: received by each tab", None, "MB"),
    "shells": Target("the same: shells of other pages meanwhile", None),
    "shell_p99_ms": Target("the same: shell of other pages, p99", 100, "ms"),
    "mute_sockets_left": Target("the same: sockets that never read and are still open after 50 s"),
    "bad_messages_tracebacks": Target("invalid socket messages: tracebacks"),
    "flood_refuses_others": Target("300 sockets of one visitor: sockets of others that are refused"),
    "flood_failures": Target("the same: requests of others that fail"),
    "flood_stall_ms": Target("the same: longest wait of others", 250, "ms"),
    "fuzzed_requests": Target("malformed requests", None),
    "fuzz_5xx": Target("the same: without a response, or with status 5xx"),
    "fuzz_tracebacks": Target("the same: tracebacks"),
    "large_forms_accepted": Target("forms of 20 MB that are accepted"),
    "large_forms_memory_mb": Target("the same: memory", 100, "MB"),
    "off_site_requests": Target("requests with addresses of other sites", None),
    "off_site_redirects": Target("the same: redirects to other sites"),
    "off_site_dropped": Target("the same: dropped connections"),
    "protected_pages_read": Target("ways in which a stranger reads or changes a protected page"),
    "values_of_others": Target("values of one visitor that another gets"),
    "forgeries_accepted": Target("forged forms, cookies and origins that are accepted"),
    "stopped_by_strangers": Target("pages that a stranger stops"),
    "update_beside_slow_page_s": Target("live update of others beside a page function that takes seconds", 2, "s"),
    "owner_rights_given": Target("ways in which a bare proxy is taken for the owner"),
    "rebinding_answers": Target("answers to hosts of other sites (DNS rebinding)"),
    "spoofed_headers_believed": Target("spoofed proxy headers that are believed"),
    "kills": Target("kill -9 while visitors open pages", None),
    "kills_pages": Target("the same: pages that visitors saw complete", None, least=5),
    "kills_lost": Target("the same: pages lost"),
    "kills_restart_s": Target("the same: longest restart", None, "s"),
    "drain_s": Target("SIGTERM under load: time to the end", 45, "s"),
    "drain_cut_off": Target("the same: pages whose visitors did not get the end", None),
    "drain_lost": Target("the same: pages that are not stored after the next start"),
    "drain_resumed": Target("the same: pages that were written after the next start", None),
    "full_disk_health_ok": Target("full disk: /health says ok"),
    "full_disk_stored_pages_fail": Target("full disk: stored pages fail"),
    "full_disk_forms_lost": Target("full disk: forms whose text is lost"),
    "full_disk_lost": Target("full disk: pages lost when there is room again"),
    "full_disk_starts_fail": Target("full disk: the server does not start"),
    "read_only_fails": Target("read-only file system: --read-only does not serve"),
    "read_only_tracebacks": Target("read-only file system without the flag: tracebacks"),
    "second_process_accepted": Target("a second process on the database is accepted"),
    "second_process_refused": Target("a second process on the database is refused although there is a broker"),
    "second_reader_refused": Target("a second process with --read-only is refused"),
    "clock_forms_refused": Target("clock +3 days: fresh forms are refused"),
    "clock_frames_dropped": Target("clock -1 hour: open tabs drop frames"),
    "growth_pages": Target("pages written in a row", None),
    "growth_memory_mb": Target("the same: growth of memory after the first tenth", 60, "MB"),
    "growth_descriptors": Target("the same: growth of file descriptors", 10),
    "growth_descriptors_open": Target("the same: file descriptors at the end", 150),
    "engine_away_5xx": Target("model server away: pages with status 5xx"),
    "engine_back_fails": Target("model server back: pages are not written"),
    "database_away_lost": Target("database away: pages lost"),
    "database_away_answer_s": Target("database away: longest time until an answer", 5, "s"),
    "database_away_recovery_s": Target("database back: time until pages are written", 10, "s"),
    "database_away_died": Target("database away: the server ended"),
    "broker_away_lost": Target("broker away: pages lost"),
    "broker_away_answer_s": Target("broker away: longest time until an answer", 5, "s"),
    "broker_away_recovery_s": Target("broker back: time until pages are written", 10, "s"),
    "broker_away_died": Target("broker away: the server ended"),
    "processes_generations": Target("four processes behind nginx, 200 visitors on one page: generations", 1, least=1),
    "processes_complete": Target("the same: complete pages", 200, least=200),
    "processes_used": Target("the same: processes that served them", None, least=2),
    "processes_kill_complete": Target(
        "a process is killed while it writes a page for 40: complete pages", 40, least=40
    ),
    "processes_kill_reloads": Target("the same: visitors of the killed process, who reload", None),
    "processes_kill_takeover_s": Target("the same: time until another process takes over", 5, "s"),
    "processes_kill_generations": Target("the same: generations", 2, least=2),
    "processes_broker_complete": Target(
        "the broker restarts while a page is written for 40: complete pages", 40, least=40
    ),
    "processes_broker_generations": Target("the same: generations", None),
    "processes_database_unanswered": Target("the database is away for ten seconds: requests without an answer"),
    "processes_database_lost": Target("the same: pages lost"),
    "processes_database_recovery_s": Target("the same: time until pages are written again", 10, "s"),
    "processes_rolling_requests": Target("rolling restart of all processes: requests meanwhile", None),
    "processes_rolling_failed": Target("the same: failed requests"),
    "processes_rolling_incomplete": Target("the same: incomplete pages"),
    "processes_rolling_replaced": Target("the same: replaced processes", 4, least=4),
    "processes_rolling_s": Target("the same: time", None, "s"),
    "processes_budget_pages": Target("pages that one visitor gets with a budget of 6", 6, least=6),
    "processes_drain_lost": Target("SIGTERM: pages lost"),
    "processes_drain_s": Target("SIGTERM: time to the end", 45, "s"),
}
"""All figures that the checks return, in the order of the report."""


def missed(figures: Figures) -> list[str]:
    """Return the names of the figures that miss their targets."""
    return [name for name, value in figures.items() if name in TARGETS and not TARGETS[name].met(value)]


def print_report(title: str, figures: Figures) -> None:
    """Print a table of figures and targets."""
    table = Table(title=title, title_justify="left")
    table.add_column("check")
    table.add_column("measured", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    unknown = {name: Target(name, None) for name in figures if name not in TARGETS}
    for name, target in {**TARGETS, **unknown}.items():
        if name in figures:
            value = f"{figures[name]:,.1f}".removesuffix(".0")
            passed = "" if not str(target) else "pass" if target.met(figures[name]) else "FAIL"
            table.add_row(target.label, f"{value} {target.unit}".strip(), str(target), passed)
    Console(width=120).print(table)


def to_json(results: Mapping[str, Figures]) -> str:
    """Return the figures of all runs, by the kind of storage, as one line of JSON."""
    rounded = {run: {name: round(value, 2) for name, value in figures.items()} for run, figures in results.items()}
    return json.dumps(rounded)
