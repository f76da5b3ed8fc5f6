"""A worker's rounds with the least rights, over what others admitted: nothing is refused."""

from __future__ import annotations

from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.webhooks.endpoints import Endpoints
from tests.conftest import SHARD, SaleMaker
from tests.support.calling_off import work_off
from tests.support.endpoint import ALLOWED, answer, at_endpoint
from tests.support.least import LeastRights
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT, tier_of
from worker.rounds import Rounds
from worker.stop import Stop


async def test_no_round_is_refused(
    office: BoxOffice, open_sale: SaleMaker, settings: Settings, least_rights: LeastRights
) -> None:
    event = await open_sale(GA=30)
    shop = Till(office, event)
    least_rights.refusals()
    local = settings.webhooks.model_copy(update=ALLOWED)
    settings = settings.model_copy(update={"webhooks": local})
    own = settings.model_copy(update=least_rights.urls("worker", settings))
    async with open_box_office(own, redis_retries=3) as worker, at_endpoint() as endpoint:
        till, rounds = Till(worker, event), Rounds(worker, worker.shards, Stop())
        sold, parked = await shop.book(GA=2), await shop.book(GA=1)
        hold = await shop.hold(GA=1)
        await office.redis.set(keys.booking(SHARD, parked), b"nonsense")
        await rounds.sweep(SHARD)
        await shop.book("tok_declined", GA=1)
        await till.rest_bookings()
        await shop.time_is_up(hold)
        await rounds.sweep(SHARD)
        counted = keys.event(SHARD, event.id)
        await office.redis.hincrby(counted, f"a:{tier_of(event, 'GA')}", -3)
        await office.redis.hincrby(counted, f"h:{tier_of(event, 'GA')}", 3)
        await rounds.count_drift(SHARD)
        await rounds.mend(SHARD)
        await worker.repair.reconcile(event=event.id, fix=True, accept_postgres=False)
        _ = [each async for each in worker.payments_audit.run(fix=True, grace_s=0)]
        await office.redis.flushdb()
        await worker.guards[SHARD].tick()
        await worker.rebuilders[SHARD].rebuild()
        await worker.guards[SHARD].load()
        await rounds.watch()
        await rounds.beat(SHARD)
        made = await Endpoints(office.database, office.notices, local).create(CLIENT, endpoint.url, from_start=True)
        await rounds.notify_shops()
        await worker.couriers.at_rest()
        assert endpoint.heard
        endpoint.behave = answer(410)
        await office.endpoints.rotate(CLIENT, made["id"], 60)
        await office.endpoints.redeliver(CLIENT, made["id"], notice=endpoint.ids[0])
        await rounds.notify_shops()
        await worker.couriers.at_rest()
        assert (await office.endpoints.one(CLIENT, made["id"]))["disabled_reason"] == "gone"
        await rounds.trim_rows()
        await office.calling_off.call_off(event.id, "flood")
        await work_off(till)
        assert await till.state(sold)
    assert least_rights.refusals() == []
