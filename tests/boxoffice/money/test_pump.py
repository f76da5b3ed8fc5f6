"""The outboxes of the money pump: captures, voids, refunds, looks. What is due is claimed for a while by one worker, asked
for once, and put off alone when nobody can say what became of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from boxoffice import ids
from boxoffice.books import payments
from boxoffice.gateway.base import (
    AlreadyCaptured,
    CaptureRequest,
    Done,
    NotFound,
    Unknown,
)
from boxoffice.gateway.webhooks import GatewayEvent
from boxoffice.money import pump
from boxoffice.money.patience import Patience
from boxoffice.settings import GatewaySettings
from boxoffice.stores import keys
from tests.support.dues import CALLS, TABLES, Gateway, paused, row_of, stored, two_due
from tests.support.shop.office import Till

KINDS = pytest.mark.parametrize("kind", CALLS)


# ------------------------------------------------------------------ claimed


@KINDS
async def test_while_it_is_asked_for_nobody_else_asks(till: Till, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Its lease lasts as long as a worker's, its try is counted, and another pump finds nothing to do."""
    due = await two_due(till, kind)
    gateway = Gateway(till, monkeypatch, kind)
    others: list[int] = []

    async def meanwhile(payment_key: str) -> Unknown:
        row = await row_of(till, kind, payment_key)
        lease_s = till.office.settings.worker.lease_ms / 1_000
        assert lease_s / 2 < row["lease_s"] <= lease_s
        assert row["tries"] == 1
        others.append(await till.office.pump.work_outbox())
        return Unknown("timeout")

    gateway.answer = meanwhile
    await till.office.pump.work_outbox()

    assert sorted(gateway.asked) == sorted(due)
    assert others == [0, 0]
    monkeypatch.undo()
    await till.pump()


