"""What is seen while it runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ops.rush.performance import Performance

__all__ = ["Show"]

LINE_S: Final = 5.0


class Show:
    """Goes to standard error: standard output is for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar: Progress | None = None
        if self._console.is_terminal and not quiet:
            columns = (
                TextColumn("{task.description:32}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[sold]}"),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=1.0, sold="")
        self._next_line = time.monotonic() + LINE_S

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """One line, above the bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def update(self, performance: Performance, elapsed_s: float) -> None:
        """How far it is."""
        history = performance.history
        sold = f"{len(history.sold_at):,} accepted, {history.refusals.total():,} refused" if history else ""
        if self._bar is not None:
            share = min(1.0, elapsed_s / performance.workload.seconds) if performance.began.is_set() else 0.0
            self._bar.update(self._task, description=performance.phase, completed=share, sold=sold)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_S
            self.say(f"{elapsed_s:6.2f} s  {performance.phase}; {sold}")
