"""A request on its way through the application behind us: uvicorn's cycle, with our words and our scope."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from api import problems
from api.transport.head import Head
from api.transport.reader import Request
from api.transport.reply import SECURITY, stamp
from boxoffice.telemetry import request_id

__all__ = ["Cycle", "Flow", "cycle_of"]

CLOSE: Final = (b"connection", b"close")
"""Where a stream ends is told by the end of its connection."""

_logger: Final = logging.getLogger("uvicorn.error")


class Flow(FlowControl):
    """Whether we read and write. The cycle asks for more to be read; the connection knows better."""

    def resume_reading(self) -> None:
        """Nothing."""

    def read_on(self) -> None:
        """Read again."""
        super().resume_reading()


class Cycle(RequestResponseCycle):
    """The application has one request, and its answer. An answer that begins with a `stream` is that stream's from then on: it
    has the connection, and the application's part is done."""

    connection: Any = None

    async def send(self, message: Any) -> None:
        """As uvicorn's, but for the head of a stream."""
        stream = message.get("stream")
        if stream is None or self.disconnected:
            await super().send(message)
            return
        lines = (b"%b: %b\r\n" % header for header in (*self.default_headers, *message["headers"], CLOSE))
        self.disconnected = True  # for the application, which says no more
        self.connection.cycle = stream
        stream.begin(self.transport, b"%b%b\r\n" % (STATUS_LINE[message["status"]], b"".join(lines)))

    _taken = False

    def client_ended(self) -> None:
        """Told by the connection. Whoever asks what follows the request hears that nobody is there; the answer is sent all the
        same."""
        self.message_event.set()

    async def receive(self) -> Any:
        """The request, and then the end of its client."""
        if self._taken and self.connection.ended:
            return {"type": "http.disconnect"}
        self._taken = True
        return await super().receive()

    async def send_500_response(self) -> None:
        """In our own words."""
        reply = problems.of_status(500, "This is our mistake, and it is in our log.", [(b"connection", b"close")])
        name = request_id.current.get() or request_id.make()
        body = reply.body_to(name)
        headers = [*reply.headers, (b"content-length", b"%d" % len(body)), (request_id.HEADER, name), *SECURITY]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def cycle_of(request: Request, transport: asyncio.Transport, flow: Flow, state: dict[str, Any]) -> Cycle:
    """For a request that is there, body and all. Who makes it says whether the connection stays, and is told of the end."""
    cycle = Cycle(
        scope=_scope_of(request.head, transport, state),  # type: ignore[arg-type]
        transport=transport,
        flow=flow,
        logger=_logger,
        access_logger=_logger,
        access_log=False,
        default_headers=[(b"date", stamp())],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=False,
        on_response=_nothing,
    )
    cycle.body += request.body
    cycle.more_body = False
    cycle.message_event.set()
    return cycle


def _nothing() -> None:
    """Until somebody wants to be told."""


def _scope_of(head: Head, transport: asyncio.Transport, state: dict[str, Any]) -> dict[str, Any]:
    raw_path, _, query = head.target.partition(b"?")
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "server": get_local_addr(transport),
        "client": get_remote_addr(transport),
        "scheme": "http",
        "method": head.method.decode("ascii"),
        "root_path": "",
        "path": _decoded(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": head.headers,
        "state": state.copy(),
    }


def _decoded(path: str) -> str:
    """As routes are matched. A slash that is written `%2F` is a part of a name, and ends none (RFC 3986, 2.2): a proxy that
    lets some paths by sees it so."""
    return unquote(path.replace("%2F", "%252F").replace("%2f", "%252f"))
