"""What the customers will do, and when: drawn from a seed before the first of them arrives.

One file because who comes, when, for what and with which card is drawn in one order: the same seed draws the same rush.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from boxoffice.sales.catalogue import EventView, TierView

__all__ = [
    "CHANGING",
    "DECLINING",
    "GOOD_CARD",
    "HOLD_TROUBLE",
    "REFUND_TROUBLE",
    "SLOW_TROUBLE",
    "Visit",
    "Workload",
    "capacities",
    "draw",
]

GOOD_CARD: Final = "4242424242424242"
DECLINING: Final = ("4000000000000002", "4000000000009995", "4000000000009987", "4000000000000069", "4000000000000119")
SLOW_TROUBLE: Final = (
    "4000000000010001",  # answers late
    "4000000000010019",  # authorised, the answer is lost
    "4000000000010027",  # a server error that did nothing
    "4000000000010035",  # webhooks twice
    "4000000000010043",  # webhooks out of order
    "4000000000010050",  # one cent too much
    "4000000000010076",  # captured, the answer is lost
    "4000000000010134",  # the capture meets an error that is repeated for its key
    "4000000000010126",  # half of it is refunded in the gateway's dashboard
    "4000000000000259",  # disputed
)
"""Cards that any settlement has to live with."""

HOLD_TROUBLE: Final = (
    "4000000000003220",  # 3-D Secure, then succeeds
    "4000008400001629",  # 3-D Secure, then declines
    "4000000000010068",  # the capture is refused for good
)
"""Cards that ask for what comes with holds: webhooks, actions, cancelling."""

REFUND_TROUBLE: Final = (
    "4000000000010084",  # the first refund meets an error that is repeated for its key
    "4000000000010092",  # refunds are refused
    "4000000000010100",  # the first attempt of a refund is refused
    "4000000000010118",  # a refund is pending, then fails
    "4000000000007726",  # a refund is pending, then succeeds
    "4000000000005126",  # a refund succeeds, then fails
)
"""Cards of those who cancel, or have a part refunded."""

MANNERS: Final = {
    "plain": 62.0,
    "watch": 14.0,
    "replay": 6.0,
    "double": 2.0,
    "mismatch": 1.0,
    "bad": 1.0,
    "browse": 14.0,
}
HOLD_MANNERS: Final = {
    "hold_pay": 12.0,
    "hold_decline_pay": 4.0,
    "hold_extend_pay": 3.0,
    "hold_change_pay": 3.0,
    "hold_decline_change_pay": 2.0,
    "hold_again": 2.0,
    "hold_cancel": 3.0,
    "hold_leave": 3.0,
    "cancel": 5.0,
    "refund": 3.0,
}
"""What customers do, and how many in a hundred or so. `cancel` and `refund` follow a confirmed booking; `hold_again` cancels a
hold and books the same once more."""

CHANGING: Final = ("hold_change_pay", "hold_decline_change_pay")
"""They let a hold have other items; the second after a payment of it was declined."""

REFUND_TROUBLES: Final = 3.0
"""So many times the share of other troublesome cards: few come to give something back."""

DECLINES: Final = 0.12
"""Share of bookings whose card is declined."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What a rush asks of the box office: how many customers, when, and how many of them mean trouble."""

    seconds: float = 20.0
    rate: float = 300.0
    """Arrivals a second, on average."""
    burst: bool = False
    """Most come at the beginning, as when a sale opens; otherwise they come evenly (Poisson)."""
    customers: int = 5_000
    seed: int = 1
    trouble: float = 0.05
    """Share of bookings paid with a card that means trouble at the gateway."""
    holds: bool = False
    """Whether the API knows holds."""
    stand_share: float = 4.0
    """Tickets of the biggest tier for each arrival."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One customer comes by."""

    number: int
    at_s: float
    manner: str
    customer: str
    key: str
    event: str
    items: tuple[tuple[str, int], ...]
    card: str
    free: bool = False
    """Nothing but tickets that cost nothing."""
    other: tuple[tuple[str, int], ...] = ()
    """What a hold is changed to: of other tiers and quantities, and as free or not."""
    code: str = ""
    """The access code that it is booked with."""
    at_partner: bool = False
    """It is asked of the partner shop."""

    @property
    def body(self) -> bytes:
        """A booking with its payment. Of what costs nothing every other customer gives no card."""
        return self._json({} if self.free and self.number % 2 else {"payment": self.payment(self.card)})

    def payment_of(self, card: str) -> bytes:
        """The payment of a hold; what costs nothing is confirmed without one."""
        return b"{}" if self.free else json.dumps(self.payment(card)).encode()

    def hold(self, seconds: int) -> bytes:
        """A booking to be paid later."""
        return self._json({"hold_s": seconds})

    @property
    def change(self) -> bytes:
        """Other items for a hold."""
        return json.dumps({"items": _lines(self.other)}).encode()

    @staticmethod
    def payment(card: str) -> dict[str, str]:
        """How to pay with a card."""
        return {"method": "card", "card_name": "Ada Lovelace", "card_number": card}

    def _json(self, more: dict[str, object]) -> bytes:
        if self.code:
            more = more | {"access_code": self.code}
        return json.dumps(
            {"customer_id": self.customer, "reference": f"order-{self.number}", "items": _lines(self.items), **more},
            separators=(",", ":"),
        ).encode()


