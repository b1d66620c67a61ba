"""What a person sees on stderr while a model loads."""

from __future__ import annotations

import sys
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class LoadingProgress:
    """A progress bar in a terminal, plain lines elsewhere. Call it with a share from 0 to 1 and words."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._said = ""
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("Getting ready", total=1.0)

    def __enter__(self) -> LoadingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, share: float, words: str) -> None:
        """Show how far the work is."""
        if self._bar:
            self._bar.update(self._task, completed=share, description=words)
        elif words != self._said:
            click.echo(words, err=True)
        self._said = words
