"""The simulated gateway's books: an append-only file that outlives whoever writes it and is shared by many processes.

A line is four words, `payment_key state booking_id at_ms`; the last line of a key is the truth about its payment, and
only its first line names the booking (the others have `-`). A batch is one write() before anybody is answered, with no
fsync: the page cache survives a SIGKILL, and a simulator need not survive a power cut.

Whoever reads or writes takes turns by flock() and first reads what others appended, so an index of states in memory is
exact during a turn. A writer killed in mid-write leaves complete lines, which count (the money moved, the answer was
lost), and at most one torn line, which the next turn cuts off.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from boxoffice.errors import CannotRun
from boxoffice.gateway.simulator.kept_files import made_once

__all__ = ["Ledger"]

_PIECE: Final = 1 << 20
"""Bytes read at once, about 10,000 lines in 5 ms: the event loop waits no longer than that, and neither do other
processes, because more is never read during a turn."""


class Ledger:
    """The file and an index of its last states. `path`'s folder is made if need be."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.states: dict[str, str] = {}
        """Payment key to the word on its last line. Exact between `begin` and `end`. Whoever changes it adds the
        line to `lines` in the same breath, as `put` does."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._identity = made_once(path.with_name(path.name + ".id"), secrets.token_hex(4))
        self._position = 0
        self.lines: list[str] = []
        """What this turn will write."""

    @property
    def identity(self) -> str:
        """Tells this ledger from others: 8 hex digits, made with it and kept beside it."""
        return self._identity

    async def begin(self, patience_s: float) -> None:
        """Wait for a turn and catch up. No `await` may stand between this and `end`.

        Never blocks the event loop: the process whose turn it is may have been stopped in the middle of it.
        Raises `TimeoutError` when nobody gives way for `patience_s`.
        """
        clock = asyncio.get_running_loop().time
        pause_s, give_up = 0.0002, clock() + patience_s
        while True:
            if not self._lock():
                if clock() > give_up:
                    raise TimeoutError
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 0.004)
                continue
            if self._catch_up():
                return
            await asyncio.sleep(0)
            give_up = clock() + patience_s

    def put(self, payment_key: str, word: str, booking_id: str, at_ms: int) -> None:
        """Change a payment's state. During a turn only; on disk when `end` returns."""
        self.states[payment_key] = word
        self.lines.append(f"{payment_key} {word} {booking_id} {at_ms}\n")

    def end(self) -> list[str]:
        """Write the lines of this turn, at once, and let others go on. Returns the lines.

        Raises `OSError` when the disk does not take them all; those that it took count.
        """
        lines, self.lines = self.lines, []
        try:
            if lines:
                self._write("".join(lines).encode("ascii"))
        finally:
            self._unlock()
        return lines

    async def first_lines(self) -> AsyncIterator[tuple[str, str, int]]:
        """Payment key, booking id and time in ms of every payment, oldest first, as of the end of the last turn."""
        at, end, rest = 0, self._position, b""
        while at < end:
            piece = os.pread(self._file, min(_PIECE, end - at), at)
            at += len(piece)
            complete, _, rest = (rest + piece).rpartition(b"\n")
            for line in complete.decode("ascii").splitlines():
                key, _, booking, at_ms = line.split(" ")
                if booking != "-":
                    yield key, booking, int(at_ms)
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def _catch_up(self) -> bool:
        """Read what others appended. True: all of it, and the turn is ours. False: there may be more, and it is not."""
        try:
            piece = os.pread(self._file, _PIECE, self._position)
            if len(piece) == _PIECE:
                # A long way behind: let others go on meanwhile. Complete lines never change.
                self._unlock()
                self._learn(piece)
                return False
            if piece:
                self._learn(piece)
                if not piece.endswith(b"\n"):
                    os.ftruncate(self._file, self._position)
            return True
        except BaseException:
            self._unlock()
            raise

    def _learn(self, piece: bytes) -> None:
        """Index the complete lines of a piece. All of it happens in C: 1 M lines take well under a second."""
        complete = piece[: piece.rfind(b"\n") + 1]
        words = complete.decode("ascii").split()
        if len(words) != 4 * complete.count(b"\n") or (len(piece) == _PIECE and not words):
            raise CannotRun(f"The ledger {self._path} is damaged after byte {self._position}.")
        self.states.update(zip(words[0::4], map(sys.intern, words[1::4]), strict=True))
        self._position += len(complete)

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
            self._position += written
        except OSError:
            # The index ran ahead of the file. Read it all again: the disk is full, speed is no matter.
            self.states.clear()
            self._position = 0
            raise
