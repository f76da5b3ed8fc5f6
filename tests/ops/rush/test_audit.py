"""An audit that cannot fail proves nothing: each violation is planted, and the audit names it."""

from __future__ import annotations

from itertools import count

import pytest

from boxoffice import ids
from boxoffice.gateway.base import AuthorizeRequest
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.rush.alone import audit_alone
from ops.rush.audit import Witness
from ops.rush.findings import TITLES
from ops.rush.report import lines_of_findings
from tests.conftest import CLIENT, SHARD, eventually
from tests.ops.rush.conftest import GOOD, Plant, Sold, book
from tests.support.shop.office import Till
from tests.support.shop.script import shift_owned


async def test_a_sale_without_damage_passes(sold: Sold) -> None:
    findings = await sold.audit()

    assert {finding.name: finding.evidence for finding in findings if not finding.held} == {}
    assert [finding.name for finding in findings] == [*TITLES]
    assert findings["I6"].looked_at == [
        "3 payments at simulator: 40.00 USD captured, 0.00 USD refunded",
        "0 webhooks taken in",
    ]


async def test_what_a_client_gave_up_is_no_count_of_what_is_held(sold: Sold) -> None:
    """Nor is it what it paid for."""
    balances = {f"g:{CLIENT}:{sold.tier}": "88:1700000000000", "g:other0000000:x": "-100:1700000000000"}
    await sold.office.redis.hset(keys.unpaid(sold.event.shard, sold.event.id), mapping=balances)  # type: ignore[misc]
    assert {finding.name: finding.evidence for finding in await sold.audit() if not finding.held} == {}


async def a_ticket_appears(sold: Sold) -> None:
    await sold.office.redis.hincrby(sold.sale, f"a:{sold.tier}", 1)


async def a_counter_is_negative(sold: Sold) -> None:
    await sold.office.redis.hincrby(sold.sale, f"h:{sold.tier}", -1)
    await sold.office.redis.hincrby(sold.sale, f"a:{sold.tier}", 1)


async def sold_is_not_what_was_confirmed(sold: Sold) -> None:
    await sold.sql("UPDATE inventory SET sold = sold + 1 WHERE tier_id = $1", sold.tier)


async def a_sold_ticket_is_on_sale_again(sold: Sold) -> None:
    await sold.office.redis.hincrby(sold.sale, f"c:{sold.tier}", -1)
    await sold.office.redis.hincrby(sold.sale, f"a:{sold.tier}", 1)


async def counters_are_gone(sold: Sold) -> None:
    await sold.office.redis.delete(sold.sale)


async def stores_disagree_about_a_booking(sold: Sold) -> None:
    await sold.sql("UPDATE bookings SET status = 'expired' WHERE id = $1::uuid", sold.failed)


async def an_item_has_no_booking(sold: Sold) -> None:
    await sold.sql("UPDATE booking_items SET booking_id = gen_random_uuid() WHERE booking_id = $1::uuid", sold.failed)


async def a_payment_has_no_booking(sold: Sold) -> None:
    await sold.sql("UPDATE payments SET booking_id = gen_random_uuid() WHERE booking_id = $1::uuid", sold.failed)


async def a_booking_is_undecided(sold: Sold) -> None:
    await sold.sql("UPDATE bookings SET status = 'pending' WHERE id = $1::uuid", sold.failed)


async def an_accepted_booking_is_lost(sold: Sold) -> None:
    await sold.office.redis.delete(keys.booking(sold.event.shard, sold.failed))
    await sold.sql("DELETE FROM bookings WHERE id = $1::uuid", sold.failed)


async def a_customer_reads_another_status(sold: Sold) -> None:
    sold.history.entries[0].status = "failed"


async def a_confirmation_is_forgotten(sold: Sold) -> None:
    await sold.sql("DELETE FROM bookings WHERE id = $1::uuid", sold.confirmed)


async def who_was_confirmed_is_failed_without_a_word(sold: Sold) -> None:
    await sold.sql("UPDATE bookings SET status = 'failed' WHERE id = $1::uuid", sold.confirmed)


