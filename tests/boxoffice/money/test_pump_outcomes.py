"""What the pump does about each outcome of a call, told with a gateway that says what a case wants."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from boxoffice.books.looks import Look
from boxoffice.books.payments import DuePayment
from boxoffice.books.refunds import DueRefund
from boxoffice.gateway.base import (
    AlreadyCaptured,
    CaptureRequest,
    Done,
    Found,
    NotFound,
    Pending,
    Refused,
    Reversals,
    Unknown,
)
from boxoffice.money import pump as module
from boxoffice.money import refund_pump as refund_module
from boxoffice.money.patience import Patience
from boxoffice.money.pump import MoneyPump
from boxoffice.money.refund_pump import RefundPump
from boxoffice.money.spans import MoneyTraces
from boxoffice.office import BoxOffice
from boxoffice.settings import GatewaySettings
from boxoffice.stores.record import Charge
from tests.support.clocks import Passing
from tests.support.databases import DatabaseOf

PAUSES = {0: 100, 3: 800, 4: 1_600}


class Calls:
    """Who was called with what; answers in the order of asking, the last one again and again."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {name: list(some) if isinstance(some, tuple) else [some] for name, some in answers.items()}
        self.made: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            self.made.append((name, *args))
            answers = self.answers.get(name, [None])
            return answers.pop(0) if len(answers) > 1 else answers[0]

        return call


class Verbs:
    """Verbs of the books that were called, without the database that they were called with."""

    def __init__(self, made: list[tuple[Any, ...]], database: Any) -> None:
        self.made, self.database = made, database

    def __getattr__(self, name: str) -> Any:
        async def call(database: Any, *args: Any) -> None:
            assert database is self.database
            self.made.append((name, *args))

        return call


def patience(told: list[Any]) -> Any:
    return SimpleNamespace(
        pause_ms=PAUSES.__getitem__,
        unknown=lambda *args, **more: told.append(("unknown", *args, *more.items())),
        known=lambda *args: told.append(("known", *args)),
    )


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def pump(office: BoxOffice, monkeypatch: pytest.MonkeyPatch, told: list[Any]) -> MoneyPump:
    monkeypatch.setattr(office.pump, "patience", patience(told))
    return office.pump


def stubbed(
    pump: MoneyPump, monkeypatch: pytest.MonkeyPatch, *, voided: bool = True, revived: bool = False, **gateway: Any
) -> Calls:
    calls = Calls(**gateway, revive=revived, is_to_be_voided=voided)
    monkeypatch.setattr(pump, "gateway", calls)
    monkeypatch.setattr(pump, "refunds", calls)
    monkeypatch.setattr(pump, "late", calls)
    monkeypatch.setattr(module, "payments", Verbs(calls.made, pump.database))
    monkeypatch.setattr(pump, "is_to_be_voided", calls.is_to_be_voided)
    return calls


def due(status: str, *, old: bool = False, reference: str | None = "ref", token: str | None = "tok") -> DuePayment:
    return DuePayment("key", "void", reference, 500, status, 3, old, "booking", "card", token, "Ada", "4242", "USD")


def there(status: Any) -> Found:
    return Found(status, "ref", 500, "USD")


VOID = ("void", "key", "ref")
LOOKUP = ("lookup", "key", "ref")
REVIVE = ("revive", "booking", "key", Charge("card", "tok", "Ada", "4242"))
ASK = ("is_to_be_voided", "key")
CLOSED = {status: ("close_void", "key", status) for status in ("failed", "voided")}
LATE = ("close_late_void", "key")
LATER = ("put_off", "key", 800)


