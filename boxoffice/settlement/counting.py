"""What is counted of a batch, and of each commit of it: once for all of its bookings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from boxoffice.books.decisions import DECIDED, Decision
from boxoffice.settlement.batch import Batch
from boxoffice.telemetry.series import ACCEPT_TO_COMMIT, BATCH_BOOKINGS, BATCH_SECONDS, SETTLED

__all__ = ["count_batch", "count_commit"]

_bookings, _batch_s, _accept_to_commit_s = BATCH_BOOKINGS.cell(), BATCH_SECONDS.cell(), ACCEPT_TO_COMMIT.cell()


_outcome: Final = attrgetter("status", "failure")


def count_batch(batch: Batch, now_s: float) -> None:
    """It is over, well or badly."""
    _bookings.add(len(batch.claims))
    _batch_s.add(now_s - batch.claimed_s)


def count_commit(batch: Batch, decisions: Sequence[Decision], now_s: float) -> None:
    """A commit has written these of the batch. What was decided before is not counted again."""
    decided = [decision for decision in decisions if decision.standing is not DECIDED]
    for (outcome, reason), count in Counter(map(_outcome, decided)).items():
        SETTLED.cell(outcome, reason or "").add(count)
    now_ms = batch.terms.now_ms + 1_000 * (now_s - batch.claimed_s)
    admitted = [
        each.claim.record.admitted_ms
        for each in decided
        if each.status != "pending" and not each.claim.record.deadline_ms
    ]
    # Those of one admission call came in at one time.
    for admitted_ms, count in Counter(admitted).items():
        _accept_to_commit_s.add((now_ms - admitted_ms) / 1_000, count)