async def who_was_withdrawn_was_not_told(sold: Sold) -> None:
    statement = "UPDATE bookings SET status = 'failed', failure_code = 'withdrawn' WHERE id = $1::uuid"
    await sold.sql(statement, sold.confirmed)


async def a_customer_waits_for_ever(sold: Sold) -> None:
    sold.history.entries[0].status = "pending"


async def nobody_looks_at_a_pending_booking(sold: Sold) -> None:
    name = keys.booking(sold.event.shard, sold.failed)
    raw = await sold.office.redis.get(name)
    assert raw is not None
    await sold.office.redis.set(name, b"P" + raw[1:])


async def a_record_is_unreadable(sold: Sold) -> None:
    await sold.office.redis.set(keys.booking(sold.event.shard, sold.failed), b"\xff", ex=100)


async def a_key_has_two_bookings(sold: Sold) -> None:
    sold.history.entries[0].ids.append(sold.history.entries[1].accepted)


async def a_refused_key_has_a_booking(sold: Sold) -> None:
    entry = sold.history.entries[0]
    entry.ids.clear()
    entry.refused = "sold-out"


async def a_payment_key_is_another_ones(sold: Sold) -> None:
    await sold.sql("UPDATE payments SET payment_key = md5('x') WHERE booking_id = $1::uuid", sold.confirmed)


async def a_key_names_nothing(sold: Sold) -> None:
    async for name in sold.office.redis.scan_iter("*:idem:*"):
        await sold.office.redis.delete(name)


async def the_gateway_holds_money_of_nobody(sold: Sold) -> None:
    request = AuthorizeRequest(ids.digest("stray"), sold.confirmed, 1_000, "USD", "card", "tok_ok_4242")
    await sold.office.gateway.authorize(request)


async def the_gateway_took_money_of_nobody(sold: Sold) -> None:
    await the_gateway_holds_money_of_nobody(sold)
    await sold.office.gateway.capture(ids.digest("stray"), "", 1_000)


async def a_capture_is_only_ours(sold: Sold) -> None:
    await sold.sql("UPDATE payments SET status = 'captured' WHERE booking_id = $1::uuid", sold.failed)


async def a_confirmed_booking_is_unpaid(sold: Sold) -> None:
    await sold.sql("UPDATE payments SET status = 'voided' WHERE booking_id = $1::uuid", sold.confirmed)


async def a_failed_booking_is_paid(sold: Sold) -> None:
    await sold.sql("UPDATE payments SET status = 'captured' WHERE booking_id = $1::uuid", sold.failed)


async def a_refund_is_not_written(sold: Sold) -> None:
    pool = await sold.office.pool()
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1::uuid", sold.confirmed)
    await sold.office.gateway.refund(ids.digest("refund"), key, "", 100)


async def refunded(sold: Sold) -> None:
    """One booking's tickets, worth 20.00, came back, and so did the money."""
    await sold.office.refunds.cancel(CLIENT, sold.confirmed)
    sold.history.entries[0].status = "cancelled"
    await sold.office.pump.work_outbox()


async def it_fails(sold: Sold) -> None:
    """The gateway's refund of 20.00 fails days later."""
    ledger = sold.office.gateway.ledger  # type: ignore[attr-defined]
    ((payment, word),) = [(payment, word) for payment, word in ledger.states.items() if "=2000" in word]
    await ledger.begin(1)
    ledger.put(payment, word.replace(":2000:2000:", ":2000:0:").replace("=2000", "=2000f"), "-", 1)
    ledger.end()


async def a_refund_failed_and_nobody_knows(sold: Sold) -> None:
    await refunded(sold)
    await it_fails(sold)


async def somebody_refunded_in_the_dashboard(sold: Sold) -> None:
    pool = await sold.office.pool()
    key = await pool.fetchval("SELECT payment_key FROM payments WHERE booking_id = $1::uuid", sold.confirmed)
    await sold.office.gateway.refund_at_gateway(key, 300)  # type: ignore[attr-defined]


async def tickets_came_back_and_no_refund_says_so(sold: Sold) -> None:
    await refunded(sold)
    await sold.sql("DELETE FROM refunds")


