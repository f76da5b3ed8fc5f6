"""How bookings of a shard share calls, and what they have in common."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from boxoffice import ids
from boxoffice.admission import admission as orders
from boxoffice.admission import window as module
from boxoffice.admission.admission import Admission
from boxoffice.admission.window import Window
from boxoffice.errors import GateClosed, Malformed, NotFound, PriceChanged, PriceOutdated
from boxoffice.office import BoxOffice
from boxoffice.sales.store import NewTier
from boxoffice.stores.record import Charge, Line
from boxoffice.stores.refusals import refusal
from boxoffice.wire.requests import BookingRequest
from tests.conftest import CLIENT, SHARD, SaleMaker
from tests.support.clocks import Passing
from tests.support.shop.orders import OTHER

CARD = Charge("card", "tok_ok_4242", "Ada", "4242")


@pytest.fixture
def window(office: BoxOffice) -> Window:
    return office.admission.windows[SHARD]


@pytest.mark.parametrize(
    ("noted", "lines", "short"),
    [
        ({}, [("a", 9)], False),
        ({"a": (2, 101.0)}, [("a", 3)], True),
        ({"a": (2, 101.0)}, [("a", 2)], False),
        ({"a": (2, 101.0)}, [("b", 3)], False),
        ({"a": (2, 101.0)}, [("b", 3), ("a", 3)], True),
        ({"a": (2, 100.0)}, [("a", 3)], False),
        ({"a": (2, 99.0), "b": (0, 101.0)}, [("a", 3), ("b", 1)], True),
    ],
)
def test_a_tier_is_short_for_a_moment_and_for_so_many(
    window: Window, noted: dict[str, Any], lines: list[tuple[str, int]], short: bool
) -> None:
    """Whose moment is over is forgotten."""
    window.clock = Passing(100.0).clock
    window.short = dict(noted)
    assert window.seems_short(tuple(Line(tier, quantity, 1) for tier, quantity in lines)) is short
    assert set(window.short) == {tier for tier, (_, until) in noted.items() if until > 100.0}


class Sent:
    """Calls that are sent, and go on until they are let go."""

    def __init__(self, window: Window, monkeypatch: pytest.MonkeyPatch, *, wait: bool) -> None:
        self.calls: list[int] = []
        self.over = asyncio.Event()
        if not wait:
            self.over.set()

        async def call(_: object, forms: list[Any]) -> None:
            self.calls.append(len(forms))
            await self.over.wait()

        monkeypatch.setattr(Window, "call", call)


@pytest.mark.parametrize(("paced", "batches"), [(0.0, [2, 2, 1]), (0.001, [4, 1])])
async def test_a_call_takes_so_many(
    window: Window, monkeypatch: pytest.MonkeyPatch, paced: float, batches: list[int]
) -> None:
    """Twice as many while settlement is behind."""
    api = window.settings.api.model_copy(update={"batch_max": 2, "linger_ms": 0, "calls_max": 9})
    monkeypatch.setattr(window, "settings", window.settings.model_copy(update={"api": api}))
    sent = Sent(window, monkeypatch, wait=False)
    window.pace_s = paced
    for n in range(5):
        window.put(n)  # type: ignore[arg-type]
    await window.drained()
    assert sent.calls == batches
    assert window.queue == [] and not window.calls


async def test_only_so_many_calls_are_under_way(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes meanwhile goes together with the next one."""
    api = window.settings.api.model_copy(update={"batch_max": 50, "linger_ms": 0, "calls_max": 2})
    monkeypatch.setattr(window, "settings", window.settings.model_copy(update={"api": api}))
    sent = Sent(window, monkeypatch, wait=True)
    for n in range(5):
        window.put(n)  # type: ignore[arg-type]
        for _ in range(5):
            await asyncio.sleep(0)
    assert (sent.calls, len(window.queue)) == ([1, 1], 3)
    sent.over.set()
    await window.drained()
    assert sent.calls == [1, 1, 3]


