"""The steps of a settlement one by one, on stores and a gateway that answer as the test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from redis.exceptions import ConnectionError
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.books import rows
from boxoffice.books.decisions import Claimed, Decision, Known, PaymentChange, PaymentRow, Standing, Terms, Verdict
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import GateClosed
from boxoffice.gateway.base import (
    AlreadyCaptured,
    Authorized,
    AuthorizeRequest,
    CaptureRequest,
    Done,
    Found,
    NotFound,
    RequiresAction,
    Unknown,
)
from boxoffice.settings import Settings
from boxoffice.settlement import draining
from boxoffice.settlement.batch import Batch, Ready
from boxoffice.settlement.draining import Settlement
from boxoffice.settlement.outage import StoreRefuses
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Body, Charge, Line, Outcome, Payload, Record, pack_items
from boxoffice.stores.shard import Shard
from tests.support.databases import DatabaseOf

SHARD = 1
NOW = 1_700_000_000_000
TERMS = Terms(NOW, 600_000)


def claimed(sequence: int = 1, *, lapses: int = 0, tries: str = "1", key: str = "", scope: str = "") -> Claimed:
    """A claimed booking of two tickets at 100."""
    lines = (Line("floor", 2, 100),)
    scope = scope or ids.digest(str(sequence))
    record = Record(
        ids.booking_id(SHARD, NOW + sequence), "P", sequence, NOW, 0, key or scope, scope, "f", "e", "0" * 16,
        pack_items(lines), tries, Body("c", "u", 200, "USD", lines), Payload(Charge("card", "tok", None, "4242"), key="k"),
    )  # fmt: skip
    return Claimed(record, record.pack(), lapses)


def batch_of(*claims: Claimed) -> Batch:
    return Batch(list(claims), TERMS, [Pair(7, 8)])


def released(claim: Claimed, delay_ms: int) -> Decision:
    """What Redis is told of a booking that is let go of undecided, of which nothing is to be remembered."""
    return Decision(claim, Verdict.RELEASE, Payload(), delay_ms)


class Room:
    """A settlement without stores: what it asks for is noted, and answered as the test says."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.now = 100.0
        self.slept: list[float] = []
        self.gateway: Any = SimpleNamespace(books="books")
        settings = Settings(shards=2)
        pool = SimpleNamespace(acquire=self._acquire)

        async def get_pool() -> Any:
            return pool

        self.pump = SimpleNamespace(give=lambda listed, cases: self.said.append(("give", listed, cases)))
        nothing: Any = SimpleNamespace()
        self.settlement = Settlement(
            Shard(nothing, nothing, SHARD), DatabaseOf(get_pool), self.gateway, self.pump, nothing, settings,
            Clock(lambda: self.now, sleep=self._sleep, chance=lambda: 0.5),
        )  # fmt: skip
        self.mirror: Any = SimpleNamespace(tell=self.noting("tell"), park=self.noting("park"))
        self.settlement._mirror = self.mirror
        self.outage: Any = SimpleNamespace(
            begin=self._begin, over=self.noting("over", 0.0), settled=lambda: self.said.append(("settled",)),
            answered=lambda: self.said.append(("answered",)), answered_after=lambda since: False,
            within=lambda seconds: False, blames_the_row=self.noting("blames", True),
        )  # fmt: skip
        self.settlement._outage = self.outage

    def noting(self, name: str, answer: Any = None, error: BaseException | None = None) -> Any:
        async def note(*arguments: Any, **named: Any) -> Any:
            self.said.append((name, *arguments, *named.values()))
            if error is not None:
                raise error
            return answer

        return note

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))

    def _begin(self, error: BaseException) -> float:
        self.said.append(("begin", error))
        return 0.4

    @asynccontextmanager
    async def _acquire(self) -> Any:
        yield SimpleNamespace(transaction=self._transaction)

    @asynccontextmanager
    async def _transaction(self) -> Any:
        yield None

    def names(self) -> list[str]:
        return [call[0] for call in self.said]


@pytest.fixture
def room() -> Room:
    return Room()


# ---------------------------------------------------------------- draining


@pytest.mark.parametrize("how", ["draining", "stopping", "closed"])
async def test_who_may_not_drain_does_nothing_and_asks_for_no_ring(room: Room, how: str) -> None:
    """One that is draining hears that there is more."""
    if how == "closed":
        room.settlement._closed_until = room.now + 0.001
    else:
        setattr(room.settlement, f"_{how}", True)
    room.settlement._batches = room.noting("batches")  # type: ignore[method-assign]
    assert await room.settlement.drain() is True
    assert room.said == []
    assert room.settlement._again is True
    assert room.settlement._draining is (how == "draining")


