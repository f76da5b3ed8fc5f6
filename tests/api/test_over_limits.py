"""Who is known to be over a limit is refused before the script is asked, and before more of the booking is read than tells a
repeat, which is answered as ever: in each way into the application."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.headers import Headers
from api.pipeline import MayBeRepeat, Prepared, Refusal, passed, prepare
from boxoffice.admission import over as memory
from boxoffice.errors import Malformed, RateLimited
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.telemetry.series import ADMISSIONS
from tests.api.conftest import booking_of
from tests.api.test_ownership import ask, request_of
from tests.conftest import CLIENT, KEY, SHARD, counters
from tests.support.shop.orders import OTHER
from tests.support.wire import Door, Wire

pytestmark = pytest.mark.wire

WINDOW_S, KEY_MAX, CUSTOMER_MAX = 3_600, 4, 2


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Few bookings an hour, which no test outlasts; and none of whoever is remembered goes to the script."""
    monkeypatch.setattr(memory, "CHECKED_EACH_S", WINDOW_S)
    rates = settings.rates.model_copy(update={"window_s": WINDOW_S, "key_max": KEY_MAX, "customer_max": CUSTOMER_MAX})
    return settings.model_copy(update={"rates": rates})


class Shop:
    """Books over one connection, each time under another key unless it is said."""

    def __init__(self, wire: Wire, event: EventView) -> None:
        self.wire, self.event = wire, event
        self.sent = 0

    async def book(self, customer: str, key: str = "", **changes: Any) -> tuple[int, dict[str, str], Any]:
        self.sent += 1
        body = booking_of(self.event, **{"customer_id": customer} | changes)
        return await ask(self.wire, request_of("POST", "/v1/bookings", KEY, body, key or f"own-{self.sent}"))


@pytest.fixture
async def shop(door: Door, event: EventView, office: BoxOffice) -> Shop:
    await office.catalogue.event(event.id)
    return Shop(door.connect(), event)


