"""What is Stripe's own: repeated answers, lists before searches, keys that are forgotten."""

from __future__ import annotations

import json
import time

import pytest
import stripe
from msgspec.structs import replace
from stripe import WebhookSignature

from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.gateway.base import (
    Authorized,
    Declined,
    Done,
    Found,
    NotFound,
    Pending,
    Refused,
    RequiresAction,
    Reversals,
    Token,
    Unknown,
)
from boxoffice.gateway.factory import open_gateway
from boxoffice.gateway.stripe import answers
from boxoffice.settings import Settings
from tests.support.gateways import World, with_gateway
from tests.support.stripe_stand_in import ApiError, StripeStandIn

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


async def test_a_customer_comes_back_to_where_the_payment_says(world: World, stand_in: StripeStandIn):
    """Or to where all do."""
    for own, told in (
        (None, "https://example.com/paid"),
        ("https://other.example/back", "https://other.example/back"),
    ):
        outcome = await world.gateway.authorize(replace(world.request("3ds"), return_url=own))
        assert isinstance(outcome, RequiresAction)
        action = stand_in.intents[outcome.reference]["next_action"]
        assert action["redirect_to_url"]["return_url"] == told


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
    (refund,) = stand_in.refunds.values()
    assert refund["metadata"] == {"payment_key": key, "refund_key": "refund1"}
    assert refund["payment_intent"] == outcome.reference


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


async def test_a_payment_whose_id_is_known_is_read_by_it(world: World, stand_in: StripeStandIn):
    """Without a list or a search, which would not find what is older than they reach."""
    request = world.request("ok")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    stand_in.requests.clear()
    assert isinstance(await world.gateway.lookup(request.payment_key, outcome.reference), Found)
    assert [path for path in stand_in.requests if not path.endswith(f"/{outcome.reference}")] == []


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


# ------------------------------------------------------------------ errors that are repeated


def broken(stand_in: StripeStandIn, key: str, path: str, body: str) -> None:
    """Stripe met an error under this key, did nothing, and repeats the error for it."""
    error = {"error": {"type": "api_error", "code": "server_error", "message": ""}}
    stand_in.answers[key] = f"{path} {body}", 500, error


async def held(world: World) -> tuple[str, str]:
    """Payment key and reference of a payment whose money is set aside."""
    request = world.request("ok")
    outcome = await world.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    return request.payment_key, outcome.reference


@pytest.mark.parametrize("spent", [1, 2, 7])
async def test_a_repeated_error_is_no_answer_to_a_void(world: World, stand_in: StripeStandIn, spent: int):
    """However many keys are spent on it: the next is as good as the first."""
    key, reference = await held(world)
    for number in range(spent):
        name = f"{key}:void:{number}" if number else f"{key}:void"
        broken(stand_in, name, f"/v1/payment_intents/{reference}/cancel", "")
    assert await world.gateway.void(key, reference) == Done(reference)
    assert stand_in.intents[reference]["status"] == "canceled"


async def test_eight_keys_and_no_more(world: World, stand_in: StripeStandIn):
    """Stripe forgets them after a day; until then nobody floods it."""
    key, reference = await held(world)
    for number in range(20):
        name = f"{key}:void:{number}" if number else f"{key}:void"
        broken(stand_in, name, f"/v1/payment_intents/{reference}/cancel", "")
    stand_in.requests.clear()
    assert isinstance(await world.gateway.void(key, reference), Unknown)
    assert len(stand_in.requests) <= 8
    assert stand_in.intents[reference]["status"] == "requires_capture"


async def test_a_repeated_error_hides_a_capture_that_was_made(world: World, stand_in: StripeStandIn):
    key, reference = await held(world)
    assert await world.gateway.capture(key, reference, 5_000) == Done(reference)
    said, _, _ = stand_in.answers[f"{key}:cap"]
    stand_in.answers[f"{key}:cap"] = said, 500, {"error": {"type": "api_error", "message": ""}}
    assert await world.gateway.capture(key, reference, 5_000) == Done(reference)
    assert [name for name in stand_in.answers if ":cap" in name] == [f"{key}:cap"], "no second capture was tried"