async def test_during_an_outage_nothing_is_claimed_until_its_pause_is_over(room: Room) -> None:
    room.settlement._batches = room.noting("batches")  # type: ignore[method-assign]
    room.outage.over = room.noting("over", 1.5)
    assert await room.settlement.drain() is True
    assert (room.names(), room.settlement._closed_until, room.settlement._draining) == (["over"], 101.5, False)
    room.outage.over = room.noting("over", 0.0)
    room.now = 101.5
    assert await room.settlement.drain() is True
    assert room.names() == ["over", "over", "batches"]


@pytest.mark.parametrize(
    ("takes_s", "times", "done"), [(0.0, 3, True), (9.9, 2, False), (10.0, 1, False), (4.0, 3, True)]
)
async def test_it_goes_on_while_somebody_rings_and_there_is_time(
    room: Room, takes_s: float, times: int, done: bool
) -> None:
    """Three rings; `worker.drain_s` is ten seconds, and every round hears when it ends."""
    rounds: list[float] = []

    async def batches(end: float) -> None:
        rounds.append(end)
        room.now += takes_s
        room.settlement._again = len(rounds) < 3

    room.settlement._batches = batches  # type: ignore[method-assign]
    assert await room.settlement.drain() is done
    assert rounds == [110.0] * times
    assert room.settlement._draining is False


async def test_a_pause_or_a_stop_ends_the_rounds(room: Room) -> None:
    for ends in ("_stopping", "_closed_until"):
        rounds = 0

        async def batches(_end: float, ends: str = ends) -> None:
            nonlocal rounds
            rounds += 1
            room.settlement._again = True
            setattr(room.settlement, ends, True if ends == "_stopping" else room.now + 1)

        room.settlement._batches = batches  # type: ignore[method-assign]
        assert await room.settlement.drain() is False
        assert rounds == 1
        room.settlement._stopping = False


async def test_a_drain_that_breaks_may_be_begun_again(room: Room) -> None:
    room.settlement._batches = room.noting("batches", error=ValueError("planted"))  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(ValueError, match="planted"):
            await room.settlement.drain()
    assert room.names().count("batches") == 2


@pytest.mark.parametrize(
    ("since_s", "stopping", "rests"),
    [(0.0, False, [0.055]), (0.05, False, [0.005]), (0.06, False, []), (0.0, True, [])],
)
async def test_two_claims_are_apart(room: Room, since_s: float, stopping: bool, rests: list[float]) -> None:
    """`worker.linger_ms` is 55, from one claim to the next; who stops does not wait."""
    room.settlement._stopping = stopping
    await room.settlement._linger(room.now - since_s)
    assert room.slept == rests


# ---------------------------------------------------------------- claims


def reply_of(*claimed: tuple[str, int, bytes]) -> list[Any]:
    return [NOW, 0, [b"7:8"], *(part for name, lapses, raw in claimed for part in (name.encode(), lapses, raw))]


async def claim(room: Room, reply: Any) -> Batch:
    async def run(script: str, /, **slots: Any) -> Any:
        room.said.append((script, slots))
        if isinstance(reply, Exception):
            raise reply
        return reply

    room.settlement.here = SimpleNamespace(run=run)  # type: ignore[assignment]
    return await room.settlement._claim()


async def test_what_is_claimed_is_read(room: Room) -> None:
    """With the time, the commits that Redis was told of, and how often its lease lapsed."""
    one, two = claimed(1), claimed(2, lapses=13)
    batch = await claim(room, reply_of((one.record.id, 0, one.raw), (two.record.id, 13, two.raw)))
    assert (batch.claims, batch.terms, batch.told) == ([one, two], TERMS, [Pair(7, 8)])
    assert (batch.asked, batch.put_off, batch.done) == (set(), set(), set())
    assert room.said == [("claim", {"limit": 500, "lease_ms": 15_000, "ring_on": 1})]


@pytest.mark.parametrize("reply", [[], None, GateClosed()])
async def test_where_nothing_may_be_claimed_there_is_nothing(room: Room, reply: Any) -> None:
    assert (await claim(room, reply)).claims == []


