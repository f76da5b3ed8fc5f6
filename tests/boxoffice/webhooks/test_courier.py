"""What one endpoint hears: all of it, in time, once or more, and under ids that stay."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest
from standardwebhooks import Webhook

from boxoffice.notices.cursors import Cursor
from boxoffice.notices.reading import Notices
from boxoffice.settings import Settings
from boxoffice.webhooks import leases
from boxoffice.webhooks.courier import Courier
from boxoffice.webhooks.couriers import Couriers
from boxoffice.webhooks.sending import Sender
from tests.boxoffice.webhooks.conftest import OTHER_TYPE, TYPE, Desk
from tests.support.endpoint import Heard, answer
from tests.support.shop.orders import CLIENT, OTHER


async def test_a_shop_hears_of_what_happens_from_now_on(desk: Desk) -> None:
    await desk.happens(2)
    await desk.subscribe()
    assert await desk.go() == 0
    wanted = await desk.happens(3)
    assert await desk.go() == 1
    assert sorted(desk.endpoint.ids) == sorted(wanted)
    assert await desk.go() == 0, "once is enough"


async def test_or_of_all_that_is_kept(desk: Desk) -> None:
    wanted = await desk.happens(2)
    await desk.subscribe(from_start=True)
    await desk.go()
    assert sorted(desk.endpoint.ids) == sorted(wanted)


async def test_a_body_is_small_and_signed(desk: Desk) -> None:
    await desk.subscribe()
    (wanted,) = await desk.happens()
    await desk.go()
    (heard,) = desk.endpoint.heard
    body = Webhook(desk.secret).verify(heard.body, heard.headers)
    assert body.pop("timestamp").endswith("Z")
    assert body == {"id": wanted, "type": TYPE, "event_id": None, "booking_id": None, "data": {"number": 0}}


async def test_of_its_own_shop_and_of_the_types_that_it_chose(desk: Desk) -> None:
    await desk.subscribe(types=[TYPE])
    await desk.happens(2, client=OTHER)
    await desk.happens(2, kind=OTHER_TYPE)
    (wanted,) = await desk.happens(1)
    await desk.happens(1, kind=OTHER_TYPE)
    await desk.go()
    assert desk.endpoint.ids == [wanted]
    assert await desk.go() == 0, "what it does not want is passed over"


async def test_more_than_a_round(desk: Desk) -> None:
    await desk.subscribe()
    wanted = await desk.happens(50)
    await desk.go()
    assert sorted(desk.endpoint.ids) == sorted(wanted)
    assert [each["status"] for each in await desk.log()] == ["delivered"] * 50
    row = await desk.row()
    assert row["leased_until"] is None and not row["behind"] and row["delivered_at"] is not None


async def test_what_failed_is_tried_again_under_the_same_id_and_with_the_same_body(desk: Desk) -> None:
    await desk.subscribe()
    desk.endpoint.behave = answer(500)
    (wanted,) = await desk.happens()
    await desk.go()
    (waiting,) = await desk.log()
    assert (waiting["status"], waiting["tries"], waiting["failure"], waiting["answer"]) == ("waiting", 1, "status", 500)
    assert await desk.go() == 0, "not at once"
    desk.endpoint.behave = answer(200)
    await desk.let_pass(60)
    await desk.go()
    first, second = desk.endpoint.heard
    assert first.id == second.id == wanted and first.body == second.body
    (delivered,) = await desk.log()
    assert (delivered["status"], delivered["tries"], delivered["failure"]) == ("delivered", 2, None)


async def test_an_endpoint_that_is_away_for_a_while_misses_nothing(desk: Desk) -> None:
    """And costs next to nothing meanwhile: one new notice a look, and one that waits."""
    await desk.subscribe()
    desk.endpoint.behave = answer(503)
    wanted = await desk.happens(40)
    for _ in range(5):
        await desk.go()
        await desk.let_pass(60)
    assert len(desk.endpoint.heard) < 14
    desk.endpoint.behave = answer(204)
    desk.endpoint.heard.clear()
    while await desk.go():
        pass
    assert set(desk.endpoint.ids) == set(wanted)
    assert {each["status"] for each in await desk.log()} == {"delivered"}


async def test_a_notice_that_it_never_takes_holds_up_no_other(desk: Desk) -> None:
    await desk.subscribe()
    poison = (await desk.happens())[0]

    async def picky(writer: asyncio.StreamWriter, heard: Heard) -> None:
        await answer(500 if heard.id == poison else 204)(writer, heard)

    desk.endpoint.behave = picky
    await desk.go()
    for _ in range(4):
        await desk.let_pass(60)
        await desk.go()
        wanted = await desk.happens(3)
        await desk.go()
        assert set(wanted) <= set(desk.endpoint.ids)
    by_status = {each["notice_id"]: each["status"] for each in await desk.log()}
    assert by_status.pop(poison) == "waiting" and set(by_status.values()) == {"delivered"}


async def test_after_three_days_a_delivery_is_given_up_and_may_be_sent_anew(desk: Desk) -> None:
    await desk.subscribe()
    desk.endpoint.behave = answer(500)
    (wanted,) = await desk.happens()
    await desk.go()
    await desk.let_pass(desk.office.settings.webhooks.give_up_s + 1)
    await desk.go()
    (given_up,) = await desk.log()
    assert (given_up["status"], given_up["next_at"]) == ("given_up", None)
    desk.endpoint.behave = answer(200)
    await desk.let_pass(60)
    assert await desk.office.endpoints.redeliver(CLIENT, desk.id, notice=wanted) == 1
    await desk.go()
    assert desk.endpoint.ids[-1] == wanted
    assert [each["status"] for each in await desk.log()] == ["delivered"]


async def test_one_that_wants_no_more_is_disabled_and_the_shop_is_told(desk: Desk) -> None:
    await desk.subscribe()
    before = await desk.office.notices.head()
    desk.endpoint.behave = answer(410)
    await desk.happens(3)
    await desk.go()
    shown = await desk.office.endpoints.one(CLIENT, desk.id)
    assert (shown["status"], shown["disabled_reason"]) == ("disabled", "gone")
    await desk.office.notices.number()
    told = (await desk.office.notices.after(CLIENT, before, types=["webhook_endpoint.disabled"])).notices
    assert [dict(notice.data) for notice in told] == [{"endpoint_id": desk.id, "reason": "gone"}]
    await desk.let_pass(60)
    assert await desk.go() == 0


async def test_one_that_takes_nothing_for_days_is_disabled_and_loses_nothing(desk: Desk) -> None:
    await desk.subscribe()
    desk.endpoint.behave = answer(500)
    wanted = await desk.happens(3)
    await desk.go()
    await desk.let_pass(desk.office.settings.webhooks.disable_after_s + 1)
    await desk.go()
    shown = await desk.office.endpoints.one(CLIENT, desk.id)
    assert (shown["status"], shown["disabled_reason"]) == ("disabled", "failing")
    wanted += await desk.happens(2)
    desk.endpoint.behave = answer(204)
    desk.endpoint.heard.clear()
    await desk.office.endpoints.change(CLIENT, desk.id, status="enabled")
    await desk.office.endpoints.redeliver(CLIENT, desk.id, notice=wanted[0])
    await desk.office.endpoints.redeliver(CLIENT, desk.id, since=datetime(2000, 1, 1, tzinfo=UTC), status="given_up")
    while await desk.go():
        pass
    assert set(wanted) <= set(desk.endpoint.ids)


async def test_one_whose_place_is_gone_begins_at_the_oldest_though_that_goes_meanwhile(
    desk: Desk, settings: Settings
) -> None:
    class Trimmed(Notices):
        """Of what it says is the oldest the first time, a part is gone when it is read."""

        asked = 0

        async def start(self, client_id: str | None = None) -> Cursor:
            self.asked += 1
            found = await super().start(client_id)
            return found._replace(position=found.position - 1) if self.asked == 1 else found

    await desk.subscribe()
    wanted = await desk.happens(3)
    database = desk.office.database
    await database.execute("UPDATE webhook_endpoints SET position = -5, behind = true WHERE id = $1", desk.id)
    couriers = Couriers(database, notices := Trimmed(database), settings.webhooks)
    assert await desk.go(couriers) == 1
    await couriers.close()
    assert notices.asked == 2 and set(wanted) <= set(desk.endpoint.ids)


async def test_a_pause_that_it_asks_for_is_kept(desk: Desk) -> None:
    await desk.subscribe()
    settings = desk.office.settings.webhooks
    desk.endpoint.behave = answer(429, "Retry-After: 3600")
    await desk.happens(5)
    await desk.go()
    row = await desk.office.database.fetchrow(
        "SELECT extract(epoch FROM paused_until - now())::float8 AS for_s FROM webhook_endpoints WHERE id = $1", desk.id
    )
    assert settings.retry_max_s / 2 < row["for_s"] <= settings.retry_max_s, "no longer than we let anybody ask for"


async def test_a_batch_of_changes_in_one_row_is_heard_whole(desk: Desk) -> None:
    """Also when the endpoint went away in the middle of it, and nothing else happens."""
    await desk.subscribe()
    bookings = [uuid4() for _ in range(20)]
    await desk.office.database.execute(
        "INSERT INTO notices (client_id, type, size, bookings, details) VALUES ($1, 'booking.confirmed', 20, $2, '{}')",
        CLIENT, bookings,
    )  # fmt: skip

    async def some(writer: asyncio.StreamWriter, heard: Heard) -> None:
        await answer(204 if len(desk.endpoint.heard) < 6 or len(desk.endpoint.heard) > 8 else 503, "Retry-After: 9")(
            writer, heard
        )

    desk.endpoint.behave = some
    await desk.go()
    assert len(desk.endpoint.heard) < 20
    for _ in range(30):
        await desk.let_pass(60)
        await desk.go()
    assert {heard.notice["booking_id"] for heard in desk.endpoint.heard} == {str(each) for each in bookings}
    assert await desk.go() == 0


async def test_a_row_that_was_left_in_the_middle_is_gone_on_with(desk: Desk, settings: Settings) -> None:
    """Nothing failed and nothing else happens: only the endpoint itself says that there is more."""
    await desk.subscribe()
    bookings = [uuid4() for _ in range(6)]
    await desk.office.database.execute(
        "INSERT INTO notices (client_id, type, size, bookings, details) VALUES ($1, 'booking.confirmed', 6, $2, '{}')",
        CLIENT, bookings,
    )  # fmt: skip
    hangs = asyncio.Event()

    async def third_hangs(writer: asyncio.StreamWriter, heard: Heard) -> None:
        if len(desk.endpoint.heard) >= 3:
            hangs.set()
            await asyncio.Event().wait()
        await answer(204)(writer, heard)

    desk.endpoint.behave = third_hangs
    await desk.office.couriers.look()
    await asyncio.wait_for(hangs.wait(), 20)
    await desk.office.couriers.stop()
    desk.endpoint.behave = answer(204)
    others = Couriers(desk.office.database, desk.office.notices, settings.webhooks)
    assert await desk.go(others) == 1
    await others.close()
    assert {heard.notice["booking_id"] for heard in desk.endpoint.heard} == {str(each) for each in bookings}


async def test_whoever_has_lost_the_lease_writes_nothing(desk: Desk, settings: Settings) -> None:
    """Another has it by then, and would be set back."""
    await desk.subscribe()
    await desk.happens(3)
    office = desk.office
    (claimed,) = await leases.claim(office.database, slow=False, most=1, lease_s=60)
    await desk.let_pass(120)
    assert await desk.go() == 1, "it lapsed"
    place = (await desk.row())["position"]
    sender = Sender(settings.webhooks)
    with pytest.raises(leases.LeaseLost):
        await Courier(claimed, office.database, office.notices, sender, settings.webhooks, office.clock).run()
    await sender.close()
    assert (await desk.row())["position"] == place
    assert len(desk.endpoint.heard) == 6, "twice, and never less than once"
    assert [each["tries"] for each in await desk.log()] == [1, 1, 1]


async def test_what_waits_is_sent_at_once_when_an_endpoint_is_back(desk: Desk) -> None:
    await desk.subscribe()
    desk.endpoint.behave = answer(500)
    (first,) = await desk.happens()
    await desk.go()
    await desk.office.database.execute("UPDATE webhook_deliveries SET next_at = now() + interval '1 hour'")
    desk.endpoint.behave = answer(204)
    (second,) = await desk.happens()
    await desk.office.database.execute("UPDATE webhook_endpoints SET paused_until = NULL")
    while await desk.go():
        pass
    assert desk.endpoint.ids == [first, second, first]


async def test_a_worker_that_ends_writes_down_what_it_knows(desk: Desk) -> None:
    """What it was waiting for is sent again by the next one, at once."""
    await desk.subscribe()
    hangs = asyncio.Event()

    async def third_hangs(writer: asyncio.StreamWriter, heard: Heard) -> None:
        if len(desk.endpoint.heard) >= 3:
            hangs.set()
            await asyncio.Event().wait()
        await answer(204)(writer, heard)

    desk.endpoint.behave = third_hangs
    wanted = await desk.happens(6)
    await desk.office.couriers.look()
    await asyncio.wait_for(hangs.wait(), 20)
    await desk.office.couriers.stop()
    row = await desk.row()
    assert row["leased_until"] is None and row["behind"]
    assert [each["notice_id"] for each in await desk.log()] == wanted[: len(await desk.log())]
    assert len(await desk.log()) >= 1
    assert msgspec.json.decode(desk.endpoint.heard[0].body)["id"] == wanted[0]
