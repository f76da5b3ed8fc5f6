"""The back office at the terminal: what an operator types, reads, and gets as an exit code, without a line of SQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from boxoffice.errors import BadRequest, CannotRun, CardDataRefused
from boxoffice.office import BoxOffice
from tests.conftest import SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.shop.office import Till, book
from tests.support.shop.orders import CLIENT, OTHER

pytestmark = pytest.mark.usefixtures("terminal")


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=50, VIP=5))


async def found(*arguments: str) -> list[str]:
    """Ids of the bookings that a command lists."""
    code, said = await run("bookings", *arguments, "--json")
    bookings = [each["id"] for each in json.loads(said)["bookings"]]
    assert code == (0 if bookings or arguments[0] == "list" else 1)
    return bookings


async def payment_reference(till: Till, booking: str) -> str:
    return str((await till.fetch("SELECT reference FROM payments WHERE booking_id = $1", booking))[0][0])


async def refund_key(till: Till, booking: str) -> str:
    await till.refund(booking, GA=1)
    return str((await till.fetch("SELECT refund_key FROM refunds WHERE booking_id = $1", booking))[0][0])


WAYS: dict[str, Callable[[Till, str], Any]] = {
    "id": lambda _, booking: booking.upper(),
    "reference": lambda *_: "order-7",
    "customer": lambda *_: "grace",
    "payment": payment_reference,
    "refund": refund_key,
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_booking_is_found_by_whatever_is_known_of_it(till: Till, way: str) -> None:
    await till.book(GA=1, customer="ada", reference="order-8")
    wanted = await till.book(GA=2, customer="grace", reference="order-7")
    await till.rest()
    text = WAYS[way](till, wanted)
    assert await found("find", text if isinstance(text, str) else await text) == [wanted]


async def test_a_booking_is_found_by_the_end_of_its_card_and_the_day(till: Till) -> None:
    await till.book(GA=1)
    wanted = await till.book("tok_card_declined", GA=1)
    today = datetime.now(UTC).date()
    assert await found("find", "--last4", "0002", "--on", str(today)) == [wanted], "only Redis knows it yet"
    await till.rest()
    assert await found("find", "--last4", "0002", "--on", str(today)) == [wanted]
    for day in ("2020-05-22", "2040-05-22"):
        assert await found("find", "--last4", "0002", "--on", day) == []


@pytest.mark.parametrize("by", ["reference", "customer"])
async def test_holds_are_found_in_redis_and_what_ended_when_asked_for(till: Till, by: str) -> None:
    text = {"reference": "order-9", "customer": "grace"}[by]
    hold = await till.hold(GA=1, customer="grace", reference="order-9")
    assert await found("find", text) == [hold]
    await till.cancel(hold)
    assert await found("find", text) == []
    assert await found("find", text, "--ended") == [hold]


async def test_every_shops_bookings_are_found_and_it_is_told_whose_they_are(till: Till) -> None:
    await till.office.access.create_client("Third", client_id="third0000000")
    mine = await till.book(GA=1, reference="same")
    theirs = (await book(till.office, till.event, client=OTHER, reference="same", GA=1)).booking_id
    await till.rest()
    _, said = await run("bookings", "find", "same", "--json")
    assert [(each["client_id"], each["id"], each["found_by"]) for each in json.loads(said)["bookings"]] == [
        (OTHER, theirs, "reference"),
        (CLIENT, mine, "reference"),
    ]


async def test_what_is_listed(till: Till) -> None:
    confirmed = await till.book(GA=1, customer="ada", reference="order-1")
    failed = await till.book("tok_card_declined", GA=1)
    await till.rest()
    held = await till.hold(VIP=1, customer="grace")
    everything = [held, failed, confirmed]

    assert await found("list") == everything
    assert await found("list", "--status", "held") == [held]
    assert await found("list", "--status", "confirmed") == [confirmed]
    assert await found("list", "--status", "failed") == [failed]
    assert await found("list", "--customer", "grace") == [held]
    assert await found("list", "--customer", "ada", "--status", "confirmed", "--reference", "order-1") == [confirmed]
    assert await found("list", "--reference", "order-2") == []
    assert await found("list", "--event", till.event.id) == everything
    assert await found("list", "--event", "elsewhere000") == await found("list", "--client", OTHER) == []
    assert await found("list", "--client", CLIENT) == everything
    assert await found("list", "--since", "2020-01-01", "--until", "2040-01-01T00:00:00Z") == everything
    assert await found("list", "--since", "2040-01-01") == await found("list", "--until", "2020-01-01") == []


async def test_a_list_has_pages(till: Till) -> None:
    booked = [await till.book(GA=1) for _ in range(3)]
    await till.rest()
    holds = [await till.hold(GA=1) for _ in range(2)]
    seen: list[str] = []
    after: list[str] = []
    while True:
        page = json.loads((await run("bookings", "list", "--limit", "2", *after, "--json"))[1])
        seen += [each["id"] for each in page["bookings"]]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    newest_first = sorted([*booked, *holds], reverse=True)  # by id: of one millisecond in no order
    assert seen == newest_first
    code, said = await run("bookings", "list", "--limit", "2")
    assert (code, f"--after {newest_first[1]}" in said) == (0, True)


async def test_redis_away_is_told_and_postgresql_answers(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = await till.book(GA=1, reference="order-7")
    await till.rest()
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    code, said = await run("bookings", "find", "order-7")
    assert (code, booking in said, "Redis does not answer" in said) == (0, True, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["find"],
        ["find", "x", "--last4", "4242", "--on", "2030-01-01"],
        ["find", "--last4", "4242"],
        ["find", "x", "--on", "2030-01-01"],
        ["find", "--last4", "424", "--on", "2030-01-01"],
        ["find", "--last4", "4242", "--on", "yesterday"],
        ["list", "--status", "sold"],
        ["list", "--after", "x"],
        ["list", "--since", "noon"],
        ["refund", "x"],
        ["refund", "x", "--all", "--item", "GA:1"],
        ["refund", "x", "--item", "GA"],
        ["refund", "x", "--item", "GA:0"],
        ["refund", "x", "--item", "GA:1", "--item", "GA:2"],
    ],
    ids=" ".join,
)
async def test_wrong_usage_does_nothing(till: Till, arguments: list[str]) -> None:
    assert (await run("bookings", *arguments))[0] == 2
    assert await till.fetch("SELECT * FROM interventions") == []


async def test_a_card_number_is_looked_for_nowhere(till: Till) -> None:
    with pytest.raises(CardDataRefused):
        await run("bookings", "find", "4242 4242 4242 4242")


async def test_cancelled_at_the_desk(till: Till) -> None:
    """Done once, and who did it, when and why stands beside the booking."""
    booking, hold = await till.book(GA=2), await till.hold(GA=1)
    await till.rest_bookings()
    code, said = await run("bookings", "cancel", booking, "--by", "ada", "--reason", "fell ill")
    assert (code, "is cancelled. 20.00 USD of 20.00 USD" in said) == (0, True)
    code, said = await run("bookings", "cancel", booking, "--by", "ada", "--json")
    assert (code, json.loads(said)["status"], json.loads(said)["refunded_cents"]) == (0, "cancelled", 2_000)
    assert await run("bookings", "cancel", hold, "--by", "eve") == (0, f"Booking {hold} is cancelled.\n")
    await till.at_rest(booking)
    assert await till.left("GA") == (50, 0, 0)
    rows = await till.fetch("SELECT verb, operator, booking_id::text, reason, outcome FROM interventions ORDER BY id")
    assert list(map(tuple, rows)) == [
        ("cancel", "ada", booking, "fell ill", "cancelled"),
        ("cancel", "ada", booking, None, "cancelled"),
        ("cancel", "eve", hold, None, "cancelled"),
    ]
    assert "fell ill" in (await run("bookings", "show", booking))[1]


async def test_refunded_at_the_desk(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    booking = await till.book(GA=2, VIP=1)
    await till.rest()
    vip = next(tier.id for tier in till.event.tiers if tier.code == "VIP")
    for repeated, tier in ((False, "VIP"), (True, vip)):  # by its code, or by its id
        code, said = await run("bookings", "refund", booking, "--item", f"{tier}:1", "--key", "k", "--json")
        refund = json.loads(said)
        assert (code, refund["amount_cents"], refund["repeated"]) == (0, 2_000, repeated)
        assert refund["booking_status"] == "confirmed"
    code, said = await run("bookings", "refund", booking, "--item", "GA:1", "--by", "ada")
    assert (code, "of 10.00 USD: due. The booking is confirmed." in said) == (0, True)
    code, said = await run("bookings", "refund", booking, "--all")
    assert (code, "of 10.00 USD: due. The booking is cancelled." in said) == (0, True)
    await till.at_rest(booking)
    assert await till.left("GA") == (50, 0, 0)
    rows = await till.fetch(
        "SELECT i.operator, i.outcome, r.amount_cents FROM interventions i JOIN refunds r USING (refund_key) ORDER BY i.id"
    )
    assert list(map(tuple, rows)) == [
        ("grace", "refunded", 2_000),
        ("grace", "repeated", 2_000),
        ("ada", "refunded", 1_000),
        ("grace", "refunded", 1_000),
    ]


async def refused(*arguments: str) -> str:
    with pytest.raises(CannotRun) as caught:
        await run("bookings", *arguments)
    return caught.value.detail


async def test_a_refusal_says_what_to_do(till: Till) -> None:
    booking, hold = await till.book(GA=2), await till.hold(GA=1)
    failed = await till.book("tok_card_declined", GA=1)
    owed = await till.book("tok_refund_refused", GA=2)
    await till.rest()
    await till.refund(owed, GA=1)
    await till.pump()

    assert "is failed. There is nothing left to cancel" in await refused("cancel", failed)
    assert "is failed. There is nothing left to refund" in await refused("refund", failed, "--all")
    assert f"`boxoffice bookings cancel {hold}`" in await refused("refund", hold, "--all")
    assert "no tier BALCONY: it has GA." in await refused("refund", booking, "--item", "BALCONY:1")
    assert "only 2 tickets are left" in await refused("refund", booking, "--item", "GA:3")
    assert f"`boxoffice payments retry {owed}`" in await refused("refund", owed, "--item", "GA:1")
    assert "bookings find" in await refused("cancel", "order-7")
    assert "bookings find" in await refused("refund", "01890000-0000-7001-8000-000000000000", "--all")
    await run("bookings", "refund", booking, "--item", "GA:1", "--key", "k")
    assert "take a new one" in await refused("refund", booking, "--item", "GA:1", "--key", "k", "--reason", "other")
    await till.fetch("UPDATE events SET cancel_until = now() - interval '1 hour'")
    assert f"`boxoffice bookings refund {booking} --all`" in await refused("cancel", booking)
    outcomes = {row[0] for row in await till.fetch("SELECT outcome FROM interventions WHERE outcome LIKE 'refused%'")}
    assert outcomes == {
        f"refused: {why}" for why in ("NotCancellable", "CannotRun", "RefundTooLarge", "RefundOwed", "KeyReused")
    }


async def test_a_payment_that_cannot_be_let_go_yet(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxoffice.bookings.cancellations.PATIENCE_S", 0.05)
    booking = await till.book(GA=1)
    assert f"`boxoffice bookings show {booking}`" in await refused("cancel", booking)


async def test_without_redis_the_key_is_told_under_which_to_ask_again(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say whether it was done: the outcome stays open, and the same key does it once."""
    booking = await till.book(GA=1)
    await till.rest()
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    hold = "type the same again with --key k, it is done once"
    monkeypatch.setattr("boxoffice.money.refunds.fence.lost", _lost)
    assert hold in await refused("refund", booking, "--all", "--key", "k")
    ((outcome,),) = await till.fetch("SELECT outcome FROM interventions")
    assert outcome is None


