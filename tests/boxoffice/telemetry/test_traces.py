"""Which requests are sampled, where their spans stand, and what a span says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from boxoffice.clock import CLOCK
from boxoffice.telemetry.request_id import has_card
from boxoffice.telemetry.traces import TRACES, Place, Span, Traces, current, joined, linked, named, place_of, tracing
from boxoffice.telemetry_settings import Sampling, TelemetrySettings
from tests.support.tracing import request_of, traced

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
CARD = "4242424242424242"


def of_chance(chance: float, ratio: float, *, follows: bool = True, most: int = 10) -> Traces:
    made = Traces(replace(CLOCK, chance=lambda: chance))
    made.switch_on(lambda _: None, Sampling(ratio, follows), most)
    return made


@pytest.mark.parametrize(
    ("chance", "ratio", "follows", "header", "sampled"),
    [
        (0.0, 0.0, True, "", False), (0.0, 0.01, True, "", True), (0.01, 0.01, True, "", False), (0.999, 1.0, True, "", True),
        (0.999, 0.0, True, PARENT, True), (0.0, 1.0, True, UNSAMPLED, False), (0.999, 0.0, True, PARENT[:-1] + "3", True),
        (0.0, 1.0, True, PARENT[:-1] + "2", False),
        (0.999, 0.0, False, PARENT, False), (0.0, 1.0, False, UNSAMPLED, True),
        (0.0, 0.0, True, PARENT.upper(), False), (0.0, 1.0, True, "nonsense", True), (0.0, 0.0, True, PARENT + "-more", False),
        (0.0, 0.0, True, "cc" + PARENT[2:] + "-more", True), (0.0, 0.0, True, "ff" + PARENT[2:], False),
        (0.0, 0.0, True, PARENT.replace(TRACE, "0" * 32), False), (0.0, 0.0, True, PARENT.replace(SPAN, "0" * 16), False),
    ],
)  # fmt: skip
def test_a_callers_decision_is_followed_and_else_a_share_is_sampled(
    chance: float, ratio: float, follows: bool, header: str, sampled: bool
) -> None:
    """A header that is no `traceparent` says nothing. Of the flags one bit counts."""
    assert (of_chance(chance, ratio, follows=follows).sample(header.encode()) is not None) is sampled


def test_a_trace_goes_on_where_its_caller_is_and_begins_here_else() -> None:
    with traced():
        child, root = TRACES.sample(PARENT.encode()), TRACES.sample(None)
    assert child is not None and root is not None
    assert (child.place.trace_id, child.parent) == (TRACE, Place(TRACE, SPAN)) and child.place.span_id != SPAN
    assert root.parent is None and len(root.place.trace_id) == 32 and len(root.place.span_id) == 16
    assert root.header == f"00-{root.place.trace_id}-{root.place.span_id}-01".encode()
    assert place_of(root.place.traceparent) == root.place


@pytest.mark.parametrize("where", ["trace", "span"])
def test_no_card_number_goes_to_a_collector(where: str) -> None:
    """Then the request begins a trace of its own, if it is sampled."""
    header = PARENT.replace(TRACE, CARD + "a" * 16) if where == "trace" else PARENT.replace(SPAN, CARD)
    with traced():
        trace = TRACES.sample(header.encode())
    assert trace is not None and trace.parent is None and CARD not in trace.place.traceparent


def test_no_id_is_made_that_looks_like_a_card_number() -> None:
    """None has four digits in a row, nor is it like another."""
    made = [Traces().begin() for _ in range(2_000)]
    assert len({place.trace_id for place in made}) == len({place.span_id for place in made}) == len(made)
    for place in made:
        assert re.fullmatch("([0-9a-f]{3}[a-f]){8}", place.trace_id) and re.fullmatch(
            "([0-9a-f]{3}[a-f]){4}", place.span_id
        )
        assert not has_card(place.trace_id.encode()) and not has_card(place.span_id.encode())


def test_so_many_traces_begin_in_a_second_whoever_samples_them() -> None:
    now_s = 100.0
    made = Traces(replace(CLOCK, now_s=lambda: now_s))
    made.switch_on(lambda _: None, Sampling(1.0, True), 2)

    def three() -> list[bool]:
        return [made.sample(header) is not None for header in (PARENT.encode(), b"", PARENT.encode())]

    assert three() == [True, True, False]
    now_s = 100.99
    assert three() == [False] * 3
    now_s = 101.0
    assert three() == [True, True, False]


def test_the_name_of_a_sampled_request_is_its_trace_unless_it_came_with_one() -> None:
    with traced():
        made, trace = named(None, None)
        given, theirs = named(b"mine", PARENT.encode())
        parent, _ = named(b"", PARENT.encode())
    assert trace is not None and made.decode() == trace.place.trace_id
    assert given == b"mine" and theirs is not None and theirs.place.trace_id == TRACE
    assert parent.decode() == TRACE
    with traced(0.0):
        assert named(b"", UNSAMPLED.encode()) == (TRACE.encode(), None)


def test_off_nothing_is_sampled() -> None:
    assert not TRACES.on
    assert named(None, PARENT.encode()) == (TRACE.encode(), None)


def test_what_a_span_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are of this process, from the request to now; a request that failed by our fault is marked."""
    spans: list[Span] = []
    now_ns = 5_000_000_000
    made = Traces(replace(CLOCK, epoch_ns=lambda: now_ns))
    made.switch_on(spans.append, Sampling(1.0, True), 10)
    trace = made.sample(PARENT.encode())
    assert trace is not None
    now_ns += 2_000_000
    made.answered(trace, "POST", 499, b"r1")
    trace.route, trace.links = "/v1/x", (Place("a" * 32, "b" * 16),)
    made.answered(trace, "POST", 500, b"r1")
    place = made.begin(trace.place)
    made.record("settlement", place, trace.place, 0.5, {"a": 1}, [trace.place], kind="client")
    made.record("odd", place, None, -1.0, {}, failed=True)

    unmatched, request, work, odd = spans
    assert (unmatched.name, unmatched.failed, request.name, request.failed) == (
        "POST unmatched",
        False,
        "POST /v1/x",
        True,
    )
    assert (request.place, request.parent, request.links) == (trace.place, Place(TRACE, SPAN), trace.links)
    assert (request.kind, request.began_ns, request.ended_ns) == ("server", 5_000_000_000, 5_002_000_000)
    assert request.attributes == {
        "http.request.method": "POST", "http.route": "/v1/x", "http.response.status_code": 500, "boxoffice.request_id": "r1",
    }  # fmt: skip
    assert (work.place, work.parent, work.kind, work.failed) == (place, trace.place, "client", False)
    assert (work.began_ns, work.ended_ns, work.links) == (4_502_000_000, 5_002_000_000, (trace.place,))
    assert place.trace_id == TRACE and place.span_id != trace.place.span_id
    assert (odd.began_ns, odd.ended_ns, odd.kind, odd.failed) == (5_002_000_000, 5_002_000_000, "internal", True)