@pytest.mark.parametrize(
    ("linger_ms", "first", "then", "paced", "calls"),
    [
        (50, 1, 1, 0.0, [1]),
        (50, 1, 15, 0.0, [1]),
        (50, 1, 16, 0.0, [1, 16]),
        (50, 16, 1, 0.0, [16, 1]),
        (50, 15, 1, 0.0, [15]),
        (0, 1, 1, 0.0, [1, 1]),
        (0, 1, 99, 0.05, [1]),
        (0, 1, 100, 0.05, [1, 100]),
    ],
)
async def test_after_a_small_call_company_is_waited_for(
    window: Window, monkeypatch: pytest.MonkeyPatch, linger_ms: int, first: int, then: int, paced: float,
    calls: list[int],
) -> None:  # fmt: skip
    """Not after a large one, nor once there is enough of it; longer while settlement is behind."""
    api = window.settings.api.model_copy(update={"batch_max": 50, "linger_ms": linger_ms, "calls_max": 9})
    monkeypatch.setattr(window, "settings", window.settings.model_copy(update={"api": api}))
    sent = Sent(window, monkeypatch, wait=False)
    clock = [1_000.0]
    loop = asyncio.get_running_loop()
    later: list[float] = []
    monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: Loop(loop, clock, later))
    window.pace_s = paced
    for n in range(first):
        window.put(n)  # type: ignore[arg-type]
    for _ in range(5):
        await asyncio.sleep(0)
    for n in range(then):
        window.queue.append(n)  # type: ignore[arg-type]
    window.schedule()
    for _ in range(5):
        await asyncio.sleep(0)
    assert sent.calls == calls
    assert later == ([] if len(calls) > 1 else [pytest.approx(0.05)])
    if window.timer:
        window.timer.cancel()
        window.timer = None
    window.queue.clear()


class Loop:
    """The loop with another clock, in which nothing that is to come later comes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: list[float], later: list[float]) -> None:
        self._loop, self._clock, self._later = loop, clock, later

    def time(self) -> float:
        return self._clock[0]

    def call_later(self, seconds: float, call: Any, *, context: Any) -> asyncio.Handle:
        self._later.append(seconds)
        return self._loop.call_later(3_600, call, context=context)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OutOfMemoryError("x y"), "OOM"),
        (ReadOnlyError("x"), "READONLY"),
        (NoPermissionError("x"), "NOPERM"),
        (ResponseError("MISCONF with data in it"), "MISCONF"),
        (RedisError("something secret"), ""),
    ],
)
def test_of_a_refusal_only_the_word_is_told(error: RedisError, word: str) -> None:
    assert refusal(error) == word


# ------------------------------------------------------------------ what bookings have in common


def request(
    *lines: tuple[str, int], charge: Charge | None = None, hold_s: int | None = None, reference: str | None = None
) -> BookingRequest:
    return BookingRequest("ada", lines, reference, charge, hold_s)


@pytest.mark.parametrize(
    ("charge", "hold_s", "free", "hold_ms"),
    [
        (CARD, None, False, 0),
        (None, None, False, 600_000),
        (None, 1, False, 1_000),
        (None, 600, False, 600_000),
        (None, 601, False, 600_000),
        (None, None, True, 0),
        (None, 60, True, 60_000),
        (CARD, None, True, 0),
    ],
)
async def test_how_long_a_booking_is_held(
    office: BoxOffice, open_sale: SaleMaker, charge: Charge | None, hold_s: int | None, free: bool, hold_ms: int
) -> None:
    """As long as it asks, up to the longest; not at all when it is paid at once, or costs nothing and asks for no hold.
    Only what costs nothing and is not held counts against no limit."""
    assert office.settings.holds.ttl_s == 600
    event = await open_sale(GA=10)
    (tier,) = event.tiers
    if free:
        await office.control.change_tier(tier.id, price_cents=0)
    await office.catalogue.read()
    template = office.admission.template(CLIENT, request((tier.id, 2), charge=charge, hold_s=hold_s))
    assert (template.hold_ms, template.amount) == (hold_ms, 0 if free else 2_000)
    assert (template.kind.text[0], template.items) == ("H" if hold_ms else "P", f"{tier.id}:2")
    holds = office.settings.holds
    limits = f":{holds.unpaid_customer_max}:{holds.unpaid_client_max}:{holds.given_up_max}"
    unlimited = free and not hold_ms
    assert template.kind.text.split("|")[1] == f"{hold_ms}{'' if unlimited else limits}"


async def test_templates_are_one_for_all_who_ask_alike(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one client, the same lines, a card with digits or none, a reference or none, the same hold; anew after a change."""
    event = await open_sale(GA=10, VIP=10)
    ga, vip = (tier.id for tier in event.tiers)
    await office.catalogue.event(event.id)
    template = office.admission.template
    same = request((ga, 1), charge=CARD)
    first = template(CLIENT, same)
    for card in (Charge("card", "tok_other", "Bob", "1111"), Charge("card", "tok_other", None, "1111")):
        assert template(CLIENT, request((ga, 1), charge=card)) is first
    others = [
        template(OTHER, same),
        template(CLIENT, request((ga, 2), charge=CARD)),
        template(CLIENT, request((vip, 1), charge=CARD)),
        template(CLIENT, request((ga, 1), charge=Charge("card", "tok", "Ada", None))),
        template(CLIENT, request((ga, 1), charge=CARD, reference="r")),
        template(CLIENT, request((ga, 1), hold_s=60)),
        template(CLIENT, request((ga, 1), hold_s=61)),
        template(CLIENT, request((ga, 1))),
    ]
    assert len({id(each) for each in [first, *others]}) == 9
    await office.control.change_event(event.id, name="Another name")
    await office.catalogue.read()
    assert template(CLIENT, same) is not first
    monkeypatch.setattr(orders, "TEMPLATES_MAX", len(office.admission.templates) + 1)
    template(CLIENT, request((ga, 3), charge=CARD))
    assert len(office.admission.templates) == orders.TEMPLATES_MAX
    last = template(CLIENT, request((ga, 4), charge=CARD))
    assert list(office.admission.templates.values()) == [last], "memory has its bound"


