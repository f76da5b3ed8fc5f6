"""What customers of a rush do one after the other, told by a shop that answers what it is given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ops.rush.customers import Customers
from ops.rush.history import Entry, History
from ops.rush.http_client import Answer
from ops.rush.plan import DECLINING, GOOD_CARD, Visit

BOOKING = "01a22900-0000-7000-8000-000000000001"


class Shop:
    """Notes what is asked. The first booking is a hold; cancellations, changes and looks are answered as given."""

    def __init__(
        self, *, cancelled: int | None = 200, refusal: str = "", looks: list[tuple[str, str]] | None = None
    ) -> None:
        self.cancelled = cancelled
        self.refusal = refusal
        self.looks = looks or []
        self.asked: list[str] = []
        self.booked: list[tuple[str, dict[str, Any]]] = []

    async def book(self, entry: Entry, visit: Visit, intended: float, *, body: bytes = b"", **how: Any) -> None:
        self.booked.append((visit.key, json.loads(body or visit.body)))
        if self.refusal and len(self.booked) > 1:
            entry.refused = self.refusal
        else:
            entry.ids.append(f"{BOOKING[:-1]}{len(self.booked)}")

    async def insist(self, method: str, path: str, key: str, number: int, body: bytes = b"") -> Answer | None:
        what = path.rpartition("/")[2]
        self.asked.append("change" if method == "PATCH" else what)
        if what == "cancel" and self.cancelled is None:
            return None
        return Answer(self.cancelled if what == "cancel" and self.cancelled else 200, b"", b'{"items":[]}')

    async def read(self, entry: Entry, api: int | None = None) -> dict[str, Any] | None:
        self.asked.append("look")
        entry.status, payment = self.looks.pop(0)
        return {"payment": {"status": payment}}


def visit(manner: str) -> Visit:
    code = "AAAA-BBBB-CCCC-DDDD"
    return Visit(1, 0.0, manner, "ada", "key", "e1", (("fans", 5),), GOOD_CARD, other=(("fans", 1),), code=code)


async def come(shop: Shop, manner: str, monkeypatch: pytest.MonkeyPatch) -> History:
    history = History("shop")
    customers = Customers(shop, history, start=0.0)  # type: ignore[arg-type]
    monkeypatch.setattr("ops.rush.customers.asyncio.sleep", at_once)
    await customers.come(visit(manner))
    return history


async def at_once(seconds: float) -> None:
    """No time passes."""


async def test_whoever_cancels_a_hold_has_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    history = await come(shop, "hold_again", monkeypatch)
    (first, held), (second, bought) = shop.booked
    assert (first, second) == ("key", "key-again")
    assert held.pop("hold_s") > 0
    assert bought.pop("payment")["card_number"] == GOOD_CARD
    assert held == bought
    assert (shop.asked, history.booked_again, history.not_given_back) == (["cancel"], 1, [])
    assert [(entry.customer, entry.code) for entry in history.entries] == [("ada", "AAAA-BBBB-CCCC-DDDD")] * 2


@pytest.mark.parametrize(
    ("refusal", "complains"),
    [("access-code-used-up", True), ("customer-limit", True), ("sold-out", False), ("access-code-invalid", False)],
)
async def test_a_refusal_for_what_was_given_back_is_remembered(
    refusal: str, complains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have bought what is left meanwhile, or an operator may have paused the sale: that is none."""
    history = await come(Shop(refusal=refusal), "hold_again", monkeypatch)
    assert (history.booked_again, bool(history.not_given_back)) == (0, complains)


@pytest.mark.parametrize("answer", [None, 409])
async def test_a_hold_that_was_not_cancelled_is_not_booked_again(
    answer: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(cancelled=answer)
    history = await come(shop, "hold_again", monkeypatch)
    assert (len(shop.booked), history.booked_again, history.not_given_back) == (1, 0, [])


@pytest.mark.parametrize(
    ("looks", "declined"),
    [
        ([("pending", "unknown"), ("held", "declined")], True), ([("held", "authorized")] * 20, False),
        ([("pending", "declined")] * 20, False),
    ],
)  # fmt: skip
async def test_a_hold_is_changed_once_its_payment_was_declined(
    looks: list[tuple[str, str]], declined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tried to be changed all the same when it was not in time: that may be refused."""
    count = len(looks)
    shop = Shop(looks=looks)
    paid: list[bytes] = []
    monkeypatch.setattr(Visit, "payment_of", lambda self, card: paid.append(card.encode()) or b"{}")
    history = await come(shop, "hold_decline_change_pay", monkeypatch)
    assert shop.asked == ["payment", *["look"] * count, "change", "change", "payment"]
    assert paid == [DECLINING[0].encode(), GOOD_CARD.encode()]
    assert (history.holds_changed, history.changed_after_decline) == (1, int(declined))