@pytest.mark.parametrize(
    ("row", "answers", "calls", "unknown"),
    [
        (due("authorized"), {"void": Done("r")}, [VOID, CLOSED["voided"]], None),
        (due("failed"), {"void": Done("r")}, [VOID, CLOSED["voided"]], None),
        (due("unknown"), {"lookup": NotFound(), "void": Done("r")}, [LOOKUP, VOID, CLOSED["failed"]], None),
        (due("requires_action"), {"lookup": there("requires_action"), "void": Done("r")},
         [LOOKUP, VOID, CLOSED["voided"]], None),
        (due("unknown"), {"lookup": there("authorized"), "void": Done("r")}, [LOOKUP, REVIVE, ASK, VOID, LATE], None),
        (due("unknown"), {"lookup": there("authorized"), "voided": False}, [LOOKUP, REVIVE, ASK], None),
        (due("unknown"), {"lookup": there("captured"), "revived": True},
         [LOOKUP, REVIVE, ("put_off", "key", 5_000)], None),
        (due("requires_action"), {"lookup": there("captured"), "void": AlreadyCaptured(500)},
         [LOOKUP, REVIVE, ASK, VOID, ("captured_too_late", "key", 500)], None),
        (due("unknown"), {"lookup": there("declined"), "void": Done("r")}, [LOOKUP, VOID, CLOSED["failed"]], None),
        (due("authorized"), {"void": AlreadyCaptured(500)}, [VOID, ("captured_too_late", "key", 500)], None),
        (due("authorized"), {"void": NotFound()}, [VOID, LATER], None),
        (due("authorized", old=True), {"void": NotFound()}, [VOID, CLOSED["failed"]], None),
        (due("authorized"), {"void": Unknown("timeout")}, [VOID, LATER], ("unknown", "void", "key", "timeout", 3)),
        (due("authorized", old=True), {"void": Unknown("timeout")}, [VOID, LATER], ("unknown", "void", "key", "timeout", 3)),
        (due("authorized"), {"void": Refused("no")}, [VOID, LATER], ("unknown", "void", "key", "refused", 3)),
    ],
)  # fmt: skip
async def test_money_that_is_let_go(
    pump: MoneyPump, monkeypatch: pytest.MonkeyPatch, told: list[Any], row: DuePayment, answers: dict[str, Any],
    calls: list[tuple[Any, ...]], unknown: Any,
) -> None:  # fmt: skip
    made = stubbed(pump, monkeypatch, **answers)
    await pump.void(row)
    assert made.made == calls
    assert told == ([unknown] if unknown else [])