async def test_lines_are_priced_today_and_stand_by_tier(office: BoxOffice, open_sale: SaleMaker) -> None:
    event, other = await open_sale(GA=10, VIP=10), await open_sale(GA=10)
    ga, vip = event.tiers
    await office.catalogue.event(other.id)
    for lines in (((ga.id, 2), (vip.id, 1)), ((vip.id, 1), (ga.id, 2))):
        found, priced = office.admission.price(CLIENT, request(*lines))
        assert found.id == event.id
        assert list(priced) == sorted([Line(ga.id, 2, 1_000), Line(vip.id, 1, 2_000)], key=lambda line: line.tier)
    with pytest.raises(Malformed) as refused:
        office.admission.price(CLIENT, request((ga.id, 1), (vip.id, 1), (other.tiers[0].id, 1)))
    assert (refused.value.pointer, refused.value.code) == ("/items/2/tier_id", "other_event")
    starts_at = datetime.now(UTC) + timedelta(days=30)
    theirs = await office.store.create_event(OTHER, "Theirs", starts_at, "USD", [NewTier("GA", 1_000, 10)])
    await office.catalogue.read()
    for last in ("nothing00000", theirs.tiers[0].id):
        with pytest.raises(NotFound):  # of two faults the one that tells nothing of others' tiers
            office.admission.price(CLIENT, request((ga.id, 1), (other.tiers[0].id, 1), (last, 1)))
    with pytest.raises(NotFound) as unknown:
        office.admission.price(CLIENT, request((ga.id, 1), ("nothing00000", 1)))
    assert unknown.value.details == {"pointer": "/items/1/tier_id"}
    ready = office.admission.ready_for
    assert ready(request((ga.id, 1), (vip.id, 1))) and not ready(request((ga.id, 1), ("nothing00000", 1)))


