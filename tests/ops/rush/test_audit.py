"""An audit that cannot fail proves nothing: each violation is planted, and the audit names it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from boxoffice import ids
from boxoffice.gateway.base import AuthorizeRequest
from boxoffice.gateway.simulator.deliveries import Tally
from boxoffice.gateway.simulator.signing import event_of
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import fence, keys
from boxoffice.wire.requests import parse_booking
from ops.rush.alone import audit_alone
from ops.rush.audit import Witness, audit
from ops.rush.findings import TITLES, Findings
from ops.rush.history import History
from ops.rush.leak_checks import check_leaks
from ops.rush.record_checks import LASTING
from ops.rush.report import tell_findings
from ops.rush.sampler import Sampler
from tests.conftest import CLIENT, SHARD, SaleMaker, eventually, settle_all
from tests.support.shop.office import Till

GOOD, DECLINED = "4242424242424242", "4000000000000002"


class Sold:
    """A small sale, settled: what a plant may damage."""

    def __init__(self, office: BoxOffice, event: EventView, history: History) -> None:
        self.office = office
        self.event = event
        self.history = history
        self.tier = event.tiers[0].id
        self.sale = keys.event(event.shard, event.id)

    @property
    def confirmed(self) -> str:
        return next(entry.accepted for entry in self.history.entries if entry.status == "confirmed")

    @property
    def failed(self) -> str:
        return next(entry.accepted for entry in self.history.entries if entry.status == "failed")

    async def sql(self, statement: str, *values: object) -> None:
        await (await self.office.pool()).execute(statement, *values)

    async def audit(self, witness: Witness | None = None) -> Findings:
        return await audit(self.office, witness or Witness(self.history))


async def book(office: BoxOffice, history: History, tier: str, key: str, card: str) -> None:
    payment = {"method": "card", "card_name": "Ada", "card_number": card}
    body = {"customer_id": f"c-{key}", "items": [{"tier_id": tier, "quantity": 2}], "payment": payment}
    request = parse_booking(json.dumps(body).encode(), office.settings, office.gateway)
    admitted = await office.admission.book(CLIENT, request, ids.digest(key))
    entry = history.open(key)
    entry.ids.append(admitted.booking_id)
    entry.status = "confirmed" if card == GOOD else "failed"
    entry.confirmed = card == GOOD


@pytest.fixture
async def sold(office: BoxOffice, open_sale: SaleMaker) -> Sold:
    event = await open_sale(GA=100, VIP=10)
    history = History(CLIENT)
    for number, card in enumerate((GOOD, GOOD, DECLINED)):
        await book(office, history, event.tiers[0].id, f"key-{number}", card)
    await settle_all(office)
    for queue in (keys.arq_queue(event.shard), keys.bell(event.shard)):
        await office.redis.delete(queue)
    async for job in office.redis.scan_iter("arq:job:*"):
        await office.redis.delete(job)
    return Sold(office, event, history)


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


Plant = Callable[[Sold], Awaitable[object]]


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
    await sold.office.redis.hincrby(keys.owners(SHARD, sold.event.id), ids.owner_digest(CLIENT, "c-key-2"), 2)
    await sold.sql("DELETE FROM bookings WHERE id = $1::uuid", sold.failed)
    await sold.sql("DELETE FROM booking_items WHERE booking_id = $1::uuid", sold.failed)
    await sold.sql("DELETE FROM payments WHERE booking_id = $1::uuid", sold.failed)

    operators = await sold.audit(Witness())
    rushs = await sold.audit(Witness(sold.history, parked_is_broken=True))

    assert operators.parked == [sold.failed]
    assert "I9" not in operators.broken
    assert "I4" not in operators.broken
    assert rushs.broken.count("I9") == 1


async def heard(sold: Sold) -> Tally:
    """Every webhook that the gateway's steps make, taken in."""
    lines = [line.split(" ") for line in (sold.office.settings.data_dir / "gateway.ledger").read_text().splitlines()]
    events = [event for key, word, _, _ in lines if (event := event_of(key, word))]
    for event in events:
        await sold.office.webhooks.receive("simulator", event)
    return Tally(events=len(events), heard=len(events), repeats=1)