async def what_is_owed_was_forgotten(sold: Sold) -> None:
    await refunded(sold)
    await sold.sql("UPDATE refunds SET status = 'dropped'")


async def a_refund_is_due_for_ever(sold: Sold) -> None:
    await refunded(sold)
    await sold.sql("UPDATE refunds SET status = 'due', due_since = now() - interval '2 hours'")


async def an_amount_is_not_the_sum(sold: Sold) -> None:
    await sold.sql("UPDATE bookings SET amount_cents = amount_cents + 1 WHERE id = $1::uuid", sold.failed)


async def tickets_came_back_to_a_customer_twice(sold: Sold) -> None:
    owner = ids.owner_digest(CLIENT, "c-key-0")
    await sold.office.redis.hincrby(keys.owners(sold.event.shard, sold.event.id), owner, -1)


async def tickets_of_a_tier_count_for_another(sold: Sold) -> None:
    name, owner = keys.owned_tiers(sold.event.shard, sold.event.id), ids.owner_digest(CLIENT, "c-key-0")
    await sold.office.redis.hset(name, owner, "another:1")  # type: ignore[misc]


async def nobody_has_tickets_of_a_tier(sold: Sold) -> None:
    await sold.office.redis.delete(keys.owned_tiers(sold.event.shard, sold.event.id))


async def tickets_of_a_code_are_not_counted(sold: Sold) -> None:
    await sold.sql("UPDATE bookings SET access_code = $2 WHERE id = $1::uuid", sold.confirmed, "c0de" * 8)


async def a_code_got_tickets_that_nobody_bought(sold: Sold) -> None:
    name = keys.owners(sold.event.shard, sold.event.id)
    await sold.office.redis.hset(name, "k" + "c0de" * 8, 1)  # type: ignore[misc]


async def a_failed_booking_still_waits(sold: Sold) -> None:
    await sold.office.redis.zadd(keys.dead(sold.event.shard), {sold.failed: 1})


async def a_stock_move_was_not_applied(sold: Sold) -> None:
    await sold.sql(
        "INSERT INTO stock_moves (event_id, tier_id, sold_delta) VALUES ($1, $2, -1)", sold.event.id, sold.tier
    )


async def a_card_number_is_logged(sold: Sold) -> None:
    logs = sold.office.settings.data_dir / "logs"
    logs.mkdir()
    (logs / "api.log").write_text("x" * 5_000_000 + f'{{"card": "{GOOD}"}}\n')


async def a_card_number_is_stored(sold: Sold) -> None:
    await sold.sql("UPDATE bookings SET reference = $2 WHERE id = $1::uuid", sold.failed, "4242 4242 4242 4242")


async def a_customer_met_a_500(sold: Sold) -> None:
    sold.history.complain("POST: 500 internal-error")


async def a_booking_is_pending(sold: Sold) -> None:
    await sold.office.redis.zadd(keys.pending(sold.event.shard), {sold.failed: 1})


async def a_ring_was_not_heard(sold: Sold) -> None:
    await sold.office.redis.zadd(keys.arq_queue(sold.event.shard), {"{s01}:ring:9": 1})


async def a_key_lives_for_ever(sold: Sold) -> None:
    await sold.office.redis.set("{s01}:forgotten", 1)