async def calls(office: BoxOffice) -> int:
    """Of scripts, so far."""
    return int((await office.redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def reach(shop: Shop, whose: str) -> list[str]:
    """Book until the limit is reached, and once more. Customers of the bookings that are in, whose keys are k0, k1, …"""
    customers = ["ada"] * CUSTOMER_MAX if whose == "customer" else [f"c{n}" for n in range(KEY_MAX)]
    for n, customer in enumerate(customers):
        assert (await shop.book(customer, f"k{n}"))[0] == 202
    assert (await shop.book("ada"))[0] == 429
    return customers


@pytest.mark.parametrize(("whose", "limit"), [("customer", CUSTOMER_MAX), ("key", KEY_MAX)])
async def test_who_is_over_a_limit_is_refused_without_the_script(
    shop: Shop, office: BoxOffice, whose: str, limit: int
) -> None:
    """In the same words, with the same headers; it is counted and logged as ever. A repeat is answered."""
    refused = ADMISSIONS.cell("rate_limited")
    customers = await reach(shop, whose)
    before, counted = await calls(office), refused.value
    first = await shop.book("ada")
    with capture_logs() as said:
        answers = [await shop.book("ada") for _ in range(3)]
    assert await calls(office) == before + 4, "read.lua alone, which tells a repeat"
    assert refused.value == counted + 4
    assert [line["whose"] for line in said if line["event"] == "request.refused"]
    for status, headers, problem in [first, *answers]:
        assert (status, problem["type"], problem["request_id"]) == (
            429,
            "/problems/rate-limited",
            headers["x-request-id"],
        )
        assert (problem["whose"], problem["limit"], problem["window_s"]) == (whose, limit, WINDOW_S)
        assert headers["retry-after"] == str(problem["retry_after"]) and 0 < problem["retry_after"] <= WINDOW_S
        assert headers["ratelimit-policy"] == f'"{whose}";q={limit};w={WINDOW_S}'
        assert headers["ratelimit"] == f'"{whose}";r=0;t={problem["retry_after"]}'
    for n, customer in enumerate(customers):
        status, headers, _ = await shop.book(customer, f"k{n}")
        assert (status, headers["idempotency-replayed"]) == (202, "true")
    assert (await shop.book("other", "k0"))[0] == 422, "another request under a key that was used"
    assert (await counters(office, shop.event, "GA")).held == len(customers)


async def test_another_customer_books_on(shop: Shop) -> None:
    await reach(shop, "customer")
    assert [(await shop.book(who))[0] for who in ("bob", "ada", "eve")] == [202, 429, 202]


async def test_a_limit_that_was_raised_is_another(shop: Shop, office: BoxOffice) -> None:
    """As soon as the process has heard of it."""
    await reach(shop, "key")
    assert (await shop.book("ada"))[0] == 429
    await office.access.set_rate(KEY.partition(".")[0], KEY_MAX + 1)
    office.catalogue.api_keys.look_at = 0
    await office.catalogue.api_keys.renew()
    assert [(await shop.book(f"d{n}"))[0] for n in range(2)] == [202, 429]


async def test_counts_that_are_lost_let_everybody_in(
    shop: Shop, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that took over has none: the first that the script is asked about is let in, and all after it."""
    monkeypatch.setattr(memory, "CHECKED_EACH_S", 0.0)
    await reach(shop, "key")
    await office.redis.delete(keys.rates(SHARD))
    assert [(await shop.book(f"d{n}"))[0] for n in range(KEY_MAX + 1)] == [202] * KEY_MAX + [429]


async def test_while_redis_does_not_answer_nobody_is_refused_for_a_limit(
    shop: Shop, office: BoxOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it is a repeat: that is said as ever, and who was over a limit is forgotten."""
    await reach(shop, "key")
    window = office.admission.windows[SHARD]

    async def away(*_: Any) -> Any:
        raise OSError

    monkeypatch.setattr(window.redis, "execute_command", away)
    monkeypatch.setattr(window, "settings", window.settings.model_copy(
        update={"api": window.settings.api.model_copy(update={"retry_s": 0.0})}
    ))  # fmt: skip
    assert (await shop.book("ada"))[0] == 503
    monkeypatch.undo()
    assert not office.admission.over.until_s
    assert (await shop.book("ada"))[0] == 429


# ------------------------------------------------------------------ how much of it is read


def headers(key: bytes = b"late", **changed: Any) -> Headers:
    usual: dict[str, Any] = {
        "authorization": f"Bearer {KEY}".encode(), "content_type": b"application/json", "idempotency_keys": [key],
        "origin": None,
    }  # fmt: skip
    return Headers(**{**usual, **changed})


def body(event: EventView, **changed: Any) -> bytes:
    return json.dumps({**booking_of(event, 1), **changed}).encode()


@pytest.fixture
async def greedy(office: BoxOffice, event: EventView) -> None:
    """The key is over its limit."""
    await office.catalogue.event(event.id)
    await office.catalogue.api_keys.caller_of(KEY)
    for n in range(KEY_MAX + 1):
        step = prepare(office, headers(b"k%d" % n), body(event, customer_id=f"c{n}"))
        assert isinstance(step, Prepared)
        await office.admission.ask(step.client, step.order, step.key_digest, step.allowance)


@pytest.mark.usefixtures("greedy")
async def test_no_more_is_read_than_tells_a_repeat(office: BoxOffice, event: EventView) -> None:
    for what in (body(event), body(event, surprise=1), body(event, payment=7)):
        step = prepare(office, headers(), what)
        assert isinstance(step, MayBeRepeat)
        refusal = await passed(step)
        assert isinstance(refusal, Refusal) and (type(refusal.error), refusal.client) == (RateLimited, CLIENT)
    again = await passed(prepare(office, headers(b"k0"), body(event, customer_id="c0")))
    assert isinstance(again, Prepared)


@pytest.mark.usefixtures("greedy")
@pytest.mark.parametrize(
    "what", [b"no JSON", b'{"customer_id": "ada", "items": []}', b'{"items": 1}', b"\xff", b"[]", b"[" * 5_000]
)
async def test_what_does_not_tell_whose_it_is_is_malformed(office: BoxOffice, what: bytes) -> None:
    step = prepare(office, headers(), what)
    assert isinstance(step, Refusal) and isinstance(step.error, Malformed)


@pytest.mark.usefixtures("greedy")
async def test_a_body_that_is_too_long_and_no_key_are_malformed(office: BoxOffice, event: EventView) -> None:
    long = body(event) + b" " * office.settings.limits.body_max_bytes
    for head, what in ((headers(), long), (headers(idempotency_keys=[]), body(event))):
        step = prepare(office, head, what)
        assert isinstance(step, Refusal) and isinstance(step.error, Malformed)


@pytest.mark.usefixtures("greedy")
async def test_nothing_is_told_of_tiers_that_the_shop_does_not_sell(
    office: BoxOffice, operators_office: BoxOffice, in_shard: Any, event: EventView
) -> None:
    """They are as those that there are not."""
    in_shard(-1)
    starts = datetime.now(UTC) + timedelta(days=9)
    theirs = await operators_office.store.create_event(OTHER, "Theirs", starts, "USD", [NewTier("GA", 1_000, 5)])
    await office.catalogue.event(theirs.id)
    for tier in (theirs.tiers[0].id, "nobodysknown"):
        step = prepare(office, headers(), body(event, items=[{"tier_id": tier, "quantity": 1}]))
        assert not isinstance(step, MayBeRepeat)
