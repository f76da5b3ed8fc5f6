"""The way out of this process for traces: OpenTelemetry's SDK and its OTLP exporter, by HTTP. The only place that knows them,
and imported only where traces are on: they come with the extra `boxoffice[otel]`.

Where spans go, and what they are told of the process, is said by OpenTelemetry's own variables (`OTEL_…`). The queue is
bounded and emptied by a thread of its own, some spans at a time: a collector that is slow, full or away costs spans, and
nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from boxoffice.clock import CLOCK, Clock
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.series import TRACE_SPANS
from boxoffice.telemetry.traces import Place, Span
from boxoffice.telemetry_settings import Queue

__all__ = ["Watched", "exporting", "readable", "resource_of"]

log = structlog.get_logger()

END_S: Final = 2.0
"""So long a process that ends waits for its last spans to be taken. It may be a collector that is away."""

_VERSION: Final = version("boxoffice")
_SCOPE: Final = InstrumentationScope("boxoffice", _VERSION)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_FAILED: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)

exported, lost = TRACE_SPANS.cell("exported"), TRACE_SPANS.cell("lost")


def resource_of(process: str) -> Resource:
    """What every span says of its process, which is `api` or `worker`. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win."""
    ours = {
        "service.name": f"boxoffice-{process}",
        "service.version": _VERSION,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    return Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """A span as OpenTelemetry has it."""
    return ReadableSpan(
        span.name,
        _context(span.place),
        None if span.parent is None else _context(span.parent),
        resource,
        span.attributes,
        links=[Link(_context(place)) for place in span.links],
        kind=_KINDS[span.kind],
        status=_FAILED if span.failed else _UNSET,
        start_time=span.began_ns,
        end_time=span.ended_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(place: Place) -> SpanContext:
    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), True, _SAMPLED)


class Watched(SpanExporter):
    """An exporter of which one line says that it fails, and one that it works again. It runs in a thread of its own."""

    def __init__(self, exporter: SpanExporter, call: Callable[..., object], clock: Clock = CLOCK) -> None:
        """`call` has a function called in the loop's thread."""
        self._exporter = exporter
        self._call = call
        self._clock = clock
        self._away_since: float | None = None
        self._lost = 0
        self._in_log = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them. Never raises: what fails is lost."""
        why = "not taken"
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            result, why = SpanExportResult.FAILURE, type(error).__name__
        try:
            self._call(self._note, result is SpanExportResult.SUCCESS, len(spans), why)
        except RuntimeError:  # the loop has ended before its last spans
            pass
        return result

    def _note(self, taken: bool, spans: int, why: str) -> None:
        if taken:
            exported.add(spans)
            if self._away_since is not None:
                if self._in_log:
                    seconds = round(self._clock.now_s() - self._away_since, 1)
                    log.info("traces.recovered", seconds=seconds, spans_lost=self._lost)
                self._away_since = None
            return
        lost.add(spans)
        if self._away_since is None:
            self._away_since, self._lost = self._clock.now_s(), 0
            self._in_log = seldom.warning("traces.away", error=why)
        self._lost += spans

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()


@asynccontextmanager
async def exporting(
    process: str, queue: Queue, exporter: SpanExporter | None = None
) -> AsyncIterator[Callable[[Span], None]]:
    """What takes spans for as long as the block runs, and then sends its last. `exporter`: another than OTLP's."""
    if exporter is None:
        exporter = OTLPSpanExporter()
    # What they say of a collector that is away, we say in one line; of a variable that is wrong they have said it by now.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    watched = Watched(exporter, asyncio.get_running_loop().call_soon_threadsafe)
    processor = BatchSpanProcessor(
        watched, max_queue_size=queue.most, max_export_batch_size=queue.batch_max, schedule_delay_millis=queue.delay_ms
    )
    resource = resource_of(process)
    try:
        yield lambda span: processor.on_end(readable(span, resource))
    finally:
        await _end(processor)


async def _end(processor: SpanProcessor) -> None:
    """In a thread that nobody waits for at the end of the process, either."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        processor.shutdown()
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:  # nobody has waited so long
            pass

    threading.Thread(target=end, daemon=True).start()
    try:
        await asyncio.wait_for(ended.wait(), END_S)
    except TimeoutError:
        log.warning("traces.not_sent", seconds=END_S)
