"""What Redis is told of a batch, in which calls, and when a booking counts as done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.books.decisions import Claimed, Decision, Standing, Verdict
from boxoffice.errors import GateClosed
from boxoffice.settings import Settings
from boxoffice.settlement import mirror
from boxoffice.settlement.mirror import LETTERS, Mirror
from boxoffice.stores import keys
from boxoffice.stores.fence import Pair
from boxoffice.stores.record import Body, Charge, Line, Outcome, Payload, Record, confirmed, pack_items, pack_payload
from boxoffice.stores.shard import Shard

SHARD = 1
NOW = 1_700_000_000_000


CONFIRM, FAIL, HOLD, RELEASE, PARK = Verdict.CONFIRM, Verdict.FAIL, Verdict.HOLD, Verdict.RELEASE, Verdict.PARK


def case(
    n: int, verdict: Verdict, *, event: str = "concert", deadline_ms: int = 0, known: bool = True, **tickets: int
) -> Decision:
    """A booking that was decided. Of two floor tickets, unless others are named."""
    lines = tuple(Line(tier, quantity, 100) for tier, quantity in sorted((tickets or {"floor": 2}).items()))
    record = Record(
        ids.booking_id(SHARD, NOW + n),
        "P",
        n,
        NOW,
        deadline_ms,
        f"pay{n}",
        f"scope{n}",
        "f",
        event,
        "o" * 16,
        pack_items(lines),
        "1",
        Body("c", "u", 200, "USD", lines),
        Payload(Charge("card", "tok"), key="ab" * 16),
    )
    payload = Payload(outcome=Outcome("authorized") if known else None, key="k")
    return Decision(Claimed(record, record.pack(), 0), verdict, payload, 10 * n, Standing.NEW)


class Room:
    """A shard whose scripts answer as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self.told: list[tuple[list[str], str]] = []
        self.confirms: Any = 1
        self.outcomes: list[bytes] = []
        self.error: Exception | None = None
        holds: Any = SimpleNamespace(write_state=self._write_state)
        redis: Any = SimpleNamespace()
        self.mirror = Mirror(Shard(redis, redis, SHARD), holds, Settings())
        self.mirror.here = SimpleNamespace(run=self.run)  # type: ignore[assignment]

        async def once_checked(here: Any, call: Any, patience_s: float) -> Any:
            assert (here, patience_s) == (self.mirror.here, 10.0)
            return await call()

        monkeypatch.setattr(mirror, "once_checked", once_checked)

    async def _write_state(self, bookings: list[str], letter: str) -> None:
        self.told.append((bookings, letter))

    async def run(self, script: str, **slots: Any) -> Any:
        self.ran.append((script, slots))
        if self.error is not None:
            raise self.error
        return self.confirms if script == "confirm" else self.outcomes or [b"-"] * len(slots["verdicts"])

    def calls(self) -> list[str]:
        return [script for script, _ in self.ran]


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(monkeypatch)


def key_pair(one: Decision) -> list[str]:
    record = one.claim.record
    return [keys.booking(SHARD, record.id), keys.idempotency(SHARD, record.scope)]


def ids_of(decisions: list[Decision]) -> set[str]:
    return {one.claim.record.id for one in decisions}


async def test_what_is_just_sold_is_confirmed_by_its_record(room: Room) -> None:
    """Tickets by event and tier in all, and each record as it was claimed and as it is now."""
    cases = [case(1, CONFIRM), case(2, CONFIRM, floor=1, balcony=3), case(3, CONFIRM, event="play")]
    done: set[str] = {"before"}
    await room.mirror.tell(cases, done, Pair(4, 5))
    ((script, slots),) = room.ran
    records = [raw for one in cases for raw in (one.claim.raw, confirmed(one.claim.raw, one.payload))]
    assert script == "confirm"
    assert slots == {
        "keys": [keys.event(SHARD, "concert"), keys.event(SHARD, "play"), *(key for one in cases for key in key_pair(one))],
        "ttl_s": 86_400, "pair": "4:5", "events": 2,
        "more": ["floor:3,balcony:3", "floor:2", *records],
    }  # fmt: skip
    assert done == {"before"} | ids_of(cases)


async def test_where_a_record_is_another_each_is_looked_at(room: Room) -> None:
    room.confirms, room.outcomes = 0, [b"C"]
    await room.mirror.tell([case(1, CONFIRM)], set(), Pair(4, 5))
    assert room.calls() == ["confirm", "settle"]
    assert room.ran[1][1]["pair"] == "4:5"


