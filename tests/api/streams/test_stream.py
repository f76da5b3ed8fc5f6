"""One reader on its connection: begun once, over once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from api.streams.stream import Stream


class Plain(Stream):
    """Says one thing."""

    left = followed = 0

    def first(self) -> bytes:
        return b"first"

    def follow(self) -> None:
        Plain.followed += 1

    def leave(self) -> None:
        Plain.left += 1


class Readers:
    def __init__(self) -> None:
        self.settings = SimpleNamespace(buffer_max_bytes=100)
        self.here: list[Stream] = []
        self.stopping = False

    def began(self, stream: Stream) -> None:
        self.here.append(stream)
        if self.stopping:
            stream.end("drained")

    def left(self, stream: Stream) -> None:
        self.here.remove(stream)


class Transport:
    def __init__(self) -> None:
        self.sent = b""
        self.closed = False
        self.size = 0
        self.own: Any = None

    def get_extra_info(self, _name: str) -> Any:
        return self.own

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.size

    def close(self) -> None:
        self.closed = True

    abort = close


@pytest.fixture
def made() -> tuple[Plain, Readers, Transport]:
    Plain.left = Plain.followed = 0
    readers, transport = Readers(), Transport()
    stream = Plain(readers, SimpleNamespace(), "", b"")  # type: ignore[arg-type]
    stream.begin(transport, b"head ")
    return stream, readers, transport


def test_it_begins_with_head_and_state(made: tuple[Plain, Readers, Transport]) -> None:
    stream, readers, transport = made
    assert (transport.sent, readers.here) == (b"head first", [stream])


def test_a_message_is_sent_once(made: tuple[Plain, Readers, Transport]) -> None:
    stream, _, transport = made
    for name in (b"1", b"1", b"2"):
        stream.send(name, b"<%b>" % name)
    assert transport.sent == b"head first<1><2>"


@pytest.mark.parametrize("how", ["gone", "ended", "unread"])
def test_it_is_over_once(made: tuple[Plain, Readers, Transport], how: str) -> None:
    stream, readers, transport = made
    if how == "gone":
        stream.message_event.set()
    elif how == "ended":
        stream.end("drained")
    else:
        transport.size = 101
        stream.write(b"x")
    stream.set()
    stream.end("drained")
    stream.send(b"9", b"late")
    assert (readers.here, Plain.left, transport.closed) == ([], 1, how != "gone")
    assert b"late" not in transport.sent


def test_what_no_connection_took_makes_room() -> None:
    readers = Readers()
    stream = Plain(readers, SimpleNamespace(), "", b"")  # type: ignore[arg-type]
    readers.here.append(stream)
    stream.abandon()
    stream.abandon()
    assert readers.here == []


def test_a_socket_that_is_gone_already_is_no_reason() -> None:
    class Gone:
        def setsockopt(self, *_: int) -> None:
            raise OSError("gone")

    readers, transport = Readers(), Transport()
    transport.own = Gone()
    stream = Plain(readers, SimpleNamespace(), "", b"")  # type: ignore[arg-type]
    stream.begin(transport, b"head ")
    assert (readers.here, transport.sent) == ([stream], b"head first")


@pytest.mark.parametrize("what", ["get_extra_info", "write"])
def test_what_fails_to_begin_makes_room(what: str) -> None:
    """And ends its connection, which nobody else does any more."""
    readers, transport = Readers(), Transport()
    stream = Plain(readers, SimpleNamespace(), "", b"")  # type: ignore[arg-type]
    readers.here.append(stream)

    def fails(_: Any) -> None:
        raise RuntimeError("a bug")

    setattr(transport, what, fails)
    with pytest.raises(RuntimeError):
        stream.begin(transport, b"head ")
    stream.abandon()
    assert (readers.here, transport.closed) == ([], True)


def test_what_begins_while_the_process_stops_is_whole() -> None:
    """Head, state and end, in this order; and it is not told of anything any more."""
    Plain.followed = 0
    readers, transport = Readers(), Transport()
    readers.stopping = True
    Plain(readers, SimpleNamespace(), "", b"").begin(transport, b"head ")  # type: ignore[arg-type]
    assert transport.sent == b"head first: closed\n\n"
    assert (readers.here, Plain.followed, transport.closed) == ([], 0, True)
