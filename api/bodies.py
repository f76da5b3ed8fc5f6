"""Reads a request's body from ASGI, and refuses it beyond a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from boxoffice.errors import Malformed

__all__ = ["ClientGone", "Receive", "check_length", "collect", "read_body", "unless_gone"]

Answer = TypeVar("Answer")

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class ClientGone(Exception):
    """The client sends no more: it closed its connection, or just its side of it. Before its body had arrived, no answer can be
    sent."""


async def read_body(receive: Receive, most: int) -> bytes:
    """The whole body. Its bytes are counted as they arrive, because Content-Length may be missing or wrong.

    Raises `Malformed` as soon as it is too long.
    """
    body = await collect(receive, most)
    check_length(body, most)
    return body


async def collect(receive: Receive, most: int) -> bytes:
    """The whole body, or the beginning of one that has more than `most` bytes. Raises `ClientGone`."""
    message = await receive()
    body = bytes(message.get("body", b""))
    while message.get("more_body") and len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    return body


def check_length(body: bytes, most: int) -> None:
    """Raises `Malformed` when a body that was collected has more than `most` bytes."""
    if len(body) > most:
        raise Malformed(f"The body has more than {most} bytes.", code="body_too_large")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Answer]) -> Answer:
    """What this work comes to, which waits for something while its client waits for an answer. Raises `ClientGone` as soon
    as that one has gone; the work is cancelled then."""
    working, going = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, going), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        going.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
