"""uvicorn's protocol class, and its server, so that a process which is told to stop fails nobody's request.

A connection that is closed while its client is just sending the next request resets that request, and the client cannot
know whether it was carried out. So an idle connection stays open for a while: its next request is answered with
`Connection: close`, and then it is the client who knows first. It relies on the inside of uvicorn's class, whose version
is pinned.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.listener import stop_listening

__all__ = ["Connection", "Server"]

LOOK_S: Final = 0.05
"""How often a server that is stopping looks who is still connected."""


class Connection(HttpToolsProtocol):
    """One connection, that may be asked to end."""

    draining = False
    """The next answer is the last one, and says so."""

    headed: Any = None
    """The headers of the last request whose head was complete. Others in `headers` are still arriving."""

    between = True
    """The parser is at the end of a message."""

    idle_since = 0.0
    """Loop time of the last answer, or of the end of the request when that came later."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _unset_keepalive_if_required(self) -> None:
        """Nothing: one timer runs for as long as the connection lasts. uvicorn's is set anew for each request."""

    def on_response_complete(self) -> None:
        """Answered: on with the next request, or wait for it, though not for ever."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self.idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close what has been idle for too long, and look again at what has not."""
        busy = not self.between or (self.cycle is not None and not self.cycle.response_complete)
        rest_s = self.timeout_keep_alive if busy else self.idle_since + self.timeout_keep_alive - self.loop.time()
        if rest_s > 0.001:
            self._look_again_in(rest_s)
        else:
            super().timeout_keep_alive_handler()

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        """A request begins to arrive."""
        self.between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """It is there as a whole; it may have been answered already."""
        self.between = True
        self.idle_since = self.loop.time()
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Another request; if we are about to end, the last one."""
        super().on_headers_complete()
        self.headed = self.headers
        if self.draining:
            self.cycle.keep_alive = False

    def drain(self) -> None:
        """Close after the answer at hand; when there is none, after the next one."""
        self.draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close now, if nobody is in the middle of asking or being answered; otherwise after the answer."""
        arriving = self.headers is not self.headed
        if not arriving and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        else:
            self.drain()


class Server(uvicorn.Server):
    """uvicorn's server, stopping in the order that fails nobody: no new connections, last answers, hang up."""

    def __init__(self, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for every connection's last request, though not for long, and then stop as uvicorn does."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            await stop_listening(server, self._protocol)
        end = loop.time() + self._drain_s
        while self.server_state.connections and not self.force_exit and loop.time() < end:
            # Again each time: a connection that was accepted last may not have been there the first time.
            for connection in self.server_state.connections:
                if isinstance(connection, Connection):
                    connection.drain()
            await asyncio.sleep(LOOK_S)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: Connection = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        made.draining = True
        return made
