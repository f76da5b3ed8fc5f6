"""What an event and its tiers may be. Nothing is asked here but the settings: facts in, `Malformed` out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from boxoffice.currencies import is_currency
from boxoffice.errors import Malformed
from boxoffice.gateway.factory import why_not_chargeable
from boxoffice.sales.rules import COUNT_MAX, NONE, Rules, check_rules
from boxoffice.settings import Settings
from boxoffice.texts import fault_of

__all__ = ["ALLOWED", "COUNT_MAX", "TIERS_MAX", "Checks", "NewTier", "Terms", "check_window"]

LAST_YEAR: Final = 9000
"""No event starts later: JavaScript and Python count no further, and time zones push a time some hours on."""

TIERS_MAX: Final = 100
"""Tiers of one event: every answer to a booking carries what is left of all of them."""

ALLOWED: Final = ("past", "late_cancel")
"""What is refused unless it is asked for on purpose: a start in the past; cancelling after the start."""


@dataclass(frozen=True, slots=True)
class NewTier:
    """A tier that is about to be created. Its own times stand in place of the event's."""

    code: str
    price_cents: int
    capacity: int
    name: str = ""
    on_sale_at: datetime | None = None
    off_sale_at: datetime | None = None
    rules: Rules = NONE
    code_only: bool = False
    """Sold to holders of an access code alone."""


class Terms(NamedTuple):
    """What of an event may be changed, by the names of its columns."""

    name: str
    starts_at: datetime
    status: str
    customer_max: int | None
    cancel_until: datetime | None
    refund_percent: int
    on_sale_at: datetime | None
    off_sale_at: datetime | None
    booking_min: int | None = None
    booking_max: int | None = None
    customer_min: int | None = None

    @property
    def rules(self) -> Rules:
        """Least and most tickets."""
        return Rules(self.booking_min, self.booking_max, self.customer_min, self.customer_max)


