"""The supervisor's part of a rush to watch: it starts the process that plays it, and sees to it that it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from api.rushes import ENDED, RushDesk
from ops.stack.processes import Child
from ops.stack.stack import Stack

__all__ = ["Rushes"]

KIND: Final = "BOXOFFICE_GATEWAY__KIND"

SIMULATOR: Final = "simulator"
"""Customers of a rush pay by its cards alone."""

LONGEST_S: Final = 240.0
"""From the wish to the end of the audit. Whatever takes longer is killed, and said to have failed."""


class _Rush(Child):
    """`python -m ops.rush.watched`, on this stack."""

    def __init__(self, log: Path, data_dir: Path, environ: Mapping[str, str]) -> None:
        super().__init__("rush", log)
        self._data_dir = data_dir
        self._environ = environ

    def start(self) -> None:
        """Once; it ends by itself."""
        self.spawn([sys.executable, "-m", "ops.rush.watched", self._data_dir], env=self._environ)


class Rushes:
    """One rush at a time, on a stack with servers of its own."""

    def __init__(self, stack: Stack) -> None:
        home = stack.servers.home
        self._desk = RushDesk(home.path)
        self._child = _Rush(home.logs / "rush.log", home.path, stack.environment())
        self._until = 0.0
        self._playing = False
        if stack.embedded and stack.environment().get(KIND, SIMULATOR) == SIMULATOR:
            self._desk.open()

    def look(self, now: float) -> None:
        """Start the one that is wished for; bury the one that has ended."""
        if self._playing:
            if now > self._until:
                self._child.kill()
            if not self._child.alive:
                self._end()
        elif self._desk.there and self._desk.wish() is not None:
            self._until = now + LONGEST_S
            self._playing = True
            self._child.start()

    def stop(self) -> None:
        """Nobody plays any more."""
        with contextlib.suppress(OSError):
            self._child.stop(2.0)
            self._desk.close()

    def _end(self) -> None:
        self._playing = False
        state = self._desk.state()
        if state is not None and state.status not in ENDED:
            state.status = "failed"
            state.error = f"The process that played it ended ({self._child.ending})."
            self._desk.write(state)
        self._desk.done()
