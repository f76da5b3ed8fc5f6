"""What counting costs a booking: the additions for an admission call and for a batch, shared out among their bookings.

    python -m bench.counting [--members 64] [--bookings 500]

On, and switched off by `telemetry.count`. No server is asked; a second or two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from api.counting import Route
from boxoffice.admission.counting import count_call
from boxoffice.admission.forms import Admitted
from boxoffice.books.decisions import CONFIRM, NEW, Claimed, Decision, Terms
from boxoffice.errors import SoldOut
from boxoffice.settlement.batch import Batch
from boxoffice.settlement.counting import count_batch, count_commit
from boxoffice.stores.record import Body, Payload, Record
from boxoffice.telemetry.metrics import REGISTRY

__all__ = ["Cost", "main", "measure"]

ROUNDS = 5
"""Of which the fastest counts: the others were disturbed."""


class Cost(NamedTuple):
    """Nanoseconds a booking."""

    part: str
    on_ns: float
    off_ns: float


class _Form(NamedTuple):
    since: float


def _admission(members: int) -> Callable[[], None]:
    """A call of which nine in ten are let in."""
    event: Any = None
    admitted, sold_out = Admitted(b"{}", "id", event, [1], False, "pending"), SoldOut()
    answers: Any = [sold_out if n % 10 == 9 else admitted for n in range(members)]
    forms: Any = [_Form(n / 10_000) for n in range(members)]

    def work() -> None:
        if REGISTRY.counts:
            count_call(forms, answers, 0.01, 0.02)

    return work


def _settlement(bookings: int) -> Callable[[], None]:
    """A batch that is confirmed but for one in ten."""
    body = Body("shop", "ada", 1_000, "USD", ())
    decisions = []
    for n in range(bookings):
        record = Record(f"id{n}", "P", n, 1_000 + n // 64, 0, "=", "s", "f", "e", "o", "t:1", "0", body, Payload())
        status, failure = ("confirmed", None) if n % 10 else ("failed", "payment_declined")
        decisions.append(Decision(Claimed(record, b"", 0), CONFIRM, Payload(), 0, NEW, status, failure))
    batch = Batch([decision.claim for decision in decisions], Terms(2_000, 600_000), claimed_s=1.0)

    def work() -> None:
        if REGISTRY.counts:
            count_commit(batch, decisions, 1.1)
        if REGISTRY.counts:
            count_batch(batch, 1.2)

    return work


def _answers(members: int) -> Callable[[], None]:
    """Each booking's answer, in the lane."""
    route = Route("POST", "/bench")

    def work() -> None:
        for _ in range(members):
            if REGISTRY.counts:
                route.count(202)

    return work


def _each_ns(work: Callable[[], None], bookings: int, times: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = perf_counter()
        for _ in range(times):
            work()
        best = min(best, perf_counter() - began)
    return 1e9 * best / times / bookings


def measure(members: int = 64, bookings: int = 500, times: int = 500) -> list[Cost]:
    """Each part on and off. Leaves the switch as it was."""
    parts = {
        "an admission call": (_admission(members), members),
        "a settled batch": (_settlement(bookings), bookings),
        "the answers": (_answers(members), members),
    }
    was, found = REGISTRY.counts, []
    try:
        for part, (work, size) in parts.items():
            each = {}
            for counts in (True, False):
                REGISTRY.counts = counts
                each[counts] = _each_ns(work, size, times)
            found.append(Cost(part, each[True], each[False]))
    finally:
        REGISTRY.counts = was
    return found


def main() -> None:
    """Print them, and their sum."""
    parser = argparse.ArgumentParser(prog="python -m bench.counting", description=__doc__)
    parser.add_argument("--members", type=int, default=64, help="bookings of an admission call")
    parser.add_argument("--bookings", type=int, default=500, help="bookings of a batch")
    options = parser.parse_args()
    costs = measure(options.members, options.bookings)
    print(f"{'ns a booking':20} {'on':>8} {'off':>8}")
    for cost in [*costs, Cost("in all", sum(each.on_ns for each in costs), sum(each.off_ns for each in costs))]:
        print(f"{cost.part:20} {cost.on_ns:8.1f} {cost.off_ns:8.1f}")


if __name__ == "__main__":
    main()
