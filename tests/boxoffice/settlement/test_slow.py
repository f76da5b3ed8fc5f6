"""A card that takes its time: its booking stays leased to the worker that asked, and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from arq import Retry
from redis.exceptions import ConnectionError
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.books.decisions import Claimed, Known, Verdict
from boxoffice.errors import GateClosed
from boxoffice.gateway.base import (
    Done,
)
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.settlement.batch import Batch, Ready
from boxoffice.stores import keys
from tests.conftest import eventually, settle_all
from tests.support.settling import (
    Room,
    batch_of,
    claimed,
)
from tests.support.shop.office import book, book_many, first_sale, record_of, status_of
from tests.support.waiting import true_soon
from worker.doorbell import ring

LEASE_MS = 300


@pytest.fixture
async def office(clean: None, settings: Settings) -> AsyncIterator[BoxOffice]:
    """With short leases, and a gateway that answers a slow card in half a minute."""
    slow = settings.model_copy(
        update={
            "worker": settings.worker.model_copy(update={"lease_ms": LEASE_MS, "drain_s": 0.3}),
            "gateway": settings.gateway.model_copy(update={"cutoff_s": 0.05, "timeout_s": 30.0}),
        }
    )
    async with open_box_office(slow, redis_retries=3) as office:
        yield office
        for settlement in office.settlements:
            await settlement.stop()


async def waiting_for_its_card(office: BoxOffice) -> str:
    """A booking whose card has not answered."""
    event = await first_sale(office)
    booking = (await book(office, event, token="tok_timeout", GA=1)).booking_id
    assert await office.settlements[event.shard].drain()
    assert await status_of(office, booking) is None
    return booking


async def lease(office: BoxOffice, booking: str) -> float | None:
    """The score of the booking among those that wait: a lease has a fraction of a sixteenth."""
    return await office.redis.zscore(keys.pending(ids.shard_of(booking)), booking)  # type: ignore[no-any-return]


async def test_its_lease_is_renewed_as_long_as_it_waits(office: BoxOffice) -> None:
    """Nobody else claims it, or its customer would be asked twice; should its worker die, that is a lapse."""
    booking = await waiting_for_its_card(office)
    first = await lease(office, booking)
    assert first is not None

    async def renewed_twice() -> bool:
        score = await lease(office, booking)
        assert score is not None and score % 1 == 1 / 16, "a lease, and no retry"
        return score > first + LEASE_MS

    await eventually(renewed_twice)
    assert await status_of(office, booking) is None, "its card has not answered"
    assert (await record_of(office, booking)).state == "P"


async def test_a_renewal_brings_nothing_back_and_shortens_nothing(office: BoxOffice) -> None:
    """Another worker may have settled one of them meanwhile, or put it off for longer."""
    event = await first_sale(office)
    gone, later = [(await book(office, event, token="tok_timeout", GA=1)).booking_id for _ in range(2)]
    still = (await book(office, event, token="tok_timeout", GA=1)).booking_id
    assert await office.settlements[event.shard].drain()
    await office.redis.zrem(keys.pending(event.shard), gone)
    await office.redis.zadd(keys.pending(event.shard), {later: 9e15})
    first = await lease(office, still)
    assert first is not None

    async def renewed() -> bool:
        score = await lease(office, still)
        return score is not None and score > first

    await eventually(renewed)
    assert await lease(office, gone) is None
    assert await lease(office, later) == 9e15


async def test_with_very_many_of_them_nothing_more_is_claimed(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that answers nobody does not fill a worker's memory; the rest is for whoever has room. The drain ends in
    its time all the same, and so does the worker."""
    monkeypatch.setattr("boxoffice.settlement.slow.SLOW_MAX", 3)
    event = await first_sale(office)
    settlement = office.settlements[event.shard]
    await book_many(office, event, 3, token="tok_timeout", GA=1)
    assert not await settlement.drain()
    (other,) = await book_many(office, event, 1, GA=1)

    assert not await settlement.drain()

    score = await lease(office, other)
    assert score is not None and score % 1 == 0, "nobody has claimed it"
    async with asyncio.timeout(25):
        await settlement.stop()


