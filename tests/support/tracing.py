"""What this process traces, as a collector would get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from boxoffice.telemetry.otel import readable, resource_of
from boxoffice.telemetry.traces import TRACES, Trace, current
from boxoffice.telemetry_settings import Sampling


class Found(NamedTuple):
    """One span: ids as hex."""

    name: str
    trace: str
    id: str
    parent: str
    kind: str
    attributes: dict[str, object]
    links: list[str]
    """`trace-span` of each."""
    took_ns: int
    failed: bool

    @property
    def place(self) -> str:
        return f"{self.trace}-{self.id}"


class Spans:
    """All that were exported, in the order in which they ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def all(self) -> list[Found]:
        return [_found(span) for span in self.exporter.get_finished_spans()]

    def named(self, name: str) -> list[Found]:
        return [span for span in self.all() if span.name == name]

    def only(self, name: str) -> Found:
        (span,) = self.named(name)
        return span

    def names_of(self, trace: str) -> list[str]:
        return [span.name for span in self.all() if span.trace == trace]


def _found(span: ReadableSpan) -> Found:
    context = span.context
    assert context is not None and span.start_time is not None and span.end_time is not None
    return Found(
        span.name, f"{context.trace_id:032x}", f"{context.span_id:016x}",
        f"{span.parent.span_id:016x}" if span.parent else "", span.kind.name.lower(), dict(span.attributes or {}),
        [f"{link.context.trace_id:032x}-{link.context.span_id:016x}" for link in span.links],
        span.end_time - span.start_time, not span.status.is_ok and not span.status.is_unset,
    )  # fmt: skip


@contextmanager
def traced(ratio: float = 1.0, *, follows: bool = True, most: int = 1_000) -> Iterator[Spans]:
    """Trace this process meanwhile."""
    spans, resource = Spans(), resource_of("test")
    processor = SimpleSpanProcessor(spans.exporter)
    TRACES.switch_on(lambda span: processor.on_end(readable(span, resource)), Sampling(ratio, follows), most)
    try:
        yield spans
    finally:
        TRACES.switch_off()


@contextmanager
def request_of(traceparent: bytes | None = None) -> Iterator[Trace]:
    """A sampled request, for which this task works meanwhile."""
    trace = TRACES.sample(traceparent)
    assert trace is not None
    token = current.set(trace)
    try:
        yield trace
    finally:
        current.reset(token)
