"""How the two clients carry out flows, and how an operation becomes a method of each.

`client.book(…)` is `calls.book(…)`, sent: parameters and the type of the answer are those of the call.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import httpx2

from boxoffice_client.calls import Call
from boxoffice_client.flows import Answer, Received, Send
from boxoffice_client.retrying import Lost

__all__ = ["AsyncOperation", "Operation", "lost", "received", "request_of"]

P = ParamSpec("P")
T = TypeVar("T")


class _Sends(Protocol):
    def send(self, call: Call[T]) -> Answer[T]: ...


class _SendsAsync(Protocol):
    async def send(self, call: Call[T]) -> Answer[T]: ...


class Operation(Generic[P, T]):
    """A method that sends what a function of `calls` makes."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    def __get__(self, client: _Sends, owner: type | None = None) -> Callable[P, T]:
        """Bound to a client."""

        @functools.wraps(self.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return client.send(self.build(*args, **kwargs)).data

        return method


class AsyncOperation(Generic[P, T]):
    """The same, to be awaited."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    def __get__(self, client: _SendsAsync, owner: type | None = None) -> Callable[P, Awaitable[T]]:
        """Bound to a client."""

        @functools.wraps(self.build)
        async def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return (await client.send(self.build(*args, **kwargs))).data

        return method


def request_of(send: Send, base_url: str) -> dict[str, Any]:
    """The arguments of httpx2's `request`."""
    return {
        "method": send.method,
        "url": base_url + send.path,
        "params": dict(send.query),
        "headers": dict(send.headers),
        "content": send.content,
        "timeout": send.timeout_s,
    }


def received(answer: httpx2.Response) -> Received:
    """What came of an attempt that was answered."""
    return Received(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.text)


def lost(error: httpx2.TransportError) -> Lost:
    """What came of one that was not."""
    never_sent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
    return Lost(sent=not isinstance(error, never_sent))
