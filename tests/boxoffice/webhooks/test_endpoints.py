"""Secrets of an endpoint: which sign, which are kept; and what of old rows goes. The rest is tried over HTTP."""

from __future__ import annotations

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from boxoffice.errors import NotFound
from boxoffice.webhooks.trimming import trim
from tests.boxoffice.webhooks.conftest import Desk
from tests.support.shop.orders import CLIENT


async def signs(desk: Desk, secret: str) -> bool:
    """Whether what is sent now is signed with it."""
    await desk.happens()
    await desk.go()
    heard = desk.endpoint.heard[-1]
    try:
        Webhook(secret).verify(heard.body, heard.headers)
    except WebhookVerificationError:
        return False
    return True


async def test_while_a_secret_is_replaced_both_sign(desk: Desk) -> None:
    await desk.subscribe()
    endpoints = desk.office.endpoints
    first = desk.secret
    second = (await endpoints.rotate(CLIENT, desk.id, 3_600))["secret"]
    assert await signs(desk, first) and await signs(desk, second)
    await desk.office.database.execute("UPDATE webhook_secrets SET before_until = now() WHERE before_until IS NOT NULL")
    assert not await signs(desk, first) and await signs(desk, second)
    third = (await endpoints.rotate(CLIENT, desk.id, 0))["secret"]
    assert not await signs(desk, second) and await signs(desk, third)


async def test_of_three_secrets_the_oldest_signs_no_more(desk: Desk) -> None:
    await desk.subscribe()
    first = desk.secret
    second, third = [(await desk.office.endpoints.rotate(CLIENT, desk.id, 3_600))["secret"] for _ in range(2)]
    assert [await signs(desk, each) for each in (first, second, third)] == [False, True, True]


async def test_what_has_done_its_work_goes(desk: Desk) -> None:
    kept = await desk.subscribe()
    await desk.happens(3)
    await desk.go()
    for _ in range(3):
        await desk.office.endpoints.rotate(CLIENT, kept, 0)
    gone = await desk.subscribe(desk.endpoint.url + "2")
    await desk.office.endpoints.delete(CLIENT, gone)
    database = desk.office.database
    assert await trim(database, 14) == {"webhook_secrets": 2}
    assert len(await desk.log(kept)) == 3, "it is young"
    await desk.let_pass(15 * 86_400, kept)
    await database.execute("UPDATE webhook_endpoints SET deleted_at = now() - interval '15 days' WHERE id = $1", gone)
    assert await trim(database, 14) == {"webhook_deliveries": 3, "webhook_endpoints": 1}
    assert await trim(database, 14) == {}
    assert await signs(desk, (await desk.office.endpoints.rotate(CLIENT, kept, 0))["secret"])


async def test_one_that_is_deleted_hears_of_nothing_more(desk: Desk) -> None:
    await desk.subscribe()
    await desk.happens()
    await desk.office.endpoints.delete(CLIENT, desk.id)
    assert await desk.go() == 0
    with pytest.raises(NotFound):
        await desk.office.endpoints.one(CLIENT, desk.id)
