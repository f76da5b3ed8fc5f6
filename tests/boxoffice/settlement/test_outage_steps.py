"""Whose fault it is, how long it is waited, and what is said of it: on a PostgreSQL that answers as the test says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.books.decisions import PaymentChange, Standing
from boxoffice.clock import Clock
from boxoffice.settlement import outage
from boxoffice.settlement.outage import Outage, StoreRefuses, is_of_the_row
from boxoffice.stores.record import Line
from tests.support.databases import DatabaseOf

SHARD = 1


class Room:
    """An outage, a clock that only the test moves, and a canary that ends as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.did: list[Any] = []
        self.error: Exception | None = None
        self.pool_error: Exception | None = None
        self.outage = Outage(SHARD, DatabaseOf(self._pool), "books", 15_000, Clock(now_s=lambda: self.now))
        monkeypatch.setattr(self.outage, "try_canary", self.try_canary)

    async def _pool(self) -> Any:
        if self.pool_error:
            raise self.pool_error

        async def expire_connections() -> None:
            self.did.append("expired")

        return SimpleNamespace(expire_connections=expire_connections)

    async def try_canary(self) -> None:
        if self.pool_error:
            raise self.pool_error
        self.did.append("tried")
        if self.error:
            raise self.error


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(monkeypatch)


