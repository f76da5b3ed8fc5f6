"""One transaction for a batch: tried again, halved, and what becomes of whoever fails alone."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from boxoffice.books import rows
from boxoffice.books.decisions import Decision, Known, PaymentChange, Standing, Verdict
from boxoffice.gateway.base import (
    Authorized,
    CaptureRequest,
    Done,
)
from boxoffice.settlement import committing
from boxoffice.settlement.batch import Batch, Ready
from boxoffice.settlement.outage import StoreRefuses
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Payload, Record
from tests.conftest import SHARD
from tests.support.settling import (
    Room,
    batch_of,
    claimed,
    released,
)
from tests.support.telling import change


async def test_who_fails_alone_is_tried_later_and_later_and_then_parked(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt counts when it was the row's own fault. It was first seen to fail when it was first tried."""
    one, counted = claimed(1), iter(range(1, 6))
    batch = batch_of(one)

    async def count_failure(_connection: Any, booking: str, raw: bytes, what: str, *, attempts_max: int) -> int:
        room.calls.append(("count", booking, raw, what, attempts_max))
        return next(counted)

    monkeypatch.setattr(committing, "count_failure", count_failure)
    error = asyncpg.UniqueViolationError("hunter2")
    with capture_logs() as lines, change() as changes:
        for n in range(5):
            await room.settlement.committing.fail_alone(batch, one, error, asking=False, since=50.0 + n)
    assert changes == {"parked": 1}
    assert [call[1:] for call in room.calls if call[0] == "tell"] == [
        *(([released(one, delay_ms)], batch.done) for delay_ms in (200, 400, 800, 1_600)),
        ([Decision(one, Verdict.PARK, Payload())], batch.done),
    ]
    assert [call for call in room.calls if call[0] == "blames"] == [("blames", error, False, 50.0)] * 5
    assert {call for call in room.calls if call[0] == "count"} == {
        ("count", one.record.id, one.raw, "UniqueViolationError 23505", 5)
    }
    assert room.settlement.committing.suspects == {}
    assert [(line["attempts"], line["parked"], line["error"]) for line in lines] == [
        (n, n == 5, "UniqueViolationError 23505") for n in range(1, 6)
    ]


async def test_who_fails_for_what_may_be_nobodys_fault_is_never_parked(room: Room) -> None:
    """Its pauses grow to a minute."""
    room.outage.blames_the_row = room.noting("blames", False)
    one = claimed(1)
    for _ in range(12):
        await room.settlement.committing.fail_alone(batch_of(one), one, ValueError("ours"), asking=True, since=50.0)
    told = [call[1][0] for call in room.calls if call[0] == "tell"]
    assert {each.verdict for each in told} == {Verdict.RELEASE}
    assert [each.delay_ms for each in told] == [*(200 * 2**n for n in range(9)), 60_000, 60_000, 60_000]
    assert room.settlement.committing.suspects == {one.record.id: (12, 50.0)}
    assert [call[2] for call in room.calls if call[0] == "blames"] == [True] * 12


