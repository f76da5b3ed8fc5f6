"""A short cut for the hot routes below ASGI: no scope, no receive and send, and for a booking no task.

A booking goes through the checks of api/pipeline.py, as it does in every way, and is handed to the admission with its request
as the one to answer; reading a booking or an event is one task around the function that the ordinary way calls. Every answer
is one write. All else goes the ordinary way, and so do pages of another origin. `api.lane` switches it off, and the same tests
run either way.

One file because a request of the lane and its connection know each other, and nobody else knows either.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias

from msgspec import Struct

from api import answers, problems
from api.counting import BOOK, READ_BOOKING, READ_EVENT, READ_FEED, Route
from api.front import BOOKINGS, Front
from api.headers import Headers
from api.pipeline import MayBeRepeat, Prepared, Refusal, Step, prepare
from api.prefer import wait_of
from api.transport.connection import Connection
from api.transport.gone import Gone
from api.transport.reader import Request
from api.transport.reply import Reply
from api.transport.sent_away import NOBODY, Nobody, SentAway
from api.transport.shape import Shape
from boxoffice.admission.flood import FLOOD
from boxoffice.admission.forms import Admitted
from boxoffice.bookings.waiting import Wait
from boxoffice.errors import BoxOfficeError, PriceOutdated
from boxoffice.office import BoxOffice
from boxoffice.telemetry import request_id
from boxoffice.telemetry.metrics import REGISTRY
from boxoffice.telemetry.traces import TRACES, Trace, current, named

__all__ = ["lane"]

PATH: Final = BOOKINGS.encode()

FIRST_LINE: Final = b"POST %b HTTP/1.1" % PATH

LESSONS: Final = 6
"""So often a connection's head is taken for a shape. A client that writes each in another way is left to the parser."""

_READ: Final = re.compile(rb"/v1/(?:(bookings|events)/([0-9A-Za-z-]+)|feed((?:\?[!-~]*)?))")
"""Targets of the hot reads, as nearly everybody writes them, and of the feed, for which thousands may wait."""

_Answer: TypeAlias = Coroutine[Any, Any, Reply | None]

_Read: TypeAlias = Callable[[BoxOffice, Headers, str], _Answer]

_READS: Final[dict[bytes, tuple[_Read, Route]]] = {
    b"bookings": (answers.read_booking, READ_BOOKING),
    b"events": (answers.read_event, READ_EVENT),
}


def lane(front: Front, *, shapes: bool = True) -> type[Connection]:
    """Connections with the short cut to this front's office, which is there once the application has started.

    Without `shapes` the head of every booking is parsed.
    """

    class Lane(_Lane):
        """Bound to one front."""

    Lane.front = front
    if not shapes:
        Lane.lessons = 0
    return Lane


class _Request(Struct, eq=False):
    """A request on its way through the lane: what the connection is busy with."""

    protocol: _Lane
    headers: Headers
    body: bytes
    keep_alive: bool
    id: bytes
    disconnected: bool = False
    response_complete: bool = False
    message_event: Nobody | Wait = NOBODY
    prepared: Prepared = None  # type: ignore[assignment]
    """Of a booking that passed the checks without waiting."""
    wait_s: int = 0
    """For so long its client waits for a final answer."""
    route: Route = BOOK
    trace: Trace | None = None
    """None when it is not sampled."""

    def answer(self, reply: Reply) -> None:
        """Write status line, headers and body in one go, and let the connection's next request come."""
        if self.response_complete:
            return
        self.response_complete = True
        if REGISTRY.counts:
            self.route.cells[reply.status].value += 1
        if self.trace is not None:
            self.trace.route = self.route.labels[1]
            TRACES.answered(self.trace, self.route.labels[0], reply.status, self.id)
        protocol = self.protocol
        transport = protocol.transport
        if self.disconnected or transport.is_closing():
            return
        if self.keep_alive:
            transport.write(reply.whole(self.id))
        else:
            transport.write(reply.last(self.id))
            transport.close()
        protocol.on_response_complete()

    def may_go_on(self, step: Step) -> None:
        """Answer, or have it admitted: called from the loop once it is known whether this is a repeat."""
        try:
            if isinstance(step, Refusal):
                self.answer(answers.refused(step.error, step.client, self.id))
            else:
                self.protocol.admit_later(self, step)
        except Exception as error:
            self.answer(problems.unexpected(error, self.id))

    def client_ended(self) -> None:
        """The client sends no more: whatever it waits for, it is answered now, should it still read."""
        self.message_event.end()

    def admitted(self, result: Admitted | BoxOfficeError) -> None:
        """Answer as the admission says, called by it from the loop. A price to be read anew, and a record that is gone, are
        waited for."""
        try:
            if isinstance(result, Admitted) and result.shown is not None:
                if not self.wait_s or not self.protocol.waits(self, self.prepared.client, result):
                    self.answer(answers.accepted(result))
            elif isinstance(result, Admitted | PriceOutdated):
                self.protocol.admit_later(self, self.prepared)
            else:
                self.answer(answers.refused(result, self.prepared.client, self.id))
        except Exception as error:
            self.answer(problems.unexpected(error, self.id))