@KINDS
async def test_no_transaction_is_open_while_the_gateway_is_asked(
    till: Till, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A gateway may take its time: what is held meanwhile is a lease, no session and no row."""
    due = await two_due(till, kind)
    gateway = Gateway(till, monkeypatch, kind)
    waiting: list[int] = []

    async def meanwhile(payment_key: str) -> Unknown:
        waiting.append(
            await till.office.database.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE state LIKE 'idle in transaction%' AND datname = current_database()"
            )
        )
        return Unknown("timeout")

    gateway.answer = meanwhile
    await till.office.pump.work_outbox()
    assert (len(gateway.asked), waiting) == (len(due), [0] * len(due))
    monkeypatch.undo()
    await till.pump()


@KINDS
@pytest.mark.parametrize("how", ["due later", "leased"])
async def test_only_what_is_due_and_free_is_claimed(
    till: Till, monkeypatch: pytest.MonkeyPatch, kind: str, how: str
) -> None:
    """The other's row stays as it is, to the last field."""
    mine, other = await two_due(till, kind)
    pool = await till.office.pool()
    later = "due_at" if how == "due later" else "leased_until"
    await pool.execute(f"UPDATE {TABLES[kind]} SET {later} = now() + interval '1 hour' WHERE payment_key = $1", other)
    before = await stored(till, kind, other)
    gateway = Gateway(till, monkeypatch, kind)

    await till.office.pump.work_outbox()

    assert gateway.asked == [mine]
    assert await stored(till, kind, other) == before
    await pool.execute(f"UPDATE {TABLES[kind]} SET {later} = now() - interval '1 second' WHERE payment_key = $1", other)
    await till.office.pump.work_outbox()
    assert other in gateway.asked
    monkeypatch.undo()
    await till.pump()


@KINDS
async def test_the_oldest_is_asked_for_first(till: Till, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """And no more than may be claimed at once, whichever row comes first in the table."""
    first, second = await two_due(till, kind)
    pool = await till.office.pool()
    older = f"UPDATE {TABLES[kind]} SET due_at = now() - interval '2 hours' WHERE payment_key = $1"
    gateway = Gateway(till, monkeypatch, kind)
    monkeypatch.setattr(pump, "CLAIM_MAX", 1)
    due = "" if kind == "look" else " WHERE due_at IS NOT NULL"
    for oldest in (second, first) * 3:
        await pool.execute(f"UPDATE {TABLES[kind]} SET due_at = now() - interval '1 hour', leased_until = NULL{due}")
        await pool.execute(older, oldest)
        gateway.asked.clear()
        await till.office.pump.work_outbox()
        assert gateway.asked == [oldest]
    monkeypatch.undo()
    await till.pump()


# ------------------------------------------------------------------ nobody knows, or it is done


@KINDS
async def test_only_what_nobody_knows_is_put_off(till: Till, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It is due again after a pause, since the same moment, and free; what was done beside it is not."""
    lost, done = await two_due(till, kind)
    before = await stored(till, kind, lost)
    gateway = Gateway(till, monkeypatch, kind)

    async def one_is_lost(payment_key: str) -> Unknown | None:
        return Unknown("timeout") if payment_key == lost else None

    gateway.answer = one_is_lost
    assert await paused(till, kind, lost, 0.8, 1.0)

    row = await row_of(till, kind, lost)
    assert (row["tries"], row["leased_until"]) == (1, None)
    changed = {"tries", "due_at", "updated_at", "leased_until"}
    after = await stored(till, kind, lost)
    assert {name for name in before if before[name] != after[name]} <= changed
    match kind:
        case "look":
            assert await stored(till, kind, done) == {}
        case "refund":
            assert (await stored(till, kind, done))["status"] == "succeeded"
        case _:
            row = await stored(till, kind, done)
            assert row["status"] == ("captured" if kind == "capture" else "voided")
            assert [row[name] for name in ("due", "due_at", "due_since", "leased_until")] == [None] * 4
    monkeypatch.undo()
    await till.pump()


@KINDS
async def test_the_pause_grows_with_each_try_up_to_its_limit(
    till: Till, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lost, _ = await two_due(till, kind)
    Gateway(till, monkeypatch, kind)
    pool = await till.office.pool()
    for tries, least_s, most_s in ((0, 0.8, 1.0), (4, 12.8, 16), (8, 204.8, 256), (50, 240, 300)):
        await pool.execute(f"UPDATE {TABLES[kind]} SET tries = $1, due_at = now() WHERE payment_key = $2", tries, lost)
        assert await paused(till, kind, lost, least_s, most_s)
    monkeypatch.undo()
    await till.pump()


@pytest.mark.parametrize("tries", range(12))
def test_a_pause_is_within_its_bounds(tries: int) -> None:
    """Doubled with each try, never longer than its limit, and a fifth of it is chance."""
    patience = Patience(GatewaySettings(retry_s=0.5, retry_max_s=300.0))
    whole_ms = 1_000 * min(0.5 * 2**tries, 300.0)
    drawn = [patience.pause_ms(tries) for _ in range(200)]
    assert 0.8 * whole_ms - 1 <= min(drawn) < 0.9 * whole_ms < max(drawn) <= whole_ms


def test_what_nobody_knows_is_told_at_its_first_try_and_what_took_longer_when_it_is_known() -> None:
    patience = Patience(GatewaySettings())
    with structlog.testing.capture_logs() as said:
        for tries in range(4):
            patience.unknown("void", f"key-{tries}", "timeout", tries)
            patience.known("void", f"key-{tries}", tries)
    assert [(line["event"], line["key"]) for line in said] == [
        ("money.unknown", "key-0"), ("money.unknown", "key-1"), ("money.known", "key-2"), ("money.known", "key-3"),
    ]  # fmt: skip


# ------------------------------------------------------------------ captures


async def test_lists_fall_apart_when_their_lease_ends(till: Till) -> None:
    """Of two lists one has lapsed: its captures are due now, if they are still to be made and in nobody's hands."""
    bookings = [await till.book(GA=1) for _ in range(5)]
    await till.drain()
    till.office.pump.given.clear()
    pool = await till.office.pool()
    made = await till.fetch("SELECT payment_key FROM payments ORDER BY payment_key")
    mine, put_off, refused, captured, other = (row[0] for row in made)
    await pool.execute("DELETE FROM captures")
    await pool.execute(
        "INSERT INTO captures (payment_keys, leased_until) VALUES ($1, now() - interval '1 s'), ($2, now() + interval '1 h')",
        [mine, put_off, refused, captured], [other],
    )  # fmt: skip
    await pool.execute("UPDATE payments SET due_at = now() + interval '1 hour' WHERE payment_key = $1", put_off)
    await pool.execute("UPDATE payments SET due = 'void', status = 'failed' WHERE payment_key = $1", refused)
    await pool.execute("UPDATE payments SET due = NULL, status = 'captured' WHERE payment_key = $1", captured)
    before = {key: await stored(till, "capture", key) for key in (put_off, refused, captured, other)}

    await payments.unlist_lapsed(pool, 10)

    assert -600 < (await row_of(till, "capture", mine))["due_s"] <= 0
    assert {key: await stored(till, "capture", key) for key in before} == before
    assert [row[0] for row in await till.fetch("SELECT payment_keys FROM captures")] == [[other]]
    assert len(bookings) == 5


async def test_a_list_that_was_worked_off_is_gone_though_nothing_was_captured(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its lease would end, and everything in it would be due at once whatever its pause."""
    await till.book(GA=1)
    await till.drain()
    gateway = Gateway(till, monkeypatch, "capture")
    await till.office.pump.work_given()
    assert len(gateway.asked) == 1
    assert await till.fetch("SELECT 1 FROM captures") == []
    monkeypatch.undo()
    await till.pump()


@pytest.mark.parametrize(
    ("kind", "answer"), [("capture", Done("r")), ("void", Done("r")), ("void", Unknown("timeout"))]
)
async def test_an_answer_changes_only_what_is_still_due(
    till: Till, monkeypatch: pytest.MonkeyPatch, kind: str, answer: Any
) -> None:
    """While the gateway was asked, somebody else ended it, or decided otherwise."""
    mine, other = await two_due(till, kind)
    gateway = Gateway(till, monkeypatch, kind)
    pool = await till.office.pool()
    due = "void" if kind == "capture" else "capture"
    seen: dict[str, Any] = {}

    async def meanwhile(payment_key: str) -> Any:
        await pool.execute(
            "UPDATE payments SET due = NULL, due_at = NULL, due_since = NULL, leased_until = NULL WHERE payment_key = $1",
            mine,
        )
        if not isinstance(answer, Unknown):
            await pool.execute("UPDATE payments SET due = $2, due_at = NULL WHERE payment_key = $1", other, due)
        else:
            await pool.execute("UPDATE payments SET due = NULL, due_at = NULL WHERE payment_key = $1", other)
        for key in (mine, other):
            seen[key] = await stored(till, kind, key)
        return answer

    gateway.answer = meanwhile
    await till.office.pump.work_outbox()

    assert {key: await stored(till, kind, key) for key in (mine, other)} == seen


@pytest.mark.parametrize("hours", [1, 23, 25])
async def test_a_payment_that_nobody_knows_is_looked_for_for_a_day(
    till: Till, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    mine, _ = await two_due(till, "void")
    await (await till.office.pool()).execute(
        "UPDATE payments SET status = 'unknown', created_at = now() - $1 * interval '1 hour'", hours
    )
    with monkeypatch.context() as patch:

        async def unheard(*_: object) -> NotFound:
            return NotFound()

        patch.setattr(till.gateway, "lookup", unheard)
        patch.setattr(till.gateway, "void", unheard)
        await till.office.pump.work_outbox()
    row = await stored(till, "void", mine)
    assert (row["status"], row["due"]) == (("failed", None) if hours > 24 else ("unknown", "void"))


@pytest.mark.parametrize(
    ("status", "ends"),
    [("unknown", "failed"), ("requires_action", "voided"), ("authorized", "voided"), ("failed", "voided")],
)
async def test_what_was_let_go_says_so(till: Till, monkeypatch: pytest.MonkeyPatch, status: str, ends: str) -> None:
    """A payment of which nobody knew whether there was any has failed; another is voided. It is no late money."""
    mine, _ = await two_due(till, "void")
    await (await till.office.pool()).execute("UPDATE payments SET status = $1", status)
    with monkeypatch.context() as patch:

        async def unheard(*_: object) -> NotFound:
            return NotFound()

        patch.setattr(till.gateway, "lookup", unheard)
        await till.office.pump.work_outbox()
    row = await stored(till, "void", mine)
    assert (row["status"], row["due"], row["failure_code"]) == (ends, None, None)
    assert (await till.gateway.lookup(mine, None)).status == "voided"  # type: ignore[union-attr]


@pytest.mark.parametrize("due_status", ["unknown", "requires_action"])
@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize(
    ("status", "why", "told"),
    [
        ("failed", "payment_unavailable", "paid_too_late"),
        ("expired", "payment_unavailable", "paid_too_late"),
        ("failed", "withdrawn", "withdrawn"),
        ("cancelled", "cancelled", "cancelled"),
    ],
)
async def test_money_that_shows_up_too_late_is_told_of(
    till: Till, due_status: str, taken: bool, status: str, why: str, told: str
) -> None:
    """Set aside or taken: it goes back, its payment says why, and so does a booking that had failed for want of it."""
    mine, other = await two_due(till, "void")
    pool = await till.office.pool()
    await pool.execute(
        "UPDATE payments SET due = NULL, due_at = NULL, leased_until = NULL WHERE payment_key = $1", other
    )
    await pool.execute("UPDATE payments SET status = $1 WHERE payment_key = $2", due_status, mine)
    await pool.execute("UPDATE bookings SET status = $1, failure_code = $2", status, why)
    (booking,) = await till.fetch("SELECT booking_id::text FROM payments WHERE payment_key = $1", mine)
    await till.office.redis.delete(keys.booking(ids.shard_of(booking[0]), booking[0]))
    if taken:
        await till.gateway.capture(mine, "", 1_000)
    before = await stored(till, "void", other)

    await till.office.pump.work_outbox()
    await till.office.pump.work_outbox()

    row = await stored(till, "void", mine)
    assert (row["status"], row["failure_code"], row["due"]) == (
        "captured" if taken else "voided", "paid_too_late", None,
    )  # fmt: skip
    found = await till.gateway.lookup(mine, None)
    assert (found.status, found.refunded_cents) == (  # type: ignore[union-attr]
        ("captured", 1_000) if taken else ("voided", 0)
    )
    rows = await till.fetch("SELECT id::text, failure_code FROM bookings")
    assert {row[0]: row[1] for row in rows} == {row[0]: told if row[0] == booking[0] else why for row in rows}
    assert await stored(till, "void", other) == before


async def test_a_hold_may_be_revived_with_the_card_it_was_paid_with(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the payment's row says of the card is what the revived booking is settled with."""
    mine, _ = await two_due(till, "void")
    await (await till.office.pool()).execute("UPDATE payments SET status = 'unknown'")
    revived: list[tuple[Any, ...]] = []

    async def revive(booking: str, payment_key: str, charge: Any) -> bool:
        revived.append((booking, payment_key, charge.method, charge.token, charge.card_name, charge.last4))
        return True

    monkeypatch.setattr(till.office.pump.late, "revive", revive)
    assert await paused(till, "void", mine, 5, 5)
    row = await row_of(till, "void", mine)
    assert (str(row["booking_id"]), mine, "card", "tok_ok_4242", "Ada Lovelace", "4242") in revived
    assert (row["due"], row["status"]) == ("void", "unknown"), "settlement is to end it"
    assert (await till.gateway.lookup(mine, None)).status == "authorized"  # type: ignore[union-attr]


# ------------------------------------------------------------------ news of the gateway


async def test_news_hasten_their_own_payment_once(till: Till) -> None:
    """What was due later is due now; a repeat of the message, or news of another payment, changes nothing."""
    mine, other = await two_due(till, "void")
    pool = await till.office.pool()
    await pool.execute("UPDATE payments SET due_at = now() + interval '1 hour'")
    before = await stored(till, "void", other)
    event = GatewayEvent("evt_1", "authorized", mine, None)

    assert await till.office.webhooks.receive("simulator", event)
    row = await row_of(till, "void", mine)
    assert row["due_s"] <= 0
    assert row["due"] == "void"
    assert await stored(till, "void", other) == before

    await pool.execute("UPDATE payments SET due_at = now() + interval '1 hour'")
    before = await stored(till, "void", mine)
    assert not await till.office.webhooks.receive("simulator", event)
    assert await stored(till, "void", mine) == before
    await pool.execute("UPDATE payments SET due_at = now() - interval '1 hour'")
    await till.office.webhooks.receive("simulator", GatewayEvent("evt_2", "authorized", mine, None))
    assert (await row_of(till, "void", mine))["due_s"] < -3_000, "and what is overdue keeps its turn"


@pytest.mark.parametrize(
    "kind", ["authorized", "captured", "declined", "voided", "requires_action", "refunded", "other"]
)
@pytest.mark.parametrize("status", ["failed", "voided", "captured", "declined"])
async def test_only_money_that_was_given_up_is_looked_for_again(till: Till, status: str, kind: Any) -> None:
    """A payment that failed, of which the gateway says that there is money after all, and no other."""
    booking = await till.book(GA=1)
    await till.rest()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    await (await till.office.pool()).execute("UPDATE payments SET status = $1", status)

    await till.office.webhooks.receive("simulator", GatewayEvent("evt_1", kind, payment[0], None))

    (row,) = await till.fetch("SELECT due, due_at IS NOT NULL, due_since IS NOT NULL FROM payments")
    again = status == "failed" and kind in ("authorized", "captured")
    assert tuple(row) == (("void", True, True) if again else (None, False, False))
    assert bool(await till.fetch("SELECT 1 FROM looks")) == (kind == "refunded")
    assert await till.state(booking) == "C confirmed"


@pytest.mark.parametrize("kind", ["refunded", "refund_failed", "disputed"])
async def test_news_of_what_went_back_begin_anew(till: Till, kind: Any) -> None:
    """A look that was put off, or is under way, is due now, free, and as if it were the first. The other's is not."""
    mine, other = await two_due(till, "look")
    await (await till.office.pool()).execute(
        "UPDATE looks SET due_at = now() + interval '1 hour', leased_until = now() + interval '1 hour', tries = 7"
    )
    before = await stored(till, "look", other)

    await till.office.webhooks.receive("simulator", GatewayEvent("evt_9", kind, mine, None))

    row = await row_of(till, "look", mine)
    assert (row["leased_until"], row["tries"]) == (None, 0)
    assert row["due_s"] <= 0
    assert await stored(till, "look", other) == before


async def test_a_look_that_was_overtaken_ends_nothing(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease was ended by news: neither does it take the look away, nor put it off."""
    mine, other = await two_due(till, "look")
    gateway = Gateway(till, monkeypatch, "look")
    answers: list[Any] = [NotFound(), Unknown("timeout")]
    pool = await till.office.pool()

    async def meanwhile(payment_key: str) -> Any:
        await pool.execute("UPDATE looks SET leased_until = NULL, due_at = now() - interval '1 minute'")
        return answers.pop()

    gateway.answer = meanwhile
    await till.office.pump.work_outbox()

    assert len(gateway.asked) == 2
    for key in (mine, other):
        assert (await row_of(till, "look", key))["due_s"] < -30


async def test_a_pending_refund_is_looked_at_later(till: Till) -> None:
    """After a first pause, and then until it has ended."""
    booking = await till.book("tok_refund_pending", GA=1)
    await till.rest()
    await till.cancel(booking)
    await till.sooner()
    (payment,) = await till.fetch("SELECT payment_key FROM payments")
    assert await paused(till, "look", payment[0], 0.4, 0.5)
    row = await stored(till, "refund", payment[0])
    assert (row["status"], row["leased_until"], row["failure_code"]) == ("pending", None, "processing")
    await till.pump()
    assert (await stored(till, "refund", payment[0]))["status"] == "succeeded"


async def test_voiding_what_was_captured_gives_it_back(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway says so only when it is asked to let it go."""
    mine, _ = await two_due(till, "void")
    gateway = Gateway(till, monkeypatch, "void")
    await till.gateway.capture_batch([CaptureRequest(mine, "", 1_000)])

    async def taken(payment_key: str) -> Any:
        return AlreadyCaptured(1_000) if payment_key == mine else None

    gateway.answer = taken
    await till.office.pump.work_outbox()
    row = await stored(till, "void", mine)
    assert (row["status"], row["failure_code"], row["due"], row["refunded_cents"]) == (
        "captured", "paid_too_late", None, 1_000,
    )  # fmt: skip
    rows = await till.fetch("SELECT payment_key, amount_cents, status FROM refunds")
    assert [tuple(row) for row in rows] == [(mine, 1_000, "due")]


async def test_a_payment_that_another_worker_is_claiming_is_left_to_it(till: Till) -> None:
    """Nobody waits for the other's transaction, and the rest is done."""
    first, _ = await two_due(till, "capture")
    pool = await till.office.pool()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM payments WHERE payment_key = $1 FOR UPDATE", first)
        async with asyncio.timeout(20):
            assert await till.office.pump.work_outbox() == 1
    assert await till.office.pump.work_outbox() == 1