async def a_webhook_of_nothing(sold: Sold) -> None:
    await sold.sql("UPDATE webhook_events SET kind = 'refunded' WHERE kind = 'declined'")


async def an_answered_webhook_is_gone(sold: Sold) -> None:
    await sold.sql("DELETE FROM webhook_events WHERE kind = 'declined'")


async def money_was_taken_twice(sold: Sold) -> None:
    ledger = sold.office.settings.data_dir / "gateway.ledger"
    captured = next(line for line in ledger.read_text().splitlines() if " C:" in line)
    with ledger.open("a") as file:
        file.write(f"{captured}\n")


async def test_webhooks_are_counted(sold: Sold) -> None:
    """Two were confirmed and captured, one declined; one delivery was a repeat."""
    tally = await heard(sold)

    findings = await sold.audit(Witness(sold.history, tally=tally))

    assert findings["I6"].evidence == []
    assert findings["I6"].looked_at[-1] == "5 webhooks taken in of 5, 1 came again"


@pytest.mark.parametrize("plant", [a_webhook_of_nothing, an_answered_webhook_is_gone, money_was_taken_twice])
async def test_what_webhooks_tell_is_held_against_the_gateway(sold: Sold, plant: Plant) -> None:
    tally = await heard(sold)
    await plant(sold)

    findings = await sold.audit(Witness(sold.history, tally=tally))

    assert findings.broken == ["I6"]


@pytest.mark.parametrize(("lost", "broken"), [(0, ["I6"]), (1, []), (None, [])])
async def test_as_many_webhooks_may_be_gone_as_commits_were_lost(
    sold: Sold, lost: int | None, broken: list[str]
) -> None:
    tally = await heard(sold)
    await an_answered_webhook_is_gone(sold)

    findings = await sold.audit(Witness(sold.history, tally=tally, commits_lost=lost))

    assert findings.broken == broken
    assert "1 were lost with PostgreSQL's last commits" in findings["I6"].looked_at[-1]


async def test_a_webhook_too_many_is_never_excused(sold: Sold) -> None:
    tally = await heard(sold)
    await a_webhook_of_nothing(sold)

    assert (await sold.audit(Witness(sold.history, tally=tally, commits_lost=None))).broken == ["I6"]


async def test_stores_are_not_compared_while_one_lacks_what_the_other_was_told(sold: Sold) -> None:
    """PostgreSQL went back: known, and nothing is decided by it. Without that, a difference is one."""
    sampler = Sampler(sold.office.shards, sold.office.settings.database_url, [sold.event])
    await sold.sql("UPDATE inventory SET sold = 0")
    await fence.tell(sold.office.shards[sold.event.shard], fence.Pair(1_000_000, 1))

    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.went_back, sampler.stores_broken) == (0, 1, [])

    await sold.office.redis.srem(keys.told(sold.event.shard), "1000000:1")
    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.went_back) == (1, 1)
    assert sampler.stores_broken
    sampler.hang_up()


async def test_stores_are_not_compared_while_redis_is_unchecked(sold: Sold) -> None:
    """It may have gone back, and decides nothing. Once a guard has opened its gate, a difference is one."""
    office = sold.office
    sampler = Sampler(office.shards, office.settings.database_url, [sold.event])
    await sold.sql("UPDATE inventory SET sold = 0")
    gate = await office.redis.get(keys.gate(sold.event.shard))
    await office.redis.set(keys.gate(sold.event.shard), "first:of another run")

    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.unchecked, sampler.stores_broken) == (0, 1, [])

    assert gate is not None
    await office.redis.set(keys.gate(sold.event.shard), gate)
    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.unchecked) == (1, 1)
    assert sampler.stores_broken
    sampler.hang_up()


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


class Meanwhile(Sampler):
    """A booking is cancelled as soon as PostgreSQL was asked for the second time, and before Redis is."""

    sale: Sold
    asked = 0

    async def sold(self, event: EventView) -> dict[str, Any]:
        found = await super().sold(event)
        self.asked += 1
        if self.asked == 2:
            await self.sale.office.cancellations.cancel(CLIENT, self.sale.confirmed)
        return found


