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
