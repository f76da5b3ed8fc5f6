"""`up` hears every way in which it can be told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.stack.signals import StopWatch
from tests.support.waiting import until

needs_make = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("make"), reason="needs make, and Linux to look at it"
)

WAITER = textwrap.dedent("""
    import time
    from ops.stack.signals import StopWatch
    with StopWatch() as watch:
        print("waiting", flush=True)
        while not watch.wanted:
            time.sleep(0.02)
    print("stopped", flush=True)
""")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A `make` whose recipe waits to be told to stop."""
    (tmp_path / "waiter.py").write_text(WAITER)
    (tmp_path / "Makefile").write_text(f"run:\n\t@{sys.executable} waiter.py\n")
    # Without what `make test` itself hands down, or this make believes to be a part of that one.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environ = {**inherited, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(["make", "run"], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "waiting\n"
    yield process
    process.kill()
    process.communicate()


@needs_make
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_make_alone_is_heard(make: subprocess.Popen[str], signum: int) -> None:
    make.send_signal(signum)

    said, _ = make.communicate(timeout=60)

    assert said == "stopped\n"


def test_the_second_signal_hurries() -> None:
    with StopWatch({}) as watch:
        asked = [(watch.wanted, watch.hurry)]
        for count, signum in enumerate((signal.SIGTERM, signal.SIGINT), 1):
            _raise(signum, watch, count)
            asked.append((watch.wanted, watch.hurry))

    assert asked == [(False, False), (True, False), (True, True)]


def _raise(signum: signal.Signals, watch: StopWatch, requests: int) -> None:
    os.kill(os.getpid(), signum)
    until(lambda: watch.requests >= requests, timeout_s=30, every_s=0.001)