def _lines(items: Iterable[tuple[str, int]]) -> list[dict[str, object]]:
    return [{"tier_id": tier, "quantity": quantity} for tier, quantity in items]


def capacities(workload: Workload) -> dict[str, int]:
    """Tiers of an event for a rush of this size: a small one that everybody wants, one that does not sell out, one that
    costs nothing, and one for holders of an access code."""
    arrivals = max(40, int(workload.seconds * workload.rate))
    return {
        "FRONT": max(10, arrivals // 50), "FLOOR": max(50, arrivals // 4),
        "STAND": max(200, int(arrivals * workload.stand_share)), "GUEST": max(20, arrivals // 10),
        "FANS": max(30, arrivals // 8),
    }  # fmt: skip


def draw(workload: Workload, events: list[EventView]) -> Iterator[Visit]:
    """The customers, in the order in which they come. The same seed draws the same ones."""
    chance = random.Random(workload.seed)
    manners = MANNERS | (HOLD_MANNERS if workload.holds else {})
    names, weights = list(manners), list(accumulate(manners.values()))
    for number, at_s in enumerate(_arrivals(workload, chance)):
        manner = chance.choices(names, cum_weights=weights)[0]
        event = chance.choice(events)
        cart = _cart(event.tiers, chance)
        free = all(tier == event.tiers[3].id for tier, _ in cart)
        yield Visit(
            number,
            at_s,
            manner,
            f"customer-{chance.randrange(workload.customers):06d}",
            f"rush-{workload.seed}-{number}-{chance.getrandbits(48):012x}",
            event.id,
            cart,
            _card(workload, manner, chance),
            free=free,
            other=_other(event.tiers, free, number) if manner in CHANGING else (),
        )


def _arrivals(workload: Workload, chance: random.Random) -> Iterator[float]:
    if workload.burst:
        # Half of them within the first seventh of the time, thinning out afterwards.
        count = int(workload.seconds * workload.rate)
        yield from sorted(min(chance.expovariate(5.0), 1.0) * workload.seconds for _ in range(count))
        return
    at_s = chance.expovariate(workload.rate)
    while at_s < workload.seconds:
        yield at_s
        at_s += chance.expovariate(workload.rate)


def _cart(tiers: tuple[TierView, ...], chance: random.Random) -> tuple[tuple[str, int], ...]:
    """One to four tickets, mostly of one tier. A third want the small tier in front; some bring guests, some only those."""
    front, floor, stand, guest = (tier.id for tier in tiers[:4])
    luck = chance.random()
    quantity = chance.choices((1, 2, 3, 4), (40, 40, 10, 10))[0]
    if luck < 0.25:
        return ((front, quantity),)
    if luck < 0.33:
        return tuple(sorted(((front, 1), (stand, quantity))))
    if luck < 0.40:
        return tuple(sorted(((front, 1), (floor, 1), (stand, quantity))))
    if luck < 0.46:
        return ((guest, quantity),)
    if luck < 0.48:
        return tuple(sorted(((stand, quantity), (guest, 1))))
    return ((floor if luck < 0.60 else stand, quantity),)


def _other(tiers: tuple[TierView, ...], free: bool, number: int) -> tuple[tuple[str, int], ...]:
    front, floor, stand, guest = (tier.id for tier in tiers[:4])
    if free:
        return ((guest, 1 + number % 4),)
    return ((floor, 1 + number % 2), (stand, 1 + number % 3)) if number % 2 else ((front, 1), (guest, 1))


def _card(workload: Workload, manner: str, chance: random.Random) -> str:
    if manner == "watch":
        return GOOD_CARD
    luck = chance.random()
    if manner in ("cancel", "refund"):
        return chance.choice(REFUND_TROUBLE) if luck < REFUND_TROUBLES * workload.trouble else GOOD_CARD
    if luck < DECLINES:
        return chance.choice(DECLINING)
    if luck < DECLINES + workload.trouble:
        return chance.choice(SLOW_TROUBLE + (HOLD_TROUBLE if workload.holds else ()))
    return GOOD_CARD
