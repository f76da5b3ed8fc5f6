"""Whoever moves money or stock may be killed between any two steps: after a restart everything happened, and once.

Real processes and SIGKILL. That a worker may die while it settles and captures is `test_crashes.py`'s to show; here are
the steps that only trouble, cancellations, refunds, webhooks and late money take.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from boxoffice.errors import PaymentInProgress
from boxoffice.gateway.base import Unknown
from boxoffice.gateway.simulator import signing
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.settings import Settings
from tests.conftest import KEY, SaleMaker, eventually, load_all
from tests.invariants.conftest import Fork, at_rest, ends, working
from tests.support.checks import check_at_rest
from tests.support.mortals import Mortal
from tests.support.shop.office import Till

LEASE_MS = 400
"""A crash costs so much of each test. Nothing here takes a tenth of it."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"worker": settings.worker.model_copy(update={"lease_ms": LEASE_MS, "sweep_ms": 50})}
    )


@pytest.fixture
async def till(office: Any, open_sale: SaleMaker) -> AsyncIterator[Till]:
    """At a concert with ten GA tickets at 10.00 and four VIP at 20.00."""
    await load_all(office)
    till = Till(office, await open_sale(GA=10, VIP=4))
    yield till
    for settlement in office.settlements:
        await settlement.stop()


@dataclass
class Scene:
    """A shop's till, its way to the API, and processes to kill."""

    till: Till
    api: httpx2.AsyncClient
    fork: Fork
    point: str
    booking: str = ""

    async def worker_dies(self) -> None:
        """A worker comes, and dies at the point."""
        await self._killed(self.fork("work", crash_at=self.point))

    async def api_dies(self, path: str, headers: dict[str, str], body: bytes = b"") -> None:
        """The API dies of this POST; whoever sent it has no answer and sends it again, to another process."""
        await self._killed(self.fork("ask", "POST", path, headers, body.decode(), crash_at=self.point))
        answer = await self.api.post(path, headers=headers, content=body)
        assert answer.is_success, answer.text

    async def shop_cancels(self) -> str:
        """As a shop does, which sends it again as long as its payment is being let go."""
        while True:
            try:
                return await self.till.cancel(self.booking)
            except PaymentInProgress:
                continue

    async def nothing_is_to_come(self) -> bool:
        """Whether all that happens by itself at the gateway has happened."""
        return await self.till.gateway.ripen() == 0

    async def _killed(self, mortal: Mortal) -> None:
        assert await ends(mortal) == "killed by SIGKILL", mortal.last_line()

    async def waiting_for_its_customer(self) -> str:
        """A booking whose customer is at the bank; its payment key."""
        self.booking = await self.till.book("tok_3ds", GA=2, VIP=1)
        await self.till.drain()
        record = await self.till.record(self.booking)
        assert record is not None
        return record.payment_key

    async def confirmed(self, token: str = "tok_ok") -> None:
        """A booking that was paid."""
        self.booking = await self.till.book(token, GA=2, VIP=1)
        await self.till.rest()


SHOP = {"authorization": f"Bearer {KEY}"}


async def another_amount(scene: Scene) -> None:
    scene.booking = await scene.till.book("tok_wrong_amount", GA=2, VIP=1)
    await scene.worker_dies()


async def a_plain_payment(scene: Scene) -> None:
    scene.booking = await scene.till.book(GA=2, VIP=1)
    await scene.worker_dies()


async def cancelled_at_the_bank(scene: Scene) -> None:
    await scene.waiting_for_its_customer()
    cancelling = asyncio.create_task(scene.shop_cancels())
    await scene.worker_dies()
    async with working(scene.till.office):
        assert await cancelling == "cancelled"


async def cancelled_unwritten(scene: Scene) -> None:
    """The gateway said yes, and whoever heard it is dead. Then the shop cancels."""
    scene.booking = await scene.till.book(GA=2, VIP=1)
    await scene.worker_dies()
    cancelling = asyncio.create_task(scene.shop_cancels())
    async with working(scene.till.office):
        assert await cancelling == "cancelled"


async def a_refused_capture(scene: Scene) -> None:
    scene.booking = await scene.till.book("tok_capture_refused", GA=2, VIP=1)
    await scene.worker_dies()


async def a_cancellation(scene: Scene) -> None:
    await scene.confirmed()
    await scene.api_dies(f"/v1/bookings/{scene.booking}/cancel", SHOP)


async def a_part_refunded(scene: Scene) -> None:
    await scene.confirmed()
    tier = next(tier.id for tier in scene.till.event.tiers if tier.code == "GA")
    body = b'{"items":[{"tier_id":"%b","quantity":1}]}' % tier.encode()
    headers = SHOP | {"idempotency-key": "once", "content-type": "application/json"}
    await scene.api_dies(f"/v1/bookings/{scene.booking}/refunds", headers, body)