async def a_final_record_lives_for_ever(sold: Sold) -> None:
    await sold.office.redis.persist(keys.booking(sold.event.shard, sold.failed))


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("I1", a_ticket_appears),
        ("I1", a_counter_is_negative),
        ("I2", sold_is_not_what_was_confirmed),
        ("I3", a_sold_ticket_is_on_sale_again),
        ("I3", counters_are_gone),
        ("I4", stores_disagree_about_a_booking),
        ("I4", a_booking_is_undecided),
        ("I4", an_item_has_no_booking),
        ("I4", a_payment_has_no_booking),
        ("I4", an_accepted_booking_is_lost),
        ("I4", a_customer_reads_another_status),
        ("I4", a_customer_waits_for_ever),
        ("I4", nobody_looks_at_a_pending_booking),
        ("I4", a_record_is_unreadable),
        ("I5", a_key_has_two_bookings),
        ("I5", a_refused_key_has_a_booking),
        ("I5", a_payment_key_is_another_ones),
        ("I5", a_key_names_nothing),
        ("I6", the_gateway_holds_money_of_nobody),
        ("I6", the_gateway_took_money_of_nobody),
        ("I6", a_capture_is_only_ours),
        ("I6", a_confirmed_booking_is_unpaid),
        ("I6", a_failed_booking_is_paid),
        ("I6", a_refund_is_not_written),
        ("I6", an_amount_is_not_the_sum),
        ("I10", a_refund_is_not_written),
        ("I10", a_refund_failed_and_nobody_knows),
        ("I10", somebody_refunded_in_the_dashboard),
        ("I10", tickets_came_back_and_no_refund_says_so),
        ("I10", what_is_owed_was_forgotten),
        ("I10", a_refund_is_due_for_ever),
        ("I11", a_confirmation_is_forgotten),
        ("I11", who_was_confirmed_is_failed_without_a_word),
        ("I11", who_was_withdrawn_was_not_told),
        ("I7", tickets_came_back_to_a_customer_twice),
        ("I7", tickets_of_a_tier_count_for_another),
        ("I7", nobody_has_tickets_of_a_tier),
        ("I7", tickets_of_a_code_are_not_counted),
        ("I7", a_code_got_tickets_that_nobody_bought),
        ("I7", a_failed_booking_still_waits),
        ("I7", a_stock_move_was_not_applied),
        ("I8", a_card_number_is_logged),
        ("I8", a_card_number_is_stored),
        ("I8", a_customer_met_a_500),
        ("I9", a_booking_is_pending),
        ("I9", a_ring_was_not_heard),
        ("I9", a_key_lives_for_ever),
        ("I9", a_final_record_lives_for_ever),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_planted_violation_is_reported(sold: Sold, name: str, plant: Plant) -> None:
    await plant(sold)

    findings = await sold.audit()

    assert name in findings.broken
    assert findings[name].evidence


async def test_money_of_nobody_that_was_given_back_breaks_nothing(sold: Sold) -> None:
    """What both stores have forgotten, and the payments audit has refunded."""
    await the_gateway_took_money_of_nobody(sold)
    await sold.office.gateway.refund(ids.digest("back"), ids.digest("stray"), "", 1_000)

    findings = await sold.audit()

    assert {finding.name: finding.evidence for finding in findings if not finding.held} == {}


async def test_what_is_owed_and_known_breaks_nothing(sold: Sold) -> None:
    """It is told: an operator's business, and no broken promise."""
    await refunded(sold)
    await it_fails(sold)
    assert await sold.office.payments_audit.read_reversals() == 1

    findings = await sold.audit()

    assert {finding.name: finding.evidence for finding in findings if not finding.held} == {}
    assert findings["I10"].looked_at == ["refunds: 1 owed (2000)"]


async def test_a_parked_booking_is_listed_apart_and_breaks_only_a_rush(sold: Sold) -> None:
    """An operator's audit tells of it; in a rush nothing is poisonous, so nothing may be parked."""
    name = keys.booking(sold.event.shard, sold.failed)
    raw = await sold.office.redis.get(name)
    assert raw is not None
    await sold.office.redis.set(name, b"P" + raw[1:])
    async for key in sold.office.redis.scan_iter("*:idem:*"):
        if await sold.office.redis.get(key) == sold.failed.encode():
            await sold.office.redis.persist(key)
    await sold.office.redis.hincrby(sold.sale, f"a:{sold.tier}", -2)
    await sold.office.redis.hincrby(sold.sale, f"h:{sold.tier}", 2)
    await sold.office.redis.zadd(keys.dead(sold.event.shard), {sold.failed: 1})
    owner = ids.owner_digest(CLIENT, "c-key-2")
    await shift_owned(sold.office.redis, SHARD, sold.event.id, owner, **{sold.tier: 2})
    await sold.sql("DELETE FROM bookings WHERE id = $1::uuid", sold.failed)
    await sold.sql("DELETE FROM booking_items WHERE booking_id = $1::uuid", sold.failed)
    await sold.sql("DELETE FROM payments WHERE booking_id = $1::uuid", sold.failed)

    operators = await sold.audit(Witness())
    rushs = await sold.audit(Witness(sold.history, parked_is_broken=True))

    assert operators.parked == [sold.failed]
    assert "I9" not in operators.broken
    assert "I4" not in operators.broken
    assert rushs.broken.count("I9") == 1