async def test_a_repeated_error_hides_a_refund_that_was_made(world: World, stand_in: StripeStandIn):
    """It is found in the list: no other key is used."""
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)
    first = await world.gateway.refund("r1", key, reference, 2_000)
    said, _, _ = stand_in.answers["r1"]
    stand_in.answers["r1"] = said, 500, {"error": {"type": "api_error", "message": ""}}
    assert await world.gateway.refund("r1", key, reference, 2_000) == first
    assert len(stand_in.refunds) == 1


async def test_a_refund_behind_a_repeated_error_may_yet_appear(world: World, stand_in: StripeStandIn):
    """While Stripe repeats a server error, nobody asks under another key: the refund may only be late in the list, and
    would be paid twice. When it appears it is the one; when Stripe has forgotten the key, after a day, it asks anew."""
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)
    first = await world.gateway.refund("r1", key, reference, 2_000)
    said, _, _ = stand_in.answers["r1"]
    late = dict(stand_in.refunds)
    error = {"error": {"type": "api_error", "message": ""}}
    for code in ("r1", "r2"):
        stand_in.answers[code] = said.replace("r1", code), 500, error
    stand_in.refunds.clear()

    for _ in range(3):
        assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Unknown)
    assert [name for name in stand_in.answers if name.startswith("r1")] == ["r1"], "no other key was used"

    stand_in.refunds.update(late)
    assert await world.gateway.refund("r1", key, reference, 2_000) == first
    assert len(stand_in.refunds) == 1

    assert isinstance(await world.gateway.refund("r2", key, reference, 2_000), Unknown)
    del stand_in.answers["r2"]
    assert isinstance(await world.gateway.refund("r2", key, reference, 2_000), Done)
    assert len(stand_in.refunds) == 2


async def test_a_key_that_was_used_for_something_else_pays_nothing(world: World, stand_in: StripeStandIn):
    """An earlier version may have asked with other words: what came of that nobody can say for a day."""
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)
    stand_in.answers["r1"] = "/v1/refunds another request", 200, {}
    assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Unknown)
    assert not stand_in.refunds


async def test_a_refusal_that_is_repeated_did_nothing(world: World, stand_in: StripeStandIn):
    """So the next key is safe."""
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)
    await world.gateway.refund("r1", key, reference, 2_000)
    said, _, _ = stand_in.answers["r1"]
    refusal = {"error": {"type": "invalid_request_error", "code": "charge_disputed", "message": ""}}
    stand_in.answers["r1"] = said, 400, refusal
    stand_in.refunds.clear()
    assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Done)
    assert len(stand_in.refunds) == 1


async def test_a_fresh_server_error_may_have_made_the_refund(world: World, stand_in: StripeStandIn):
    """A 500 that was followed by the refund all the same: it is read back at once."""
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)
    refund = stand_in.refund

    def breaks(params: dict[str, str], where: str) -> dict[str, object]:
        refund(params, where)
        raise ApiError(500, "api_error", "server_error")

    stand_in.endpoints["refund"] = breaks
    outcome = await world.gateway.refund("r1", key, reference, 2_000)
    assert isinstance(outcome, Done)
    assert len(stand_in.refunds) == 1


async def test_a_capture_that_met_a_fresh_error_is_read_back(world: World, stand_in: StripeStandIn):
    key, reference = await held(world)
    capture = stand_in.capture

    def breaks(params: dict[str, str], where: str) -> dict[str, object]:
        capture(params, where)
        raise ApiError(500, "api_error", "server_error")

    stand_in.endpoints["capture"] = breaks
    assert await world.gateway.capture(key, reference, 5_000) == Done(reference)


async def test_a_request_that_is_still_at_work_is_not_asked_under_another_key(world: World, stand_in: StripeStandIn):
    """409: the first one may yet make it."""
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)

    def busy(params: dict[str, str], where: str) -> dict[str, object]:
        raise ApiError(409, "idempotency_error", "idempotency_key_in_use")

    stand_in.endpoints["refund"] = busy
    assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Unknown)
    assert [name for name in stand_in.answers if name.startswith("r1")] == ["r1"]