async def test_a_transaction_is_tried_five_times_when_postgresql_says_so(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pauses that double; who raced looks again, and does not wait."""
    one = claimed(1)
    batch, ready = batch_of(one), Ready([one], {}, {one.record.id: Done("r")})
    known = Known(one.record.id, "confirmed", None)

    async def known_by_key(_connection: Any, records: list[Record]) -> dict[str, Known]:
        return {record.id: known for record in records}

    monkeypatch.setattr(rows, "known_by_key", known_by_key)
    errors: list[Exception] = [
        asyncpg.DeadlockDetectedError(), rows.Raced(), asyncpg.SerializationError(), asyncpg.LockNotAvailableError(),
    ]  # fmt: skip

    async def transact(_connection: Any, of: Batch, ready: Ready) -> Any:
        assert of is batch
        room.calls.append(("transact", ready))
        if errors:
            raise errors.pop(0)
        return [], 3, Pair(1, 2)

    room.settlement.committing.transact = transact  # type: ignore[method-assign]
    assert await room.settlement.committing.commit(batch, ready) == ([], 3, Pair(1, 2))
    again = ready._replace(known={one.record.id: known})
    assert (room.slept, [call[1] for call in room.calls]) == ([0.015, 0.06, 0.12], [ready, ready, again, again, again])

    for kind, times, raised in (
        (asyncpg.DeadlockDetectedError, 5, asyncpg.DeadlockDetectedError),
        (rows.Raced, 5, asyncpg.SerializationError),
        (asyncpg.UniqueViolationError, 1, asyncpg.UniqueViolationError),
        (OSError, 1, OSError),
    ):
        room.calls.clear()
        errors[:] = [kind() for _ in range(9)]
        with pytest.raises(raised):
            await room.settlement.committing.commit(batch, ready)
        assert len(room.calls) == times


async def test_suspects_are_settled_after_the_others_and_each_alone(room: Room) -> None:
    claims = [claimed(n) for n in range(4)]
    for each in (claims[0], claims[2]):
        room.settlement.committing.suspects[each.record.id] = (1, 50.0)
    batches: list[list[int]] = []

    async def commit(_batch: Batch, ready: Ready) -> Any:
        batches.append([each.record.sequence for each in ready.claims])
        return [], None, Pair(1, 2)

    room.settlement.committing.commit = commit  # type: ignore[method-assign]
    await room.settlement.committing.settle(batch_of(), Ready(claims, {}, {}))
    assert batches == [[1, 3], [0], [2]]
    assert room.settlement.committing.suspects == {}


@pytest.mark.parametrize("listed", [None, 7])
async def test_what_is_committed_is_told_and_then_given_to_the_pump(room: Room, listed: int | None) -> None:
    """Captures only, and only when they were listed: then the batch counts as settled."""
    claims = [claimed(n) for n in range(4)]
    batch, ready = batch_of(*claims), Ready(claims, {}, {})
    decisions = [
        Decision(claim, Verdict.CONFIRM, Payload(), 0, Standing.NEW, status, None, payment)
        for claim, status, payment in zip(
            claims,
            ("confirmed", "failed", "confirmed", "confirmed"),
            (PaymentChange("authorized", "r", due="capture"), PaymentChange("authorized", "r", due="void"), None,
             PaymentChange("authorized", due="capture")),
            strict=True,
        )
    ]  # fmt: skip
    room.settlement.committing.commit = room.noting("commit", (decisions, listed, Pair(1, 2)))  # type: ignore[method-assign]
    with capture_logs() as lines:
        await room.settlement.committing.settle(batch, ready)
        await room.settlement.committing.settle(batch, ready.only([]))
    captures = [
        CaptureRequest(claims[n].record.payment_key, reference, 200, "USD") for n, reference in ((0, "r"), (3, ""))
    ]
    assert room.calls == [
        ("commit", batch, ready), ("tell", decisions, batch.done, Pair(1, 2)),
        *([("give", 7, captures, {})] if listed else []), ("settled",),
    ]  # fmt: skip
    assert lines == [
        {"event": "batch.settled", "log_level": "info", "shard": SHARD, "confirmed": 3, "failed": 1},
    ]


async def test_a_batch_that_postgresql_puts_off_is_given_back_whole(room: Room) -> None:
    error = asyncpg.DeadlockDetectedError()
    room.settlement.committing.commit = room.noting("commit", error=error)  # type: ignore[method-assign]
    claims = [claimed(1), claimed(2)]
    await room.settlement.committing.settle(batch_of(*claims), Ready(claims, {}, {}))
    assert (room.names(), room.calls[1][1]) == (["commit", "tell"], [released(each, 150) for each in claims])


async def test_a_batch_that_fails_for_a_reason_of_its_own_is_halved(room: Room) -> None:
    """Down to the offender, whose fault it was while it was written."""
    claims = [claimed(n) for n in range(3)]
    batch, ready = batch_of(*claims), Ready(claims, {"k": None}, {"o": None})  # type: ignore[dict-item]
    room.settlement.committing.fail_alone = room.noting("alone")  # type: ignore[method-assign]
    error = asyncpg.UniqueViolationError()

    async def commit(_batch: Batch, some: Ready) -> Any:
        assert (some.known, some.outcomes) == (ready.known, ready.outcomes)
        room.calls.append(("commit", [each.record.sequence for each in some.claims]))
        if claims[2] in some.claims:
            raise error
        return [], None, Pair(1, 2)

    room.settlement.committing.commit = commit  # type: ignore[method-assign]
    await room.settlement.committing.settle(batch, ready)
    assert [call[1] for call in room.calls if call[0] == "commit"] == [[0, 1, 2], [0], [1, 2], [1], [2]]
    assert [call for call in room.calls if call[0] == "alone"] == [("alone", batch, claims[2], error, False, room.now)]
    for away in (OSError(), StoreRefuses()):
        room.settlement.committing.commit = room.noting("commit", error=away)  # type: ignore[method-assign]
        with pytest.raises(type(away)):
            await room.settlement.committing.settle(batch, ready)


async def test_what_is_written_and_in_which_order(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that the gateway has by then: nobody may know it when a worker starts."""
    room.gateway.books = "named later"
    one = claimed(1)
    batch, ready = batch_of(one), Ready([one], {}, {one.record.id: Authorized("r", 200, "USD")})
    for name, answer in (
        ("lock_inventory", {"floor": 2}),
        ("vouch", None),
        ("recheck", None),
        ("write", 7),
        ("sell", None),
    ):
        monkeypatch.setattr(rows, name, room.noting(name, answer))
    monkeypatch.setattr(committing, "open_batch", room.noting("open", Pair(1, 2)))
    done = await room.settlement.committing.transact("connection", batch, ready)  # type: ignore[arg-type]
    assert (done.listed, done.pair, [each.status for each in done.decisions]) == (7, Pair(1, 2), ["confirmed"])
    assert room.calls == [
        ("lock_inventory", "connection", {"floor"}),
        ("vouch", "connection", {("c", "e", "floor")}, set()),
        ("recheck", "connection", [one.record], {}),
        ("write", "connection", done.decisions, "named later", 15_000, {}),
        ("sell", "connection", {"floor": 2}),
        ("open", "connection", SHARD, [Pair(7, 8)], True),
    ]