def test_who_is_traced_never_fails_by_it() -> None:
    def fail(_span: Span) -> None:
        raise OSError

    made = Traces()
    made.switch_on(fail, Sampling(1.0, True), 10)
    with capture_logs() as lines:
        made.record("x", made.begin(), None, 0.0, {})
    assert [line["event"] for line in lines] == ["traces.failed"]
    made.switch_off()
    made.record("x", made.begin(), None, 0.0, {})


@pytest.fixture
def on() -> Iterator[None]:
    with traced():
        yield


def test_a_payment_is_in_the_trace_of_its_hold(on: None) -> None:
    """A hold that has none gets that of its payment."""
    with request_of() as payer:
        assert joined(PARENT) == PARENT
        assert joined("") == payer.place.traceparent
    assert (joined(PARENT), joined("")) == (PARENT, "")


def test_hold_and_payment_lead_to_each_other() -> None:
    with traced() as spans:
        with request_of() as payer:
            linked(PARENT)
        assert payer.links == (Place(TRACE, SPAN),)
        span = spans.only("payment")
        assert (span.trace, span.parent, span.links) == (TRACE, SPAN, [f"{payer.place.trace_id}-{payer.place.span_id}"])


@pytest.mark.parametrize("kept", ["", "nonsense"])
def test_a_payment_of_a_hold_without_a_trace_leads_nowhere(kept: str) -> None:
    with traced() as spans:
        with request_of() as payer:
            linked(kept)
            linked(payer.place.traceparent)
        linked(PARENT)
        assert payer.links == () and spans.all() == []


@pytest.mark.parametrize("settings", [TelemetrySettings(), TelemetrySettings(otel=True, otel_ratio=0.5)])
async def test_tracing_is_on_for_as_long_as_it_is_wanted(
    settings: TelemetrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    async with tracing(settings, "api"):
        assert TRACES.on is settings.otel
    assert not TRACES.on and current.get() is None