def remember(sold: Sold, booking: str, status: str) -> None:
    """A customer does."""
    entry = sold.history.open(f"key of {booking}")
    entry.ids.append(booking)
    entry.status = status


async def test_an_unpaid_hold_that_an_older_redis_lacked_is_excused_and_counted(sold: Sold) -> None:
    lost = "01a22900-0000-7000-8000-000000000001"
    remember(sold, lost, "held")
    assert (await sold.audit()).broken == ["I4"], "nobody has said so"

    sold.history.forgotten = frozenset({lost})
    findings = await sold.audit()

    assert findings.held
    assert "1 of them unpaid holds that an older Redis lacked" in "; ".join(findings["I4"].looked_at)


async def test_what_is_excused_as_lost_is_judged_when_it_is_there(sold: Sold) -> None:
    """A booking that somebody knows, or that was told confirmed, is no hold that is lost."""
    booking = sold.confirmed
    sold.history.forgotten = frozenset({booking})
    entry = sold.history.accepted()[booking]
    entry.status = "held"
    assert (await sold.audit()).broken == ["I4"]

    entry.status = "confirmed"
    assert (await sold.audit()).held
    await sold.sql("DELETE FROM bookings WHERE id = $1", booking)
    await sold.office.redis.delete(keys.booking(sold.event.shard, booking))
    assert "I11" in (await sold.audit()).broken


async def test_a_hold_that_redis_has_is_not_excused_as_lost(sold: Sold) -> None:
    """It was cancelled, and its customer last read that it is held."""
    till = Till(sold.office, sold.event, count(100))
    hold = await till.hold(GA=1)
    await till.cancel(hold)
    remember(sold, hold, "held")
    sold.history.forgotten = frozenset({hold})
    assert (await sold.audit()).broken == ["I4"]

    sold.history.accepted()[hold].status = "cancelled"
    assert (await sold.audit()).held


async def test_what_did_not_come_to_rest_is_broken(sold: Sold) -> None:
    findings = await sold.audit(Witness(unrest=["1 pending in shard 0"]))

    assert findings.broken == ["I9"]


async def test_evidence_is_bounded_and_counted(sold: Sold) -> None:
    for number in range(50):
        sold.history.complain(f"POST: 500 number {number}")

    findings = await sold.audit()

    assert findings["I8"].broken == 50
    assert len(findings["I8"].evidence) == 10


async def test_who_is_with_the_bank_is_undecided_not_broken(sold: Sold, settings: Settings) -> None:
    """A customer in 3-D Secure has time; one that nobody ends in time is broken."""
    await book(sold.office, sold.history, sold.tier, "3ds", "4000000000003220")
    booking = sold.history.entries[-1].accepted
    pool = await sold.office.pool()

    async def asked() -> object:
        await sold.office.settlements[sold.event.shard].drain()
        await sold.office.pump.work_given()
        return await pool.fetchval("SELECT 1 FROM payments WHERE status = 'requires_action'")

    await eventually(asked)
    async for job in sold.office.redis.scan_iter("arq:job:*"):
        await sold.office.redis.delete(job)
    for queue in (keys.arq_queue(sold.event.shard), keys.bell(sold.event.shard)):
        await sold.office.redis.delete(queue)

    findings = await audit_alone(settings, 2)
    assert {finding.name: finding.evidence for finding in findings if not finding.held} == {}
    assert findings.undecided == {booking}
    assert f"1 undecided, with time left: {booking}" in "\n".join(lines_of_findings(findings))

    await sold.sql("UPDATE payments SET created_at = now() - interval '1 hour' WHERE status = 'requires_action'")
    late = await audit_alone(settings, 0.1)
    assert {"I4", "I9"} <= set(late.broken)
    assert not late.undecided