async def test_once_they_have_answered_there_is_room_again(
    clean: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxoffice.settlement.slow.SLOW_MAX", 3)
    brisk = settings.model_copy(
        update={"gateway": settings.gateway.model_copy(update={"cutoff_s": 0.05, "timeout_s": 0.2})}
    )
    async with open_box_office(brisk, redis_retries=3) as office:
        event = await first_sale(office)
        slow = await book_many(office, event, 3, token="tok_timeout", GA=1)
        await office.settlements[event.shard].drain()
        (other,) = await book_many(office, event, 1, GA=1)

        async def confirmed() -> bool:
            await office.settlements[event.shard].drain()
            return await status_of(office, other) == "confirmed"

        await eventually(confirmed)
        await settle_all(office)
        assert {await status_of(office, booking) for booking in slow} == {"confirmed"}


async def test_a_drain_that_has_no_time_left_says_so_and_is_rung_for_again(clean: None, settings: Settings) -> None:
    """arq ends jobs after a minute and forgets them: a drain leaves before, and asks to come back."""
    hurried = settings.model_copy(update={"worker": settings.worker.model_copy(update={"drain_s": 1e-9})})
    async with open_box_office(hurried, redis_retries=3) as office:
        event = await first_sale(office)
        bookings = await book_many(office, event, 3, GA=1)

        assert not await office.settlements[event.shard].drain()
        with pytest.raises(Retry):
            await ring({"office": office}, event.shard)

    async with open_box_office(settings, redis_retries=3) as office:
        await ring({"office": office}, event.shard)
        assert {await status_of(office, booking) for booking in bookings} == {"confirmed"}


def answer_of(value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


async def test_slow_answers_are_settled_and_each_error_is_its_own(room: Room) -> None:
    claims = [claimed(n) for n in range(3)]
    batch, other = batch_of(*claims), claimed(9)
    batch.done.update(each.record.id for each in (*claims, other))
    error = ValueError("planted")
    known = {claims[0].record.id: Known(claims[0].record.id, "pending", None)}
    room.settlement.committing.fail_alone = room.noting("alone")  # type: ignore[method-assign]
    room.settlement.committing.settle = room.noting("settle")  # type: ignore[method-assign]
    answers = [answer_of(value) for value in (Done("a"), error, Done("c"))]
    await room.settlement.slow.settle_answered(batch, claims, answers, known)
    outcomes = {claims[0].record.id: Done("a"), claims[2].record.id: Done("c")}
    assert room.calls == [
        ("alone", batch, claims[1], error, True, room.now),
        ("settle", batch, Ready([claims[0], claims[2]], known, outcomes)),
    ]
    assert batch.done == {other.record.id}


@pytest.mark.parametrize(
    ("error", "names", "line"),
    [
        (GateClosed(), ["settle", "begin", "tell"], []), (OSError(), ["settle", "begin", "tell"], []),
        (ConnectionError(), ["settle"], ["batch.failed"]),
    ],
)  # fmt: skip
async def test_slow_answers_that_cannot_be_settled(
    room: Room, error: Exception, names: list[str], line: list[str]
) -> None:
    """Given back, or left to lapse where Redis is away."""
    room.settlement.committing.settle = room.noting("settle", error=error)  # type: ignore[method-assign]
    with capture_logs() as lines:
        await room.settlement.slow.settle_answered(batch_of(), [claimed(1)], [answer_of(Done("a"))], {})
    assert room.names() == names
    assert [each["event"] for each in lines if each["event"] == "batch.failed"] == line


async def test_an_end_of_the_process_is_no_answer(room: Room) -> None:
    class End(BaseException):
        pass

    with pytest.raises(End):
        await room.settlement.slow.settle_answered(batch_of(), [claimed(1)], [answer_of(End())], {})
    assert room.calls == []


async def test_while_slow_cards_are_waited_for_they_are_counted(room: Room) -> None:
    """Those that have answered no more, and none once it was cancelled: their bookings are given back at once."""
    loop = asyncio.get_running_loop()
    waits = {loop.create_future(): claimed(n) for n in range(3)}
    more = {loop.create_future(): claimed(9)}
    batch = batch_of()
    seen: list[int] = []

    async def settle_answered(_batch: Batch, claims: list[Claimed], _answers: Any, _known: Any) -> None:
        seen.append(room.settlement.slow.count)
        room.calls.append(("late", len(claims)))

    room.settlement.slow.settle_answered = settle_answered  # type: ignore[method-assign]
    room.settlement.slow.wait_for(batch, dict(more), {})
    room.settlement.slow.wait_for(batch, dict(waits), {})
    assert room.settlement.slow.count == 4
    assert batch.done == {each.record.id for each in (*waits.values(), *more.values())}
    first = next(iter(waits))
    first.set_result(Done("a"))
    await true_soon(lambda: seen)
    assert (seen, room.settlement.slow.count) == ([3], 3)
    await room.settlement.stop()
    assert (room.settlement.slow.count, room.settlement.slow.tasks) == (0, set())
    given_back = [each for call in room.calls if call[0] == "tell" for each in call[1]]
    assert {each.claim.record.sequence for each in given_back} == {1, 2, 9}
    assert {(each.verdict, each.delay_ms) for each in given_back} == {(Verdict.RELEASE, 0)}
    assert [future.cancelled() for future in (*waits, *more)] == [False, True, True, True]


@pytest.mark.parametrize(("count", "tasks", "too_many"), [(1_999, 1, False), (2_000, 1, True), (2_000, 0, False)])
def test_how_many_are_too_many(room: Room, count: int, tasks: int, too_many: bool) -> None:
    """Where no task waits, none can end."""
    room.settlement.slow.count = count
    room.settlement.slow.tasks = set(range(tasks))  # type: ignore[arg-type]
    assert room.settlement.slow.too_many is too_many