async def a_refund_due(scene: Scene) -> None:
    await scene.confirmed()
    await scene.till.refund(scene.booking, "part", GA=1)
    await scene.worker_dies()


async def a_refused_refund(scene: Scene) -> None:
    """It is owed, and known to be, however many workers die of the news."""
    await scene.confirmed("tok_refund_refused")
    await scene.till.cancel(scene.booking)
    await scene.worker_dies()


async def a_refund_tried_again(scene: Scene) -> None:
    await scene.confirmed("tok_refund_refused_once")
    await scene.till.cancel(scene.booking)
    await scene.till.pump()
    await scene.api_dies(f"/v1/bookings/{scene.booking}/cancel", SHOP)


async def a_second_attempt(scene: Scene) -> None:
    """Whoever asks under the second key dies; the next asks under the same."""
    await scene.confirmed("tok_refund_refused_once")
    await scene.till.cancel(scene.booking)
    await scene.till.pump()
    await scene.till.cancel(scene.booking)
    await scene.worker_dies()


async def a_pending_refund(scene: Scene) -> None:
    await scene.confirmed("tok_refund_pending")
    await scene.till.cancel(scene.booking)
    await scene.till.pump_once()
    await scene.till.sooner()
    await scene.worker_dies()


async def a_refund_that_fails_late(scene: Scene) -> None:
    """It was told as made; then a webhook comes. The money is owed."""
    await scene.confirmed("tok_refund_fails_late")
    await scene.till.cancel(scene.booking)
    await scene.till.pump()
    await eventually(scene.nothing_is_to_come)
    (payment,) = await scene.till.fetch("SELECT payment_key FROM payments")
    await scene.till.office.webhooks.receive("simulator", GatewayEvent("evt_2", "refund_failed", payment[0], None))
    await scene.worker_dies()


async def a_webhook(scene: Scene) -> None:
    payment_key = await scene.waiting_for_its_customer()
    await scene.till.customer_acts(scene.booking)
    event = GatewayEvent("evt_1", "authorized", payment_key, None)
    body = signing.event_body(event)
    headers = signing.sign(scene.till.office.settings.gateway.webhook_secret, event.id, body, time.time())
    await scene.api_dies("/v1/webhooks/simulator", headers, body)
    assert [row["id"] for row in await scene.till.fetch("SELECT id FROM webhook_events")] == ["evt_1"]
    # Kept and not rung for, it is looked at within five seconds. Nobody here waits for so long.
    await scene.till.claimable(scene.booking)


async def back_from_the_bank(scene: Scene) -> None:
    await scene.waiting_for_its_customer()
    await scene.till.customer_acts(scene.booking)
    await scene.till.claimable(scene.booking)
    await scene.worker_dies()


async def late_money(scene: Scene) -> None:
    """The hold ended while the gateway was silent; then the customer's money is there, and so are the tickets."""
    till = scene.till
    scene.booking = await till.hold(GA=2, VIP=1)
    await till.pay(scene.booking, "tok_3ds")
    await till.drain()
    await till.time_is_up(scene.booking)

    async def silent(*_: object) -> Unknown:
        return Unknown("timeout")

    with pytest.MonkeyPatch.context() as patch:
        for call in ("lookup", "void"):
            patch.setattr(till.gateway, call, silent)
        await till.look_again(scene.booking)
    assert await till.payments(scene.booking) == ["unknown/void"]
    await till.customer_acts(scene.booking)
    await till.sooner()
    await scene.worker_dies()


@dataclass(frozen=True)
class Ends:
    """How a booking of two GA and one VIP ends: in both stores, at the gateway, and what is left of ten and four."""

    state: str
    captured: int
    refunded: int
    left: tuple[int, int]


SOLD = Ends("C confirmed", 4_000, 0, (8, 3))
NEVER = Ends("F failed", 0, 0, (10, 4))
REFUSED = Ends("X cancelled", 0, 0, (10, 4))
CANCELLED = Ends("X cancelled", 4_000, 4_000, (10, 4))
IN_PART = Ends("C confirmed", 4_000, 1_000, (9, 3))
OWED = Ends("X cancelled", 4_000, 0, (10, 4))

Story = Callable[[Scene], Awaitable[None]]