async def test_what_cannot_be_read_or_kills_its_workers_is_parked(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its payment key, with the reason, and the others are settled."""
    monkeypatch.setattr(draining, "count_failure", room.noting("count"))
    good, torn, killer = claimed(1), claimed(2), claimed(3)
    raw = torn.raw.partition(b"\n")[0] + b"\n{\n{"
    with capture_logs() as lines:
        batch = await claim(
            room, reply_of((torn.record.id, 0, raw), (killer.record.id, 14, killer.raw), (good.record.id, 0, good.raw))
        )
    assert batch.claims == [good]
    reasons = ["unreadable record: ValidationError", "its lease lapsed again and again"]
    assert [call[2:] for call in room.said if call[0] == "count"] == [
        (torn.record.id, raw, reasons[0], 0), (killer.record.id, killer.raw, reasons[1], 0),
    ]  # fmt: skip
    assert [call for call in room.said if call[0] == "park"] == [
        ("park", torn.record.id, torn.record.payment_key), ("park", killer.record.id, killer.record.payment_key),
    ]  # fmt: skip
    assert [(line["event"], line["booking_id"], line["error"]) for line in lines] == [
        ("booking.parked", torn.record.id, reasons[0]), ("booking.parked", killer.record.id, reasons[1]),
    ]  # fmt: skip


async def test_leases_that_lapsed_during_an_outage_say_nothing(room: Room) -> None:
    """As long ago as so many leases last."""
    asked: list[float] = []
    room.outage.within = lambda seconds: not asked.append(seconds)  # type: ignore[func-returns-value]
    one = claimed(1, lapses=14)
    batch = await claim(room, reply_of((one.record.id, 14, one.raw)))
    assert (batch.claims, asked) == ([one], [14 * 15.0])


async def test_who_cannot_park_gives_the_others_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    error = asyncpg.TooManyConnectionsError()
    monkeypatch.setattr(draining, "count_failure", room.noting("count", error=error))
    good = claimed(1)
    batch = await claim(room, reply_of((good.record.id, 0, good.raw), (claimed(2).record.id, 0, b"torn")))
    assert batch.claims == []
    assert ("begin", error) in room.said
    assert [call[1] for call in room.said if call[0] == "tell"] == [[released(good, 600)]]


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize("error", [GateClosed(), StoreRefuses(), OSError(), asyncpg.DeadlockDetectedError()])
async def test_a_claim_that_fails_for_everybody_is_given_back(room: Room, error: Exception) -> None:
    """What was done by then is not; claiming pauses for as long as the outage says, and a little at random each."""
    done, open_, asked = claimed(1), claimed(2), claimed(3)
    batch = batch_of(done, open_, asked)
    batch.done.add(done.record.id)
    batch.asked.add(asked.record.id)
    room.settlement._authorise_apart = room.noting("authorise", error=error)  # type: ignore[method-assign]
    await room.settlement._settle_claim(batch)
    assert room.said[0] == ("authorise", batch, [done, open_, asked], [], room.now)
    remembers = replace(asked.record.payload, outcome=Outcome("unknown", "card", "4242"))
    told = [released(open_, 600), Decision(asked, Verdict.RELEASE, remembers, 600)]
    assert room.said[1:] == [("begin", error), ("tell", told, batch.done)]
    assert room.settlement._closed_until == room.now + 0.4


async def test_a_gate_that_is_shut_leaves_leases_to_lapse(room: Room) -> None:
    room.mirror.tell = room.noting("tell", error=GateClosed())
    with capture_logs() as lines:
        await room.settlement._release(batch_of(), [claimed(1)], 0.1)
    assert [(line["event"], line["shard"], line["bookings"]) for line in lines] == [("leases.kept", SHARD, 1)]


async def test_a_batch_is_halved_down_to_those_that_fail(room: Room) -> None:
    """The others are ready, in their order."""
    claims = [claimed(n) for n in range(5)]
    bad = {claims[1].record.id, claims[4].record.id}
    batch = batch_of(*claims)

    async def authorise(of: Batch, some: list[Claimed]) -> Ready:
        assert of is batch
        room.said.append(("asked", len(some)))
        if any(each.record.id in bad for each in some):
            raise ValueError(len(some))
        facts = {each.record.id: each.record.sequence for each in some}
        return Ready(some, facts, facts)  # type: ignore[arg-type]

    room.settlement._authorise = authorise  # type: ignore[method-assign]
    failed: list[tuple[Claimed, Exception]] = []
    ready = await room.settlement._authorise_apart(batch, claims, failed, 1.0)
    assert [each.record.sequence for each in ready.claims] == [0, 2, 3]
    assert list(ready.known.values()) == list(ready.outcomes.values()) == [0, 2, 3]
    assert [(each.record.sequence, str(error)) for each, error in failed] == [(1, "1"), (4, "1")]
    assert [size for _, size in room.said] == [5, 2, 1, 1, 3, 1, 2, 1, 1]


@pytest.mark.parametrize(("answered", "count"), [(False, 3), (True, 5)])
async def test_three_that_fail_alike_are_the_gateways_fault_unless_it_has_answered(
    room: Room, answered: bool, count: int
) -> None:
    """Somebody, since."""
    asked: list[float] = []

    def answered_after(since: float) -> bool:
        asked.append(since)
        return answered

    room.outage.answered_after = answered_after
    room.settlement._authorise = room.noting("asked", error=ValueError("planted"))  # type: ignore[method-assign]
    failed: list[tuple[Claimed, Exception]] = []
    claims = [claimed(n) for n in range(5)]
    if answered:
        assert (await room.settlement._authorise_apart(batch_of(), claims, failed, 1.5)).claims == []
    else:
        with pytest.raises(StoreRefuses) as caught:
            await room.settlement._authorise_apart(batch_of(), claims, failed, 1.5)
        assert str(caught.value.__cause__) == "planted"
    assert (len(failed), set(asked)) == (count, {1.5})


@pytest.mark.parametrize("error", [ConnectionError(), GateClosed(), StoreRefuses(), OSError()])
async def test_what_hits_everybody_halves_nothing(room: Room, error: Exception) -> None:
    room.settlement._authorise = room.noting("asked", error=error)  # type: ignore[method-assign]
    with pytest.raises(type(error)):
        await room.settlement._authorise_apart(batch_of(), [claimed(1), claimed(2)], [], 1.0)
    assert len(room.said) == 1


async def test_who_fails_alone_is_tried_later_and_later_and_then_parked(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt counts when it was the row's own fault. It was first seen to fail when it was first tried."""
    one, counted = claimed(1), iter(range(1, 6))
    batch = batch_of(one)

    async def count_failure(_connection: Any, booking: str, raw: bytes, what: str, *, attempts_max: int) -> int:
        room.said.append(("count", booking, raw, what, attempts_max))
        return next(counted)

    monkeypatch.setattr(draining, "count_failure", count_failure)
    error = asyncpg.UniqueViolationError("hunter2")
    with capture_logs() as lines:
        for n in range(5):
            await room.settlement._fail_alone(batch, one, error, asking=False, since=50.0 + n)
    assert [call[1:] for call in room.said if call[0] == "tell"] == [
        *(([released(one, delay_ms)], batch.done) for delay_ms in (200, 400, 800, 1_600)),
        ([Decision(one, Verdict.PARK, Payload())], batch.done),
    ]
    assert [call for call in room.said if call[0] == "blames"] == [("blames", error, False, 50.0)] * 5
    assert {call for call in room.said if call[0] == "count"} == {
        ("count", one.record.id, one.raw, "UniqueViolationError 23505", 5)
    }
    assert room.settlement._suspects == {}
    assert [(line["attempts"], line["parked"], line["error"]) for line in lines] == [
        (n, n == 5, "UniqueViolationError 23505") for n in range(1, 6)
    ]


async def test_who_fails_for_what_may_be_nobodys_fault_is_never_parked(room: Room) -> None:
    """Its pauses grow to a minute."""
    room.outage.blames_the_row = room.noting("blames", False)
    one = claimed(1)
    for _ in range(12):
        await room.settlement._fail_alone(batch_of(one), one, ValueError("ours"), asking=True, since=50.0)
    told = [call[1][0] for call in room.said if call[0] == "tell"]
    assert {each.verdict for each in told} == {Verdict.RELEASE}
    assert [each.delay_ms for each in told] == [*(200 * 2**n for n in range(9)), 60_000, 60_000, 60_000]
    assert room.settlement._suspects == {one.record.id: (12, 50.0)}
    assert [call[2] for call in room.said if call[0] == "blames"] == [True] * 12


# ---------------------------------------------------------------- the transaction


async def test_a_transaction_is_tried_five_times_when_postgresql_says_so(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pauses that double; who raced looks again, and does not wait."""
    one = claimed(1)
    batch, ready = batch_of(one), Ready([one], {}, {one.record.id: Done("r")})
    known = Known(one.record.id, "confirmed", None)

    async def known_by_key(_connection: Any, records: list[Record]) -> dict[str, Known]:
        return {record.id: known for record in records}

    monkeypatch.setattr(draining.rows, "known_by_key", known_by_key)
    errors: list[Exception] = [
        asyncpg.DeadlockDetectedError(), rows.Raced(), asyncpg.SerializationError(), asyncpg.LockNotAvailableError(),
    ]  # fmt: skip

    async def transact(_connection: Any, of: Batch, ready: Ready) -> Any:
        assert of is batch
        room.said.append(("transact", ready))
        if errors:
            raise errors.pop(0)
        return [], 3, Pair(1, 2)

    room.settlement._transact = transact  # type: ignore[method-assign]
    assert await room.settlement._commit(batch, ready) == ([], 3, Pair(1, 2))
    again = ready._replace(known={one.record.id: known})
    assert (room.slept, [call[1] for call in room.said]) == ([0.015, 0.06, 0.12], [ready, ready, again, again, again])

    for kind, times, raised in (
        (asyncpg.DeadlockDetectedError, 5, asyncpg.DeadlockDetectedError),
        (rows.Raced, 5, asyncpg.SerializationError),
        (asyncpg.UniqueViolationError, 1, asyncpg.UniqueViolationError),
        (OSError, 1, OSError),
    ):
        room.said.clear()
        errors[:] = [kind() for _ in range(9)]
        with pytest.raises(raised):
            await room.settlement._commit(batch, ready)
        assert len(room.said) == times


async def test_suspects_are_settled_after_the_others_and_each_alone(room: Room) -> None:
    claims = [claimed(n) for n in range(4)]
    for each in (claims[0], claims[2]):
        room.settlement._suspects[each.record.id] = (1, 50.0)
    batches: list[list[int]] = []

    async def commit(_batch: Batch, ready: Ready) -> Any:
        batches.append([each.record.sequence for each in ready.claims])
        return [], None, Pair(1, 2)

    room.settlement._commit = commit  # type: ignore[method-assign]
    await room.settlement._settle(batch_of(), Ready(claims, {}, {}))
    assert batches == [[1, 3], [0], [2]]
    assert room.settlement._suspects == {}


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
    room.settlement._commit = room.noting("commit", (decisions, listed, Pair(1, 2)))  # type: ignore[method-assign]
    with capture_logs() as lines:
        await room.settlement._settle(batch, ready)
        await room.settlement._settle(batch, ready.only([]))
    captures = [
        CaptureRequest(claims[n].record.payment_key, reference, 200, "USD") for n, reference in ((0, "r"), (3, ""))
    ]
    assert room.said == [
        ("commit", batch, ready), ("tell", decisions, batch.done, Pair(1, 2)),
        *([("give", 7, captures)] if listed else []), ("settled",),
    ]  # fmt: skip
    assert lines == [
        {"event": "batch.settled", "log_level": "info", "shard": SHARD, "confirmed": 3, "failed": 1},
    ]


async def test_a_batch_that_postgresql_puts_off_is_given_back_whole(room: Room) -> None:
    error = asyncpg.DeadlockDetectedError()
    room.settlement._commit = room.noting("commit", error=error)  # type: ignore[method-assign]
    claims = [claimed(1), claimed(2)]
    await room.settlement._settle(batch_of(*claims), Ready(claims, {}, {}))
    assert (room.names(), room.said[1][1]) == (["commit", "tell"], [released(each, 150) for each in claims])


async def test_a_batch_that_fails_for_a_reason_of_its_own_is_halved(room: Room) -> None:
    """Down to the offender, whose fault it was while it was written."""
    claims = [claimed(n) for n in range(3)]
    batch, ready = batch_of(*claims), Ready(claims, {"k": None}, {"o": None})  # type: ignore[dict-item]
    room.settlement._fail_alone = room.noting("alone")  # type: ignore[method-assign]
    error = asyncpg.UniqueViolationError()

    async def commit(_batch: Batch, some: Ready) -> Any:
        assert (some.known, some.outcomes) == (ready.known, ready.outcomes)
        room.said.append(("commit", [each.record.sequence for each in some.claims]))
        if claims[2] in some.claims:
            raise error
        return [], None, Pair(1, 2)

    room.settlement._commit = commit  # type: ignore[method-assign]
    await room.settlement._settle(batch, ready)
    assert [call[1] for call in room.said if call[0] == "commit"] == [[0, 1, 2], [0], [1, 2], [1], [2]]
    assert [call for call in room.said if call[0] == "alone"] == [("alone", batch, claims[2], error, False, room.now)]
    for away in (OSError(), StoreRefuses()):
        room.settlement._commit = room.noting("commit", error=away)  # type: ignore[method-assign]
        with pytest.raises(type(away)):
            await room.settlement._settle(batch, ready)


# ---------------------------------------------------------------- letting go


def found(status: Any) -> Found:
    return Found(status, "r", 200, "USD")


AT_BANK = PaymentRow("requires_action", "r", None, "https://bank", 0)
TRIED = PaymentRow("unknown", None, None, None, 0)


@pytest.mark.parametrize(
    ("row", "tries", "found_", "voided", "means", "asked"),
    [
        (None, "1", None, None, Done(""), []),
        (TRIED, "1", None, Done("r"), Done("r"), ["void None"]),
        (TRIED, "1", None, Unknown("timeout"), Unknown("timeout"), ["void None"]),
        (TRIED, "1", None, NotFound(), Unknown("void without an answer"), ["void None"]),
        (
            TRIED,
            "1",
            found("captured"),
            AlreadyCaptured(200),
            Authorized("r", 200, "USD"),
            ["void None", "lookup None"],
        ),
        (TRIED, "1", Unknown("x"), AlreadyCaptured(200), Unknown("captured"), ["void None", "lookup None"]),
        (AT_BANK, "1", found("authorized"), None, Authorized("r", 200, "USD"), ["lookup r"]),
        (AT_BANK, "1", found("captured"), None, Authorized("r", 200, "USD"), ["lookup r"]),
        (AT_BANK, "1", found("requires_action"), Done("r"), Done("r"), ["lookup r", "void r"]),
        (AT_BANK, "1", found("declined"), Done("r"), Done("r"), ["lookup r", "void r"]),
        (AT_BANK, "1", Unknown("x"), Done("r"), Done("r"), ["lookup r", "void r"]),
        (AT_BANK, "1x", found("authorized"), Done("r"), Done("r"), ["void r"]),
    ],
)
async def test_nobody_waits_for_this_payment_any_more(
    room: Room, row: PaymentRow | None, tries: str, found_: Any, voided: Any, means: Any, asked: list[str]
) -> None:
    """What a customer finished at the last moment counts, unless it was cancelled; what was captured always counts."""
    one = claimed(1, tries=tries)
    known = Known(one.record.id, "pending", None, payment=row) if row else None

    async def lookup(key: str, reference: str | None) -> Any:
        assert key == one.record.payment_key
        room.said.append((f"lookup {reference}",))
        return found_

    async def void(key: str, reference: str | None) -> Any:
        assert key == one.record.payment_key
        room.said.append((f"void {reference}",))
        return voided

    room.gateway.lookup, room.gateway.void = lookup, void
    assert await room.settlement._let_go(batch_of(one), known, one) == means
    assert room.names() == asked


@pytest.mark.parametrize(
    ("answer", "means"),
    [
        (found("authorized"), Authorized("r", 200, "USD")), (Unknown("x"), RequiresAction("https://bank", "r")),
        (NotFound(), RequiresAction("https://bank", "r")),
    ],
)  # fmt: skip
async def test_a_payment_at_the_bank_is_looked_at(room: Room, answer: Any, means: Any) -> None:
    one = claimed(1)
    room.gateway.lookup = room.noting("lookup", answer)
    assert await room.settlement._look_closer(AT_BANK, one) == means
    assert room.said == [("lookup", one.record.payment_key, "r")]


async def test_of_two_under_one_key_the_later_waits(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless PostgreSQL knows whose it is already."""
    later, first, known_one = claimed(2, scope="s"), claimed(1, scope="s"), claimed(3, scope="s")
    batch = batch_of(later, first, known_one)
    known = {known_one.record.id: Known(known_one.record.id, "pending", None, payment=TRIED)}

    async def known_by_key(_connection: Any, _records: Any) -> Any:
        return known

    monkeypatch.setattr(draining.rows, "known_by_key", known_by_key)
    assert await room.settlement._look_up(batch, batch.claims) == ([first, known_one], known)
    assert room.said == [("tell", [released(later, 150)], batch.done)]
    room.said.clear()
    assert await room.settlement._look_up(batch, [later]) == ([], known), "nor when the batch is halved"


# ---------------------------------------------------------------- slow answers


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
    room.settlement._fail_alone = room.noting("alone")  # type: ignore[method-assign]
    room.settlement._settle = room.noting("settle")  # type: ignore[method-assign]
    answers = [answer_of(value) for value in (Done("a"), error, Done("c"))]
    await room.settlement._settle_late(batch, claims, answers, known)
    outcomes = {claims[0].record.id: Done("a"), claims[2].record.id: Done("c")}
    assert room.said == [
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
    room.settlement._settle = room.noting("settle", error=error)  # type: ignore[method-assign]
    with capture_logs() as lines:
        await room.settlement._settle_late(batch_of(), [claimed(1)], [answer_of(Done("a"))], {})
    assert room.names() == names
    assert [each["event"] for each in lines if each["event"] == "batch.failed"] == line


async def test_an_end_of_the_process_is_no_answer(room: Room) -> None:
    class End(BaseException):
        pass

    with pytest.raises(End):
        await room.settlement._settle_late(batch_of(), [claimed(1)], [answer_of(End())], {})
    assert room.said == []


async def test_while_slow_cards_are_waited_for_they_are_counted(room: Room) -> None:
    """Those that have answered no more, and none once it was cancelled: their bookings are given back at once."""
    loop = asyncio.get_running_loop()
    waits = {loop.create_future(): claimed(n) for n in range(3)}
    more = {loop.create_future(): claimed(9)}
    batch = batch_of()
    seen: list[int] = []

    async def settle_late(_batch: Batch, claims: list[Claimed], _answers: Any, _known: Any) -> None:
        seen.append(room.settlement._slow)
        room.said.append(("late", len(claims)))

    room.settlement._settle_late = settle_late  # type: ignore[method-assign]
    room.settlement._wait_for(batch, dict(more), {})
    room.settlement._wait_for(batch, dict(waits), {})
    assert room.settlement._slow == 4
    assert batch.done == {each.record.id for each in (*waits.values(), *more.values())}
    first = next(iter(waits))
    first.set_result(Done("a"))
    async with asyncio.timeout(10):
        while not seen:
            await asyncio.sleep(0.005)
    assert (seen, room.settlement._slow) == ([3], 3)
    await room.settlement.stop()
    assert (room.settlement._slow, room.settlement._late) == (0, set())
    given_back = [each for call in room.said if call[0] == "tell" for each in call[1]]
    assert {each.claim.record.sequence for each in given_back} == {1, 2, 9}
    assert {(each.verdict, each.delay_ms) for each in given_back} == {(Verdict.RELEASE, 0)}
    assert [future.cancelled() for future in (*waits, *more)] == [False, True, True, True]


# ---------------------------------------------------------------- batch after batch


class Batches:
    """Claims that come as the test says, batches that end when it says, and every wait, noted."""

    def __init__(self, room: Room, monkeypatch: pytest.MonkeyPatch, *claims: list[Claimed]) -> None:
        self.room, self.claims, self.did = room, list(claims), list[Any]()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None
        wait = asyncio.wait

        async def noted(tasks: Any, **how: Any) -> Any:
            self.did.append(("wait", len(tasks), how))
            self.may_end.set()
            return await wait(tasks, **how)

        room.settlement._claim = self._claim  # type: ignore[method-assign]
        room.settlement._settle_claim = self._settle_claim  # type: ignore[method-assign]
        room.settlement._linger = self._linger  # type: ignore[method-assign]
        monkeypatch.setattr(draining.asyncio, "wait", noted)

    async def _claim(self) -> Batch:
        self.room.now += 1
        batch = batch_of(*(self.claims.pop(0) if self.claims else []))
        self.did.append(("claim", len(batch.claims)))
        return batch

    async def _settle_claim(self, _batch: Batch) -> None:
        await self.may_end.wait()
        self.may_end.clear()
        if self.error is not None:
            raise self.error

    async def _linger(self, claimed_at: float) -> None:
        self.did.append(("linger", claimed_at))

    async def run(self, seconds: float = 1_000) -> list[Any]:
        async with asyncio.timeout(10):
            await self.room.settlement._batches(self.room.now + seconds)
        return self.did


FIRST = {"return_when": asyncio.FIRST_COMPLETED}
LOOK = {"timeout": 0.05, **FIRST}


async def test_where_nothing_is_due_nothing_is_waited_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.settlement._again = False
    assert await Batches(room, monkeypatch).run() == [("claim", 0)]
    assert room.settlement._again is False


async def test_a_batch_is_settled_while_the_next_is_claimed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one lingers from its claim on; while it is under way and nothing is due, it is looked again soon."""
    batches = Batches(room, monkeypatch, [claimed(1)])
    assert await batches.run() == [("claim", 1), ("linger", 100.0), ("claim", 0), ("wait", 1, LOOK), ("claim", 0)]


async def test_a_full_batch_does_not_linger_and_only_so_many_are_under_way(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three lanes: the first that ends makes room."""
    worker = room.settlement._settings.worker.model_copy(update={"batch_max": 2})
    room.settlement._settings = room.settlement._settings.model_copy(update={"worker": worker})
    full = [claimed(1), claimed(2)]
    did = await Batches(room, monkeypatch, full, full, full, full).run()
    assert did[:5] == [("claim", 2), ("claim", 2), ("claim", 2), ("wait", 3, FIRST), ("claim", 2)]
    assert "linger" not in {step[0] for step in did}


async def test_what_may_have_killed_its_workers_is_settled_alone(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a claim is enough: those before it end first, and it ends before anything else is claimed."""
    did = await Batches(room, monkeypatch, [claimed(1)], [claimed(2), claimed(3, lapses=1)]).run()
    assert did == [
        ("claim", 1), ("linger", 100.0), ("claim", 2), ("wait", 1, {}), ("wait", 2, {}), ("claim", 0),
    ]  # fmt: skip


async def test_with_very_many_slow_cards_nothing_is_claimed_for_a_moment(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until one of them has answered."""
    batches = Batches(room, monkeypatch)
    room.settlement._slow = draining.SLOW_MAX

    async def answers() -> None:
        room.settlement._slow -= 1

    room.settlement._late = {asyncio.create_task(answers())}
    assert await batches.run() == [("wait", 1, LOOK), ("claim", 0)]


@pytest.mark.parametrize("why", ["time", "stop", "pause"])
async def test_it_ends_with_what_is_under_way_and_says_that_there_is_more(
    room: Room, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    batches = Batches(room, monkeypatch, *([claimed(n)] for n in range(9)))
    linger = batches._linger

    async def stop(claimed_at: float) -> None:
        await linger(claimed_at)
        batches.may_end.set()
        if why == "stop":
            room.settlement._stopping = True
        elif why == "pause":
            room.settlement._closed_until = room.now + 1
        else:
            room.now += 1_000

    room.settlement._linger = stop  # type: ignore[method-assign]
    room.settlement._again = False
    assert await batches.run() == [("claim", 1), ("linger", 100.0)]
    assert room.settlement._again is True


async def test_a_batch_that_breaks_ends_the_drain_and_is_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are waited for; its leases lapse."""
    batches = Batches(room, monkeypatch, [claimed(1)])
    batches.error = ValueError("planted")
    with pytest.raises(ValueError, match="planted"):
        await batches.run()
    late = Batches(room, monkeypatch, [claimed(1)])
    late.error = ValueError("planted")

    async def end(_claimed_at: float) -> None:
        room.now += 2_000
        late.may_end.set()

    room.settlement._linger = end  # type: ignore[method-assign]
    with capture_logs() as lines:
        await late.run()
    assert [(line["event"], line["shard"]) for line in lines] == [("batch.failed", SHARD)]


@pytest.mark.parametrize(
    ("charge", "method", "token"), [(Charge("wallet", "tok", "Ann", "4242"), "wallet", "tok"), (None, "card", "")]
)
def test_what_is_asked_of_a_gateway(charge: Charge | None, method: str, token: str) -> None:
    """Of a payment whose card nobody remembers, the same key: it is a look-up."""
    record = claimed(1, key="pay").record
    record.payload = Payload(charge)
    asked = AuthorizeRequest("pay", record.id, 200, "USD", method, token)
    assert draining._request(record) == asked


async def test_each_part_of_a_settlement_is_of_its_own_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that tells Redis, the one that looks whether PostgreSQL takes writes, and the one that claims."""
    made: list[tuple[str, Any]] = []
    for name in ("Mirror", "Outage"):
        monkeypatch.setattr(draining, name, lambda shard, *rest, name=name: made.append((name, shard, *rest)))
    gateway: Any = SimpleNamespace(books="books")
    settings, here = Settings(), Shard(None, None, 3)  # type: ignore[arg-type]
    one = Settlement(here, None, gateway, "pump", "holds", settings)  # type: ignore[arg-type]
    assert one.shard == 3
    assert made[0] == ("Mirror", here, "holds", settings)
    assert (made[1][:2], made[1][3:]) == (("Outage", 3), ("books", 15_000, CLOCK))
    assert one._calls._value == 64