def test_pauses_grow_to_two_seconds_and_begin_anew(room: Room) -> None:
    assert [room.outage.begin(OSError()) for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    room.outage.settled()
    assert room.outage.begin(OSError()) == 0.1


async def test_while_it_lasts_nothing_is_claimed_before_a_canary_is_written(room: Room) -> None:
    """However well it went before."""
    room.outage.settled()
    assert (await room.outage.over(), room.did) == (0.0, [])
    room.outage.begin(OSError())
    room.error = OSError()
    assert await room.outage.over() == 0.2
    room.error = None
    assert (await room.outage.over(), room.did[-1]) == (0.0, "tried")
    tried = len(room.did)
    assert (await room.outage.over(), len(room.did)) == (0.0, tried)


def test_what_is_said_of_an_outage(room: Room) -> None:
    """A line when it begins, when its reason changes, once a minute, and when it is over; each with how long it has been."""
    deadlock = asyncpg.DeadlockDetectedError("hunter2")
    refused = StoreRefuses()
    refused.__cause__ = asyncpg.InsufficientPrivilegeError("hunter2")
    with capture_logs() as lines:
        for at, error in (
            (0, OSError()), (59.9, OSError()), (60, OSError()), (61, deadlock), (120.9, deadlock), (121, deadlock),
            (122, refused), (123, StoreRefuses()),
        ):  # fmt: skip
            room.now = 1_000 + at
            room.outage.begin(error)
        room.now = 1_125.26
        room.outage.settled()
        room.outage.settled()
        room.outage.begin(StoreRefuses())
    assert [line.get("waits_for") for line in lines] == ["postgresql"] * 5 + ["", None, ""]
    room.outage.settled()
    unanswered = StoreRefuses()
    unanswered.__cause__ = ValueError("a bank's")
    with capture_logs() as of_the_gateway:
        room.outage.begin(unanswered)
    assert [line["waits_for"] for line in of_the_gateway] == ["gateway"]
    assert [(line["event"], line.get("error"), line["seconds"], line["shard"]) for line in lines] == [
        ("settlement.paused", "OSError", 0.0, SHARD), ("settlement.paused", "OSError", 60.0, SHARD),
        ("settlement.paused", "DeadlockDetectedError 40P01", 61.0, SHARD),
        ("settlement.paused", "DeadlockDetectedError 40P01", 121.0, SHARD),
        ("settlement.paused", "InsufficientPrivilegeError 42501", 122.0, SHARD),
        ("settlement.paused", "StoreRefuses", 123.0, SHARD), ("settlement.resumed", None, 125.3, SHARD),
        ("settlement.paused", "StoreRefuses", 0.0, SHARD),
    ]  # fmt: skip


def test_when_it_was_and_who_has_answered(room: Room) -> None:
    assert not room.outage.within(1e9)
    assert not room.outage.answered_after(-1e9)
    room.outage.begin(OSError())
    room.outage.answered()
    room.now += 10
    assert (room.outage.within(10), room.outage.within(10.1)) == (False, True)
    assert (room.outage.answered_after(1_000.0), room.outage.answered_after(999.9)) == (False, True)
    room.outage.settled()
    assert room.outage.within(10.1), "it was, though it is over"


async def test_before_the_first_claim_a_canary_is_written_and_then_no_more(room: Room) -> None:
    assert [await room.outage.over() for _ in range(3)] == [0, 0, 0]
    assert room.did == ["tried"]


async def test_while_it_lasts_a_canary_asks_in_new_sessions(room: Room) -> None:
    """And the first that is taken ends it."""
    room.outage.begin(OSError())
    room.error = asyncpg.ReadOnlySQLTransactionError()
    assert [await room.outage.over() for _ in range(2)] == [0.2, 0.4]
    room.error = None
    assert [await room.outage.over() for _ in range(2)] == [0, 0]
    assert room.did == ["expired", "tried"] * 3


@pytest.mark.parametrize(
    ("error", "pauses", "line"),
    [
        (OSError(), True, None), (asyncpg.InsufficientPrivilegeError(), True, None),
        (asyncpg.InterfaceError("x"), False, ("InterfaceError", "")), (asyncpg.DeadlockDetectedError(), False, None),
        (asyncpg.UniqueViolationError(), False, ("UniqueViolationError", "23505")), (ValueError(), False, ("ValueError", "")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
@pytest.mark.parametrize("where", ["canary", "pool"])
async def test_what_stops_everybody_and_what_may_be_the_canarys_own(
    room: Room, error: Exception, pauses: bool, line: tuple[str, str] | None, where: str
) -> None:
    if where == "canary":
        room.error = error
    else:
        room.pool_error = error
    with capture_logs() as lines:
        assert await room.outage.over() == (0.1 if pauses else 0)
    said = [(each["error"], each["code"], each["shard"]) for each in lines if each["event"] == "canary.refused"]
    assert said == ([(*line, SHARD)] if line else [])
    room.error = room.pool_error = None
    room.did.clear()
    await room.outage.over()
    assert room.did == (["expired", "tried"] if pauses else []), "bookings will tell"


ROW = asyncpg.UniqueViolationError()


@pytest.mark.parametrize(("answered_at", "blamed"), [(None, False), (50.0, False), (50.1, True)])
async def test_whoever_asks_a_gateway_is_to_blame_when_it_has_answered_others_since(
    room: Room, answered_at: float | None, blamed: bool
) -> None:
    if answered_at is not None:
        room.now = answered_at
        room.outage.answered()
    error = ValueError("planted")
    if blamed:
        assert await room.outage.blames_the_row(error, asking=True, since=50.0)
    else:
        with pytest.raises(StoreRefuses) as caught:
            await room.outage.blames_the_row(error, asking=True, since=50.0)
        assert caught.value.__cause__ is error
    assert room.did == []


@pytest.mark.parametrize(
    ("error", "asking", "canary", "settled_at", "verdict"),
    [
        (ROW, False, None, None, True),
        (ROW, True, None, None, True),
        (ValueError(), False, None, None, True),
        (asyncpg.InvalidTextRepresentationError(), False, None, None, True),
        (asyncpg.PostgresError(), False, None, None, False),
        (ROW, False, ROW, None, StoreRefuses),
        (ROW, False, ROW, 50.0, StoreRefuses),
        (ROW, False, ROW, 50.1, True),
        (ROW, False, OSError(), 50.1, OSError),
        (ROW, False, asyncpg.DeadlockDetectedError(), 50.1, asyncpg.DeadlockDetectedError),
    ],
)
async def test_a_canary_says_whether_others_can(
    room: Room, error: Exception, asking: bool, canary: Exception | None, settled_at: float | None, verdict: Any
) -> None:
    """So does whoever was settled since."""
    if settled_at is not None:
        room.now = settled_at
        room.outage.settled()
    room.error = canary
    if isinstance(verdict, bool):
        assert await room.outage.blames_the_row(error, asking=asking, since=50.0) is verdict
    else:
        with pytest.raises(verdict) as caught:
            await room.outage.blames_the_row(error, asking=asking, since=50.0)
        assert verdict is not StoreRefuses or caught.value.__cause__ is canary
    assert room.did == ["tried"]


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (asyncpg.NumericValueOutOfRangeError(), True), (asyncpg.UniqueViolationError(), True),
        (asyncpg.WithCheckOptionViolationError(), True), (asyncpg.ProgramLimitExceededError(), True),
        (asyncpg.RaiseError(), False), (asyncpg.UndefinedTableError(), False), (StoreRefuses(), False), (OSError(), False),
        (ValueError(), True), (KeyError(), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_what_postgresql_says_of_a_row(error: Exception, own: bool) -> None:
    assert is_of_the_row(error) is own


async def test_the_canary_is_a_whole_booking_and_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an event that there is not, paid and confirmed, in its own shard; written as any other, and rolled back also when
    it is refused."""
    did: list[Any] = []
    error: Exception | None = None

    def noting(name: str) -> Any:
        async def note(*arguments: Any) -> Any:
            did.append((name, *arguments[1:]))
            if error is not None and name == "write":
                raise error

        return note

    transaction = SimpleNamespace(start=noting("start"), rollback=noting("rollback"))

    @asynccontextmanager
    async def acquire() -> Any:
        yield SimpleNamespace(transaction=lambda: transaction)

    for name in ("touch", "known_by_key", "write"):
        monkeypatch.setattr(outage.rows, name, noting(name))

    async def pool() -> Any:
        return SimpleNamespace(acquire=acquire)

    one = Outage(SHARD, DatabaseOf(pool), "books", 15_000, Clock(epoch_ns=lambda: 1_700_000_000_000_999_999))
    await one.try_canary()
    assert [call[0] for call in did] == ["start", "touch", "known_by_key", "write", "rollback"]
    _, (decision,), books, lease_ms = did[3]
    claim, record = decision.claim, decision.claim.record
    assert (books, lease_ms, did[2][1]) == ("books", 15_000, [record])
    assert (decision.status, decision.standing) == ("confirmed", Standing.NEW)
    assert decision.payment == PaymentChange("authorized", "canary", due="capture")
    assert (ids.shard_of(record.id), record.state, record.event, record.items, record.tries, record.owner) == (
        SHARD, "P", "canary", "canary:1", "", "",
    )  # fmt: skip
    key = ids.digest(record.id)
    assert (record.payment_key, record.scope, record.fingerprint, record.payload.key) == (key, key, key[:16], key)
    assert (record.sequence, record.admitted_ms, record.deadline_ms, claim.raw, claim.lapses) == (
        0, 1_700_000_000_000, 0, b"", 0,
    )  # fmt: skip
    assert (record.body.client, record.body.customer, record.body.amount_cents, record.body.currency) == (
        "canary", "canary", 100, "USD",
    )  # fmt: skip
    assert record.body.lines == (Line("canary", 1, 100),)
    did.clear()
    error = asyncpg.UniqueViolationError()
    with pytest.raises(asyncpg.UniqueViolationError):
        await one.try_canary()
    assert did[-1][0] == "rollback"
