"""A ticket that an allocated shop sells on an allocated code counts for both, as long as it lives: whatever becomes of it,
neither keeps a count too many, and nobody is oversold (decision 44)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from boxoffice import ids
from boxoffice.books.moves import apply_moves
from boxoffice.errors import SoldOut
from boxoffice.office import BoxOffice
from boxoffice.sales.allocations import Holder
from boxoffice.sales.codes import CodeTerms
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker, counters, load_all
from tests.support.calling_off import work_off
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER, tier_of

EACH, TICKETS, TOTAL = 5, 3, 20
"""Tickets of each allocation, of the booking that counts for both, and of the tier."""


@dataclass
class Both:
    """A shop and a code, each with an allocation of five of twenty."""

    till: Till
    code: str
    allocations: tuple[str, str]
    """The shop's, and the code's."""

    async def books(self, token: str | None = "tok_ok") -> str:
        """Three, sold by the shop on the code."""
        return await self.till.book(token, GA=TICKETS, client=OTHER, access_code=self.code)

    async def bought(self) -> str:
        booking = await self.books()
        await self.till.rest()
        return booking

    async def cancels(self, booking: str) -> None:
        await self.till.office.cancellations.cancel(OTHER, booking)
        await self.till.rest()

    async def numbers(self) -> list[tuple[int, int, int]]:
        """Of the shop's, then the code's: used, reserved and lacking."""
        found = [await self.till.office.allocations.one(self.till.event.id, one) for one in self.allocations]
        assert [each["tickets"] for each in found] == [EACH, EACH]
        return [(each["used"], each["reserved"], each["lacking"]) for each in found]

    async def left(self) -> int:
        """For everybody."""
        catalogue = self.till.office.catalogue
        await catalogue.read()
        return (await catalogue.availability(await catalogue.event(self.till.event.id), ""))[0]

    async def take(self, tickets: int, **who: str) -> None:
        """So many are there for them, and not one more."""
        if tickets:
            await self.till.book(GA=tickets, **who)
        with pytest.raises(SoldOut):
            await self.till.book(GA=1, **who)


@pytest.fixture
async def both(office: BoxOffice, open_sale: SaleMaker) -> Both:
    await load_all(office)
    event = await open_sale(GA=TOTAL)
    (code,) = await office.codes.create(event.id, CodeTerms(12))
    made = [
        await office.allocations.create(event.id, tier_of(event, "GA"), holder, EACH)
        for holder in (Holder(shop=OTHER), Holder(code=code["id"]))
    ]
    return Both(Till(office, event), code["code"], (made[0]["id"], made[1]["id"]))


async def held(both: Both) -> None:
    await both.books(None)


async def pending(both: Both) -> None:
    await both.books()


async def bought(both: Both) -> None:
    await both.bought()


async def hold_cancelled(both: Both) -> None:
    await both.cancels(await both.books(None))


async def hold_expired(both: Both) -> None:
    await both.till.time_is_up(await both.books(None))
    await both.till.office.holds.expire(SHARD)


async def declined(both: Both) -> None:
    await both.books("tok_card_declined")
    await both.till.rest()


async def cancelled(both: Both) -> None:
    await both.cancels(await both.bought())


async def cancelled_and_heard_of_twice(both: Both) -> None:
    """Whoever told Redis died before it was marked."""
    await cancelled(both)
    office = both.till.office
    await (await office.pool()).execute("UPDATE stock_moves SET applied_at = NULL")
    assert await apply_moves(office.shards[SHARD], office.database) == 1


async def one_refunded(both: Both) -> None:
    booking, event = await both.bought(), both.till.event
    await both.till.office.refunds.refund(OTHER, booking, ids.digest("r"), {tier_of(event, "GA"): 1}, "test")
    await both.till.rest()


async def two_given_up(both: Both) -> None:
    await both.till.change(await both.books(None), client=OTHER, GA=1)


async def counted_anew(both: Both) -> None:
    await both.bought()
    office, event = both.till.office, both.till.event
    await office.redis.delete(keys.shops(SHARD, event.id), keys.owned_tiers(SHARD, event.id))
    await office.redis.hset(keys.shops(SHARD, event.id), f"{OTHER}:{tier_of(event, 'GA')}", 9)  # type: ignore[misc]
    await office.reconcilers[SHARD].event(event.id, fix=True, owned=True)


async def rebuilt(both: Both) -> None:
    await both.bought()
    await both.till.office.redis.flushdb()
    await both.till.office.rebuilders[SHARD].rebuild()


STILL_HAS: dict[Callable[[Both], Awaitable[None]], int] = {
    held: 3, pending: 3, bought: 3, counted_anew: 3, rebuilt: 3, one_refunded: 2, two_given_up: 1,
    hold_cancelled: 0, hold_expired: 0, declined: 0, cancelled: 0, cancelled_and_heard_of_twice: 0,
}  # fmt: skip


@pytest.mark.parametrize("happens", STILL_HAS, ids=lambda happens: happens.__name__)
async def test_it_counts_for_both_as_long_as_it_lives(
    office: BoxOffice, both: Both, happens: Callable[[Both], Awaitable[None]]
) -> None:
    """Released one after the other, they leave everything but what lives to everybody."""
    await happens(both)
    has = STILL_HAS[happens]
    assert await both.numbers() == [(has, EACH - has, 0)] * 2
    assert await both.left() == TOTAL - has - 2 * (EACH - has)
    shop, code = both.allocations
    await office.allocations.release(both.till.event.id, shop)
    assert await both.left() == TOTAL - has - (EACH - has)
    await office.allocations.release(both.till.event.id, code)
    assert await both.left() == TOTAL - has
    await both.take(TOTAL - has)
    assert (await counters(office, both.till.event, "GA")).available == 0


@pytest.mark.parametrize("happens", [bought, two_given_up, cancelled], ids=lambda happens: happens.__name__)
async def test_everybody_has_what_is_theirs_and_no_more(
    office: BoxOffice, both: Both, happens: Callable[[Both], Awaitable[None]]
) -> None:
    """Those without an allocation first: what is reserved is there for the others."""
    await happens(both)
    has = STILL_HAS[happens]
    await both.take(TOTAL - has - 2 * (EACH - has))
    await both.take(EACH - has, client=OTHER)
    await both.take(EACH - has, client=CLIENT, access_code=both.code)
    assert (await counters(office, both.till.event, "GA")).available == 0
    assert await both.numbers() == [(EACH, 0, 0)] * 2
    await both.till.at_rest()


@pytest.mark.parametrize("first", [OTHER, CLIENT])
async def test_what_comes_back_of_both_is_promised_twice_and_sold_once(
    office: BoxOffice, both: Both, first: str
) -> None:
    """Nothing is left for anybody else by then: three tickets lack, until one of the two has taken its own."""
    booking = await both.bought()
    await both.take(TOTAL - TICKETS - 2 * (EACH - TICKETS))
    await both.cancels(booking)
    assert await both.numbers() == [(0, EACH, TICKETS)] * 2
    assert await both.left() == 0
    with_code = {CLIENT: {"access_code": both.code}, OTHER: {}}
    for client, tickets in ((first, EACH), (OTHER if first == CLIENT else CLIENT, 2 * EACH - TICKETS - EACH)):
        await both.take(tickets, client=client, **with_code[client])
    assert (await counters(office, both.till.event, "GA")).available == 0
    await both.till.at_rest()


async def test_an_event_that_is_called_off_leaves_no_count(office: BoxOffice, both: Both) -> None:
    for token in ("tok_ok", None):
        await both.till.book(token, GA=1, client=OTHER, access_code=both.code)
    await both.till.rest()
    await both.books()
    assert await both.numbers() == [(5, 0, 0)] * 2
    await office.calling_off.call_off(both.till.event.id, "Rain")
    await work_off(both.till)
    assert await both.numbers() == [(0, EACH, 0)] * 2
    assert (await counters(office, both.till.event, "GA")).available == TOTAL
    await both.till.at_rest()
