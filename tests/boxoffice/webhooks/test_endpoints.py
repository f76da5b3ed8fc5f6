"""Secrets of an endpoint: which sign, which are kept; and what of old rows goes. The rest is tried over HTTP."""

from __future__ import annotations

import asyncio

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from boxoffice.errors import Malformed, NotFound
from boxoffice.webhooks.trimming import trim
from tests.boxoffice.webhooks.conftest import Desk
from tests.support.endpoint import answer
from tests.support.shop.orders import CLIENT, OTHER


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


async def test_enabling_one_that_is_enabled_makes_no_failure_forgotten(desk: Desk) -> None:
    """Or a shop could have one that hangs tried again and again, before all that work."""
    await desk.subscribe()
    desk.endpoint.behave = answer(500)
    await desk.happens()
    await desk.go()
    before = await desk.row()
    assert before["slow"] and before["failures"] == 1 and before["paused_until"] is not None
    await desk.office.endpoints.change(CLIENT, desk.id, status="enabled")
    assert {**await desk.row(), "updated_at": None} == {**before, "updated_at": None}
    assert await desk.go() == 0
    for status in ("disabled", "enabled"):
        await desk.office.endpoints.change(CLIENT, desk.id, status=status)
    after = await desk.row()
    assert (after["failures"], after["paused_until"], after["failing_since"]) == (0, None, None)
    assert after["slow"], "until it has shown that it is not"
    assert await desk.go() == 1


async def test_of_anothers_endpoint_nobody_hears_by_its_urls(desk: Desk) -> None:
    url = desk.endpoint.url
    theirs = [await desk.subscribe(each, client=OTHER) for each in (url, url + "2")]
    for endpoint in (theirs[0], "nothing"):
        with pytest.raises(NotFound):
            await desk.office.endpoints.change(CLIENT, endpoint, url=url + "2")


async def test_of_two_changes_to_one_url_one_is_refused(desk: Desk) -> None:
    url = desk.endpoint.url
    made = [await desk.subscribe(f"{url}{n}") for n in range(4)]
    found = await asyncio.gather(
        *(desk.office.endpoints.change(CLIENT, each, url=url + "9") for each in made), return_exceptions=True
    )
    refused = [each for each in found if isinstance(each, BaseException)]
    assert [type(each) for each in refused] == [Malformed] * 3
    assert {each.code for each in refused if isinstance(each, Malformed)} == {"duplicate_url"}


async def test_of_many_made_at_once_there_are_no_more_than_may_be(desk: Desk) -> None:
    most = desk.office.settings.webhooks.endpoints_max
    found = await asyncio.gather(
        *(desk.office.endpoints.create(CLIENT, f"{desk.endpoint.url}{n}") for n in range(most + 10)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Malformed) for each in found) == 10
    assert len(await desk.office.endpoints.every(CLIENT)) == most


async def test_one_that_is_deleted_hears_of_nothing_more(desk: Desk) -> None:
    await desk.subscribe()
    await desk.happens()
    await desk.office.endpoints.delete(CLIENT, desk.id)
    assert await desk.go() == 0
    with pytest.raises(NotFound):
        await desk.office.endpoints.one(CLIENT, desk.id)