class _Lane(Connection):
    front: Front

    usual: ClassVar[Shape | None] = None
    """How they were written on the last connection that learnt it."""

    shape: Shape | None = None
    """How bookings are written on this connection."""

    whole: bytes = b""
    """What has just arrived, when nothing of a request had before it."""

    lessons = LESSONS + 1
    """The first booking teaches nothing: a connection may have no other."""

    def data_received(self, data: bytes) -> None:
        """Take a booking that is written as the one before it was; have anything else read."""
        shape = self.shape
        if shape is None and FLOOD.is_on:
            shape = self.usual
        if shape is not None:
            found = shape.match(data)
            if found is not None and self._book_at_once(shape, found, data[found.end() :]):
                return
        self.whole = b"" if self.busy or self.reader.begun else data
        super().data_received(data)
        self.whole = b""

    def _book_at_once(self, shape: Shape, found: re.Match[bytes], body: bytes) -> bool:
        """Whether this is a whole booking that comes when nothing else is under way, and needs no waiting."""
        cycle: Any = self.cycle
        if (
            len(body) != int(found[shape.length_at])
            or len(body) > self.limits.body_max_bytes
            or (cycle is not None and not cycle.response_complete)
            or self.draining
            or self.lingering
            or self.reader.buffer  # `begun`, without a call for each booking
            or self.reader.head is not None
            or self.transport.is_closing()
        ):
            return False
        headers = Headers(shape.authorization, shape.content_type, [found[shape.key_at]], None)
        wait_s = 0 if shape.prefer is None else wait_of(shape.prefer)
        traceparent = found["traceparent"] if shape.names else None
        trace = TRACES.sample(traceparent) if TRACES.on else None
        if shape.names:
            name = request_id.choose(found["request_id"], traceparent if trace is None else trace.header)
        else:
            name = request_id.make() if trace is None else trace.place.trace_id.encode()
        if FLOOD.is_on:
            self.used = True
            if not self.turns.lets_in(self.loop):
                self.cycle = self.turns.send_away(SentAway(self, name, True))
                return True
        request = self.cycle = _Request(self, headers, body, True, name)
        request.trace = trace
        request.wait_s = wait_s
        self._book(request)
        return True

    def take(self, request: Request) -> None:
        """Through the lane, or the ordinary way."""
        head = request.head
        wanted = None
        if head.method == b"POST":
            fits = head.target == PATH
        else:
            wanted = _READ.fullmatch(head.target) if head.method == b"GET" else None
            fits = wanted is not None
        if not fits or b"origin" in head.by_name:
            super().take(request)
            return
        distinct = len(head.by_name) == len(head.headers)
        headers = Headers.of_distinct(head.by_name) if distinct else Headers.of(head.headers)
        stays = head.stays and not self.draining
        name, trace = named(head.by_name.get(request_id.HEADER), head.by_name.get(request_id.TRACEPARENT))
        cycle = self.cycle = _Request(self, headers, request.body, stays, name, trace=trace)
        if headers.prefer is not None:
            cycle.wait_s = wait_of(headers.prefer)
        if wanted is not None and wanted[3] is not None:
            cycle.route = READ_FEED
            read_feed = partial(answers.read_feed, self.front.office, headers, wanted[3][1:].decode())
            cycle.message_event = Gone(partial(self._answer_later, cycle), read_feed, waits=not self.ended)
        elif wanted is not None:
            read, cycle.route = _READS[wanted[1]]
            if cycle.wait_s and cycle.route is READ_BOOKING:
                read = partial(self._look_up, cycle)
            self._read(cycle, read, wanted[2].decode())
        elif self._book(cycle):
            self._learn(self.whole)

    def _read(self, request: _Request, read: _Read, name: str) -> None:
        """Answer a read: at once where nothing has to be waited for, or else in a task."""
        office, is_event = self.front.office, read is answers.read_event
        reply = answers.event_at_once(office, request.headers, name, request.id) if is_event else None
        if reply is None:
            self._answer_later(request, read(office, request.headers, name))
            return
        request.answer(reply)
        if REGISTRY.counts:
            request.route.took(0.0)

    def _learn(self, whole: bytes) -> None:
        """Take a booking of somebody we know for the shape of the next. One that had to wait for its turn is no lesson, or a
        connection that was opened in a rush would never learn: it is not there in one piece any more."""
        if self.lessons and whole:
            self.lessons -= 1
            if self.lessons < LESSONS:
                self.shape = Shape.of(whole, FIRST_LINE)
                type(self).usual = self.shape or self.usual

    def _book(self, request: _Request) -> bool:
        """Admit it, or refuse it. Returns whether it was sent on, and came from somebody who stays."""
        office = self.front.office
        before, request_id.in_hand.name = request_id.in_hand.name, request.id
        try:
            step = prepare(office, request.headers, request.body)
            if isinstance(step, Prepared):
                request.prepared = step
                office.admission.submit(
                    step.client, step.order, step.key_digest, request.admitted, step.allowance, request.trace
                )
                return request.keep_alive
            if isinstance(step, MayBeRepeat):
                step.ask(request.may_go_on)
                return request.keep_alive
            if isinstance(step, Refusal):
                request.answer(answers.refused(step.error, step.client, request.id))
            else:
                self.admit_later(request, step)
        except BoxOfficeError as error:
            request.answer(answers.refused(error, request.prepared.client, request.id))
        except Exception as error:
            request.answer(problems.unexpected(error, request.id))
        finally:
            request_id.in_hand.name = before
        return False

    def admit_later(self, request: _Request, step: Step) -> None:
        """A booking that has to wait: for its API key, a tier that is not in the map, a new price."""
        self._answer_later(request, self._admit(request, step))

    async def _admit(self, request: _Request, step: Step) -> Reply | None:
        found = await answers.let_in(self.front.office, step)
        if isinstance(found, Reply):
            return found
        client, admitted = found
        return None if self.waits(request, client, admitted) else answers.accepted(admitted)

    # Answers that wait for the booking to be final (`Prefer: wait=N`), and need no task meanwhile

    def waits(self, request: _Request, client: str, admitted: Admitted) -> bool:
        """Whether a booking that was let in is answered once it is final; if not, now."""
        if admitted.status != "pending":
            return False
        last = partial(answers.accepted_at_last, self.front.office, client, admitted, request.wait_s)
        return self._hold_back(request, admitted.booking_id, last, until_bank=True)

    async def _look_up(self, request: _Request, office: BoxOffice, headers: Headers, name: str) -> Reply | None:
        reply, pending = await answers.look_up(office, headers, name)
        if pending is None:
            return reply
        last = partial(answers.look_again, office, pending, request.wait_s)
        return None if self._hold_back(request, pending.booking_id, last) else reply

    def _hold_back(
        self, request: _Request, booking: str, last: Callable[[], _Answer], *, until_bank: bool = False
    ) -> bool:  # fmt: skip
        def done() -> None:
            request.message_event = NOBODY
            self._answer_later(request, last())

        if self.ended or request.disconnected or request.response_complete:
            return False
        wait = self.front.waiting.begin(booking, request.wait_s, done, until_bank=until_bank)
        if wait is None:
            return False
        request.message_event = wait  # a client that goes is forgotten
        request.body = b""
        return True

    def _answer_later(self, request: _Request, reply: _Answer) -> asyncio.Task[None]:
        """By the function that the ordinary way calls, in a task. One that is held back has no reply yet."""

        began_s = self.loop.time()

        async def answer() -> None:
            request_id.current.set(request.id)
            current.set(request.trace)
            found = await reply
            if found is None:
                return
            request.answer(found)
            if REGISTRY.counts and request.route is not READ_FEED:
                request.route.took(self.loop.time() - began_s)

        task: asyncio.Task[None] = self.loop.create_task(answer())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        return task
