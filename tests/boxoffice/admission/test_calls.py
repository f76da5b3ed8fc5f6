"""One call to the script: what it is told, how long it is sent again, and what becomes of its members when it errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError
from structlog.testing import capture_logs

from boxoffice.admission import window as module
from boxoffice.admission.forms import Form, views_of
from boxoffice.admission.templates import BookingTemplate
from boxoffice.admission.window import Window
from boxoffice.errors import BoxOfficeError, Busy, RunUnchecked, StoreAway
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.stores import keys
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.record import Line
from tests.conftest import SHARD
from tests.support.clocks import Passing
from tests.support.waiting import true_soon

TIERS = tuple(TierView(f"tier{n}", f"T{n}", "Tier", 1_000 * n, 50, True) for n in (1, 2))
EVENTS = tuple(EventView(f"event{n}", "Concert", "", 1, "active", "USD", SHARD, 0, TIERS) for n in (1, 2))


@pytest.fixture
def window(office: BoxOffice) -> Window:
    return office.admission.windows[SHARD]


def form(name: str, event: EventView = EVENTS[0], quantity: int = 1, told: list[Any] | None = None) -> Form:
    template = BookingTemplate(
        "shop", event, (Line("tier1", quantity, 1_000),), charge=None, referred=False, hold_ms=60_000
    )

    def answer(result: Any) -> None:
        if told is not None:
            told.append((name, result))

    return Form(name, template, template.kind, f"packed {name}", f"record {name}", f"key {name}", answer, 100.0)


class Script:
    """Answers, or raises, in turn; the last one again and again. Time passes while somebody sleeps."""

    def __init__(self, window: Window, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[Any, Any, Any]] = []
        self.asked: list[Any] = []
        self.time = Passing(100.0)
        window.clock = self.time.clock
        monkeypatch.setattr(window, "admit", self)
        monkeypatch.setattr(module, "ask", self.ask)

    async def __call__(self, redis: Any, names: list[Any], args: list[Any]) -> Any:
        self.calls.append((redis, list(names), list(args)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask(self, redis: Any, shard: int) -> None:
        self.asked.append((redis, shard))


async def test_what_the_script_is_told(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the shard, of each event, of each booking; each event's tiers, each kind once with its event, each booking
    with its kind."""
    script = Script(window, monkeypatch, b"reply")
    forms = [form("a"), form("b", EVENTS[1]), form("c", quantity=2), form("d")]
    assert await window.send(forms, views_of(forms)) == b"reply"
    ((redis, names, args),) = script.calls
    assert redis is window.redis
    assert names == [
        keys.gate(SHARD), keys.pending(SHARD), keys.deadlines(SHARD), keys.sequence(SHARD), keys.bell(SHARD),
        keys.rings(SHARD), keys.arq_queue(SHARD),
        keys.event(SHARD, "event1"), keys.owners(SHARD, "event1"), keys.event(SHARD, "event2"), keys.owners(SHARD, "event2"),
        *(text for name in "abcd" for text in (f"record {name}", f"key {name}")),
    ]  # fmt: skip
    assert args == [
        window.settings.limits.pending_max, BELL_TTL_MS, pack_ring(SHARD), job_prefix(SHARD), 2, 3,
        "0,0", "tier1,tier2", "tier1,tier2",
        f"1|{forms[0].kind.text}", f"2|{forms[1].kind.text}", f"1|{forms[2].kind.text}",
        "1|packed a", "2|packed b", "3|packed c", "1|packed d",
    ]  # fmt: skip


@pytest.mark.parametrize(("error", "asks"), [(OSError(), 0), (RunUnchecked(), 3)])
async def test_a_redis_that_comes_back_is_asked_again(
    window: Window, monkeypatch: pytest.MonkeyPatch, error: Exception, asks: int
) -> None:
    """With the same booking ids, ever more slowly; one that nobody has checked is to be checked."""
    script = Script(window, monkeypatch, error, error, error, b"reply")
    forms = [form("a")]
    assert await window.send(forms, views_of(forms)) == b"reply"
    assert script.time.slept == [0.02, 0.04, 0.08]
    assert script.asked == asks * [(window.redis, SHARD)]
    assert all(call == script.calls[0] for call in script.calls)


