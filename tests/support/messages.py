"""Server-sent events as a reader takes them apart."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.support.waiting import true_soon
from tests.support.wire import Door, Wire

__all__ = ["Message", "StreamHead", "follow", "get", "head_of", "messages_of", "nth"]


class Message(NamedTuple):
    """One message."""

    id: str
    event: str
    data: Any


class StreamHead(NamedTuple):
    """What a stream's answer begins with."""

    status: int
    headers: dict[str, str]


def get(path: str, *headers: str, key: str | None = None, method: str = "GET") -> bytes:
    """A request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode()


def head_of(raw: bytes) -> StreamHead:
    """Status and headers."""
    status, *lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return StreamHead(int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines))


def messages_of(raw: bytes) -> list[Message]:
    """All messages of a body that have come whole, without comments and what else is no message."""
    found = []
    for block in raw.partition(b"\r\n\r\n")[2].decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append(Message(fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def follow(door: Door, request: bytes) -> Wire:
    """Open a stream, and wait until it has begun."""
    wire = door.connect().send(request)
    await true_soon(lambda: b"retry: " in wire.received or wire.closing or b'"status":' in wire.received)
    return wire


async def nth(wire: Wire, number: int) -> Message:
    """The message with this number, once it is there; the first is 1."""
    await true_soon(lambda: len(messages_of(bytes(wire.received))) >= number)
    return messages_of(bytes(wire.received))[number - 1]
