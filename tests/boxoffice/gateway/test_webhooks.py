"""Webhooks: signed, fresh, and told again or out of order where the card says so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from stripe import WebhookSignature

from boxoffice.gateway.base import Authorized, RequiresAction
from boxoffice.gateway.simulator import signing
from boxoffice.gateway.webhooks import GatewayEvent, WebhookRefused
from tests.support.gateways import World
from tests.support.waiting import true_soon

SECRET = "whsec_simulator"

pytestmark = pytest.mark.parametrize("world", ["http", "stripe"], indirect=True)


def signed(world: World, body: bytes, now_s: float) -> dict[str, str]:
    """The headers this gateway would send with a body."""
    if world.gateway.name == "stripe":
        return {"stripe-signature": WebhookSignature.generate_signature_header(body.decode(), SECRET, int(now_s))}
    return signing.sign(SECRET, "evt_1", body, now_s)


def body(world: World, payment_key: str = "key") -> bytes:
    """A webhook that says a payment was authorised."""
    if world.gateway.name == "stripe":
        about = {"id": "pi_1", "object": "payment_intent", "metadata": {"payment_key": payment_key}}
        return json.dumps(
            {"id": "evt_1", "type": "payment_intent.amount_capturable_updated", "data": {"object": about}}
        ).encode()
    return signing.event_body(GatewayEvent("evt_1", "authorized", payment_key, "sim_1"))


async def told(world: World, enough: Callable[[list[GatewayEvent]], bool]) -> list[GatewayEvent]:
    """The events that have come, once they are enough. All of them must be believable."""

    def events() -> list[GatewayEvent]:
        return [world.gateway.verify_webhook(headers, body, time.time()) for headers, body in world.webhooks]

    await true_soon(lambda: enough(events()))
    return events()


async def pay(world: World, behaviour: str) -> tuple[str, str]:
    """Authorise and capture 50.00."""
    request = world.request(behaviour)
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    await world.gateway.capture(request.payment_key, outcome.reference, 5_000)
    return request.payment_key, outcome.reference


async def test_every_step_of_a_payment_is_told(world: World):
    """With the payment key, so that we find our booking, and the gateway's reference."""
    key, reference = await pay(world, "ok")
    await world.gateway.refund("r1", key, reference, 2_000)

    events = await told(world, lambda events: len(events) >= 3)

    assert {event.kind for event in events} == {"authorized", "captured", "refunded"}
    assert {(event.payment_key, event.reference) for event in events} == {(key, reference)}
    assert len({event.id for event in events}) == 3


async def test_bad_news_is_told_too(world: World):
    """Declines, and what was let go."""
    await world.gateway.authorize(world.request("lost_card"))
    request = world.request("ok")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    await world.gateway.void(request.payment_key, outcome.reference)

    events = await told(world, lambda events: len(events) >= 3)

    assert {event.kind for event in events} == {"declined", "authorized", "voided"}


@pytest.mark.parametrize(("behaviour", "ends"), [("3ds", "authorized"), ("3ds_fail", "declined")])
async def test_the_end_of_three_d_secure_is_told(world: World, behaviour: str, ends: str):
    """Nobody else would tell us: the customer is at the bank."""
    request = world.request(behaviour)
    assert isinstance(await world.gateway.authorize(request), RequiresAction)
    await told(world, lambda events: len(events) == 1)
    await world.complete(request.payment_key)

    events = await told(world, lambda events: len(events) >= 2)

    assert {event.kind for event in events} == {"requires_action", ends}


async def test_a_webhook_may_come_twice(world: World):
    """With the same id."""
    await pay(world, "twice")

    events = await told(world, lambda events: len(events) >= 4)

    assert sorted(event.kind for event in events) == ["authorized", "authorized", "captured", "captured"]
    assert len({event.id for event in events}) == 2


async def test_webhooks_may_come_out_of_order(world: World):
    """First the capture, then the authorisation."""
    await pay(world, "reordered")

    events = await told(world, lambda events: len(events) >= 2)

    assert [event.kind for event in events] == ["captured", "authorized"]


async def test_a_signed_webhook_is_believed(world: World):
    """As long as it is fresh."""
    text = body(world)
    event = world.gateway.verify_webhook(signed(world, text, 1_000), text, 1_299)
    assert (event.id, event.kind, event.payment_key) == ("evt_1", "authorized", "key")


@pytest.mark.parametrize("now_s", [1_300, 1_000, 700])
async def test_a_signature_is_good_for_five_minutes(world: World, now_s: float):
    """To the second, by either clock."""
    text = body(world)
    assert world.gateway.verify_webhook(signed(world, text, 1_000), text, now_s).id == "evt_1"


@pytest.mark.parametrize("now_s", [1_301, 699])
async def test_an_old_signature_is_refused(world: World, now_s: float):
    """Also one from the future."""
    text = body(world)
    with pytest.raises(WebhookRefused, match="old"):
        world.gateway.verify_webhook(signed(world, text, 1_000), text, now_s)


async def test_a_changed_body_is_refused(world: World):
    """The signature is over the raw body."""
    with pytest.raises(WebhookRefused):
        world.gateway.verify_webhook(signed(world, body(world), 1_000), body(world, "other"), 1_000)


async def test_a_changed_timestamp_is_refused(world: World):
    """Or an old webhook could be made fresh."""
    text = body(world)
    headers = {name: value.replace("1000", "2000") for name, value in signed(world, text, 1_000).items()}
    with pytest.raises(WebhookRefused):
        world.gateway.verify_webhook(headers, text, 2_000)


@pytest.mark.parametrize(
    "told",
    ["1000=x,t=9000", "+1000,t=9000", " 1000,t=9000", "1_000,t=9000", "1000,t=9000", "1000, t=9000", "1000,t =9000",
     "1000,xt=9000"],
)  # fmt: skip
async def test_an_old_webhook_is_not_made_fresh_by_another_time(world: World, told: str):
    """Beside the one that was signed, however that one is written."""
    text = body(world)
    headers = {name: value.replace("1000", told, 1) for name, value in signed(world, text, 1_000).items()}
    with pytest.raises(WebhookRefused):
        world.gateway.verify_webhook(headers, text, 9_000)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {
            "stripe-signature": "t=1000,v1=00",
            "webhook-id": "x",
            "webhook-timestamp": "1000",
            "webhook-signature": "v1,",
        },
        {"stripe-signature": "t=,v1", "webhook-id": "x", "webhook-timestamp": "", "webhook-signature": "é \udcff"},
    ],
)
async def test_an_unsigned_webhook_is_refused(world: World, headers: dict[str, str]):
    """Whatever stands where the signature should be."""
    with pytest.raises(WebhookRefused):
        world.gateway.verify_webhook(headers, body(world), 1_000)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"id": 1}', b"nonsense"])
async def test_a_signed_body_that_makes_no_sense_is_refused(world: World, text: bytes):
    """Rather than crashing whoever receives it."""
    with pytest.raises(WebhookRefused):
        world.gateway.verify_webhook(signed(world, text, 1_000), text, 1_000)
