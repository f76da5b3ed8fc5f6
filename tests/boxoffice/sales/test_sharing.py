"""Which shops sell an event, as it is written, mirrored and remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from boxoffice.errors import Malformed, NotFound
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import Catalogue, EventView
from boxoffice.sales.control import Actor
from boxoffice.sales.store import NewTier
from boxoffice.stores import keys
from tests.conftest import CLIENT, SHARD, SaleMaker, load_all
from tests.support.shop.orders import OTHER


@pytest.fixture
async def event(office: BoxOffice) -> EventView:
    """Of one shop alone."""
    starts = datetime.now(UTC) + timedelta(days=30)
    return await office.store.create_event(CLIENT, "Concert", starts, "USD", [NewTier("GA", 1_000, 10)])


async def mirrored(office: BoxOffice, event: EventView) -> EventView:
    raw = await office.redis.hget(keys.catalogue(SHARD), event.id)  # type: ignore[misc]
    return msgspec.json.decode(raw or b"", type=EventView)


@pytest.mark.parametrize(
    ("client", "shops", "sells"),
    [("a", (), True), ("b", (), False), ("b", ("c", "b"), True), ("b", ("c",), False), ("c", ("c",), True)],
)
def test_an_event_is_sold_by_its_owner_and_those_it_is_shared_with(
    client: str, shops: tuple[str, ...], sells: bool
) -> None:
    view = EventView("id", "Name", "2030", 7, "active", "EUR", 1, 4, (), client="a", shops=shops)
    assert view.sold_by(client) is sells


def test_what_a_version_before_wrote_is_sold_by_all_until_it_is_loaded_again() -> None:
    assert EventView("id", "Name", "2030", 7, "active", "EUR", 1, 4, ()).sold_by("anybody")


async def test_an_event_is_shared_and_taken_back(office: BoxOffice, event: EventView) -> None:
    """Each in one step with its mirror, and each remembered; asked for again, nothing changes."""
    assert (event.client, event.shops) == (CLIENT, ())
    for _ in range(2):
        shared = await office.sharing.share(event.id, OTHER, Actor("operator:ada"))
        assert (shared.shops, shared.version) == ((OTHER,), event.version + 1)
        assert await mirrored(office, event) == shared
    for _ in range(2):
        back = await office.sharing.unshare(event.id, OTHER, Actor("operator:bob"))
        assert (back.shops, back.version) == ((), event.version + 2)
        assert await mirrored(office, event) == back
    rows = await office.control.history(event.id)
    assert [(row["action"], row["changed_by"], row["changes"]) for row in rows[:2]] == [
        ("unshare", "operator:bob", {"shop": {"from": OTHER, "to": None}}),
        ("share", "operator:ada", {"shop": {"from": None, "to": OTHER}}),
    ]
    assert len(rows) == 3


async def test_only_another_shop_that_there_is_gets_an_event(office: BoxOffice, event: EventView) -> None:
    with pytest.raises(Malformed, match="own"):
        await office.sharing.share(event.id, CLIENT)
    with pytest.raises(NotFound, match="client"):
        await office.sharing.share(event.id, "nobody")
    with pytest.raises(NotFound, match="event"):
        await office.sharing.share("nothing", OTHER)
    with pytest.raises(NotFound, match="event"):
        await office.sharing.share(event.id, OTHER, Actor("key:other", OTHER))
    assert (await office.store.event(event.id)).version == event.version


async def test_the_shops_of_one_event_are_no_others(office: BoxOffice, event: EventView, open_sale: SaleMaker) -> None:
    """Read in one order, so that a load finds nothing changed; what is shared by hand, the next load brings."""
    shared = await open_sale(GA=1)
    await office.access.create_client("Third", client_id="a-third")
    both = await office.sharing.share(shared.id, "a-third")
    assert both.shops == tuple(sorted(("a-third", OTHER)))
    assert (await office.store.event(event.id)).shops == ()
    assert (await office.loader.load(SHARD)).events == ()
    await (await office.pool()).execute("DELETE FROM event_shares WHERE client_id = $1", OTHER)
    await load_all(office)
    assert (await mirrored(office, shared)).shops == ("a-third",)


async def test_a_process_that_has_seen_the_event_hears_of_it(office: BoxOffice, event: EventView) -> None:
    catalogue = Catalogue(office.shards, office.settings)
    await load_all(office)
    await catalogue.read()
    assert not (await catalogue.event(event.id)).sold_by(OTHER)
    await office.sharing.share(event.id, OTHER)
    await catalogue.read()
    assert (await catalogue.event(event.id)).sold_by(OTHER)
