"""What is Stripe's own: repeated answers, lists before searches, keys that are forgotten."""

from __future__ import annotations

import pytest

from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.gateway.base import Authorized, Declined, Done, Found, NotFound, Token, Unknown
from boxoffice.gateway.factory import open_gateway
from boxoffice.settings import Settings
from tests.support.gateways import World, with_gateway
from tests.support.stripe_stand_in import StripeStandIn

pytestmark = pytest.mark.parametrize("world", ["stripe"], indirect=True)


@pytest.fixture
def stand_in(world: World) -> StripeStandIn:
    """Stripe, from behind."""
    assert world.stand_in is not None
    return world.stand_in


async def test_card_numbers_are_refused(world: World):
    """They go from the browser to Stripe, also when somebody dresses them up as tokens."""
    assert not world.gateway.accepts_cards
    with pytest.raises(CardDataRefused):
        world.gateway.tokenize("4242424242424242", "Ada Lovelace")
    with pytest.raises(CardDataRefused):
        world.gateway.check_token("pm_4242424242424242")


async def test_payment_methods_are_tokens(world: World):
    """Nothing but their shape is looked at."""
    assert world.gateway.check_token("pm_card_visa") == Token("pm_card_visa", None)
    with pytest.raises(Malformed):
        world.gateway.check_token("tok_visa")


async def test_operations_have_keys_of_their_own(world: World, stand_in: StripeStandIn):
    """Derived from the payment key, except for a refund's."""
    request = world.request("ok")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    key = request.payment_key
    await world.gateway.capture(key, outcome.reference, 5_000)
    await world.gateway.refund("refund1", key, outcome.reference, 5_000)
    await world.gateway.void(key, outcome.reference)
    assert list(stand_in.answers) == [f"{key}:auth", f"{key}:cap", "refund1", f"{key}:void"]
    metadata = stand_in.intents[outcome.reference]["metadata"]
    assert metadata == {"payment_key": key, "booking_id": request.booking_id}


async def test_a_forgotten_key_does_not_refund_twice(world: World, stand_in: StripeStandIn):
    """Stripe keeps idempotency keys for a day; refunds may be asked for again later."""
    request = world.request("ok")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    await world.gateway.capture(request.payment_key, outcome.reference, 5_000)
    first = await world.gateway.refund("refund1", request.payment_key, outcome.reference, 2_000)
    stand_in.answers.clear()
    assert await world.gateway.refund("refund1", request.payment_key, outcome.reference, 2_000) == first
    assert len(stand_in.refunds) == 1


async def test_a_forgotten_key_does_not_capture_or_void_twice(world: World, stand_in: StripeStandIn):
    """The payment itself remembers."""
    for _ in range(2):
        request = world.request("ok")
        outcome = await world.gateway.authorize(request)
        assert isinstance(outcome, Authorized)
        assert await world.gateway.capture(request.payment_key, outcome.reference, 4_000) == Done(outcome.reference)
        stand_in.answers.clear()
        assert await world.gateway.capture(request.payment_key, outcome.reference, 4_000) == Done(outcome.reference)
        assert stand_in.intents[outcome.reference]["amount_received"] == 4_000


async def test_a_list_is_asked_before_the_search(world: World, stand_in: StripeStandIn):
    """Search has not heard of a payment that was made a second ago."""
    request = world.request("ok")
    await world.gateway.authorize(request)
    assert isinstance(await world.gateway.lookup(request.payment_key, None), Found)
    assert not [path for path in stand_in.requests if path.endswith("/search")]


async def test_lists_are_read_to_their_end(world: World, stand_in: StripeStandIn):
    """A page holds 100."""
    first = world.request("ok")
    await world.gateway.authorize(first)
    for number in range(250):
        stand_in.intents[f"other{number}"] = stand_in.intents["pi_1"] | {"id": f"other{number}", "metadata": {}}
    assert isinstance(await world.gateway.lookup(first.payment_key, None), Found)
    assert [record.payment_key async for record in world.gateway.records()] == [first.payment_key]


async def test_a_look_up_may_say_since_when(world: World, stand_in: StripeStandIn):
    """Then only that hour is looked through."""
    request = world.request("ok")
    await world.gateway.authorize(request)
    now_ms = world.now_ms()
    assert isinstance(await world.gateway.lookup(request.payment_key, None, now_ms), Found)
    assert await world.gateway.lookup(request.payment_key, None, now_ms - 7_200_000) == NotFound()
    stand_in.search_knows = True
    assert isinstance(await world.gateway.lookup(request.payment_key, None, now_ms - 7_200_000), Found)


async def test_a_repeated_server_error_is_looked_behind(world: World, stand_in: StripeStandIn):
    """Stripe repeats a 500 for a day, whatever it did."""
    request = world.request("ok")
    outcome = await world.gateway.authorize(request)
    said, _, _ = stand_in.answers[f"{request.payment_key}:auth"]
    stand_in.answers[f"{request.payment_key}:auth"] = said, 500, {"error": {"type": "api_error", "message": ""}}
    assert await world.gateway.authorize(request) == outcome
    assert len(stand_in.intents) == 1, "it had been made"
    stand_in.intents.clear()
    assert isinstance(await world.gateway.authorize(request), Authorized), "nothing had been made: another key is used"
    assert [key.partition(":")[2] for key in stand_in.answers] == ["auth", "auth:1"]


async def test_another_request_with_the_same_key_tells_what_the_first_did(world: World, stand_in: StripeStandIn):
    """Where Stripe only says that they differ."""
    first = world.request("ok", 5_000)
    outcome = await world.gateway.authorize(first)
    again = world.request("insufficient_funds", 6_000, payment_key=first.payment_key)
    assert await world.gateway.authorize(again) == outcome
    assert len(stand_in.intents) == 1


async def test_a_payment_method_that_does_not_exist_declines(world: World):
    """Asking again would not help."""
    assert await world.gateway.authorize(world.request("no_such")) == Declined("resource_missing")


async def test_a_wrong_api_key_says_nothing_about_a_payment(world: World, stand_in: StripeStandIn):
    """Bookings wait until an operator has mended it, or their deadline comes."""
    stand_in.api_key = "sk_test_other"
    assert isinstance(await world.gateway.authorize(world.request("ok")), Unknown)
    assert isinstance(await world.gateway.capture("key", "pi_1", 1), Unknown)


async def test_a_payment_of_another_account_is_unknown(world: World):
    """Its reference came from a Stripe that is not this one: for an operator, not for a refusal."""
    assert isinstance(await world.gateway.capture("key", "pi_nobody", 100), Unknown)
    assert await world.gateway.void("key", "pi_nobody") == NotFound()
    assert isinstance(await world.gateway.refund("r", "key", "pi_nobody", 100), Unknown)


async def test_an_address_that_is_not_stripe_declines_nobody(world: World, settings: Settings):
    """Bookings wait until an operator has mended it."""
    assert world.stand_in is not None
    gateway = open_gateway(with_gateway(settings, kind="stripe", url=f"{world.stand_in.base_url}/wrong", api_key="sk"))
    assert isinstance(await gateway.authorize(world.request("ok")), Unknown)
    await gateway.close()
