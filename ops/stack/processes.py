"""Child processes that can be stopped, killed, paused and started again, and that never outlive us.

One file because what may become of a child is one subject, on every system that we run on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from boxoffice.errors import CannotRun
from boxoffice.telemetry.sink import Sink

__all__ = ["Account", "Child", "children_of", "complain", "die_with_parent"]

POLL_S = 0.01
"""How often a starting or stopping process is looked at."""

LOG_MAX_BYTES = 16 * 1024 * 1024
"""A log longer than this is put aside as `<name>.log.1`, in place of the one that was put aside before."""

LINE_MAX_BYTES = 1024 * 1024
"""How far back from its end a copy is searched for a whole line."""

_PR_SET_PDEATHSIG = 1


class Account(NamedTuple):
    """The user a child runs as, when that is not ours."""

    name: str
    uid: int
    gid: int


def complain(sentence: str) -> None:
    """On our standard error, if somebody takes it."""
    voice = Sink(getattr(sys.stderr, "buffer", None), lambda *_: b"")
    voice.add(f"{sentence}\n".encode(errors="backslashreplace"))
    voice.flush()


def nothing() -> None:
    """The check of somebody who is never interrupted."""


def die_with_parent(signum: int, parent: int) -> Callable[[], None]:
    """What a process calls to be sent `signum` when the thread that started it is gone. Linux only; elsewhere nothing.

    Without it, a SIGKILLed supervisor would leave its servers behind.
    """
    if not sys.platform.startswith("linux"):
        return nothing
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        # The parent may have died before we asked: then nobody will tell us.
        if os.getppid() != parent:
            os.kill(os.getpid(), signum)

    return ask


def children_of(pid: int) -> list[int]:
    """Direct children of a process. PostgreSQL's each lead a session of their own, so no group signal reaches them."""
    if Path("/proc/self/stat").exists():
        processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        pairs = [pair for entry in processes if (pair := _pid_and_parent(entry))]
    else:
        listing = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        pairs = [(int(words[0]), int(words[1])) for line in listing.splitlines() if len(words := line.split()) == 2]
    return [child for child, parent in pairs if parent == pid]


def _pid_and_parent(entry: Path) -> tuple[int, int] | None:
    try:
        stat = (entry / "stat").read_text(errors="replace")
    except OSError:
        return None
    return int(entry.name), int(stat.rpartition(")")[2].split()[1])


