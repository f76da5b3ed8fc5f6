"""A box office whose parts only note what they are asked for, and a worker of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

SHARDS = 3


class Calls(list[tuple[Any, ...]]):
    """What was called, in order. `recorder("name")` is a coroutine function that notes its arguments."""

    def recorder(self, name: str, answer: Any = None, error: Exception | None = None) -> Callable[..., Any]:
        async def record(*arguments: Any, **named: Any) -> Any:
            self.append((name, *arguments, *named.values()))
            if error is not None:
                raise error
            return answer

        return record


HOME = SimpleNamespace(connection_pool=None)
"""The Redis of all shards."""


class Homes(list[Any]):
    """Shards that have nothing but a Redis each."""

    scripts = "the scripts"
    clients = (HOME,)


def homes(*clients: Any) -> Homes:
    return Homes(SimpleNamespace(number=number, redis=client) for number, client in enumerate(clients))
