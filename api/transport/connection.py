"""One connection: whole requests, one after another, each answered before the next is read.

`Reader` cuts what arrives into requests, uvicorn's `RequestResponseCycle` runs the application. While a request is being
worked on, or the client does not read its answers, nothing more is read. Every wait for it has a deadline (`look`).

A process that is told to stop fails nobody's request: a connection that is closed while its client is just sending the
next one resets it, and the client cannot know whether it was carried out. So an idle connection stays for a while: its next
request is answered with `Connection: close`, and then it is the client who knows first.

One file because it is one state machine: what may follow in a state is read beside what led there.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from api import problems
from api.transport.condition import count_refused
from api.transport.cycle import Flow, cycle_of
from api.transport.head import Head, Unreadable
from api.transport.reader import Reader, Request, TooLong
from api.transport.reply import Reply
from api.transport.sent_away import SentAway
from api.transport.slowing import Slowing
from api.transport.turns import ORDINARY_S
from boxoffice.admission.flood import FLOOD
from boxoffice.telemetry import request_id, series

__all__ = ["Connection"]

TURN: Final = 4
"""Requests of one connection in one of its turns."""

LINGER_S: Final = 2.0
"""How long a client that was refused is still listened to: closed at once, it might not get to read why."""

_made: Final = series.CONNECTIONS.cell()


class Connection(Slowing):
    """Serves one client, which is not trusted."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app: Any = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.app_state = app_state
        self.server_state = server_state
        self.tasks: set[asyncio.Task[None]] = server_state.tasks
        self.reader = Reader(self.limits.head_max_bytes, self.limits.body_max_bytes)
        self.cycle: Any = None
        self.going = False
        self.due: asyncio.TimerHandle | None = None
        self.transport = None
        self.flow: Flow = None  # type: ignore[assignment]

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the server, and wait for the first head."""
        connections: set[Any] = self.server_state.connections
        self.transport = transport
        self.flow = Flow(self.transport)
        self.since = self.loop.time()
        _made.add()
        full = len(connections) >= self.patience.connections_max
        connections.add(self)
        if full:
            # It is closed at once, and not kept open for what its client still sends: that would be one more connection.
            self.lingering = True
            count_refused("crowded")
            made = request_id.make()
            self.transport.write(problems.crowded(made).last(made))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: unregister, let the application know, and drop every reference that leads back here."""
        connections: set[Any] = self.server_state.connections
        connections.discard(self)
        cycle = self.cycle
        self.cycle = None
        self.reader.drop()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.flow.resume_writing()
        self.lingering = True
        self.queued = False
        if self.due is not None:
            self.due.cancel()
            self.due, self.paced = None, False
            self.turns.unpace()

    def data_received(self, data: bytes) -> None:
        """Bytes of one request or several."""
        if self.lingering:
            self.throw_away(len(data))
            return
        self.reader.feed(data)
        self.go_on()
        if self.reader.passing:
            self.throw_away(len(data))
        elif self.stage and not self.lingering:
            self.note_piece(len(data))

    def may_be_read(self) -> bool:
        """Whether nobody waits for anything else of it."""
        return not (self.transport.is_closing() or self.busy or self.paced or self.queued or self.flow.write_paused)

    def eof_received(self) -> bool:
        """The client will send no more. It may still read answers."""
        self.ended = True
        if self.busy and (ended := getattr(self.cycle, "client_ended", None)) is not None:
            ended()
        self.go_on()
        return not self.lingering and not self.transport.is_closing()

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more requests."""
        self.flow.pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again: go on."""
        self.flow.resume_writing()
        self.go_on()

    # One request after another

    @property
    def busy(self) -> bool:
        """Whether a request is being worked on."""
        return self.cycle is not None and not self.cycle.response_complete

    def go_on(self) -> None:
        """Take the requests that are here, each once the one before it was answered."""
        if self.going or self.queued:
            return
        if self.paced:
            self.flow.pause_reading()
        elif self.turns.is_over(self.loop) and not (
            self.reader.is_probe and self.turns.may_be_probed(self.loop.time())
        ):
            if FLOOD.is_on and not self.reader.is_probe:
                self._read_overdue()
            else:
                self._queue()
        else:
            self.read()

    def _queue(self) -> None:
        self.queued, self.queued_at = True, self.loop.time()
        self.flow.pause_reading()
        self.turns.wait(self)

    def has_turn(self) -> None:
        """Called by the server's turns: read on, unless the connection was closed meanwhile."""
        if self.queued:
            self.queued = False
            waited_s = self.loop.time() - self.queued_at
            overdue = self.turns.are_overdue(waited_s, self.patience) and not self.reader.is_probe
            (self._read_overdue if overdue else self.read)()

    def _read_overdue(self) -> None:
        """Read on, and let in nobody but some probes."""
        self.overdue = True
        try:
            self.read()
        finally:
            self.overdue = False

    def read(self) -> None:
        """Begin with whole requests that are there, at most `TURN` of them."""
        self.going = True
        try:
            for _ in range(TURN):
                if not self._take_next():
                    break
            else:
                self._queue()
        finally:
            self.going = False
        if self.busy or self.flow.write_paused or self.paced or self.queued:
            if self.reader.begun:
                self.flow.pause_reading()
        elif not self.slowed and not self.transport.is_closing():
            self.flow.read_on()

    def _take_next(self) -> bool:
        """Handle one request that is there. Returns whether to look for another."""
        if self.busy or self.paced or self.flow.write_paused or self.lingering or self.transport.is_closing():
            return False
        try:
            request = self.reader.next()
        except TooLong as error:
            self._refuse_body(error)
            return True
        except Unreadable as error:
            count_refused("unreadable")
            self._refuse(error)
            return False
        if request is not None:
            self.used = True
            self.stage = self.pieces = 0
            if self.reader.begun:
                self._pace()
            head = request.head
            sent_away = self.overdue and not self.turns.lets_past(head.method, head.target, self.loop.time())
            if FLOOD.is_on:
                self.turns.count(sent_away=sent_away)
            if sent_away:
                self.cycle = self.turns.send_away(SentAway(self, head.request_id, head.stays))
            else:
                self.take(request)
            return True
        self._wait()
        return False

    def _pace(self) -> None:
        """One more request that came together with its next."""
        now = self.loop.time()
        due = self.turns.pace(now)
        if due > now:
            self.paced = True
            series.DELAYED.cell().add()
            self.due = self.loop.call_at(due, self._next_is_due, context=Context())

    def _next_is_due(self) -> None:
        self.due, self.paced = None, False
        self.go_on()

    def _wait(self) -> None:
        """For the rest of a request, or for another; not at all when no more can come."""
        reader = self.reader
        stage = 0 if not reader.begun else 1 if reader.head is None else 2
        if self.ended:
            if stage and not (stage == 2 and reader.passing):
                count_refused("incomplete")
                self._refuse(Unreadable("incomplete"))
            else:
                self.transport.close()
        elif stage != self.stage:
            self.used = True
            self.stage = stage
            self.since = self.loop.time()
            if reader.head is not None and reader.waits:
                self._invite_body(reader.head)

    def take(self, request: Request) -> None:
        """Start uvicorn's cycle, in which the application answers the request."""
        head = request.head
        cycle = self.cycle = cycle_of(request, self.transport, self.flow, self.app_state)
        cycle.keep_alive = head.stays and not self.draining
        cycle.on_response = self.on_response_complete
        cycle.connection = self
        self.turns.spend(ORDINARY_S)
        task: asyncio.Task[None] = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """After an answer: take the next request, or wait for it until its deadline."""
        self.server_state.total_requests += 1
        self.since = self.loop.time()
        if self.reader.buffer or self.reader.head is not None or self.ended or self.flow.read_paused:
            self.go_on()

    def _invite_body(self, head: Head) -> None:
        """Once: the client waits for it."""
        head.expects = False
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Refusals by the connection itself

    def _refuse_body(self, error: TooLong) -> None:
        """Say so, and let the rest of it by: a connection closed now might take the answer with it."""
        head = error.head
        count_refused("body_too_large")
        if head.expects:
            self._invite_body(head)
        self.used, self.stage = True, 2
        self.refuse_request(head.stays, name := head.request_id, problems.body_too_large(error.most, name))

    def refuse_request(self, stays: bool, name: bytes, reply: Reply) -> None:
        """One request, with which nothing is done; its line has this name. The connection stays, where it would have."""
        self.since = self.loop.time()
        if stays and not self.draining:
            self.transport.write(reply.whole(name))
        else:
            self._hang_up(reply.last(name))

    def _refuse(self, why: Unreadable) -> None:
        """Say why this is not read, and listen to no more."""
        name = request_id.make() if self.reader.head is None else self.reader.head.request_id
        self._hang_up(problems.unreadable(why, name).last(name))

    def _hang_up(self, answer: bytes) -> None:
        """Send this answer, and close after it: nothing more is read."""
        self.lingering = True
        self.reader.drop()
        self.since = self.loop.time()
        self.transport.write(answer)
        if self.ended or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self.throw_away(0)

    # Deadlines, and the end

    def look(self, now: float) -> None:
        """Called twice a second, by thousands of connections less often: close a connection whose deadline has passed."""
        waited = now - self.since
        if self.is_stuck(now) or self.busy or self.queued:
            return
        if self.lingering:
            if waited > LINGER_S:
                self.transport.abort()
        elif self.reader.begun:
            most = self.patience.head_s if self.reader.head is None else self.patience.body_s
            if waited > min(most, self.stopping_s):
                count_refused("head_late" if self.reader.head is None else "body_late")
                self._refuse(Unreadable("timeout", status=408))
        elif waited > (self.patience.keep_alive_s if self.used else self.patience.head_s):
            self.transport.close()

    def drain(self) -> None:
        """Close after the answer at hand; when there is none, after the next one."""
        self.draining = True
        if self.busy:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close now, if nobody is in the middle of asking or being answered; otherwise after the answer, and soon."""
        self.drain()
        self.stopping_s = self.patience.drain_s
        self.since = self.loop.time()
        if not self.busy and not self.reader.begun and not self.transport.get_write_buffer_size():
            self.transport.close()
