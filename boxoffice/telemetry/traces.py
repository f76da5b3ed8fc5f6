"""Traces for OpenTelemetry: which requests are sampled, and the spans that are recorded of them.

Whether a request is sampled is decided once, when it comes; what is not sampled costs that look and nothing later. A span is
recorded when it is over, in one step, from the times that were noted: so nothing of OpenTelemetry is held open while a request
waits, or is imported where traces are off (`otel.py` is the only place that knows it).

The place of a sampled request's span travels as a W3C `traceparent`: in the record of its booking, then in `booking_traces`.
Everything that becomes of the booking is a child of that span, and so of one trace.

One file because where a span stands, whether it is recorded and how are asked in one step.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

from msgspec import Struct

from boxoffice.clock import CLOCK, Clock
from boxoffice.telemetry.request_id import choose, has_card
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry_settings import Sampling, TelemetrySettings, queue_of, sampling_of

__all__ = ["TRACES", "Place", "Span", "Trace", "Traces", "current", "joined", "linked", "named", "place_of", "tracing"]

Attributes = Mapping[str, str | int]


class Place(Struct, frozen=True, gc=False):
    """Where a span stands: its trace, and its id in it. Hex, 32 and 16 digits."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        """As W3C Trace Context writes it, of a span that is sampled."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class Trace(Struct, eq=False):
    """A sampled request that is under way."""

    place: Place
    """Of its span."""
    parent: Place | None
    """The caller's span; None when the trace begins here."""
    began_ns: int
    """Since 1970."""
    route: str = "unmatched"
    """Template of its route, as soon as somebody knows."""
    links: tuple[Place, ...] = ()
    """What else it has to do with: the booking that it pays."""

    @property
    def header(self) -> bytes:
        """The `traceparent` of its span."""
        return self.place.traceparent.encode()


