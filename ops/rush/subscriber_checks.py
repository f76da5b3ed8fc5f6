"""The audit's look at what shops that listened have (I15): each notice of theirs came by webhook, once or more, and none of
another's; the copy that was kept while the feed was followed is the feed; and the books that one makes of it are the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from boxoffice.notices.reading import Notices
from boxoffice.stores.database import Database
from boxoffice.wire.notices import notice_body
from ops.rush.findings import Finding, Findings
from ops.rush.stock_checks import Pool
from ops.rush.subscribers import Subscriber

__all__ = ["Books", "check_subscribers"]

PAGE: Final = 5_000

_BOOKINGS: Final = "SELECT id::text, status, failure_code FROM bookings WHERE client_id = $1"

_CAPTURED: Final = """
SELECT b.id::text AS id, sum(p.amount_cents)::bigint AS cents FROM payments p JOIN bookings b ON b.id = p.booking_id
WHERE b.client_id = $1 AND p.status = 'captured' GROUP BY b.id
"""

_REFUNDS: Final = """
SELECT r.refund_key AS id, r.status, r.amount_cents, r.failure_code FROM refunds r JOIN bookings b ON b.id = r.booking_id
WHERE b.client_id = $1
"""

_EVENTS: Final = "SELECT id, version, status FROM events WHERE client_id = $1"


class Books:
    """What a shop makes of notices in their order, and of nothing else."""

    def __init__(self) -> None:
        self.bookings: dict[str, tuple[str, str | None]] = {}
        """Status and failure."""
        self.captured: dict[str, int | None] = {}
        """By booking; None where no notice said how much."""
        self.refunds: dict[str, tuple[str, int, str | None]] = {}
        self.events: dict[str, tuple[int, str]] = {}

    def enter(self, notice: Mapping[str, Any]) -> None:
        """One notice more."""
        data, booking = notice["data"], notice["booking_id"]
        match notice["type"].partition("."):
            case "booking", _, "paid_too_late":
                self.bookings[booking] = self.bookings.get(booking, ("untold",))[0], data.get("failure_code")
            case "booking", _, _ if "status" in data:
                self.bookings[booking] = data["status"], data.get("failure_code")
            case "payment", _, _ if data["status"] == "captured":
                self.captured[booking] = data.get("amount_cents", self.captured.get(booking))
            case "payment", _, "changed" | "capture_refused":
                self.captured.pop(booking, None)
            case "refund", _, _:
                self.refunds[data["refund_id"]] = data["status"], data["amount_cents"], data.get("failure_code")
            case "event", _, _:
                self.events[notice["event_id"]] = data["version"], data["status"]


async def check_subscribers(
    database: Database, pool: Pool, subscribers: Sequence[Subscriber], findings: Findings, *, lost: int | None
) -> None:
    """`lost`: commits that PostgreSQL lost meanwhile (None: nobody knows how many). What was told of these is no more in any
    feed, and a follower that had read so far was told so."""
    finding = findings["I15"]
    feeds = {one.client: await _feed(database, one.client) for one in subscribers}
    for one in subscribers:
        _compare(one, feeds, lost, finding)
        await _compare_books(pool, one, finding)
    if subscribers:
        taken = sum(len(one.server.taken) for one in subscribers)
        finding.looked_at.append(f"{taken} webhooks and {sum(map(len, feeds.values()))} notices of {len(feeds)} shops")


async def _feed(database: Database, client: str) -> dict[str, str]:
    """Each notice of a shop's feed as it would be sent, by its id, in their order."""
    notices, found, more = Notices(database), dict[str, str](), True
    cursor = await notices.start()
    while more:
        some, cursor, more = await notices.after(client, cursor, most=PAGE)
        found |= {notice.id: notice_body(notice).decode() for notice in some}
    return found


def _compare(one: Subscriber, feeds: Mapping[str, Mapping[str, str]], lost: int | None, finding: Finding) -> None:
    shop, feed, taken = f"shop {one.client}", feeds[one.client], one.server.taken
    for fault in one.faults:
        finding.blame(f"{shop}: {fault}")
    for notice in feed.keys() - taken.keys():
        finding.blame(f"{shop}: notice {notice} never came by webhook")
    others = {notice for client, other in feeds.items() if client != one.client for notice in other}
    for notice in taken.keys() - feed.keys():
        if notice in others or lost == 0:
            finding.blame(f"{shop}: webhook {notice} is no notice of its")
    for notice in feed.keys() & taken.keys():
        if feed[notice] != taken[notice]:
            finding.blame(f"{shop}: webhook {notice} says {taken[notice][:200]}, the feed {feed[notice][:200]}")
    copy = [{name: value for name, value in notice.items() if name != "cursor"} for notice in one.follower.copy]
    if [notice["id"] for notice in copy] != [*feed]:
        lacking = [notice for notice in feed if notice not in {each["id"] for each in copy}]
        finding.blame(
            f"{shop}: it kept {len(copy)} of the feed's {len(feed)} notices; {lacking[:3]} are not among them"
        )
    for each in copy:
        if each["id"] in feed and each != json.loads(feed[each["id"]]):
            finding.blame(f"{shop}: notice {each['id']} was {each}, is {feed[each['id']][:200]}")
    if one.follower.anew and lost == 0:
        finding.blame(f"{shop}: its cursor was gone {one.follower.anew} times, though nothing was lost")


async def _compare_books(pool: Pool, one: Subscriber, finding: Finding) -> None:
    books = Books()
    for notice in one.follower.copy:
        books.enter(notice)
    for what, query, made in (
        ("booking", _BOOKINGS, books.bookings), ("captured of", _CAPTURED, books.captured),
        ("refund", _REFUNDS, books.refunds), ("event", _EVENTS, books.events),
    ):  # fmt: skip
        stands = {row[0]: row[1] if len(row) == 2 else tuple(row)[1:] for row in await pool.fetch(query, one.client)}
        for subject in stands.keys() | (made.keys() if what != "event" else set()):
            found, there = made.get(subject, "nothing"), stands.get(subject, "nothing")
            if found != there and found is not None:
                finding.blame(f"shop {one.client}: {what} {subject} is {there}, its own books say {found}")