STEPS: dict[Story, tuple[tuple[str, ...], Ends]] = {
    a_plain_payment: (("settled",), SOLD),
    another_amount: (("before_void", "voided"), NEVER),
    cancelled_unwritten: (("authorised",), REFUSED),
    cancelled_at_the_bank: (("letting_go", "let_go"), REFUSED),
    a_refused_capture: (("refusal_written", "refusal_committed", "moved"), REFUSED),
    a_cancellation: (("refund_written", "refund_committed", "moved"), CANCELLED),
    a_part_refunded: (("refund_written", "refund_committed", "moved"), IN_PART),
    a_refund_due: (("before_refund", "refunded"), IN_PART),
    a_refused_refund: (("refusal_read", "owed_written"), OWED),
    a_refund_tried_again: (("retry_written",), CANCELLED),
    a_second_attempt: (("before_refund", "refunded"), CANCELLED),
    a_pending_refund: (("looked_at", "taken_in"), CANCELLED),
    a_refund_that_fails_late: (("looked_at", "taken_in"), OWED),
    a_webhook: (("webhook_heard", "webhook_committed"), SOLD),
    back_from_the_bank: (("answered",), SOLD),
    late_money: (("revived",), SOLD),
}


@pytest.mark.parametrize(
    ("story", "point", "end"),
    [(story, point, end) for story, (points, end) in STEPS.items() for point in points],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
async def test_killed_at_any_step_it_happens_once(
    till: Till, api: httpx2.AsyncClient, fork: Fork, story: Story, point: str, end: Ends
) -> None:
    """Another worker comes, and tickets, money and answers are as if nobody had died."""
    scene = Scene(till, api, fork, point)

    await story(scene)
    async with working(till.office):
        await at_rest(till.office)

    assert await till.state(scene.booking) == end.state
    payment = await till.payment(scene.booking)
    assert (payment.captured_cents, payment.refunded_cents) == (end.captured, end.refunded)
    assert ((await till.left("GA"))[0], (await till.left("VIP"))[0]) == end.left
    told = (await api.get(f"/v1/bookings/{scene.booking}", headers=SHOP)).json()
    assert (told["status"], told["refunded_cents"]) == (end.state.partition(" ")[2], end.refunded)
    await nothing_was_done_twice(till)
    await check_at_rest(till.office, [scene.booking])


async def nothing_was_done_twice(till: Till) -> None:
    """The gateway writes down every change: no payment was captured, voided or refunded by the same key twice."""
    lines = (till.office.settings.data_dir / "gateway.ledger").read_text().splitlines()
    changes = Counter(tuple(line.split(" ")[:2]) for line in lines)
    assert set(changes.values()) == {1}
    refunds = await till.fetch(
        "SELECT payment_key, sum(amount_cents)::int FROM refunds WHERE status IN ('due', 'pending', 'succeeded') GROUP BY 1"
    )
    at_gateway = {record.payment_key: record.payment.refunded_cents async for record in till.gateway.records()}
    assert {key: cents for key, cents in at_gateway.items() if cents} == dict(map(tuple, refunds))


@pytest.mark.dies_at("answered")
async def test_a_worker_that_wakes_after_a_second_payment_changes_nothing(
    till: Till, api: httpx2.AsyncClient, fork: Fork
) -> None:
    """It froze with a good answer to the first card. That card's bank took it back meanwhile, the hold went on, and
    another card waits for its customer: neither store moves for the sleeper."""
    booking = await till.hold(GA=2, VIP=1)
    await till.pay(booking, "tok_3ds", key="first")
    await till.drain()
    first = await till.record(booking)
    assert first is not None
    await till.customer_acts(booking)
    await till.claimable(booking)
    sleeper = fork("work", crash_at="answered:STOP")
    await eventually(_is(lambda: sleeper.frozen))
    assert await till.payments(booking) == ["requires_action/-"], "it knows better, and has told nobody"

    await till.gateway.void(first.payment_key, None)
    async with working(till.office):
        await eventually(lambda: _in_state(till, booking, "H held"))
        second, _ = await till.pay(booking, "tok_3ds", key="second")
        await eventually(lambda: _in_state(till, booking, "P pending"))
        sleeper.send(signal.SIGCONT)
        await eventually(_is(lambda: sleeper.said("batch.settled")))

        assert await till.state(booking) == "P pending"
        assert await till.payments(booking) == ["declined/-", "requires_action/-"]
        record = await till.record(booking)
        assert record is not None and record.payment_key == second.payment_key
        assert await till.left("GA") == (8, 2, 0)
        assert await till.fetch("SELECT 1 FROM inventory WHERE sold > 0") == []
        await till.customer_acts(booking)
        await till.claimable(booking)
        await at_rest(till.office)
    sleeper.send(signal.SIGTERM)

    assert await ends(sleeper) == "exit 0"
    assert await till.state(booking) == "C confirmed"
    assert await till.payments(booking) == ["declined/-", "captured/-"]
    await nothing_was_done_twice(till)
    await check_at_rest(till.office, [booking])


def _is(check: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def checked() -> bool:
        return check()

    return checked


async def _in_state(till: Till, booking: str, state: str) -> bool:
    return await till.state(booking) == state
