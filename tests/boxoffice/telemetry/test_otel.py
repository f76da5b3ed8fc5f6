"""Spans leave as OpenTelemetry has them, some at a time; a collector that is away costs spans, one line, and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from boxoffice.clock import CLOCK
from boxoffice.telemetry import otel
from boxoffice.telemetry.otel import Watched, exporting, readable, resource_of
from boxoffice.telemetry.series import TRACE_SPANS
from boxoffice.telemetry.traces import Place, Span
from boxoffice.telemetry_settings import Queue
from tests.support.waiting import true_soon

OURS, THEIRS = Place("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"), Place("a" * 32, "b" * 16)


def span_of(name: str = "x", *, failed: bool = False, parent: Place | None = THEIRS) -> Span:
    return Span(name, OURS, parent, "server", 1, 2, {"a": 1}, (THEIRS,), failed)


@pytest.mark.parametrize(("failed", "status"), [(False, "UNSET"), (True, "ERROR")])
def test_a_span_as_opentelemetry_has_it(failed: bool, status: str) -> None:
    span = readable(span_of(failed=failed), resource_of("api"))
    assert span.context is not None and span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (OURS.trace_id, OURS.span_id)
    assert span.context.trace_flags.sampled
    assert (f"{span.parent.trace_id:032x}", span.links[0].context) == (THEIRS.trace_id, span.parent)
    assert (span.name, span.start_time, span.end_time, span.kind.name) == ("x", 1, 2, "SERVER")
    assert (dict(span.attributes or {}), span.status.status_code.name) == ({"a": 1}, status)
    assert readable(span_of(parent=None), resource_of("api")).parent is None


@pytest.mark.parametrize("process", ["api", "worker"])
def test_a_process_names_itself_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, process: str) -> None:
    ours = resource_of(process).attributes
    assert ours["service.name"] == f"boxoffice-{process}" and ours["telemetry.sdk.name"] == "opentelemetry"
    assert ours["service.version"] and ours["service.instance.id"]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=one,deployment.environment.name=prod")
    named = resource_of(process).attributes
    assert (named["service.name"], named["deployment.environment.name"]) == ("one", "prod")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "two")
    assert resource_of(process).attributes["service.name"] == "two"


class Collector(SpanExporter):
    """Takes spans, or raises, or fails."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.answer: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.gate = threading.Event()
        self.gate.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert self.gate.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is SpanExportResult.SUCCESS:
            self.taken.append(len(spans))
        return self.answer

    def shutdown(self) -> None:
        self.gate.set()


def counted() -> tuple[float, float]:
    return TRACE_SPANS.cell("exported").value, TRACE_SPANS.cell("lost").value


@pytest.mark.parametrize(
    ("answer", "why"), [(SpanExportResult.FAILURE, "not taken"), (OSError("http://user:secret@x"), "OSError")]
)
def test_an_outage_is_a_line_and_its_end_another(answer: SpanExportResult | Exception, why: str) -> None:
    """However many exports fail. What was lost is counted."""
    collector, now_s = Collector(), 10.0
    watched = Watched(collector, lambda work, *args: work(*args), replace(CLOCK, now_s=lambda: now_s))
    spans = [readable(span_of(), resource_of("api"))] * 3
    exported, lost = counted()
    with capture_logs() as lines:
        assert watched.export(spans) is SpanExportResult.SUCCESS
        for _ in range(2):
            collector.answer = answer
            for _ in range(5):
                assert watched.export(spans) is SpanExportResult.FAILURE
            now_s += 7
            collector.answer = SpanExportResult.SUCCESS
            watched.export(spans)
            watched.export(spans)
    assert lines == [
        {"event": "traces.away", "log_level": "warning", "error": why},
        {"event": "traces.recovered", "log_level": "info", "seconds": 7.0, "spans_lost": 15},
    ], "the second time within ten seconds nothing is said"
    assert counted() == (exported + 15, lost + 30)


def test_the_last_spans_may_find_no_loop() -> None:
    def closed(*_: object) -> None:
        raise RuntimeError

    assert Watched(Collector(), closed).export([]) is SpanExportResult.SUCCESS


async def test_spans_are_sent_some_at_a_time_and_the_last_at_the_end() -> None:
    collector = Collector()
    async with exporting("api", Queue(), collector) as export:
        for _ in range(65):
            export(span_of())
        await true_soon(lambda: 64 in collector.taken)
    assert sum(collector.taken) == 65 and max(collector.taken) == 64


@pytest.mark.parametrize(("queue", "spans", "taken"), [(Queue(10, 2, 20_000), 2, [2]), (Queue(10, 10, 1), 1, [1])])
async def test_spans_are_sent_when_there_are_enough_or_after_a_while(
    queue: Queue, spans: int, taken: list[int]
) -> None:
    collector = Collector()
    async with exporting("api", queue, collector) as export:
        for _ in range(spans):
            export(span_of())
        await true_soon(lambda: collector.taken == taken)


async def test_a_collector_that_hangs_holds_up_neither_work_nor_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded: what finds no room is dropped."""
    monkeypatch.setattr(otel, "END_S", 0.05)
    collector = Collector()
    collector.gate.clear()
    with capture_logs() as lines:
        async with exporting("api", Queue(100, 64), collector) as export:
            for _ in range(1_000):
                export(span_of())
    assert [line["event"] for line in lines] == ["traces.not_sent"]
    collector.gate.set()
    await true_soon(lambda: not any("Otel" in thread.name for thread in threading.enumerate()))
    assert 100 <= sum(collector.taken) <= 164


async def test_a_collector_is_sent_otlp_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OTEL_EXPORTER_OTLP_ENDPOINT says."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    with closing(server.socket):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        async with exporting("worker", Queue()) as export:
            export(span_of("settlement"))
        await asyncio.to_thread(server.shutdown)
    ((path, body),) = got
    (told,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (span,) = told.scope_spans[0].spans
    assert path == "/v1/traces" and span.name == "settlement" and span.trace_id.hex() == OURS.trace_id
    attributes = {pair.key: pair.value.string_value for pair in told.resource.attributes}
    assert attributes["service.name"] == "boxoffice-worker"


def test_off_neither_sdk_nor_exporter_is_imported() -> None:
    """By API, worker and commands. (FastAPI itself imports OpenTelemetry's API, which does nothing alone.)"""
    program = (
        "import sys, api.server, worker.app, ops.cli\n"
        "from boxoffice.settings import load_settings\nload_settings()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'google.'))"
        " or name == 'boxoffice.telemetry.otel'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
