"""uvicorn's server, which also checks the deadlines of its connections, and stops without cutting off a request."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
import uvicorn

from api.transport import memory
from api.transport.connection import Connection
from api.transport.listener import stop_listening
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.series import OPEN_CONNECTIONS

__all__ = ["Server", "room_for"]

LOOK_S: Final = 0.05
"""How often a server that is stopping looks who is still connected."""

EACH: Final = 5
"""Every so many ticks of uvicorn's (0.1 s) a round begins in which each connection is looked at, unless one is under way."""

SLICE_S: Final = 0.01
"""Between two looks at some of the connections: thousands of looks at once would make everybody wait."""

SLICE: Final = 32
"""Connections that are looked at in one slice. A round of 1,200 takes less than half a second, one of ten thousand three: their
deadlines are of ten seconds and more, and looks twice a second at all of them would take a twentieth of a core."""

SLICE_MAX_S: Final = 0.001
"""Time that a slice may take: to send away those whose time is up costs more than to look."""

OWN_FILES: Final = 128
"""Descriptors that are not clients': stores, logs, listeners, what libraries open for a moment."""

MANY: Final = 32
"""Connections that may have needed more memory than is worth keeping, when half of them are gone."""

LATER: Final = 6
"""Looks after which that is done once more."""

log = structlog.get_logger()


class Server(uvicorn.Server):
    """Looks after deadlines; when told to stop: no new connections, last answers, hang up."""

    def __init__(
        self, config: uvicorn.Config, drain_s: float, on_stop: Callable[[], None] = lambda: None
    ) -> None:  # fmt: skip
        super().__init__(config)
        self._drain_s = drain_s
        self._on_stop = on_stop
        """Called once, when every connection was told: whoever waits for anything but the client waits no more."""
        self._to_look_at: list[Any] = []
        self._short = False
        self._most = 0
        self._trim_in = -1

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second. Connections are looked at every `EACH` ticks, some at a time."""
        if counter % EACH == 0:
            self._look_around()
            if not self._to_look_at:
                self._to_look_at = list(self.server_state.connections)
                self._look_at_some()
        return await super().on_tick(counter)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                _look_at(connection, now)
        self._look_around()

    def _look_at_some(self) -> None:
        """At some of those that are left of this round, as far as they are still there; soon at more."""
        loop, left = asyncio.get_running_loop(), self._to_look_at
        there: set[Any] = self.server_state.connections
        end_s = time.monotonic() + SLICE_MAX_S
        for _ in range(min(SLICE, len(left))):
            connection = left.pop()
            if isinstance(connection, Connection) and connection in there:
                _look_at(connection, loop.time())
                if time.monotonic() > end_s:
                    break
        if left:
            loop.call_later(SLICE_S, self._look_at_some)

    def _look_around(self) -> None:
        """At the process."""
        OPEN_CONNECTIONS.set(len(self.server_state.connections))
        self.look_for_descriptors()
        self.look_for_memory()

    def look_for_memory(self) -> None:
        """After many connections have closed, give their memory back to the system; once more for those that follow."""
        count = len(self.server_state.connections)
        self._trim_in -= 1
        if count > self._most:
            self._most = count
        elif self._most >= MANY and count <= self._most // 2:
            self._most = count
            self._trim_in = LATER
            memory.trim()
        elif self._trim_in == 0:
            memory.trim()

    def look_for_descriptors(self) -> None:
        """libuv takes a connection for which there is no descriptor, closes it, and tells nobody. We do."""
        try:
            os.close(os.dup(2))
        except OSError as error:
            if not self._short:
                log.error(
                    "api.no_descriptors", error=type(error).__name__, connections=len(self.server_state.connections)
                )
            self._short = True
        else:
            self._short = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let every connection end with its request, for `drain_s` at most, and then stop as uvicorn does."""
        loop = asyncio.get_running_loop()
        # Every request sees it in its scope: `/readyz` says so to whoever is still connected.
        self.lifespan.state["stopping"] = True
        for server in self.servers:
            await stop_listening(server, self._protocol)
        self._drain()
        self._on_stop()
        end = loop.time() + self._drain_s
        while self.server_state.connections and not self.force_exit and loop.time() < end:
            # Again each time: a connection that was accepted last may not have been there the first time.
            self._drain()
            self._look()
            await asyncio.sleep(LOOK_S)
        looking = loop.create_task(self._look_on())
        await super().shutdown(sockets)
        looking.cancel()

    def _drain(self) -> None:
        for connection in self.server_state.connections:
            if isinstance(connection, Connection):
                connection.drain()

    async def _look_on(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(LOOK_S)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: Connection = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        made.draining = True
        return made


def _look_at(connection: Connection, now: float) -> None:
    """A mistake with one keeps nobody from looking at the others, or this process from serving and ending."""
    try:
        connection.look(now)
    except Exception as error:
        seldom.exception("api.look_failed", error)


def room_for(connections: int) -> int:
    """How many connections there are descriptors for, up to those wanted. Asks the system for as many as it gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted:
            log.warning("api.few_descriptors", connections_max=soft - OWN_FILES, wanted=connections)
            return max(1, soft - OWN_FILES)
    return connections