class Span(Struct, frozen=True):
    """A span that is over."""

    name: str
    place: Place
    parent: Place | None
    kind: str
    """`server`, `client` or `internal`."""
    began_ns: int
    ended_ns: int
    attributes: Attributes
    links: tuple[Place, ...]
    failed: bool


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The sampled request that this task works for. None where there is none, where it is not sampled, or where it is for many."""

_traceparent: Final = re.compile(
    r"((?!ff)[0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
).fullmatch
"""Version, trace, span, flags, and what versions to come may add."""

_SAMPLED: Final = 1
"""The flag that says so."""

WINDOW_S: Final = 1.0
"""In which traces are counted against `telemetry.otel_traces_max`."""


def _read(traceparent: str) -> tuple[Place, bool] | None:
    """The span that such a header names, and whether it is sampled. None of what is none (W3C Trace Context, 3.2), or is
    sampled and has a card number in it: that would leave the process."""
    found = _traceparent(traceparent)
    if found is None or (found[1] == "00" and found[5]):
        return None
    sampled = bool(int(found[4], 16) & _SAMPLED)
    if sampled and (has_card(found[2].encode()) or has_card(found[3].encode())):
        return None
    return Place(found[2], found[3]), sampled


def place_of(traceparent: str) -> Place | None:
    """The place that a record or a row has as a `traceparent`; None of what is none."""
    found = _read(traceparent)
    return None if found is None else found[0]


class Traces:
    """Of one process: samples, and hands on what is over."""

    def __init__(self, clock: Clock = CLOCK) -> None:
        self.on = False
        """Whether anything is traced: nobody asks anything else of this object while it is not."""
        self._clock = clock
        self._export: Callable[[Span], None] = _nobody
        self._ratio, self._follows, self._most = 0.0, True, 0
        self._window_ends, self._begun = 0.0, 0

    def switch_on(self, export: Callable[[Span], None], sampling: Sampling, most: int) -> None:
        """Trace these requests, of which at most so many begin in a second, and hand every span to `export`. A caller that is
        followed has its request sampled when its own span is, and only then."""
        self._export, self._most = export, most
        self._ratio, self._follows = sampling
        self._window_ends = 0.0
        self.on = True

    def switch_off(self) -> None:
        """Nothing is traced from now on."""
        self.on = False
        self._export = _nobody

    def _hand_on(self, span: Span) -> None:
        """Never raises: whoever is traced has work to do."""
        try:
            self._export(span)
        except Exception as error:
            seldom.exception("traces.failed", error)

    # ------------------------------------------------------------------ a request

    def sample(self, traceparent: bytes | None) -> Trace | None:
        """The trace of a request with this header (empty or None: without); None when it is not sampled."""
        parent = None
        if traceparent and self._follows and (found := _read(traceparent.decode("latin-1"))) is not None:
            parent, sampled = found
            if not sampled:
                return None
        elif self._clock.chance() >= self._ratio:
            return None
        if not self._has_room():
            return None
        place = Place(_made(32) if parent is None else parent.trace_id, _made(16))
        return Trace(place, parent, self._clock.epoch_ns())

    def _has_room(self) -> bool:
        """Whether one more trace may begin in this second: callers that sample everything cost us no more than that."""
        now_s = self._clock.now_s()
        if now_s >= self._window_ends:
            self._window_ends, self._begun = now_s + WINDOW_S, 0
        self._begun += 1
        return self._begun <= self._most

    def answered(self, trace: Trace, method: str, status: int, request_id: bytes) -> None:
        """A sampled request has its answer."""
        attributes: Attributes = {
            "http.request.method": method, "http.route": trace.route, "http.response.status_code": status,
            "boxoffice.request_id": request_id.decode("latin-1"),
        }  # fmt: skip
        self._hand_on(
            Span(
                f"{method} {trace.route}", trace.place, trace.parent, "server", trace.began_ns, self._clock.epoch_ns(),
                attributes, trace.links, status >= 500,
            )
        )  # fmt: skip

    # ------------------------------------------------------------------ what becomes of it

    def begin(self, parent: Place | None = None) -> Place:
        """A place for a span that is still to be recorded: under this parent, or in a trace of its own."""
        return Place(_made(32) if parent is None else parent.trace_id, _made(16))

    def record(
        self, name: str, place: Place, parent: Place | None, took_s: float, attributes: Attributes,
        links: Iterable[Place] = (), *, kind: str = "internal", failed: bool = False,
    ) -> None:  # fmt: skip
        """A span that is over now, and took so long."""
        ended_ns = self._clock.epoch_ns()
        began_ns = ended_ns - int(max(0.0, took_s) * 1_000_000_000)
        self._hand_on(Span(name, place, parent, kind, began_ns, ended_ns, attributes, tuple(links), failed))


def named(given: bytes | None, traceparent: bytes | None) -> tuple[bytes, Trace | None]:
    """The id of a request with these two headers, as `request_id.choose`, and its trace if it is sampled: then that is its id,
    unless the client has named another."""
    trace = TRACES.sample(traceparent) if TRACES.on else None
    return choose(given, traceparent if trace is None else trace.header), trace


def joined(traceparent: str) -> str:
    """The trace of a hold that this task's request pays, as a `traceparent`: the hold's own, which is handed in, or
    the request's when the hold has none. Empty: neither is sampled."""
    trace = current.get() if TRACES.on and not traceparent else None
    return traceparent if trace is None else trace.place.traceparent


def linked(traceparent: str) -> None:
    """This task's request has put a payment of this hold on its way: say so in the hold's trace, and in the request's where to
    look for what becomes of it."""
    trace = current.get() if TRACES.on and traceparent else None
    hold = None if trace is None else place_of(traceparent)
    if trace is not None and hold is not None and hold != trace.place:
        TRACES.record("payment", TRACES.begin(hold), hold, 0.0, {}, [trace.place])
        trace.links = (hold,)


@asynccontextmanager
async def tracing(settings: TelemetrySettings, process: str) -> AsyncIterator[None]:
    """Trace for as long as the block runs, where the settings say so; `process` is `api` or `worker`."""
    sampling = sampling_of(settings, os.environ)
    if sampling is None:
        yield
        return
    from boxoffice.telemetry.otel import exporting

    async with exporting(process, queue_of(os.environ)) as export:
        TRACES.switch_on(export, sampling, settings.otel_traces_max)
        try:
            yield
        finally:
            TRACES.switch_off()


_random: Final = random.Random()
"""For ids, which nobody has to guess: the system's own chance is a call of the system each. A child draws its own."""
os.register_at_fork(after_in_child=_random.seed)

_LETTERS: Final = int("000a" * 8, 16)
"""Every fourth digit is a letter: no id looks like a card number, and none is nothing but zeros."""


def _made(digits: int) -> str:
    return f"{_random.getrandbits(4 * digits) | (_LETTERS & (1 << 4 * digits) - 1):0{digits}x}"


def _nobody(_span: Span) -> None:
    """Where traces are off: what began before has ended since."""


TRACES: Final = Traces()
"""This process's."""