async def test_an_authorisation_needs_proof_that_nothing_was_made(
    world: World, stand_in: StripeStandIn, monkeypatch: pytest.MonkeyPatch
):
    """When more payments were made since than can be looked through, it stays unknown."""
    monkeypatch.setattr("boxoffice.gateway.stripe.stripe.LISTED_MAX", 3)
    request = world.request("error")
    assert isinstance(await world.gateway.authorize(request), Unknown)
    others = [world.request("ok") for _ in range(3)]
    for other in others:
        await world.gateway.authorize(other)
    assert isinstance(await world.gateway.authorize(request), Unknown)
    assert len(stand_in.intents) == 3
    stand_in.intents.popitem()
    assert isinstance(await world.gateway.authorize(request), Authorized)


# ------------------------------------------------------------------ what went back


@pytest.mark.parametrize("status", ["requires_action", "pending", "something_new"])
async def test_whatever_is_not_done_is_pending(world: World, stand_in: StripeStandIn, status: str):
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)
    await world.gateway.refund("r1", key, reference, 2_000)
    (refund,) = stand_in.refunds.values()
    refund["status"] = status
    outcome = await world.gateway.refund("r1", key, reference, 2_000)
    assert isinstance(outcome, Pending)
    refund["status"] = "canceled"
    assert isinstance(await world.gateway.refund("r1", key, reference, 2_000), Refused)


async def test_a_dispute_that_is_won_gives_the_money_back(world: World, stand_in: StripeStandIn):
    key, reference = await held(world)
    await world.gateway.capture(key, reference, 5_000)
    dispute = stand_in.dispute(key, 4_000)
    stand_in.end_dispute(dispute, "won")
    seen = await world.gateway.reversals(key, reference)
    assert isinstance(seen, Reversals)
    assert [(each.status, each.amount_cents, each.withdrawn) for each in seen.disputes] == [("won", 4_000, False)]


async def test_whose_payment_it_is(world: World, stand_in: StripeStandIn):
    """Of ours the key; of others' none; and nobody can say while Stripe does not answer."""
    key, reference = await held(world)
    stand_in.intents["pi_other"] = stand_in.intents[reference] | {"id": "pi_other", "metadata": {}}
    assert await world.gateway.payment_key_of(reference) == key
    assert await world.gateway.payment_key_of("pi_other") is None
    assert await world.gateway.payment_key_of("pi_nobody") is None


@pytest.mark.parametrize(
    ("kind", "means"),
    [
        ("refund.created", "refunded"), ("refund.updated", "refunded"), ("refund.failed", "refund_failed"),
        ("charge.refunded", "refunded"), ("charge.refund.updated", "refunded"), ("charge.dispute.created", "disputed"),
        ("charge.dispute.closed", "disputed"), ("charge.dispute.funds_withdrawn", "disputed"),
        ("charge.dispute.funds_reinstated", "disputed"), ("charge.dispute.updated", "disputed"),
    ],
)  # fmt: skip
async def test_every_event_about_money_that_went_back_is_understood(world: World, kind: str, means: str):
    """With the payment it is about."""
    body = json.dumps(
        {"id": "evt_1", "type": kind,
         "data": {"object": {"id": "x", "object": kind.split(".")[0], "payment_intent": "pi_1", "metadata": {}}}}
    )  # fmt: skip
    assert world.stand_in is not None
    header = WebhookSignature.generate_signature_header(body, world.stand_in.secret)
    event = world.gateway.verify_webhook({"stripe-signature": header}, body.encode(), time.time())
    assert (event.kind, event.payment_key, event.reference) == (means, None, "pi_1")


@pytest.mark.parametrize(("status", "leaves_unknown"), [(400, True), (409, False)])
async def test_a_key_in_use_says_that_something_is_at_work(world: World, status: int, leaves_unknown: bool):
    """A key of another request says nothing of the payment; one whose request is still running says: wait."""
    error = stripe.IdempotencyError("", http_status=status)  # type: ignore[no-untyped-call]
    assert answers.leaves_unknown(error) is leaves_unknown
