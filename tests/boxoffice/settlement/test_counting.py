"""What a batch and its commits add, in numbers."""

from __future__ import annotations

from boxoffice.books.decisions import CONFIRM, DECIDED, DUPLICATE, NEW, OPEN, Decision, Standing
from boxoffice.settlement.counting import count_batch, count_commit
from boxoffice.stores.record import Payload
from boxoffice.telemetry.series import ACCEPT_TO_COMMIT, BATCH_SECONDS
from tests.support.settling import NOW, batch_of, claimed
from tests.support.telling import change


def decided(
    status: str, failure: str | None = None, standing: Standing = NEW, *, waited_ms: int = 0, deadline_ms: int = 0
) -> Decision:
    claim = claimed()
    claim.record.admitted_ms, claim.record.deadline_ms = NOW - waited_ms, deadline_ms
    return Decision(claim, CONFIRM, Payload(), 0, standing, status, failure)


def test_a_commit_counts_what_it_decided_and_how_long_that_took() -> None:
    """From the admission to the claim, by Redis's clock, and from there by ours; nothing of holds, of what is not over, and of
    what was decided before."""
    decisions = [
        decided("confirmed", waited_ms=1_000),
        decided("confirmed", None, OPEN, waited_ms=4_000),
        decided("failed", "payment_declined", waited_ms=3_000),
        decided("failed", "duplicate", DUPLICATE, waited_ms=2_000),
        decided("held", None, OPEN, deadline_ms=NOW + 5, waited_ms=90_000),
        decided("confirmed", None, OPEN, deadline_ms=NOW + 5, waited_ms=90_000),
        decided("pending", None, OPEN, waited_ms=90_000),
        decided("confirmed", None, DECIDED, waited_ms=90_000),
    ]
    batch = batch_of(*[each.claim for each in decisions])
    batch.claimed_s = 50.0
    before = ACCEPT_TO_COMMIT.cell().total
    with change() as changes:
        count_commit(batch, decisions, now_s=50.25)
    assert changes == {
        "settlements confirmed ": 3, "settlements failed payment_declined": 1, "settlements failed duplicate": 1,
        "settlements held ": 1, "settlements pending ": 1, "accept_to_commit_seconds": 4,
    }  # fmt: skip
    assert ACCEPT_TO_COMMIT.cell().total - before == 1 + 4 + 3 + 2 + 4 * 0.25


def test_a_batch_counts_from_its_claim() -> None:
    batch = batch_of(claimed(), claimed())
    batch.claimed_s = 50.0
    before = BATCH_SECONDS.cell().total
    with change() as changes:
        count_batch(batch, now_s=50.75)
    assert changes == {
        "settlement_batch_bookings": 1,
        "settlement_batch_bookings.sum": 2,
        "settlement_batch_seconds": 1,
    }
    assert BATCH_SECONDS.cell().total - before == 0.75
