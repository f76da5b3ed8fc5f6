"""What is changed while a courier is under way, and what is written of failures. Whole runs of couriers try the rest."""

from __future__ import annotations

import asyncio

import pytest
from standardwebhooks import Webhook

from tests.boxoffice.webhooks.conftest import TYPE, Desk
from tests.support.endpoint import Heard, answer
from tests.support.shop.orders import CLIENT


async def test_days_without_a_notice_are_none_in_which_it_took_nothing(desk: Desk) -> None:
    """What it did not take was given up; one failure, days later, disables nothing."""
    await desk.subscribe()
    settings = desk.office.settings.webhooks
    desk.endpoint.behave = answer(500)
    (first,) = await desk.happens()
    await desk.go()
    assert (await desk.row())["failing_since"] is not None
    await desk.let_pass(settings.give_up_s + 1)
    await desk.go()
    assert [each["status"] for each in await desk.log()] == ["given_up"]
    await desk.let_pass(settings.disable_after_s)
    await desk.happens()
    await desk.office.endpoints.redeliver(CLIENT, desk.id, notice=first)
    assert await desk.go() == 1
    assert (await desk.row())["status"] == "enabled"


@pytest.mark.parametrize("what", ["url", "secret", "types"])
async def test_what_is_changed_while_it_is_sent_to_holds_from_the_next_round(desk: Desk, what: str) -> None:
    await desk.subscribe()
    endpoints = desk.office.endpoints
    wanted = await desk.happens(40)
    changed = asyncio.Event()
    first_at = asyncio.Event()

    async def waits(writer: asyncio.StreamWriter, heard: Heard) -> None:
        first_at.set()
        await changed.wait()
        await answer(204)(writer, heard)

    desk.endpoint.behave = waits
    await desk.office.couriers.look()
    await asyncio.wait_for(first_at.wait(), 20)
    secret = desk.secret
    if what == "url":
        await endpoints.change(CLIENT, desk.id, url=desk.endpoint.url + "&new")
    elif what == "types":
        await endpoints.change(CLIENT, desk.id, types=[TYPE])
    else:
        secret = (await endpoints.rotate(CLIENT, desk.id, 0))["secret"]
    changed.set()
    await desk.office.couriers.at_rest()
    begun = len(desk.endpoint.heard)
    assert 0 < begun < len(wanted), "a round, and no more"
    await desk.go()
    assert sorted(desk.endpoint.ids) == sorted(wanted)
    for heard in desk.endpoint.heard[begun:]:
        Webhook(secret).verify(heard.body, heard.headers)
        assert (what == "url") == ("&new" in heard.line)
