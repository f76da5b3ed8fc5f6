"""The data directory: whose it is, and what is remembered there between runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from boxoffice.errors import CannotRun
from ops.stack.ports import Ports
from ops.stack.processes import POLL_S

__all__ = ["DataDir", "ServerLock", "write_private"]


class DataDir:
    """A data directory that is ours alone between `open` and `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None
        self._ports = Ports()

    @property
    def logs(self) -> Path:
        """The folder with one log per process."""
        return self.path / "logs"

    def open(self) -> None:
        """Create it if need be and lock it. Raises CannotRun while another process has it."""
        if not self.path.exists():
            self.path.mkdir(parents=True)
            # Others may pass through, for the account PostgreSQL runs as; they cannot look around.
            self.path.chmod(0o711)
        lock = _open_lock(self.path / "lock")
        # Whoever asks "is a stack running?" holds the lock for an instant (see `owner`).
        if not _lock(lock.fileno(), 0.3):
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise CannotRun(
                f"{self.path} is in use by another boxoffice{f' (pid {owner})' if owner else ''}: "
                "stop that one, or choose another DATA_DIR."
            )
        self.logs.mkdir(exist_ok=True)
        self.logs.chmod(0o700)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def close(self) -> None:
        """Let others have it, and its ports."""
        self._ports.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def owner(self) -> int | None:
        """The process that has this directory open now, if any."""
        try:
            lock = (self.path / "lock").open("r")
        except OSError:
            return None
        with lock:
            text = lock.read().strip()
            return int(text) if text.isdigit() and not _lock(lock.fileno(), 0, shared=True) else None

    def secret(self, name: str) -> str:
        """A password, made on the first call and kept in a file that only we can read."""
        kept = self._read("secrets.json")
        if name not in kept:
            kept[name] = secrets.token_hex(16)
            write_private(self.path / "secrets.json", json.dumps(kept))
        return str(kept[name])

    def port(self, name: str) -> int:
        """The server's port of last time when it is still free, so that URLs stay the same; otherwise a new one. Ours until
        `close`, whoever listens there meanwhile."""
        port = self._read("ports.json").get(name)
        return port if isinstance(port, int) and self._ports.take(port) else self.new_port(name)

    def new_port(self, name: str) -> int:
        """One that is remembered, in place of the one before. Ours until `close`."""
        kept = self._read("ports.json")
        before, port = kept.get(name), self._ports.draw(avoid=kept.values())
        if isinstance(before, int):
            self._ports.leave(before)
        write_private(self.path / "ports.json", json.dumps({**kept, name: port}))
        return port

    def take_port(self, port: int) -> bool:
        """Make this one ours until `close`, if it can be."""
        return self._ports.take(port)

    def spare_port(self) -> int:
        """One that nobody remembers. Ours until `close`."""
        return self._ports.draw()

    def _read(self, name: str) -> dict[str, object]:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            kept = json.loads((self.path / name).read_text())
            return kept if isinstance(kept, dict) else {}
        return {}


class ServerLock:
    """A lock that the server itself holds, through a descriptor it inherits, and with it every process it starts.

    So two servers never share their files, not even when a supervisor was SIGKILLed a moment ago and its servers are
    still writing their last.
    """

    def __init__(self, path: Path) -> None:
        self._file = _open_lock(path)
        self._path = path

    def acquire(self, end_leftover: Callable[[], None], check: Callable[[], None]) -> int:
        """Wait until no earlier server is left; one that nobody told to end is told after a second."""
        for wait_s in (1.0, 30.0):
            end = time.monotonic() + wait_s
            while time.monotonic() < end:
                if _lock(self._file.fileno(), 0):
                    return self._file.fileno()
                check()
                time.sleep(POLL_S)
            end_leftover()
        self.release()
        raise CannotRun(f"An earlier server still uses the files beside {self._path} and does not end: stop it first.")

    def release(self) -> None:
        """Let go of our end. The server keeps its own."""
        self._file.close()


def _open_lock(path: Path) -> IO[str]:
    """A file to lock that is ours alone: whoever may open it may hold it, and keep us from starting."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "a+")
    # One that an older version made.
    os.fchmod(file.fileno(), 0o600)
    return file


def _lock(fd: int, wait_s: float, *, shared: bool = False) -> bool:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(POLL_S)
        else:
            return True


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only we can read it. One that says the same is left alone, also on a full disk."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text() == text and path.stat().st_mode & 0o777 == 0o600:
            return
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text)
    draft.replace(path)
