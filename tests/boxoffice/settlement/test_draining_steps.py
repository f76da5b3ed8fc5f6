"""The loop step by step: when it claims, how long it waits, what it settles beside what, and when it ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from boxoffice.books.decisions import Claimed, Decision, Verdict
from boxoffice.clock import Clock
from boxoffice.errors import GateClosed
from boxoffice.settings import Settings
from boxoffice.settlement import draining
from boxoffice.settlement.authorising import Authorising
from boxoffice.settlement.batch import Batch
from boxoffice.settlement.draining import Settlement
from boxoffice.settlement.outage import StoreRefuses
from boxoffice.settlement.slow import SLOW_MAX
from boxoffice.stores.record import Outcome
from boxoffice.stores.shard import Shard
from tests.conftest import SHARD
from tests.support.settling import (
    Room,
    batch_of,
    claimed,
    released,
)


@pytest.mark.parametrize("how", ["draining", "stopping", "closed"])
async def test_who_may_not_drain_does_nothing_and_asks_for_no_ring(room: Room, how: str) -> None:
    """One that is draining hears that there is more."""
    if how == "closed":
        room.settlement.claims.closed_until = room.now + 0.001
    else:
        setattr(room.settlement, how, True)
    room.settlement.batches = room.noting("batches")  # type: ignore[method-assign]
    assert await room.settlement.drain() is True
    assert room.calls == []
    assert room.settlement.again is True
    assert room.settlement.draining is (how == "draining")


async def test_during_an_outage_nothing_is_claimed_until_its_pause_is_over(room: Room) -> None:
    room.settlement.batches = room.noting("batches")  # type: ignore[method-assign]
    room.outage.over = room.noting("over", 1.5)
    assert await room.settlement.drain() is True
    assert (room.names(), room.settlement.claims.closed_until, room.settlement.draining) == (["over"], 101.5, False)
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
        room.settlement.again = len(rounds) < 3

    room.settlement.batches = batches  # type: ignore[method-assign]
    assert await room.settlement.drain() is done
    assert rounds == [110.0] * times
    assert room.settlement.draining is False


async def test_a_pause_or_a_stop_ends_the_rounds(room: Room) -> None:
    for ends in ("stopping", "closed_until"):
        rounds = 0

        async def batches(_end: float, ends: str = ends) -> None:
            nonlocal rounds
            rounds += 1
            room.settlement.again = True
            if ends == "stopping":
                room.settlement.stopping = True
            else:
                room.settlement.claims.close(1)

        room.settlement.batches = batches  # type: ignore[method-assign]
        assert await room.settlement.drain() is False
        assert rounds == 1
        room.settlement.stopping = False


async def test_a_drain_that_breaks_may_be_begun_again(room: Room) -> None:
    room.settlement.batches = room.noting("batches", error=ValueError("planted"))  # type: ignore[method-assign]
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
    room.settlement.stopping = stopping
    await room.settlement.linger(room.now - since_s)
    assert room.slept == rests


@pytest.mark.parametrize("error", [GateClosed(), StoreRefuses(), OSError(), asyncpg.DeadlockDetectedError()])
async def test_a_claim_that_fails_for_everybody_is_given_back(room: Room, error: Exception) -> None:
    """What was done by then is not; claiming pauses for as long as the outage says, and a little at random each."""
    done, open_, asked = claimed(1), claimed(2), claimed(3)
    batch = batch_of(done, open_, asked)
    batch.done.add(done.record.id)
    batch.tried.add(asked.record.id)
    room.settlement.authorising.apart = room.noting("authorise", error=error)  # type: ignore[method-assign]
    await room.settlement.settle(batch)
    assert room.calls[0] == ("authorise", batch, [done, open_, asked], [], room.now)
    remembers = replace(asked.record.payload, outcome=Outcome("unknown", "card", "4242"))
    told = [released(open_, 600), Decision(asked, Verdict.RELEASE, remembers, 600)]
    assert room.calls[1:] == [("begin", error), ("tell", told, batch.done)]
    assert room.settlement.claims.closed_until == room.now + 0.4


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

        room.settlement.claims.claim = self._claim  # type: ignore[method-assign]
        room.settlement.settle = self._settle_claim  # type: ignore[method-assign]
        room.settlement.linger = self.linger  # type: ignore[method-assign]
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

    async def linger(self, claimed_at: float) -> None:
        self.did.append(("linger", claimed_at))

    async def run(self, seconds: float = 1_000) -> list[Any]:
        async with asyncio.timeout(10):
            await self.room.settlement.batches(self.room.now + seconds)
        return self.did


FIRST = {"return_when": asyncio.FIRST_COMPLETED}


LOOK = {"timeout": 0.05, **FIRST}


async def test_where_nothing_is_due_nothing_is_waited_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.settlement.again = False
    assert await Batches(room, monkeypatch).run() == [("claim", 0)]
    assert room.settlement.again is False


async def test_a_batch_is_settled_while_the_next_is_claimed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one lingers from its claim on; while it is under way and nothing is due, it is looked again soon."""
    batches = Batches(room, monkeypatch, [claimed(1)])
    assert await batches.run() == [("claim", 1), ("linger", 100.0), ("claim", 0), ("wait", 1, LOOK), ("claim", 0)]