async def _lost(*_: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("by", "reason"), [("x" * 65, "fine"), ("ada", "card 4242 4242 4242 4242"), ("a\x00da", "fine")]
)
async def test_names_and_reasons_are_texts(till: Till, by: str, reason: str) -> None:
    booking = await till.book(GA=1)
    await till.rest()
    with pytest.raises(BadRequest) as caught:
        await run("bookings", "cancel", booking, "--by", by, "--reason", reason)
    assert "4242" not in str(caught.value)
    assert await till.state(booking) == "C confirmed"
    assert await till.fetch("SELECT * FROM interventions") == []


async def test_retention_by_hand(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """First a look, then the deed; days come from the settings."""
    await till.fetch("INSERT INTO webhook_events (gateway, id, kind, received_at) SELECT 'x', 'e' || n, 'k',"
                     " now() - interval '20 days' FROM generate_series(1, 21000) AS n")  # fmt: skip
    assert (await run("trim", "--dry-run"))[0] == 0
    monkeypatch.setenv("BOXOFFICE_WORKER__RETENTION_WEBHOOKS_DAYS", "10")
    code, said = await run("trim", "--dry-run")
    assert (code, "webhook_events: 21000 would go" in said) == (1, True)
    code, said = await run("trim", "--json")
    assert (code, json.loads(said)) == (
        0,
        {"booking_traces": 0, "dead_letters": 0, "notices": 0, "stock_moves": 0, "webhook_events": 21_000},
    )
    assert await till.fetch("SELECT * FROM webhook_events") == []
