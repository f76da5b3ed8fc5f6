"""A customer's first booking in a window of the limits is not counted in Redis, and the limit is what it says."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from boxoffice import ids
from boxoffice.access.rates import Allowance
from boxoffice.admission import newcomers
from boxoffice.admission.forms import Admitted
from boxoffice.admission.newcomers import Newcomers
from boxoffice.errors import BoxOfficeError, KeyReused, Overloaded, PriceChanged, RateLimited, SoldOut, StoreAway
from boxoffice.office import open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.conftest import CLIENT
from tests.support.shop.office import Till
from tests.support.shop.orders import order

WINDOW_S = 3_600
KEY_MAX = 1_000


def may(customer_max: int | None) -> Allowance:
    return Allowance("one", KEY_MAX, customer_max, WINDOW_S)


class Customer:
    """Who books, each time under a key of its own unless one is given."""

    def __init__(self, till: Till, customer_max: int | None, name: str = "ada") -> None:
        self.till, self.may, self.name, self.keys = till, may(customer_max), name, 0

    async def ask(self, key: int | None = None, **wanted: Any) -> Admitted | BoxOfficeError:
        self.keys += 1
        digest = f"{self.keys if key is None else key:031x}{ord(self.name[0]) % 16:x}"
        quantity = wanted.pop("GA", 1)
        wanted_order = structs.replace(order(self.till.event, customer=self.name, GA=quantity), **wanted)
        return await self.till.office.admission.ask(CLIENT, wanted_order, digest, self.may)

    async def counted(self) -> int | None:
        """In Redis."""
        owner = ids.owner_digest(CLIENT, self.name)
        shard = self.till.event.shard
        found = await self.till.office.shards[shard].redis.hget(keys.rates(shard), owner)  # type: ignore[misc]
        return None if found is None else int(found)


@pytest.fixture
async def till_of(till: Till) -> Till:
    await till.office.catalogue.refresh()
    return till


@pytest.mark.parametrize("most", [1, 2, 5])
async def test_a_customer_may_ask_so_often(till_of: Till, most: int) -> None:
    """Of one process exactly so often, the first of them uncounted; and is told so."""
    ada = Customer(till_of, most)
    answers = [await ada.ask() for _ in range(most + 2)]
    assert [type(answer) for answer in answers] == [Admitted] * most + [RateLimited] * 2
    assert await ada.counted() == (most - 1 or None)
    refused = answers[-1]
    assert isinstance(refused, RateLimited) and refused.details["limit"] == most
    assert isinstance(await Customer(till_of, most, "bob").ask(), Admitted)


async def test_who_comes_once_is_counted_nowhere(till_of: Till) -> None:
    """Nor is whoever has no limit, however often."""
    ada, bob = Customer(till_of, 3), Customer(till_of, None, "bob")
    await ada.ask()
    for _ in range(3):
        await bob.ask()
    assert (await ada.counted(), await bob.counted()) == (None, None)


async def test_a_repeat_is_no_booking(till_of: Till) -> None:
    """Neither the first that a process sees, nor later ones: not even when it is for another request."""
    ada = Customer(till_of, 1)
    assert isinstance(await ada.ask(key=9), Admitted)
    window = till_of.office.admission.windows[till_of.event.shard]
    window.newcomers.at(0.0, 0, WINDOW_S)  # as in another process, or another window
    for _ in range(3):
        again = await ada.ask(key=9)
        assert isinstance(again, Admitted) and again.replayed
    assert isinstance(await ada.ask(key=9, GA=2), KeyReused)
    assert isinstance(await ada.ask(), Admitted)
    assert isinstance(await ada.ask(), RateLimited)


async def test_a_refusal_counts(till_of: Till) -> None:
    """The first of them, too: whoever asks for what is sold out, or at another price."""
    for name, wanted, refusal in (
        ("ada", {"GA": 10_000}, SoldOut),
        ("bob", {"expected_amount_cents": 1}, PriceChanged),
    ):
        customer = Customer(till_of, 2, name)
        answers = [await customer.ask(**wanted) for _ in range(3)]
        assert [type(answer) for answer in answers] == [refusal, refusal, RateLimited]


async def test_what_nobody_could_say_is_no_attempt(till_of: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same booking, sent again after a 503, is the first."""
    ada = Customer(till_of, 1)
    window = till_of.office.admission.windows[till_of.event.shard]
    with monkeypatch.context() as away:

        async def fails(*_: Any) -> Any:
            raise StoreAway

        away.setattr(window, "send", fails)
        assert isinstance(await ada.ask(key=7), StoreAway)
    with monkeypatch.context() as broken:

        async def breaks(*_: Any) -> Any:
            raise ValueError

        broken.setattr(window, "send", breaks)
        assert isinstance(await ada.ask(key=7), StoreAway)
    assert isinstance(await ada.ask(key=7), Admitted)
    assert isinstance(await ada.ask(), RateLimited)


async def test_who_was_sent_away_in_a_flood_has_not_come(settings: Settings, till: Till) -> None:
    flooded = settings.model_copy(update={"api": settings.api.model_copy(update={"waiting_max": 1, "burst_s": 0.0})})
    async with open_box_office(flooded) as office:
        await office.catalogue.refresh()
        told: list[Any] = []
        for n in range(3):
            who = order(till.event, customer=f"c{n}", GA=1)
            office.admission.submit(CLIENT, who, f"{n:032x}", told.append, may(1))
        await office.admission.close()
        assert [type(answer) for answer in told] == [Overloaded, Overloaded, Admitted]
        again = await office.admission.ask(CLIENT, order(till.event, customer="c2", GA=1), "2" * 32, may(1))
        assert isinstance(again, Admitted)


async def test_each_further_process_lets_one_more_through(settings: Settings, till_of: Till) -> None:
    """No more: what they count, they count together."""
    async with open_box_office(settings) as second:
        await second.catalogue.refresh()
        offices = (till_of.office, second)
        answers = [
            await offices[n % 2].admission.ask(CLIENT, order(till_of.event, customer="ada", GA=1), f"{n:032x}", may(3))
            for n in range(10)
        ]
    assert [isinstance(answer, Admitted) for answer in answers] == [True] * 4 + [False] * 6


def test_in_a_new_window_all_are_new() -> None:
    """When the process's clock says that it has come, and when Redis's does, whichever is first."""
    seen = Newcomers()
    assert seen.is_new("ada", 5.0) and not seen.is_new("ada", 1e9)
    seen.at(100.0, 75_500, 60)  # 44.5 seconds are left
    assert not seen.is_new("ada", 144.4) and seen.is_new("bob", 144.4)
    assert seen.is_new("ada", 144.5) and seen.is_new("bob", 144.5) and not seen.is_new("bob", 144.6)
    seen.at(144.6, 119_999, 60)
    assert not seen.is_new("ada", 144.6)
    seen.at(144.6, 120_000, 60)
    assert seen.is_new("ada", 144.6) and not seen.is_new("ada", 204.5)
    seen.forget("ada")
    assert seen.is_new("ada", 204.5)
    assert seen.is_new("ada", 204.7)


def test_beyond_so_many_customers_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "NEWCOMERS_MAX", 2)
    seen = Newcomers()
    assert [seen.is_new(name, 1.0) for name in ("ada", "bob", "cyd", "ada")] == [True, True, False, False]
