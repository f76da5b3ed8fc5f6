"""Changing what a hold has: one script call gives tickets up and takes others off sale, all or nothing.

What stays keeps its price; what a hold has more of is taken as a booking takes it, by the same rules and with the same
refusals. An item has one price: a tier whose price has changed since it was held gets no more tickets in the same booking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from boxoffice import ids
from boxoffice.admission.admission import Admission
from boxoffice.admission.forms import Named, refusal_of
from boxoffice.admission.outcomes import outcome_of
from boxoffice.bookings import holds
from boxoffice.bookings.held_rows import HeldRows
from boxoffice.bookings.holds import READ_AGAIN, Holds
from boxoffice.bookings.reading import Bookings
from boxoffice.crashpoint import crashpoint
from boxoffice.errors import (
    BoxOfficeError,
    EventCalledOff,
    HoldEnded,
    KeyReused,
    Malformed,
    NotFound,
    PaymentInProgress,
    PriceChanged,
    PriceOutdated,
    StoreAway,
    TooManyChanges,
)
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.states import FINAL
from boxoffice.stores import keys
from boxoffice.stores.record import Line, Record, unpack
from boxoffice.wire.render import BookingView

__all__ = ["HoldChanges"]


class Change(Named, Protocol):
    """What a hold shall have, already known to be well-formed: every tier once. What is not named is given up."""

    expected_amount_cents: int | None


class HoldChanges:
    """Changes holds for shops."""

    def __init__(
        self, admission: Admission, holds: Holds, rows: HeldRows, bookings: Bookings, settings: Settings
    ) -> None:
        self._admission = admission
        self._catalogue = admission.catalogue
        self._holds = holds
        self._rows = rows
        self._bookings = bookings
        self.settings = settings

    async def change(self, client: str, booking: str, change: Change, key_digest: str) -> tuple[BookingView, bool]:
        """Let the client's hold have these items. Returns the booking as it is now, and whether this change was made before.

        Raises `NotFound` (the booking, or a tier), `Malformed` (a tier of another event), `PaymentInProgress`, `HoldEnded`,
        `KeyReused`, `TooManyChanges`, `EventCalledOff`, whatever refuses a booking, `GateClosed`, `StoreAway`.
        """
        await self._admission.know_tiers(change)
        refreshed = False
        for _ in range(READ_AGAIN):
            held, seen = await self._holds.read(client, booking)
            if held is None:
                raise await self._gone(client, booking)
            lines = self._lines(client, held, change)
            reply = await self._ask(held, seen, lines, change, key_digest)
            match reply[0].decode():
                case "changed":
                    return await self._changed(unpack(booking, reply[1])), False
                case "repeated":
                    return await self._repeated(client, unpack(booking, reply[1])), True
                case "rewritten":
                    continue
            error = await self._refusal(held, lines, reply)
            if not isinstance(error, PriceOutdated) or refreshed:
                raise error
            # Redis has a newer price than our map of the catalogue: read the map anew and ask once more.
            await self._catalogue.refresh()
            refreshed = True
        raise PaymentInProgress("The booking is being changed.", retry_after_s=2)

    async def _ask(
        self, held: Record, seen: bytes, lines: tuple[Line, ...], change: Change, key_digest: str
    ) -> list[Any]:
        """Call change.lua with the record as it was read: it changes the hold only if the record is still the same."""
        shard, limits, expected = ids.shard_of(held.id), self.settings.holds, change.expected_amount_cents
        return await self._holds.call(
            "change", shard, record=keys.booking(shard, held.id), sale=keys.event(shard, held.event),
            owners=keys.owners(shard, held.event), changes=keys.changes(shard, held.id),
            seen=seen, changed=held.with_lines(lines).pack(), key=key_digest,
            fingerprint=ids.change_fingerprint(change.lines, expected),
            prices=",".join(f"{line.tier}:{line.unit_price_cents}" for line in lines),
            expected="" if expected is None else expected, changes_max=limits.changes_max,
            ttl_s=self.settings.worker.settled_ttl_s, customer_max=limits.unpaid_customer_max,
            client_max=limits.unpaid_client_max, given_up_max=limits.given_up_max,
        )  # fmt: skip

    def _lines(self, client: str, held: Record, change: Change) -> tuple[Line, ...]:
        """The items by tier: what the hold has of already at its own price, anything else at today's.

        Raises `NotFound` for more of what the client does not sell, `Malformed` for a tier of another event.
        """
        had = {line.tier: line for line in held.body.lines}
        lines, others = [], []
        for index, (tier_id, quantity) in enumerate(change.lines):
            before = had.get(tier_id)
            price = before.unit_price_cents if before else 0
            if before is None or quantity > before.quantity:
                found = self._catalogue.known_tier(tier_id)
                if found is None or not found[0].sold_by(client):
                    raise NotFound("There is no such tier.", pointer=f"/items/{index}/tier_id")
                if found[0].id != held.event:
                    others.append(index)
                price = before.unit_price_cents if before else found[1].price_cents
            lines.append(Line(tier_id, quantity, price))
        if others:
            # After all of them are known to be the client's to sell: as in a booking.
            detail = "All tiers of a booking belong to one event."
            raise Malformed(detail, pointer=f"/items/{others[0]}/tier_id", code="other_event")
        lines.sort(key=lambda line: line.tier)
        return tuple(lines)

    async def _changed(self, record: Record) -> BookingView:
        crashpoint("hold_changed")
        if record.attempts:
            await self._rows.write(record.id)
        return await self._bookings.show(record)

    async def _repeated(self, client: str, record: Record) -> BookingView:
        """The booking as it is now, for a change that was made before; one that has ended is read from PostgreSQL."""
        if record.state in FINAL:
            return (await self._bookings.get(client, record.id)).view
        return await self._bookings.show(record)

    async def _gone(self, client: str, booking: str) -> Exception:
        """Redis has no such record. Raises `NotFound` when PostgreSQL has none either."""
        status = (await self._bookings.get(client, booking)).view.status
        if status in ("held", "pending"):
            # PostgreSQL knows it as undecided: Redis has lost it, and a worker is about to restore its record.
            return StoreAway("The booking is being restored.")
        return HoldEnded(f"The booking is {status}.", booking_status=status)

    async def _refusal(self, held: Record, lines: tuple[Line, ...], reply: list[Any]) -> Exception:
        match reply[0].decode():
            case "mismatch":
                return KeyReused(booking_id=held.id)
            case "in_progress":
                return PaymentInProgress(retry_after_s=2)
            case "missing" | "over":
                return holds.refusal_of(reply[0].decode(), unpack(held.id, reply[1]) if len(reply) > 1 else held)
            case "too_many":
                return TooManyChanges(limit=self.settings.holds.changes_max)
            case "called_off":
                return EventCalledOff()
        event = await self._catalogue.event(held.event)
        if reply[0] == b"two_prices":
            return _two_prices(event, reply[1].decode(), int(reply[2]))
        if reply[0] in (b"unloaded", b"unknown_tier"):
            self._catalogue.lacking.met(event.shard)
        had: Mapping[str, int] = {line.tier: line.quantity for line in held.body.lines}
        grown = [(line.tier, line.quantity - had.get(line.tier, 0)) for line in lines]
        return refusal_of(outcome_of(reply), event, grown, 0, held.id)


def _two_prices(event: EventView, tier_id: str, price_cents: int) -> BoxOfficeError:
    code = next((tier.code for tier in event.tiers if tier.id == tier_id), tier_id)
    return PriceChanged(
        f"Tickets of {code} cost another price by now, and an item has one: book more of them apart.",
        tier_id=tier_id, unit_price_cents=price_cents, currency=event.currency,
    )  # fmt: skip
