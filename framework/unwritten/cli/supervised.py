"""A process that ``unwritten run --workers`` has started, and what it inherits from its supervisor."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

VARIABLE = "_UNWRITTEN_SUPERVISED"
"""The environment variable that tells the process what it inherits: three file descriptors and a word."""


@dataclass(frozen=True, slots=True)
class SupervisorLink:
    """The supervisor, as its child sees it.

    Attributes:
        listener: The file descriptor of the listening socket.
        lifeline: The read end of a pipe, which ends when the child must stop, or when the supervisor does.
        report: The write end of a pipe, on which the child reports that it has started.
        announces: True if this process prints the summary of the app.
    """

    listener: int
    lifeline: int
    report: int
    announces: bool

    def report_started(self, **facts: object) -> None:
        """Report that requests are accepted, with what the supervisor prints about it."""
        os.write(self.report, json.dumps(facts).encode() + b"\n")
        os.close(self.report)

    def follow(self, stop: Callable[[], object]) -> None:
        """Call a function in a thread when this process must stop."""

        def wait() -> None:
            while os.read(self.lifeline, 1):
                pass
            stop()

        threading.Thread(target=wait, daemon=True, name="lifeline").start()


def supervisor_link() -> SupervisorLink | None:
    """Return the supervisor that has started this process, or None if there is none."""
    words = os.environ.pop(VARIABLE, "").split()
    if not words:
        return None
    listener, lifeline, report = map(int, words[:3])
    for descriptor in (listener, lifeline, report):
        os.set_inheritable(descriptor, False)
    return SupervisorLink(listener, lifeline, report, announces=words[3] == "announces")
