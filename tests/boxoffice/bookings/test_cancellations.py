"""Which way a cancellation goes, and what is told when it cannot: told with stores that say what a case wants."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.bookings.cancellations import Cancellations
from boxoffice.clock import CLOCK, Clock
from boxoffice.errors import GateClosed, NotCancellable, NotFound, NothingOwed, PaymentInProgress, StoreAway
from boxoffice.stores.record import Body, Line, Payload, Record
from tests.support.clocks import Passing

BOOKING = ids.booking_id(1, 1_764_000_000_000)
RECORD = Record(
    BOOKING, "H", 1, 1, 0, "", "scope", "print", "event", "owner", "t:1", "0",
    Body("shop", "ada", 1_000, "USD", (Line("t", 1, 1_000),)), Payload(),
)  # fmt: skip


class Stores:
    """Holds, refunds and bookings in one: what each call answers, or raises, and which were made."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            "find": RECORD, "holds_cancel": ("cancelled", RECORD), "refunds_cancel": None, "retry": None,
            "decided": "as PostgreSQL has it", "show": "as Redis has it", "get": "as read",
        } | answers  # fmt: skip
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            self.calls.append((name, *args))
            answer = self.answers[name]
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


class Found:
    def __init__(self, view: str) -> None:
        self.view = view


def cancellations(stores: Stores, clock: Clock = CLOCK) -> Cancellations:
    async def get(*args: Any) -> Found:
        return Found(await stores.get(*args))

    return Cancellations(
        SimpleNamespace(find=stores.find, cancel=stores.holds_cancel),  # type: ignore[arg-type]
        SimpleNamespace(cancel=stores.refunds_cancel, retry=stores.retry),  # type: ignore[arg-type]
        SimpleNamespace(decided=stores.decided, show=stores.show, get=get),  # type: ignore[arg-type]
        clock,
    )


def state(letter: str) -> Record:
    return replace(RECORD, state=letter)


def not_cancellable(status: str | None) -> NotCancellable:
    return NotCancellable("x", **({"booking_status": status} if status else {}))


REFUND = ("refunds_cancel", "shop", BOOKING)
READ = ("decided", "shop", BOOKING)


@pytest.mark.parametrize(
    ("answers", "told", "calls"),
    [
        ({}, "as Redis has it", [("show", RECORD)]),
        ({"find": None}, "as PostgreSQL has it", [REFUND, READ]),
        ({"find": state("C")}, "as PostgreSQL has it", [REFUND, READ]),
        ({"find": StoreAway()}, "as PostgreSQL has it", [REFUND, READ]),
        ({"find": GateClosed()}, "as PostgreSQL has it", [REFUND, READ]),
        ({"find": StoreAway(), "refunds_cancel": NotFound()}, StoreAway, [REFUND]),
        ({"find": GateClosed(), "refunds_cancel": NotFound()}, GateClosed, [REFUND]),
        ({"find": GateClosed(), "refunds_cancel": not_cancellable("held")}, GateClosed, [REFUND]),
        ({"find": StoreAway(), "refunds_cancel": not_cancellable("pending")}, StoreAway, [REFUND]),
        ({"find": StoreAway(), "refunds_cancel": not_cancellable("failed")}, NotCancellable, [REFUND]),
        ({"find": StoreAway(), "refunds_cancel": not_cancellable(None)}, NotCancellable, [REFUND]),
        ({"find": None, "refunds_cancel": NotFound()}, NotFound, [REFUND]),
        ({"find": NotFound()}, NotFound, []),
        ({"find": state("F"), "holds_cancel": ("ended", state("F"))}, NotCancellable, []),
        ({"find": state("E"), "holds_cancel": ("ended", state("E"))}, NotCancellable, []),
        ({"find": state("X"), "holds_cancel": ("ended", state("X"))}, "as read",
         [("retry", "shop", BOOKING), ("get", "shop", BOOKING)]),
        *(({"find": state("X"), "holds_cancel": ("ended", state("X")), "retry": error}, "as read",
           [("retry", "shop", BOOKING), ("get", "shop", BOOKING)]) for error in (NothingOwed(), NotFound(), StoreAway())),
        ({"find": [state("P"), state("C")], "holds_cancel": ("ended", state("C"))}, "as PostgreSQL has it", [REFUND, READ]),
    ],
)  # fmt: skip
async def test_which_way_a_cancellation_goes(answers: dict[str, Any], told: Any, calls: list[tuple[Any, ...]]) -> None:
    stores = Stores(**answers)
    if isinstance(told, str):
        assert await cancellations(stores).cancel("shop", BOOKING.upper()) == told
    else:
        with pytest.raises(told):
            await cancellations(stores).cancel("shop", BOOKING)
    assert stores.calls[0] == ("find", "shop", BOOKING)
    assert [call for call in stores.calls if call[0] not in ("find", "holds_cancel")] == calls
    found = answers.get("find", RECORD)
    asked = [call for call in stores.calls if call[0] == "holds_cancel"]
    if isinstance(found, Record):
        assert asked == ([] if found.state == "C" else [("holds_cancel", found)])


@pytest.mark.parametrize(("letter", "status"), [("F", "failed"), ("E", "expired")])
async def test_what_has_ended_otherwise_is_named(letter: str, status: str) -> None:
    with pytest.raises(NotCancellable) as refused:
        await cancellations(Stores(holds_cancel=("ended", state(letter)))).cancel("shop", BOOKING)
    assert (refused.value.detail, refused.value.details) == (f"The booking is {status}.", {"booking_status": status})


async def test_what_is_no_id_is_not_there() -> None:
    stores = Stores()
    with pytest.raises(NotFound):
        await cancellations(stores).cancel("shop", "nonsense")
    assert stores.calls == []


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ([state("P"), state("P"), state("X")], "as Redis has it"),
        ([state("P"), state("P"), None], "as PostgreSQL has it"),
        ([state("P"), state("P"), state("C")], "as PostgreSQL has it"),
    ],
)
async def test_a_payment_that_is_let_go_is_waited_for(seen: list[Any], told: str) -> None:
    """It is looked for a little less often each time."""
    time = Passing()
    stores = Stores(find=seen, holds_cancel=[("requested", state("P")), ("cancelled", state("X"))])
    assert await cancellations(stores, time.clock).cancel("shop", BOOKING) == told
    assert time.slept == [pytest.approx(0.01), pytest.approx(0.015)]


async def test_a_payment_that_nobody_lets_go_is_in_progress() -> None:
    """Every half second it is asked for once more, and after five nobody waits any longer."""
    time = Passing()
    stores = Stores(find=state("P"), holds_cancel=("requested", state("P")))
    with pytest.raises(PaymentInProgress) as refused:
        await cancellations(stores, time.clock).cancel("shop", BOOKING)
    assert refused.value.details == {"retry_after_s": 2}
    assert 105.0 <= time.now < 105.2
    assert max(time.slept) == pytest.approx(0.1)
    asked = sum(call[0] == "holds_cancel" for call in stores.calls)
    assert 8 <= asked <= 10
