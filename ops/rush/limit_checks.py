"""The audit's look at selling rules and access codes: I13. Counted by what was agreed before the rush and by what customers
remember, from bookings in PostgreSQL and those that are open in Redis; the counters of the scripts are I7's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from boxoffice import ids
from ops.rush.agreed import Agreed
from ops.rush.findings import Finding, Findings
from ops.rush.history import History
from ops.rush.operating import Changes
from ops.rush.stock_checks import OpenBookings, Pool

__all__ = ["check_limits"]

SLACK_S: Final = 0.02
"""Times of admission are whole milliseconds of another process's clock."""

_BOOKED: Final = """
SELECT b.id::text AS id, b.event_id AS event, b.client_id AS client, b.customer_id AS customer, b.access_code AS code,
       extract(epoch FROM b.created_at)::float8 AS admitted, i.tier_id AS tier, i.quantity,
       CASE b.status WHEN 'confirmed' THEN i.quantity - i.refunded ELSE 0 END AS kept
FROM bookings b JOIN booking_items i ON i.booking_id = b.id WHERE b.event_id = ANY($1::text[])
"""


async def check_limits(
    pool: Pool, agreed: Agreed, history: History, changes: Changes | None, opened: OpenBookings, *, went_back: bool,
    findings: Findings,
) -> None:  # fmt: skip
    """`went_back`: a store did meanwhile, and may have forgotten that a code was revoked. An older Redis brings back holds
    that had ended, whose tickets others may have by then: it is excused of sums."""
    finding = findings["I13"]
    rows = await pool.fetch(_BOOKED, list(agreed.presale))
    revoked = changes.revoked if changes else {}
    _check_codes(rows, agreed, history, {} if went_back else revoked, finding)
    _check_bookings(rows, agreed, finding)
    has = _tickets(rows, opened)
    if not history.redis_went_back:
        _check_sums(has, agreed, finding)
        for what in history.not_given_back:
            finding.blame(f"what was cancelled did not come back to {what}")
    with_code = len({row["id"] for row in rows if row["code"]})
    excused = ", and an older Redis was put back" if history.redis_went_back else ""
    finding.looked_at.append(
        f"{with_code} bookings with {len(agreed.codes)} access codes, {len(revoked)} of them revoked, "
        f"{_reached(has, agreed)} customers and codes that have all they may, "
        f"{history.booked_again} holds cancelled and booked again{excused}"
    )


def _check_codes(
    rows: Iterable[Any], agreed: Agreed, history: History, revoked: Mapping[str, float], finding: Finding
) -> None:
    """A booking is its customer's and has its code, of its event and not revoked; one of the presale has one."""
    entries = history.accepted()
    of_event = {code.digest: code.event for code in agreed.codes}
    for row in rows:
        booking, code, entry = row["id"], row["code"], entries.get(row["id"])
        if entry is not None and row["customer"] != entry.customer:
            finding.blame(f"booking {booking}: is {row['customer']}'s, and was made by {entry.customer}")
        if entry is not None and code != (ids.code_digest(entry.code) if entry.code else None):
            finding.blame(f"booking {booking}: counts for another access code than it was made with")
        if (code or row["tier"] == agreed.presale[row["event"]]) and of_event.get(code) != row["event"]:
            finding.blame(f"booking {booking}: was let in without an access code of its event")
        if row["admitted"] > revoked.get(code, row["admitted"]) + SLACK_S:
            finding.blame(f"booking {booking}: was let in with an access code that had been revoked")


def _check_bookings(rows: Iterable[Any], agreed: Agreed, finding: Finding) -> None:
    """No booking has more tickets than one may."""
    tickets: Counter[tuple[str, str]] = Counter()
    for row in rows:
        tickets[row["id"], row["event"]] += row["quantity"]
        tickets[row["id"], row["tier"]] += row["quantity"]
    for (booking, where), count in tickets.items():
        most = agreed.rules[where].booking_max
        if most is not None and count > most:
            finding.blame(f"booking {booking}: {count} tickets of {where}, of which one booking has up to {most}")


def _tickets(rows: Iterable[Any], opened: OpenBookings) -> Counter[tuple[str, str]]:
    """Held and bought ones, by customer or `k` and code, and by event and tier."""
    has: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for where in (row["event"], row["tier"]):
            has[ids.owner_digest(row["client"], row["customer"]), where] += row["kept"]
            if row["code"]:
                has[f"k{row['code']}", where] += row["kept"]
    for event, owned in opened.owned.items():
        for (who, tier), tickets in owned.items():
            has[who, event] += tickets
            has[who, tier] += tickets
    return has


def _most(who: str, where: str, agreed: Agreed, tickets: Mapping[str, int]) -> int | None:
    """How many they may have there; None: any number."""
    if not who.startswith("k"):
        return agreed.rules[where].customer_max if where in agreed.rules else None
    return tickets.get(who[1:]) if where in agreed.presale else None


def _check_sums(has: Counter[tuple[str, str]], agreed: Agreed, finding: Finding) -> None:
    """Nobody has more tickets than allowed, and no code more than it is good for."""
    tickets = {code.digest: code.tickets for code in agreed.codes}
    for (who, where), count in has.items():
        most = _most(who, where, agreed, tickets)
        if most is not None and count > most:
            finding.blame(
                f"{'code' if who.startswith('k') else 'customer'} {who}: {count} tickets of {where}, of {most}"
            )


def _reached(has: Counter[tuple[str, str]], agreed: Agreed) -> int:
    """How many have all that they may: that nobody came near would prove nothing."""
    tickets = {code.digest: code.tickets for code in agreed.codes}
    return sum(count == _most(who, where, agreed, tickets) for (who, where), count in has.items())
