"""What the demo shop is given: keys with no more rights than they need, and events of each kind; again and again the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.loading import read_events
from boxoffice.settings import Settings
from ops.seed import DEMO_CLIENT, DEMO_KEY, NAME, seed
from ops.seed_shop import BROWSE_KEY, SHOP_EVENTS, SHOP_KEY, origins_of
from tests.support.shop.office import book

URL = "http://127.0.0.1:8080"


async def events_of(office: BoxOffice) -> list[EventView]:
    async with office.database.reader() as connection:
        return [found.view for found in await read_events(connection) if found.view.client == DEMO_CLIENT]


async def keys_of(office: BoxOffice) -> list[dict[str, Any]]:
    return [row for row in await office.access.api_keys(DEMO_CLIENT) if row["prefix"] != DEMO_KEY.partition(".")[0]]


async def test_a_shop_has_two_keys_with_what_they_need(office: BoxOffice, settings: Settings) -> None:
    await seed(settings, demo_key=True, shop_url=URL)
    prefixes = [(settings.data_dir / name).read_text().partition(".")[0] for name in (BROWSE_KEY, SHOP_KEY)]
    assert all((settings.data_dir / name).stat().st_mode & 0o777 == 0o600 for name in (BROWSE_KEY, SHOP_KEY))
    keys = {row["prefix"]: (set(row["scopes"]), row["origins"]) for row in await keys_of(office)}
    assert keys == {
        prefixes[0]: ({"browse"}, [URL, "http://localhost:8080"]),
        prefixes[1]: ({"read", "book", "refund"}, []),
    }
    (shop,) = [row for row in await office.access.clients() if row["id"] == DEMO_CLIENT]
    assert shop["return_urls"] == [URL, "http://localhost:8080"]


async def test_a_second_run_changes_nothing_but_the_next_opening(office: BoxOffice, settings: Settings) -> None:
    await seed(settings, demo_key=True, shop_url=URL)
    before, keys = await events_of(office), await office.access.history(client_id=DEMO_CLIENT)
    organ = next(event for event in before if event.name == "Late Night Organ")
    await office.control.change_event(organ.id, on_sale_at=datetime.now(UTC) - timedelta(hours=1))
    await book(office, next(event for event in before if event.name == NAME), client=DEMO_CLIENT, GA=2)

    await seed(settings, demo_key=True, shop_url=URL)

    after = await events_of(office)
    assert [event.id for event in after] == [event.id for event in before]
    opens = next(event for event in after if event.id == organ.id)
    assert not opens.in_window(opens.tiers[0], datetime.now(UTC).timestamp())
    assert opens.in_window(opens.tiers[0], datetime.now(UTC).timestamp() + 181)
    made = [row for row in await office.access.history(client_id=DEMO_CLIENT) if row["prefix"] != "demo"]
    assert made == [row for row in keys if row["prefix"] != "demo"], "the same keys, which nobody touched"


async def test_a_shop_at_another_port_has_its_page_let_in(office: BoxOffice, settings: Settings) -> None:
    for n in range(12):
        await seed(settings, demo_key=False, shop_url=f"http://127.0.0.1:{9_000 + n}")
    (shop,) = [row for row in await office.access.clients() if row["id"] == DEMO_CLIENT]
    assert (
        shop["return_urls"][-2:] == ["http://127.0.0.1:9011", "http://localhost:9011"]
        and len(shop["return_urls"]) == 20
    )
    (browse,) = [row for row in await keys_of(office) if row["scopes"] == ["browse"]]
    assert browse["origins"] == ["http://127.0.0.1:9011", "http://localhost:9011"]


async def test_there_is_something_of_each_kind(office: BoxOffice, settings: Settings) -> None:
    """And the example of the README stays the first of every list."""
    await seed(settings, demo_key=True, shop_url=URL)
    events = await events_of(office)
    assert [event.name for event in sorted(events, key=lambda event: event.starts_ms)] == [
        NAME, *(event.name for event in SHOP_EVENTS)
    ]  # fmt: skip
    now = datetime.now(UTC).timestamp()
    on_sale = [event.name for event in events if event.in_window(event.tiers[0], now)]
    assert sorted(on_sale) == sorted([NAME, "The Smallest Stage"])
    jazz = next(event for event in events if event.name == "Himalayan Jazz Weekend")
    (code,) = await office.codes.page(jazz.id)
    assert (code["tickets"], code["tier_id"], code["revoked_at"]) == (100, None, None)


def test_a_shop_elsewhere_has_one_name() -> None:
    assert origins_of("https://shop.example") == ("https://shop.example",)
