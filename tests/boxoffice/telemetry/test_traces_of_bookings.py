"""A booking's way is one trace: from its request over the admission call and the batch to its money, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from boxoffice.books import traces
from boxoffice.errors import BoxOfficeError
from boxoffice.gateway.base import Unknown
from boxoffice.stores import keys
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.traces import TRACES, Trace
from tests.conftest import SHARD, SaleMaker
from tests.support.shop.office import Till
from tests.support.shop.orders import tier_of
from tests.support.tracing import Spans, request_of, traced


@pytest.fixture
def spans() -> Iterator[Spans]:
    with traced() as spans:
        yield spans


def way_of(spans: Spans, trace: Trace) -> list[str]:
    """What became of a request: everything in its trace, each a child of its span."""
    found = [span for span in spans.all() if span.trace == trace.place.trace_id]
    assert {span.parent for span in found} <= {trace.place.span_id}
    return [f"{span.name} {span.attributes.get('boxoffice.outcome', '')}".strip() for span in found]


def place(trace: Trace) -> str:
    return f"{trace.place.trace_id}-{trace.place.span_id}"


async def kept(till: Till) -> dict[str, str]:
    return {str(row[0]): row[1] for row in await till.fetch("SELECT booking_id, traceparent FROM booking_traces")}


async def trace_in_redis(till: Till, booking: str) -> str:
    record = await till.record(booking)
    assert record is not None
    return record.payload.trace


async def test_from_the_request_to_the_refund_it_is_one_trace(till: Till, spans: Spans) -> None:
    with request_of() as trace:
        booking = await till.book(GA=1)
    assert await trace_in_redis(till, booking) == trace.place.traceparent
    await till.rest()
    assert await trace_in_redis(till, booking) == "", "PostgreSQL has it"
    assert await kept(till) == {booking: trace.place.traceparent}
    await till.refund(booking)
    await till.rest()

    assert way_of(spans, trace) == ["admission accepted", "settlement confirmed", "capture done", "refund done"]
    await till.office.pump.work_outbox()
    assert till.office.pump.traces.given == till.office.pump.traces.due == {}, "nothing is remembered for ever"
    call, batch = spans.only("admission call"), spans.only("settlement batch")
    admission, settlement = spans.only("admission"), spans.only("settlement")
    assert (admission.links, settlement.links) == ([call.place], [batch.place])
    assert call.links == batch.links == [place(trace)]
    assert (call.parent, batch.parent) == ("", "") and len({call.trace, batch.trace, trace.place.trace_id}) == 3
    assert (call.kind, batch.kind, spans.only("capture").kind) == ("client", "internal", "client")
    assert admission.attributes["boxoffice.booking_id"] == settlement.attributes["boxoffice.booking_id"] == booking
    assert batch.attributes == {"boxoffice.shard": SHARD, "boxoffice.members": 1, "boxoffice.members_sampled": 1}
    assert "boxoffice.reason" not in settlement.attributes
    assert spans.only("capture").attributes["boxoffice.payment_key"]
    assert all(0 <= span.took_ns < 60_000_000_000 for span in spans.all())


async def test_what_is_not_sampled_leaves_nothing_behind(till: Till, spans: Spans) -> None:
    booking = await till.book(GA=1)
    assert await trace_in_redis(till, booking) == ""
    await till.rest()
    await till.refund(booking)
    await till.rest()
    assert spans.all() == [] and await kept(till) == {}


async def test_a_call_and_a_batch_are_linked_to_those_of_their_members_that_are_sampled(
    till: Till, spans: Spans
) -> None:
    async def book(sampled: bool, customer: str) -> Trace | None:
        if not sampled:
            await till.book(GA=1, customer=customer)
            return None
        with request_of() as trace:
            await till.book(GA=1, customer=customer)
        return trace

    found = await asyncio.gather(book(True, "a"), book(False, "b"), book(True, "c"))
    await till.rest()
    links = {place(trace) for trace in found if trace is not None}
    for name in ("admission call", "settlement batch"):
        span = spans.only(name)
        assert set(span.links) == links and len(span.links) == 2
        assert span.attributes == {"boxoffice.shard": SHARD, "boxoffice.members": 3, "boxoffice.members_sampled": 2}
    for trace in filter(None, found):
        assert way_of(spans, trace) == ["admission accepted", "settlement confirmed", "capture done"]
    assert len(await kept(till)) == 2


@pytest.mark.parametrize("shard", [0, SHARD])
async def test_a_call_and_a_batch_name_their_shard(till: Till, open_sale: SaleMaker, spans: Spans, shard: int) -> None:
    till.event = await open_sale(shard=shard, GA=5)
    with request_of():
        await till.book(GA=1)
    await till.rest()
    assert {spans.only(name).attributes["boxoffice.shard"] for name in ("admission call", "settlement batch")} == {
        shard
    }


async def test_a_hold_paid_later_goes_on_in_its_own_trace(till: Till, spans: Spans) -> None:
    """Whoever pays is told of it in their own; a first payment that is declined, and other items, change nothing."""
    with request_of() as holder:
        booking = await till.hold(GA=1)
    await till.change(booking, GA=2)
    with request_of() as payer:
        await till.pay(booking, "tok_card_declined")
    await till.drain()
    assert await trace_in_redis(till, booking) == holder.place.traceparent
    await till.pay(booking)
    await till.rest()
    assert way_of(spans, holder) == [
        "admission accepted", "payment", "settlement held", "settlement confirmed", "capture done",
    ]  # fmt: skip
    assert way_of(spans, payer) == [] and payer.links == (holder.place,)
    assert spans.only("payment").links == [place(payer)]
    assert await kept(till) == {booking: holder.place.traceparent}


async def test_a_hold_without_a_trace_has_that_of_its_payment(till: Till, spans: Spans) -> None:
    booking = await till.hold(GA=1)
    with request_of() as payer:
        await till.pay(booking)
    await till.rest()
    assert way_of(spans, payer) == ["settlement confirmed", "capture done"]


async def test_money_of_a_booking_that_failed_is_let_go_in_its_trace(till: Till, spans: Spans) -> None:
    """Beside one of the same batch that is captured."""
    await till.book(GA=1)
    with request_of() as trace:
        await till.book("tok_wrong_amount", GA=1)
    await till.rest()
    assert way_of(spans, trace) == ["admission accepted", "settlement failed", "void done"]
    assert spans.only("settlement").attributes["boxoffice.reason"] == "payment_amount_mismatch"
    assert till.office.pump.traces.given == {}


async def test_who_dies_after_the_commit_leaves_the_trace_to_the_next(till: Till, spans: Spans) -> None:
    with request_of() as trace:
        booking = await till.book(GA=1)
    while await till.office.redis.zcard(keys.pending(SHARD)):
        await till.drain()
    till.office.pump.given.clear()
    till.office.pump.traces.given.clear()
    assert await kept(till) == {booking: trace.place.traceparent}
    await till.pump()
    assert way_of(spans, trace) == ["admission accepted", "settlement confirmed", "capture done"]


async def test_a_payment_that_waits_for_the_bank_keeps_its_trace(till: Till, spans: Spans) -> None:
    """However often it is looked at, and there is one span once it is decided."""
    with request_of() as trace:
        booking = await till.book("tok_3ds", GA=1)
    await till.drain()
    await till.look_again(booking)
    assert await trace_in_redis(till, booking) == trace.place.traceparent
    record = await till.record(booking)
    assert record is not None
    await till.gateway.complete_action(record.payment_key)
    await till.claimable(booking)
    await till.rest()
    assert way_of(spans, trace) == ["admission accepted", "settlement confirmed", "capture done"]


async def test_a_claim_that_ends_without_a_verdict_keeps_the_trace(
    till: Till, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes away after the gateway was asked: the booking is claimed again."""
    with request_of() as trace:
        booking = await till.book(GA=1)
    committing = till.office.settlements[SHARD].committing

    async def away(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(committing, "commit", away)
        await till.drain()
    record = await till.record(booking)
    assert record is not None and (record.state, record.payload.trace) == ("P", trace.place.traceparent)
    assert record.payload.outcome is not None and record.payload.outcome.status == "unknown"
    assert spans.only("settlement batch").links == [place(trace)] and spans.named("settlement") == []


async def test_money_that_is_let_go_and_money_that_comes_late_are_in_the_trace(
    till: Till, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expired hold that its money revives is settled in its trace as if nothing had been."""
    with request_of() as trace:
        booking = await till.hold(VIP=2)
    await till.pay(booking)
    authorize = till.gateway.authorize_batch

    async def lost(requests: list[object]) -> list[Unknown]:
        await authorize(requests)  # type: ignore[arg-type]
        return [Unknown("timeout")] * len(requests)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(till.gateway, "authorize_batch", lost)
        patch.setattr(till.gateway, "lookup", silent)
        patch.setattr(till.gateway, "void", silent)
        await till.drain()
        await till.time_is_up(booking)
        await till.look_again(booking)
        await till.sooner()
        await till.office.pump.work_outbox()
    assert await trace_in_redis(till, booking) == trace.place.traceparent
    await till.sooner()
    await till.office.pump.work_outbox()
    assert await till.state(booking) == "P expired"
    assert await trace_in_redis(till, booking) == trace.place.traceparent
    await till.rest()
    assert way_of(spans, trace) == [
        "admission accepted", "settlement expired", "void unknown", "settlement confirmed", "capture done",
    ]  # fmt: skip
    (expired, _) = spans.named("settlement")
    assert expired.attributes["boxoffice.reason"] == "payment_unavailable"


@pytest.mark.parametrize(
    ("before", "wanted", "outcome"),
    [
        ({}, {"VIP": 5}, "sold_out"), ({"VIP": 4, "key": "k"}, {"VIP": 1}, "sold_out"),
        ({"GA": 1, "key": "k"}, {"GA": 2, "key": "k"}, "key_reused"),
        ({"GA": 1, "key": "k"}, {"GA": 1, "key": "k"}, "replayed"),
    ],
)  # fmt: skip
async def test_a_refusal_and_a_repeat_are_in_their_requests_traces(
    till: Till, spans: Spans, before: dict[str, object], wanted: dict[str, object], outcome: str
) -> None:
    """Once, also of a tier that was short a moment ago, where the booking is asked about first."""
    if before:
        await till.book(**before)  # type: ignore[arg-type]
    with request_of() as trace:
        try:
            await till.book(**wanted)  # type: ignore[arg-type]
        except BoxOfficeError:
            pass
    assert way_of(spans, trace) == [f"admission {outcome}"]


async def test_a_question_that_becomes_a_booking_takes_its_trace_along(till: Till, spans: Spans) -> None:
    window = till.office.admission.windows[SHARD]
    window.short[tier_of(till.event, "GA")] = 0, till.office.clock.now_s() + 60
    with request_of() as trace:
        booking = await till.book(GA=1)
    assert way_of(spans, trace) == ["admission accepted"]
    assert await trace_in_redis(till, booking) == trace.place.traceparent


async def test_a_trace_that_cannot_be_read_stops_nobody(till: Till, spans: Spans) -> None:
    """A record of another version, or of a hand: it is settled and captured, and traced by nobody."""
    with request_of() as trace:
        booking = await till.book(GA=1)
    record = await till.record(booking)
    assert record is not None
    record.payload = replace(record.payload, trace="nonsense")
    await till.office.redis.set(keys.booking(SHARD, booking), record.pack())
    await till.rest()
    assert await till.state(booking) == "C confirmed"
    assert way_of(spans, trace) == ["admission accepted"] and await kept(till) == {}


async def test_a_booking_keeps_the_trace_that_it_had_first(till: Till) -> None:
    with traced(), request_of() as trace:
        booking = await till.book(GA=1)
        await till.rest()
    async with till.office.database.writer() as connection:
        await traces.keep(connection, {})
        await traces.keep(connection, {booking: "another"})
        (payment,) = await till.fetch("SELECT payment_key FROM payments")
        found = await traces.of_payments(connection, [payment[0], "unknown"])
    assert found == {payment[0]: trace.place.traceparent}


@asynccontextmanager
async def no_table(till: Till) -> AsyncIterator[None]:
    """PostgreSQL knows no traces meanwhile."""
    await till.fetch("ALTER TABLE booking_traces RENAME TO gone")
    try:
        yield
    finally:
        await till.fetch("ALTER TABLE gone RENAME TO booking_traces")


async def test_traces_that_cannot_be_kept_hold_up_no_booking_and_no_money(till: Till, spans: Spans) -> None:
    """Of a batch with one that is traced, and of what the pump claims of it later."""
    seldom.forget()
    with request_of() as trace:
        booking = await till.book(GA=1)
    other = await till.book(GA=1)
    async with no_table(till):
        with capture_logs() as said:
            await till.drain()
            assert [await till.state(each) for each in (booking, other)] == ["C confirmed"] * 2, "at the first try"
            till.office.pump.given.clear()  # as of a worker that has died: claimed by the next
            till.office.pump.traces.given.clear()
            await till.pump_once()
            for each in (booking, other):
                await till.refund(each, each)
            assert await till.office.pump.work_outbox() == 2
        assert [row[0] for row in await till.fetch("SELECT status FROM refunds")] == ["succeeded"] * 2
    lost = [(line["verb"], line["error"], line["code"]) for line in said if line["event"] == "traces.lost"]
    assert lost == [("keep", "UndefinedTableError", "42P01"), ("find", "UndefinedTableError", "42P01")]
    assert way_of(spans, trace) == ["admission accepted", "settlement confirmed"]
    assert await kept(till) == {}
    await till.at_rest(booking, other)
    with request_of() as trace:
        booking = await till.book(GA=1)
    await till.rest()
    assert await kept(till) == {booking: trace.place.traceparent}, "as soon as there is a place for them"


async def test_traces_switched_off_meanwhile_end_quietly(till: Till) -> None:
    """What was sampled before is settled as ever, by a worker that traces nothing."""
    with traced(), request_of():
        booking = await till.book(GA=1)
    assert not TRACES.on
    await till.rest()
    assert await till.state(booking) == "C confirmed" and await kept(till) == {}