class Child(ABC):
    """One child process and its log. Its name is what an operator calls it: `api`, `worker`, `redis`, `postgres`.

    Use it from the main thread: the kernel's "parent died" means the thread that started the child.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        check: Callable[[], None] = nothing,
    ) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self.hurry_signal = signal.SIGKILL
        self.check = check
        self.paused = False
        self.output: Callable[[], IO[bytes]] | None = None
        """Where what it says goes instead, from its next start on; to see what it does when its log takes nothing."""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start it as it was started the first time: same data, same port."""

    def restart(self) -> None:
        """Start it again, ending it first if it still runs."""
        self.stop()
        self.start()

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
        cwd: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the program. It has its own session, so a Ctrl-C in the terminal reaches only us."""
        if self.alive:
            raise CannotRun(f"{self.name} is already running.")
        self.cap_log()
        with (self.output or self._open_log)() as out:
            try:
                self._process = subprocess.Popen(
                    [str(word) for word in argv],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                    preexec_fn=die_with_parent(self.stop_signal, os.getpid()),
                    pass_fds=pass_fds,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
            except OSError as error:
                raise CannotRun(f"{self.name} cannot be started: {error}.") from error
        self.paused = False

    def cap_log(self) -> None:
        """Put its log aside when it has become too long, while it runs.

        Its process goes on writing to the same file, by O_APPEND at its new end. What it writes between copy and cut is
        lost, as with logrotate's `copytruncate`, a line of which the copy got the beginning as well. On a full disk nothing
        is cut: there the log does not grow either.
        """
        aside = self.log.with_name(self.log.name + ".1")
        draft = self.log.with_name(self.log.name + ".new")
        with contextlib.suppress(OSError):
            if self.log.stat().st_size <= LOG_MAX_BYTES:
                return
            # First of all, so that on a nearly full disk there is room for the copy.
            aside.unlink(missing_ok=True)
            try:
                draft.touch(mode=0o600)
                shutil.copyfile(self.log, draft)
                if self.alive:
                    _end_with_a_whole_line(draft)
                draft.replace(aside)
                os.truncate(self.log, 0)
            finally:
                draft.unlink(missing_ok=True)

    def _open_log(self) -> IO[bytes]:
        """Its log, which only we can read; where there is none to be had, nothing: the process matters more."""
        try:
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            out = os.fdopen(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")
            with contextlib.suppress(OSError):
                # One that an older version made.
                os.fchmod(out.fileno(), 0o600)
        except OSError:
            return Path(os.devnull).open("ab")
        return out

    @property
    def alive(self) -> bool:
        """Whether it runs, be it paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process, or the last one it had."""
        if self._process is None:
            raise CannotRun(f"{self.name} was never started.")
        return self._process.pid

    @property
    def ending(self) -> str:
        """How it ended, for a log line."""
        code = self._process.poll() if self._process else None
        if code is None:
            return "still running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until it is ready, and complain with the end of its log when it will not be."""
        end = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if not self.alive:
                raise CannotRun(
                    f"{self.name} stopped while starting ({self.ending}): {self.last_line()} See {self.log}."
                )
            if time.monotonic() > end:
                raise CannotRun(f"{self.name} was not ready after {timeout_s:g} seconds. See {self.log}.")
            time.sleep(POLL_S)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False when it is still running after that."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, signum: int) -> None:
        """Send a signal, if there is anybody to send it to."""
        if self._process is not None:
            self._process.send_signal(signum)

    def kill(self, signum: int = signal.SIGKILL, timeout_s: float = 10.0) -> None:
        """Send a signal and wait for the end."""
        self.send(signum)
        if not self.wait(timeout_s):
            raise CannotRun(f"{self.name} did not end on {signal.Signals(signum).name} within {timeout_s:g} seconds.")

    def pause(self) -> None:
        """Stop the clock for it and its children; connections stay open and nothing answers."""
        for pid in (self.pid, *children_of(self.pid)):
            _signal(pid, signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Let it run on after `pause`."""
        for pid in (*children_of(self.pid), self.pid):
            _signal(pid, signal.SIGCONT)
        self.paused = False

    def stop(self, timeout_s: float = 10.0, hurry: Callable[[], bool] = bool) -> None:
        """Ask it to end, and make it end when it takes longer than that or when we are in a hurry."""
        self.ask_to_stop()
        self.see_it_stop(timeout_s, hurry)

    def ask_to_stop(self) -> None:
        """Send the polite signal. A process that was paused must wake up to hear it."""
        if self.alive:
            if self.paused:
                self.resume()
            self.send(self.stop_signal)

    def see_it_stop(self, timeout_s: float, hurry: Callable[[], bool]) -> None:
        """Wait for the end after `ask_to_stop`, and bring it about when it takes too long."""
        end = time.monotonic() + timeout_s
        while self.alive and time.monotonic() < end and not hurry():
            time.sleep(POLL_S)
        if self.alive:
            self.send(self.hurry_signal)
            if not self.wait(5.0):
                self.kill()

    def last_line(self) -> str:
        """The last line of its log that says something."""
        try:
            lines = self.log.read_text(errors="replace")[-4_000:].split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _end_with_a_whole_line(copy: Path) -> None:
    """Cut off the beginning of a line that was being written meanwhile. Who reads a file sees the pages of a `write` that
    are filled so far."""
    with copy.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - LINE_MAX_BYTES))
        if end := file.read().rfind(b"\n") + 1:
            file.truncate(start + end)


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return