async def test_a_full_batch_does_not_linger_and_only_so_many_are_under_way(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches at once: the first that ends makes room."""
    worker = room.settlement.settings.worker.model_copy(update={"batch_max": 2})
    room.settlement.settings = room.settlement.settings.model_copy(update={"worker": worker})
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
    room.settlement.slow.count = SLOW_MAX

    async def answers() -> None:
        room.settlement.slow.count -= 1

    room.settlement.slow.tasks = {asyncio.create_task(answers())}
    assert await batches.run() == [("wait", 1, LOOK), ("claim", 0)]


@pytest.mark.parametrize("why", ["time", "stop", "pause"])
async def test_it_ends_with_what_is_under_way_and_says_that_there_is_more(
    room: Room, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    batches = Batches(room, monkeypatch, *([claimed(n)] for n in range(9)))
    linger = batches.linger

    async def stop(claimed_at: float) -> None:
        await linger(claimed_at)
        batches.may_end.set()
        if why == "stop":
            room.settlement.stopping = True
        elif why == "pause":
            room.settlement.claims.closed_until = room.now + 1
        else:
            room.now += 1_000

    room.settlement.linger = stop  # type: ignore[method-assign]
    room.settlement.again = False
    assert await batches.run() == [("claim", 1), ("linger", 100.0)]
    assert room.settlement.again is True


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

    room.settlement.linger = end  # type: ignore[method-assign]
    with capture_logs() as lines:
        await late.run()
    assert [(line["event"], line["shard"]) for line in lines] == [("batch.failed", SHARD)]


def test_each_part_of_a_settlement_is_of_its_own_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each hears of the others, of the same stores, and of the same clock."""
    made: dict[str, tuple[Any, ...]] = {}

    def make(name: str) -> Any:
        def note(*arguments: Any) -> str:
            made[name] = arguments
            return name

        return note

    for name in ("Mirror", "Outage", "Declines", "Claims", "Committing", "SlowAnswers", "Authorising"):
        monkeypatch.setattr(draining, name, make(name))
    gateway: Any = SimpleNamespace(books="books")
    settings, here, clock = Settings(), Shard(None, None, 3), Clock()  # type: ignore[arg-type]
    one = Settlement(here, "database", gateway, "pump", "holds", settings, clock)  # type: ignore[arg-type]
    assert one.shard == 3
    assert made == {
        "Mirror": (here, "holds", settings),
        "Outage": (3, "database", "books", 15_000, clock),
        "Declines": (here, settings, clock),
        "Claims": (here, "database", "Mirror", "Outage", settings, clock),
        "Committing": (3, "database", gateway, "Claims", "Mirror", "pump", "Outage", "Declines", settings, clock),
        "SlowAnswers": (3, "Claims", "Committing", 15_000, clock),
        "Authorising": ("database", gateway, "Claims", "SlowAnswers", "Outage", "Declines", 64),
    }


def test_so_many_calls_to_a_gateway_are_under_way() -> None:
    assert Authorising(None, None, None, None, None, None, 7).calls._value == 7  # type: ignore[arg-type]