async def test_a_cancellation_between_two_looks_is_no_difference(sold: Sold) -> None:
    sampler = Meanwhile(sold.office.shards, sold.office.settings.database_url, [sold.event])
    sampler.sale = sold

    await sampler.compare(sold.event, 1.0)
    assert (sampler.compared, sampler.stores_broken) == (0, [])

    await sampler.compare(sold.event, 2.0)
    assert (sampler.compared, sampler.stores_broken) == (1, [])
    sampler.hang_up()


async def test_what_did_not_come_to_rest_is_broken(sold: Sold) -> None:
    findings = await sold.audit(Witness(unrest=["1 pending in shard 0"]))

    assert findings.broken == ["I9"]


async def test_samples_testify(sold: Sold) -> None:
    sampler = Sampler(sold.office.shards, "", [sold.event])
    sampler.sums_broken.append("after 1 s: tier x a=1 h=0 c=0 t=2")
    sampler.stores_broken.append("after 1 s: tier x c=2 sold=1 c+h=3")

    findings = await sold.audit(Witness(sampler=sampler))

    assert findings.broken == ["I1", "I3"]


@pytest.mark.parametrize("went_back", [False, True])
async def test_a_surplus_is_excused_by_an_older_redis_alone(sold: Sold, went_back: bool) -> None:
    """Holds that it brought back stand beside tickets sold since. A sum that is wrong, or too many sold, is never excused."""
    sale, tier = keys.event(sold.event.shard, sold.event.id), sold.event.tiers[0].id
    sampler = Sampler(sold.office.shards, sold.office.settings.database_url, [sold.event])
    sold.history.redis_went_back = went_back
    before = await sold.office.redis.hgetall(sale)  # type: ignore[misc]
    await sold.office.redis.hset(sale, mapping={f"a:{tier}": -1, f"h:{tier}": 3, f"c:{tier}": 8, f"t:{tier}": 10})  # type: ignore[misc]
    await sampler.count(sold.event, 1.0)
    await sold.office.redis.hset(sale, mapping=before)  # type: ignore[misc]
    assert (sampler.sums_broken, len(sampler.surplus)) == ([], 1)
    assert (await sold.audit(Witness(sold.history, sampler))).broken == ([] if went_back else ["I1"])

    for counters in ((-1, 3, 8, 9), (-1, -1, 12, 10), (-1, 0, 11, 10), (-3, 2, 11, 10), (0, -1, 11, 10)):
        await sold.office.redis.hset(  # type: ignore[misc]
            sale, mapping={f"{letter}:{tier}": n for letter, n in zip("ahct", counters, strict=True)}
        )
        await sampler.count(sold.event, 1.0)
        assert f"a={counters[0]} h={counters[1]} c={counters[2]} t={counters[3]}" in sampler.sums_broken.pop()


async def test_evidence_is_bounded_and_counted(sold: Sold) -> None:
    for number in range(50):
        sold.history.complain(f"POST: 500 number {number}")

    findings = await sold.audit()

    assert findings["I8"].broken == 50
    assert len(findings["I8"].evidence) == 10


def test_every_key_that_says_no_ttl_may_last_and_no_other() -> None:
    """arq's own job keys are looked at by their rings."""
    for name in set(keys.__all__) - {"shard_tag", "arq_job"}:
        function = getattr(keys, name)
        arguments = inspect.signature(function).parameters
        key = function(*(0 if argument == "shard" else "x1" for argument in arguments))
        assert bool(LASTING.fullmatch(key)) is ("No TTL" in " ".join((function.__doc__ or "").split())), name


def test_secrets_are_found_wherever_they_stand_and_numbers_by_themselves(tmp_path: Path) -> None:
    """Half of them begin alike; a number within a longer one is another number."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "api.log").write_text(f'x{GOOD}x {DECLINED}, 1{GOOD} {GOOD}1 rush-1-rush-2-key "rush-"')
    findings = Findings()

    check_leaks(tmp_path, ["rush-1-", "rush-2-"], None, findings)

    assert findings["I8"].broken == 4


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
    assert f"1 undecided, with time left: {booking}" in "\n".join(tell_findings(findings))

    await sold.sql("UPDATE payments SET created_at = now() - interval '1 hour' WHERE status = 'requires_action'")
    late = await audit_alone(settings, 0.1)
    assert {"I4", "I9"} <= set(late.broken)
    assert not late.undecided