async def test_a_shard_that_this_process_does_not_serve_is_refused(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await open_sale(GA=10)
    await office.catalogue.event(event.id)
    monkeypatch.setattr(office.admission, "windows", office.admission.windows[:SHARD])
    with pytest.raises(GateClosed, match="does not serve"):
        office.admission.submit(CLIENT, request((event.tiers[0].id, 1)), "k", lambda _: None)


@pytest.mark.parametrize("reference", [None, "r"])
@pytest.mark.parametrize("charge", [None, CARD, Charge("card", "tok", None, None)])
async def test_a_form_has_everything_of_its_order(
    office: BoxOffice, open_sale: SaleMaker, charge: Charge | None, reference: str | None
) -> None:
    """Its own key, customer, card and reference, in its event's shard; a question has no more than is asked."""
    event = await open_sale(GA=10)
    await office.catalogue.event(event.id)
    admission: Admission = office.admission
    put: list[Any] = []
    window = admission.windows[SHARD]
    window.put = put.append  # type: ignore[method-assign]
    order = request((event.tiers[0].id, 2), charge=charge, reference=reference)
    admission.submit(CLIENT, order, "ab" * 16, print)
    window.short[event.tiers[0].id] = 1, float("inf")
    admission.submit(CLIENT, order, "ab" * 16, print)
    form, question = put
    scope = ids.scope(CLIENT, event.id, "ab" * 16)
    said = (charge.method, charge.last4 or charge.token) if charge else ("", "")
    fingerprint = ids.fingerprint("ada", f"{event.tiers[0].id}:2", *said)
    assert ids.shard_of(form.id) == SHARD and form.answer is print
    assert (form.record_key, form.idempotency_key) == (f"{{s01}}:bk:{form.id}", f"{{s01}}:idem:{scope}")
    assert (form.gaps.booking, form.gaps.customer, form.gaps.reference) == (
        form.id,
        '"ada"',
        '"r"' if reference else "",
    )
    assert form.gaps.last4 == ('"4242"' if charge is CARD else "")
    head, body, payload = form.packed.split("\n")
    paid_as = "=" if charge else ""
    owner = ids.owner_digest(CLIENT, "ada")
    assert head.split("|")[:5] == [paid_as, scope, fingerprint, event.id, owner]
    assert ('"r"' in body, '"tok' in payload, '"Ada"' in payload, '"4242"' in payload) == (
        reference is not None, charge is not None, charge is CARD, charge is CARD,
    )  # fmt: skip
    assert '"k":"' + "ab" * 16 in payload
    assert question.packed == f"=|0|{fingerprint}||{owner}|{event.tiers[0].id}:2|"
    assert (
        question.idempotency_key == form.idempotency_key
        and question.kind.text.startswith("Q|")
        and question.gaps is None
    )
    booking = question.as_booking()
    assert (booking.packed, booking.kind, booking.idempotency_key) == (form.packed, form.kind, form.idempotency_key)


@pytest.mark.parametrize("unknown", [set(), {"a"}, {"b"}, {"c"}, {"a", "b", "c"}])
async def test_every_tier_that_is_not_known_is_looked_for(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch, unknown: set[str]
) -> None:
    asked: list[str] = []

    async def event_of_tier(tier: str) -> None:
        asked.append(tier)

    catalogue = office.admission.catalogue
    monkeypatch.setattr(catalogue, "find_tier", lambda tier: None if tier in unknown else ("event", tier))
    monkeypatch.setattr(catalogue, "event_of_tier", event_of_tier)
    order = request(("a", 1), ("b", 1), ("c", 1))
    assert office.admission.ready_for(order) is not bool(unknown)
    await office.admission.know_tiers(order)
    assert asked == sorted(unknown)


@pytest.mark.parametrize(("expected", "costs"), [(None, "1000"), (2_000, "1000"), (0, "1000:0")])
async def test_what_a_shop_expects_goes_with_its_booking(
    office: BoxOffice, open_sale: SaleMaker, expected: int | None, costs: str
) -> None:
    """Only when it is another amount: bookings that expect what they cost are of one kind with those that expect nothing.
    Their fingerprints differ all the same."""
    event = await open_sale(GA=10)
    await office.catalogue.event(event.id)
    put: list[Any] = []
    office.admission.windows[SHARD].put = put.append  # type: ignore[method-assign]
    order = request((event.tiers[0].id, 2))
    order.expected_amount_cents = expected
    office.admission.submit(CLIENT, order, "ab" * 16, print)
    (form,) = put
    assert form.kind.text == f"H|600000:40:50000:40|{costs}|{CLIENT}|{event.tiers[0].id}:2"
    assert (form.kind is form.template.kind) is (expected in (None, 2_000))
    fingerprint = ids.fingerprint("ada", f"{event.tiers[0].id}:2", "", "", expected)
    assert form.packed.split("|")[2] == fingerprint


@pytest.mark.parametrize("second", [PriceOutdated(), PriceChanged(), "admitted"])
async def test_a_price_that_changed_is_read_and_asked_for_once_more(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch, second: Any
) -> None:
    """Once: a price that changes twice in a moment is told, and so is one that the shop did not expect."""
    answers: list[Any] = [PriceOutdated(), second]
    done: list[str] = []

    async def nothing(*_: object) -> None:
        done.append("refreshed" if not _ else "known")

    async def ask(*_: object) -> Any:
        done.append("asked")
        return answers.pop(0)

    monkeypatch.setattr(office.admission, "know_tiers", nothing)
    monkeypatch.setattr(office.admission.catalogue, "refresh", nothing)
    monkeypatch.setattr(office.admission, "ask", ask)
    book = office.admission.book(CLIENT, request(("a", 1)), "key")
    if second != "admitted":
        with pytest.raises(PriceChanged) as raised:
            await book
        assert raised.value is second
    else:
        assert await book == "admitted"  # type: ignore[comparison-overlap]
    assert done == ["known", "asked", "refreshed", "asked"]
    answers.append(PriceChanged())
    with pytest.raises(PriceChanged):
        await office.admission.book(CLIENT, request(("a", 1)), "key")
    assert done[4:] == ["known", "asked"], "the map is right, the shop is not"
