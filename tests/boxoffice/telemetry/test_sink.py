"""Lines that may be lost never stop whoever writes them; how many were lost is told."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from boxoffice.telemetry.sink import PATIENCE_MS, PIECE, Sink


def tell(lines: int, _since_s: float, why: str) -> bytes:
    return f"lost {lines} ({why})\n".encode()


def write(sink: Sink, *lines: str) -> None:
    for line in lines:
        sink.add(line.encode() + b"\n")
    sink.flush()


@pytest.fixture
def pipe() -> Iterator[tuple[int, IO[bytes]]]:
    """Where to read, and a stream to write to."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb", buffering=0) as stream:
        yield reader, stream


def test_lines_go_out_together_and_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as stream:
        write(Sink(stream, tell), "one", "two")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_full_disk_loses_lines_and_they_are_counted() -> None:
    with open("/dev/full", "wb", buffering=0) as stream:
        sink = Sink(stream, tell)
        write(sink, "one", "two")
        write(sink, "three")
        assert sink.lost == 3


def test_a_dead_reader_is_no_error_and_the_next_one_is_told(pipe: tuple[int, IO[bytes]]) -> None:
    reader, stream = pipe
    sink = Sink(stream, tell)
    write(sink, "one")
    os.close(reader)
    write(sink, "two", "three")
    # Somebody reads again, as when a terminal is attached anew.
    again, writer = os.pipe()
    os.dup2(writer, stream.fileno())
    write(sink, "four")
    write(sink, "five")
    assert os.read(again, 1_000) == b"lost 2 (EPIPE)\nfour\nfive\n"
    for fd in (again, writer):
        os.close(fd)


def test_a_reader_that_stops_reading_holds_nobody_up(pipe: tuple[int, IO[bytes]]) -> None:
    """Not for ever, and only once: later lines are dropped at once, until it reads again."""
    reader, stream = pipe
    sink = Sink(stream, tell)
    line = "x" * 1_000
    started = time.monotonic()
    for _ in range(2_000):
        write(sink, line)
    assert time.monotonic() - started < 30, "a blocking write would never return"
    lost = sink.lost
    assert lost > 1_000
    read = b""
    while len(read) < (2_000 - lost) * 1_001:
        read += os.read(reader, 65_536)
    write(sink, "heard")
    assert os.read(reader, 1_000).endswith(b"lost %d (EAGAIN)\nheard\n" % lost)
    os.close(reader)


def test_a_reader_that_reads_gets_every_line(pipe: tuple[int, IO[bytes]]) -> None:
    """More than a pipe holds, written in one go, to a reader who is just slow."""
    reader, stream = pipe
    read = bytearray()

    def reading() -> None:
        while piece := os.read(reader, PIECE):
            read.extend(piece)

    thread = threading.Thread(target=reading)
    thread.start()
    sink = Sink(stream, tell)
    lines = [f"line {n} " + "x" * 100 for n in range(3_000)]
    write(sink, *lines)
    stream.close()
    thread.join()
    os.close(reader)
    assert read.decode().splitlines() == lines
    assert sink.lost == 0


def test_a_line_that_was_cut_in_the_middle_ends_before_the_next() -> None:
    """A disk that takes half a line: the lines after it can be read all the same."""
    taken: list[bytes] = []
    room = [6]
    sink = Sink(None, tell)

    def some(text: bytes, at: int, _wait_ms: int) -> int:
        piece = text[at : at + room[0]]
        if not piece:
            raise OSError(28, "no space left")
        taken.append(piece)
        room[0] -= len(piece)
        return len(piece)

    sink.write = some
    write(sink, "one", "two", "three")
    assert sink.lost == 2
    room[0] = 1_000
    write(sink, "four")
    assert b"".join(taken) == b"one\ntw\nlost 2 (ENOSPC)\nfour\n"


@pytest.mark.parametrize("stream", ["closed", "none"])
def test_a_stream_that_is_not_there(stream: str, tmp_path: Path) -> None:
    if stream == "none":
        sink = Sink(None, tell)
    else:
        file = (tmp_path / "log").open("ab", buffering=0)
        sink = Sink(file, tell)
        file.close()
    write(sink, "one")
    assert sink.lost == 1


def test_a_slow_reader_is_waited_for_until_something_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it may take; afterwards not at all, until it reads again."""
    waits: list[int] = []
    sink = Sink(None, tell)
    heard = [0, 0, 100, 100]

    def out(text: bytes, at: int, wait_ms: int) -> int:
        waits.append(wait_ms)
        return min(heard.pop(0), len(text) - at)

    sink.write = out
    for line in ("one", "two", "three", "four"):
        write(sink, line)
    assert [wait > PATIENCE_MS // 2 for wait in waits] == [True, False, False, True]
    assert max(waits) <= PATIENCE_MS and min(waits) == 0
    assert sink.lost == 0