@pytest.mark.parametrize(("error", "raised"), [(OSError(), StoreAway), (RunUnchecked(), RunUnchecked)])
async def test_nobody_waits_longer_than_he_would_ask_again(
    window: Window, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    """From when the first of the call came."""
    script = Script(window, monkeypatch, error)
    forms = [form("a"), form("b")]
    forms[0].since = 99.0
    with capture_logs() as said, pytest.raises(raised):
        await window.send(forms, views_of(forms))
    assert 99.0 + window.settings.api.retry_s - 0.26 < script.time.now <= 99.0 + window.settings.api.retry_s
    assert max(script.time.slept) == 0.25
    told = [(line["event"], line["bookings"], line["error"]) for line in said]
    assert told == ([("admission.store_away", 2, "OSError")] if raised is StoreAway else [])


def whole(count: int) -> list[Any]:
    return [b"open", b"1", [[b"busy"]] * count, [[b"5", b"5"]], 0, 0, []]


@pytest.mark.parametrize(
    ("answers", "calls", "told"),
    [
        ([whole(2)], [2], [Busy, Busy]),
        ([Busy()], [2], [Busy, Busy]),
        ([OutOfMemoryError("OOM")], [2], [StoreAway, StoreAway]),
        ([ResponseError("WRONGTYPE x")], [2, 1, 1], [StoreAway, StoreAway]),
        ([ResponseError("WRONGTYPE x"), whole(1), ResponseError("WRONGTYPE x")], [2, 1, 1], [Busy, StoreAway]),
        ([ZeroDivisionError()], [2], [StoreAway, StoreAway]),
    ],
)
async def test_what_its_members_are_told_of_a_call_that_errors(
    window: Window,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Any],
    calls: list[int],
    told: list[type[Exception]],
) -> None:
    """Each is sent alone, so that only the bad one is told so; not where memory is full, for that refuses everybody."""
    script = Script(window, monkeypatch, *answers)
    heard: list[tuple[str, BoxOfficeError]] = []
    with capture_logs() as said:
        await window.call([form("a", told=heard), form("b", told=heard)])
    assert [(name, type(error)) for name, error in heard] == list(zip("ab", told, strict=True))
    assert [sum(str(name).startswith("record") for name in names) for _, names, _ in script.calls] == calls
    refused = [
        (line["booking_id"], line["bookings"], line["reply"]) for line in said if line["event"] == "admission.refused"
    ]
    if isinstance(answers[0], OutOfMemoryError):
        assert refused == [("a", 2, "OOM")]
    elif isinstance(answers[0], ResponseError):
        assert refused == [("a" if told[0] is StoreAway else "b", 1, "WRONGTYPE")], "said once in a while"


async def test_one_who_cannot_be_told_keeps_nobody_waiting(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a question whose tickets are there is sent as a booking."""
    Script(window, monkeypatch, [b"open", b"1", [[b"busy"], [b"left"], [b"busy"]], [[b"5", b"5"]], 700, 9, []])
    heard: list[Any] = []
    bad, question, good = form("a"), form("b"), form("c", told=heard)

    def fails(_: Any) -> None:
        raise ZeroDivisionError

    bad.answer = fails
    question.as_booking = lambda: "the booking"  # type: ignore[assignment,return-value]
    put: list[Any] = []
    monkeypatch.setattr(window, "put", put.append)
    paced: list[tuple[int, int]] = []

    def pace(behind: int, admissions: int) -> float:
        paced.append((behind, admissions))
        return 0.5

    monkeypatch.setattr(window, "pace", pace)
    await window.call([bad, question, good])
    assert [name for name, _ in heard] == ["c"] and put == ["the booking"]
    assert (paced, window.pace_s) == ([(700, 9)], 0.5)


@pytest.mark.parametrize(
    ("seen", "paces"),
    [
        ([(1_000, 1_000)], [0.0]),
        ([(1_000, 1_000), (1_000, 1_001)], [0.0, 0.5]),
        ([(0, 10), (501, 512)], [0.0, 0.001]),
        ([(0, 10), (500, 511)], [0.0, 0.0]),
        ([(0, 10), (1_500, 1_511)], [0.0, 1.0]),
        ([(0, 10), (9_000, 9_011)], [0.0, 1.0]),
        ([(0, 10), (1_000, 1_010)], [0.0, 0.0]),
        ([(0, 10), (1_000, 1_009)], [0.0, 0.0]),
        ([(0, 10), (100, 2_000)], [0.0, 0.0]),
    ],
)
def test_the_pace_while_somebody_claims(window: Window, seen: list[tuple[int, int]], paces: list[float]) -> None:
    """In shares of the longest; a claim is seen where more are admitted than are behind, since the last look."""
    window.clock = Passing(100.0).clock
    longest_s = window.settings.api.pace_ms / 1_000
    assert [window.pace(*each) for each in seen] == [pytest.approx(share * longest_s) for share in paces]


@pytest.mark.parametrize(("later_s", "paced"), [(0.0, True), (0.25, True), (0.26, False)])
def test_a_claim_counts_for_a_while(window: Window, later_s: float, paced: bool) -> None:
    time = Passing(100.0)
    window.clock = time.clock
    window.pace(0, 10)
    window.pace(1_000, 1_011)
    time.now += later_s
    assert (window.pace(1_000, 1_011) > 0) is paced


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_call_that_ends_without_an_answer_leaves_nobody_waiting(
    window: Window, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """Whatever was the matter with it, each is told, also behind one that cannot be; and those behind them are sent."""
    heard: list[Any] = []
    calls: list[list[str]] = []

    async def call(forms: list[Form]) -> None:
        calls.append([form.id for form in forms])
        if len(calls) == 1:
            raise asyncio.CancelledError if cancelled else ZeroDivisionError

    def fails(_: Any) -> None:
        raise LookupError

    monkeypatch.setattr(window, "call", call)
    monkeypatch.setattr(window, "settings", window.settings.model_copy(
        update={"api": window.settings.api.model_copy(update={"calls_max": 1, "batch_max": 2})}
    ))  # fmt: skip
    bad = form("a")
    bad.answer = fails
    for each in (bad, form("b", told=heard), form("c", told=heard)):
        window.put(each)
    await true_soon(lambda: len(calls) == 2)
    await window.drained()
    assert calls == [["a", "b"], ["c"]]
    assert [(name, type(error)) for name, error in heard] == [("b", StoreAway)]