async def test_each_verdict_is_settled_under_its_payment(room: Room) -> None:
    """With the place of its event among the keys, its delay and what its record is to say; what goes on as it was says
    nothing."""
    cases = [
        case(1, FAIL),
        case(2, RELEASE, event="play"),
        case(3, RELEASE, known=False),
        case(4, PARK),
        case(5, CONFIRM, event="play", deadline_ms=9),
    ]
    await room.mirror.tell(cases, set())
    ((script, slots),) = room.ran
    payload = pack_payload(cases[0].payload)
    assert script == "settle"
    assert slots == {
        "keys": [
            *(key(SHARD, event) for event in ("concert", "play") for key in (keys.event, keys.owners)),
            *(key for one in cases for key in key_pair(one)),
        ],
        "ttl_s": 86_400, "pair": "", "events": 2,
        "verdicts": [
            b"1|F|pay1|10|" + payload, b"2|R|pay2|20|" + payload, b"1|R|pay3|30|", b"1|D|pay4|40|", b"2|C|pay5|50|" + payload,
        ],
    }  # fmt: skip
    assert room.told == []


async def test_holds_that_ended_meanwhile_are_told_to_postgresql(room: Room) -> None:
    """Those that were to stay held, by how they ended."""
    cases = [case(n, verdict) for n, verdict in enumerate((HOLD, HOLD, HOLD, HOLD, FAIL))]
    room.outcomes = [b"E", b"X", b"H", b"E", b"E"]
    await room.mirror.tell(cases, set())
    ended = [one.claim.record.id for one in cases]
    assert room.told == [([ended[0], ended[3]], "E"), ([ended[1]], "X")]


async def test_calls_are_bounded_and_done_is_what_was_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sold first; whoever was not told is not done."""
    monkeypatch.setattr(mirror, "CHUNK", 2)
    cases = [case(n, CONFIRM if n % 2 else FAIL) for n in range(10)]
    done: set[str] = set()
    await room.mirror.tell(cases, done)
    assert room.calls() == ["confirm"] * 3 + ["settle"] * 3
    assert done == ids_of(cases)
    again = [case(n, CONFIRM) for n in range(3)]
    room.ran.clear()
    done.clear()
    run = room.run

    async def shut(script: str, **slots: Any) -> Any:
        if len(room.ran) == 1:
            raise GateClosed
        return await run(script, **slots)

    room.mirror.here = SimpleNamespace(run=shut)  # type: ignore[assignment]
    with pytest.raises(GateClosed):
        await room.mirror.tell(again, done)
    assert done == ids_of(again[:2])


async def test_what_is_parked_keeps_its_stock(room: Room) -> None:
    """Its event's counters are not touched: no record says which they are."""
    await room.mirror.park("b1", "pay1")
    assert room.ran == [
        ("settle", {
            "keys": [keys.booking(SHARD, "b1"), keys.idempotency(SHARD, "-")], "ttl_s": 86_400, "pair": "", "events": 0,
            "verdicts": [b"1|D|pay1|0|"],
        })
    ]  # fmt: skip


def test_only_what_was_claimed_pending_is_told_by_its_record_alone() -> None:
    """A record that says sold already is unchanged too: confirmed by comparing, its stock would move again."""
    one = case(1, CONFIRM)
    assert mirror.just_sold(one)
    record = one.claim.record
    for change in ({"state": "C"}, {"state": "H"}, {"tries": "1b"}, {"deadline_ms": 1},
                   {"payload": Payload(outcome=Outcome("requires_action"))}):  # fmt: skip
        claim = Claimed(replace(record, **change), b"", 0)
        assert not mirror.just_sold(replace(one, claim=claim))
    for verdict in set(Verdict) - {CONFIRM}:
        assert not mirror.just_sold(replace(one, verdict=verdict))


def test_each_verdict_has_the_letter_that_settle_reads() -> None:
    """The state's letter where it is a state."""
    assert set(LETTERS) == set(Verdict)
    words = {verdict.name.lower(): letter for verdict, letter in LETTERS.items()}
    assert words == {
        "confirm": "C", "fail": "F", "expire": "E", "cancel": "X", "give_back": "B", "hold": "H", "release": "R",
        "park": "D",
    }  # fmt: skip
