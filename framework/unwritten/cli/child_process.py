"""Child processes that serve: how they are started, what they inherit, and how they learn that their parent has ended.

``unwritten run`` restarts one when files change (``reload``). ``unwritten run --workers`` keeps several running
(``workers``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SUPERVISED = "_UNWRITTEN_SUPERVISED"
"""The environment variable of a process that ``unwritten run --workers`` has started; see ``start_child``."""


def start_child(
    arguments: Sequence[str],
    variable: str,
    descriptors: Sequence[int],
    word: str,
    environment: Mapping[str, str] = os.environ,
) -> subprocess.Popen[bytes]:
    """Start ``unwritten`` in a child process.

    Args:
        arguments: What is typed after ``unwritten``.
        variable: The environment variable from which the child reads what it inherits; see ``inherited``.
        descriptors: The file descriptors that it inherits.
        word: Passed on to it.
        environment: Its other environment variables.
    """
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "unwritten", *arguments],
        env={**environment, variable: " ".join([*map(str, descriptors), word])},
        pass_fds=descriptors,
        process_group=0,  # Ctrl-C in the terminal reaches only the parent, which stops its children
    )


def inherited(variable: str) -> tuple[list[int], str] | None:
    """Return the file descriptors and the word that ``start_child`` has passed to this process. None: it was not used.

    The children of this process inherit neither.
    """
    *descriptors, word = os.environ.pop(variable, "").split() or [""]
    if not word:
        return None
    numbers = [int(descriptor) for descriptor in descriptors]
    for number in numbers:
        os.set_inheritable(number, False)
    return numbers, word


def watch_lifeline(lifeline: int, on_end: Callable[[], object], on_byte: Callable[[], object] = lambda: None) -> None:
    """Call a function in a thread when the parent has closed its end of a pipe, or has ended itself.

    Args:
        lifeline: The read end of the pipe.
        on_end: The function.
        on_byte: Called for each byte that the parent sends.
    """

    def watch() -> None:
        while os.read(lifeline, 1):
            on_byte()
        on_end()

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


@dataclass(frozen=True, slots=True)
class SupervisorLink:
    """The supervisor of workers, as its children see it.

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


def supervisor_link() -> SupervisorLink | None:
    """Return the supervisor that has started this process, or None if there is none."""
    found = inherited(SUPERVISED)
    if found is None:
        return None
    (listener, lifeline, report), word = found
    return SupervisorLink(listener, lifeline, report, announces=word == "announces")