class Checks:
    """The rules, as the settings have them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def text(self, value: str, pointer: str) -> None:
        """Raises `Malformed` for what is no text for people."""
        if fault := fault_of(value, self._settings.limits.text_max):
            raise Malformed(f"The text at {pointer} {fault.what}.", pointer=pointer, code=fault.code)

    def price(self, price_cents: int, currency: str, pointer: str) -> None:
        """Raises `Malformed` for what the gateway could not charge."""
        if why := why_not_chargeable(self._settings, price_cents, currency):
            raise Malformed(why, pointer=pointer, code="not_chargeable")

    def currency(self, currency: str) -> None:
        """Raises `Malformed`."""
        if not is_currency(currency):
            detail = "The currency is a code of ISO 4217, three capital letters, such as EUR."
            raise Malformed(detail, pointer="/currency", code="currency")
        self.price(0, currency, "/currency")

    def event(self, terms: Terms, now: datetime, allow: Collection[str], before: Terms | None = None) -> None:
        """Check a new event, or one that was `before`: what stays as it was is not held against it. Raises `Malformed`."""
        self.text(terms.name, "/name")
        _check_time(terms.starts_at, "/starts_at", "The start")
        for column, what in (
            ("cancel_until", "The end of cancelling"), ("on_sale_at", "The time"), ("off_sale_at", "The time"),
        ):  # fmt: skip
            if (moment := getattr(terms, column)) is not None:
                _check_time(moment, f"/{column}", what)
        if before is None or terms.rules != before.rules:
            limits = self._settings.limits
            check_rules(terms.rules, "", NONE, limits.items_max * limits.quantity_max)
        if not 0 <= terms.refund_percent <= 100:
            raise Malformed("A cancellation gives back 0 to 100 percent.", pointer="/refund_percent")
        if terms.status not in ("active", "paused", "inactive"):
            raise Malformed("An event is active, paused or inactive.", pointer="/status", code="status")
        check_window(terms.on_sale_at, terms.off_sale_at, "/off_sale_at")
        self._check_meant(terms, now, allow, before)

    def _check_meant(self, terms: Terms, now: datetime, allow: Collection[str], before: Terms | None) -> None:
        moved = before is None or terms.starts_at != before.starts_at
        if moved and terms.starts_at <= now and "past" not in allow:
            raise Malformed(
                "The start is in the past: allow `past` to mean it.", pointer="/starts_at", code="in_the_past"
            )
        moved = moved or (before is not None and terms.cancel_until != before.cancel_until)
        after_start = terms.cancel_until is not None and terms.cancel_until > terms.starts_at
        if moved and after_start and "late_cancel" not in allow:
            detail = "Bookings could be cancelled after the start: allow `late_cancel` to mean it."
            raise Malformed(detail, pointer="/cancel_until", code="after_start")

    def tiers(self, tiers: Sequence[NewTier], currency: str, terms: Terms) -> None:
        """All tiers of a new event. Raises `Malformed`."""
        if not 1 <= len(tiers) <= TIERS_MAX:
            raise Malformed(f"An event has 1 to {TIERS_MAX} tiers.", pointer="/tiers")
        for at, tier in enumerate(tiers):
            self.tier(tier, currency, terms.on_sale_at, terms.off_sale_at, f"/tiers/{at}")
            self.tier_rules(tier.rules, terms.rules, f"/tiers/{at}")
        if len({tier.code for tier in tiers}) < len(tiers):
            raise Malformed("Two tiers have the same code.", pointer="/tiers")

    def tier(
        self,
        tier: NewTier,
        currency: str | None,
        on_sale_at: datetime | None,
        off_sale_at: datetime | None,
        pointer: str,
    ) -> None:
        """One tier of an event with these times; without a currency whatever it costs could be charged before. Raises
        `Malformed`."""
        self.text(tier.code, f"{pointer}/code")
        self.text(tier.name or tier.code, f"{pointer}/name")
        if not (0 <= tier.price_cents <= COUNT_MAX and 0 <= tier.capacity <= COUNT_MAX):
            raise Malformed(f"Prices and capacities are whole numbers from 0 to {COUNT_MAX}.", pointer=pointer)
        for column in ("on_sale_at", "off_sale_at"):
            if (moment := getattr(tier, column)) is not None:
                _check_time(moment, f"{pointer}/{column}", "The time")
        check_window(tier.on_sale_at or on_sale_at, tier.off_sale_at or off_sale_at, f"{pointer}/off_sale_at")
        if currency is not None:
            self.price(tier.price_cents, currency, f"{pointer}/price_cents")

    def tier_rules(self, rules: Rules, event: Rules, pointer: str) -> None:
        """Those of a tier, under its event's. Raises `Malformed`."""
        check_rules(rules, pointer, event, self._settings.limits.quantity_max)

    def capacity(self, capacity: int) -> None:
        """Another one of a tier. Raises `Malformed`."""
        if not 0 <= capacity <= COUNT_MAX:
            detail = f"A capacity is a whole number from 0 to {COUNT_MAX}."
            raise Malformed(detail, pointer="/capacity", code="out_of_range")


def check_window(on_sale_at: datetime | None, off_sale_at: datetime | None, pointer: str) -> None:
    """Raises `Malformed` for a sale that would end before it begins."""
    if on_sale_at is not None and off_sale_at is not None and off_sale_at <= on_sale_at:
        raise Malformed("The sale would end before it begins.", pointer=pointer, code="window")


def _check_time(moment: datetime, pointer: str, what: str) -> None:
    if moment.tzinfo is None:
        raise Malformed(f"{what} needs a time zone, such as 2030-05-22T14:00:00Z.", pointer=pointer)
    if not 1970 < moment.year < LAST_YEAR:
        raise Malformed(f"A time is in the years 1971 to {LAST_YEAR - 1}.", pointer=pointer, code="out_of_range")