async def test_a_card_that_nobody_remembers_revives_nothing_of_its_own(
    pump: MoneyPump, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stubbed(pump, monkeypatch, lookup=there("authorized"), revived=True)
    await pump.void(due("unknown", token=None))
    assert calls.made[1] == ("revive", "booking", "key", Charge("card", "", "Ada", "4242"))


def request(key: str) -> CaptureRequest:
    return CaptureRequest(key, "ref", 500, "USD")


@pytest.mark.parametrize(
    ("outcomes", "listed", "tries", "calls", "unknown"),
    [
        ([Done("r"), Done("r")], [7], {}, [("mark_captured", ["a", "b"], [7])], []),
        ([Done("r"), Refused("no")], [], {},
         [("capture_refused", "b", "no"), ("mark_captured", ["a"], [])], []),
        ([Refused("no"), Refused("x")], [], {}, [("capture_refused", "a", "no"), ("capture_refused", "b", "x")], []),
        ([Refused("no"), Refused("x")], [7], {},
         [("capture_refused", "a", "no"), ("capture_refused", "b", "x"), ("mark_captured", [], [7])], []),
        ([Unknown("one"), Unknown("two")], [], {},
         [("put_off", "a", 100), ("put_off", "b", 100)],
         [("unknown", "capture", "a", "one", ("tries", 0), ("payments", 2))]),
        ([Unknown("one"), Unknown("two")], [], {"a": 3, "b": 4},
         [("put_off", "a", 800), ("put_off", "b", 1_600)], []),
        ([Unknown("one"), Done("r")], [8, 9], {"a": 4},
         [("put_off", "a", 1_600), ("mark_captured", ["b"], [8, 9])], []),
    ],
)  # fmt: skip
async def test_money_that_is_taken(
    pump: MoneyPump, monkeypatch: pytest.MonkeyPatch, told: list[Any], outcomes: list[Any], listed: list[int],
    tries: dict[str, int], calls: list[tuple[Any, ...]], unknown: list[Any],
) -> None:  # fmt: skip
    made = stubbed(pump, monkeypatch, capture_batch=(outcomes,))
    requests = [request("a"), request("b")]
    await pump.capture(requests, listed, tries)
    assert made.made == [("capture_batch", requests), *calls]
    assert told == unknown


async def test_the_first_try_is_told_of_once(pump: MoneyPump, monkeypatch: pytest.MonkeyPatch, told: list[Any]) -> None:
    """Of many, those that are asked for the first time."""
    monkeypatch.setitem(PAUSES, 1, 200)
    monkeypatch.setitem(PAUSES, 2, 400)
    stubbed(pump, monkeypatch)
    await pump.ask_later([("a", "one"), ("b", "two"), ("c", "three")], {"a": 2, "b": 1})
    assert told == [("unknown", "capture", "b", "two", ("tries", 0), ("payments", 2))]


async def test_what_was_given_is_captured_in_batches(pump: MoneyPump, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many lists in one as fit; what does not fit into this process at all is the outbox's."""
    batches: list[tuple[list[str], list[int]]] = []

    async def capture(requests: list[CaptureRequest], listed: list[int]) -> None:
        batches.append(([each.payment_key for each in requests], listed))

    monkeypatch.setattr(pump, "capture", capture)
    monkeypatch.setattr(module, "CLAIM_MAX", 4)
    monkeypatch.setattr(module, "GIVEN_MAX", 8)

    for listed, keys in ((1, "ab"), (2, "cd"), (3, "e"), (4, "fgh"), (5, "i")):
        pump.give(listed, [request(key) for key in keys])
    assert pump.woken.is_set()
    assert [row for row, _ in pump.given] == [1, 2, 3, 4], "there were eight"
    assert pump.given[0][1] == [request("a"), request("b")]
    await pump.work_given()
    assert batches == [(list("abcd"), [1, 2]), (list("efgh"), [3, 4])]
    assert not pump.given and not pump.woken.is_set()


# ------------------------------------------------------------------ refunds


def refund_pump(
    told: list[Any], monkeypatch: pytest.MonkeyPatch, **gateway: Any
) -> tuple[RefundPump, Calls, list[Any]]:
    calls = Calls(**gateway)
    taken: list[Any] = []

    async def take_in(_: object, *args: Any) -> Any:
        taken.append(args)
        return gateway.get("again")

    class Connection:
        async def __aenter__(self) -> Connection:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        def acquire(self) -> Connection:
            return self

        transaction = acquire

    async def pool() -> Any:
        return Connection()

    monkeypatch.setattr(refund_module, "take_in", take_in)
    database = DatabaseOf(pool)
    for books in ("refunds", "looks"):
        monkeypatch.setattr(refund_module, books, Verbs(calls.made, database))
    return RefundPump(database, calls, patience(told), MoneyTraces(lambda: 0.0)), calls, taken  # type: ignore[arg-type]


REFUND = DueRefund("refund", "key", None, 500, 2, 3)
ASKED = ("refund", "refund-2", "key", "", 500)


@pytest.mark.parametrize(
    ("outcome", "calls", "said"),
    [
        (Done("re"), [("answer", "refund", 2, "succeeded", "re", None, 100)], "known"),
        (
            Pending("re", "slow"),
            [("answer", "refund", 2, "pending", "re", "slow", 100)],
            "known",
        ),
        (Unknown("timeout"), [("put_off", "refund", 2, 800)], "timeout"),
    ],
)
async def test_money_that_is_given_back(
    told: list[Any], monkeypatch: pytest.MonkeyPatch, outcome: Any, calls: list[Any], said: str
) -> None:
    pump, made, taken = refund_pump(told, monkeypatch, refund=outcome)
    await pump.refund(REFUND)
    assert (made.made, taken) == ([ASKED, *calls], [])
    assert told == [("known", "refund", "refund", 3) if said == "known" else ("unknown", "refund", "refund", said, 3)]


@pytest.mark.parametrize("seen", [Reversals(), NotFound(), Unknown("x")])
async def test_a_refusal_is_believed_once_the_payment_was_read(
    told: list[Any], monkeypatch: pytest.MonkeyPatch, seen: Any
) -> None:
    pump, made, taken = refund_pump(told, monkeypatch, refund=Refused("closed"), reversals=seen)
    await pump.refund(REFUND)
    assert made.made[:2] == [ASKED, ("reversals", "key", "")]
    if isinstance(seen, Reversals):
        assert taken == [("key", seen, ("refund", 2, "closed"))] and len(made.made) == 2
        assert told == [("known", "refund", "refund", 3)]
    else:
        assert taken == [] and made.made[2:] == [("put_off", "refund", 2, 800)]
        assert told == [("unknown", "refund", "refund", "refused, and not read", 3)]


@pytest.mark.parametrize(
    ("seen", "again", "over"),
    [(Reversals(), False, True), (Reversals(), None, True), (Reversals(), True, False), (NotFound(), None, True),
     (Unknown("timeout"), None, False)],
)  # fmt: skip
async def test_a_payment_is_looked_at_until_nothing_is_pending(
    told: list[Any], monkeypatch: pytest.MonkeyPatch, seen: Any, again: bool | None, over: bool
) -> None:
    pump, made, taken = refund_pump(told, monkeypatch, reversals=seen, again=again)
    leased = object()
    await pump.look_at(Look("key", "ref", 3, leased))  # type: ignore[arg-type]
    assert taken == ([("key", seen)] if isinstance(seen, Reversals) else [])
    seen_, later = (
        ("close", "key", leased),
        ("put_off", "key", leased, 800),
    )
    assert made.made == [("reversals", "key", "ref"), seen_ if over else later]
    assert told == ([("unknown", "look", "key", "timeout", 3)] if isinstance(seen, Unknown) else [])


# ------------------------------------------------------------------ patience


@pytest.mark.parametrize(
    ("tries", "chance", "pause_ms"),
    [
        (0, 0.0, 800),
        (0, 1.0, 1_000),
        (1, 1.0, 2_000),
        (3, 0.5, 7_200),
        (6, 1.0, 60_000),
        (31, 1.0, 60_000),
        (9_999, 0.0, 48_000),
    ],
)
def test_how_long_the_pump_waits(tries: int, chance: float, pause_ms: int) -> None:
    settings = GatewaySettings(retry_s=1.0, retry_max_s=60.0)
    assert Patience(settings, lambda: chance).pause_ms(tries) == pytest.approx(pause_ms, abs=1)


async def test_one_at_a_time_is_no_pump(pump: MoneyPump, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due is worked off side by side, so many at once; one that fails keeps no other from being done."""
    running = most = 0
    done: list[str] = []

    async def void(row: DuePayment) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(row.payment_key)
        if row.payment_key == "k1":
            raise ZeroDivisionError

    gateway = pump.settings.gateway.model_copy(update={"concurrency": 3})
    monkeypatch.setattr(pump, "settings", pump.settings.model_copy(update={"gateway": gateway}))
    rows = [tuple(due("authorized")._replace(payment_key=f"k{n}")) for n in range(7)]

    class Connection:
        async def __aenter__(self) -> Connection:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        def acquire(self) -> Connection:
            return self

        async def execute(self, *_: object) -> None:
            pass

        async def fetch(self, *_: object) -> Any:
            return rows

    async def pool() -> Any:
        return Connection()

    async def nothing(*_: object) -> Any:
        return []

    async def yes(*_: object) -> bool:
        return True

    monkeypatch.setattr(pump, "database", DatabaseOf(pool))
    monkeypatch.setattr(pump.refund_pump, "claim", nothing)
    monkeypatch.setattr(pump.refunds, "check_fence", yes)
    monkeypatch.setattr(pump, "void", void)
    with pytest.raises(ExceptionGroup) as failed:
        await pump.work_outbox()
    assert [type(error) for error in failed.value.exceptions] == [ZeroDivisionError]
    assert (sorted(done), most) == ([f"k{n}" for n in range(7)], 3)
    rows.pop(1)
    assert await pump.work_outbox() == 6


async def test_the_pump_pauses_for_what_hits_everybody_and_goes_on(
    pump: MoneyPump, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line when it begins and one when it is over. Whatever else breaks is told, and is no reason to end. What was given
    is left to the outbox then, which is looked at once a second."""
    time, looked, waiting = Passing(1_000.0), list[float](), list[int]()
    pump.clock = time.clock
    errors = [None, OSError(), OSError(), None, ZeroDivisionError(), None]

    async def work_given() -> None:
        waiting.append(len(pump.given))
        pump.woken.set()
        time.now += 0.5

    async def work_outbox() -> int:
        looked.append(time.now)
        if error := errors[len(looked) - 1]:
            pump.given.append((1, []))
            raise error
        if len(looked) == len(errors):
            pump.stop()
        return 0

    renewed: list[BaseException] = []

    async def renew(error: BaseException) -> None:
        renewed.append(error)

    pump.woken.set()
    monkeypatch.setattr(pump, "work_given", work_given)
    monkeypatch.setattr(pump, "work_outbox", work_outbox)
    monkeypatch.setattr(pump.database, "renew", renew)
    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(10):
            await pump.run()
    assert looked == [1_000.5, 1_001.5, 1_002.5, 1_003.5, 1_004.5, 1_005.5]
    assert (time.slept, renewed, set(waiting)) == ([0.5] * 3, errors[1:3], {0})
    assert [(line["event"], line.get("waits_for"), line.get("error"), line.get("seconds")) for line in lines] == [
        ("money.paused", "postgresql", "OSError", None), ("money.resumed", None, None, 2.0), ("money.failed", None, None, None),
    ]  # fmt: skip


async def test_a_full_outbox_is_looked_at_again_at_once(pump: MoneyPump, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand refunds of an event that was called off do not wait for a sweep every five hundred."""
    time, looked, woken, counts = Passing(1_000.0), list[float](), list[bool](), [3, 4, 2]
    pump.clock = time.clock

    async def work_given() -> None:
        woken.append(pump.woken.is_set())
        pump.woken.clear()
        time.now += 0.25

    async def work_outbox() -> int:
        looked.append(time.now)
        if len(looked) == len(counts):
            pump.stop()
        return counts[len(looked) - 1]

    pump.woken.set()
    monkeypatch.setattr(module, "CLAIM_MAX", 3)
    monkeypatch.setattr(pump, "work_given", work_given)
    monkeypatch.setattr(pump, "work_outbox", work_outbox)
    async with asyncio.timeout(10):
        await pump.run()
    assert (looked, woken) == ([1_000.25, 1_000.5, 1_000.75], [True] * 3)
