"""A booking on its way into admit.lua, and what the script says of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from boxoffice.admission.templates import BookingTemplate
from boxoffice.clock import timestamp
from boxoffice.errors import (
    BoxOfficeError,
    Busy,
    CustomerLimit,
    GateClosed,
    KeyReused,
    PriceChanged,
    SaleClosed,
    SoldOut,
    StoreAway,
    UnpaidLimit,
)
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.stores.record import Charge, unpack
from boxoffice.telemetry.seldom import seldom
from boxoffice.wire import render

__all__ = ["NOBODY", "Admitted", "Answer", "Form", "Order", "answers_of", "asked_views"]


SHORT_S: Final = 1.0
"""So long after a tier was short, orders for more than it had are asked about first, and sent if there is some again."""

UNPAID_RETRY_S: Final = 15
"""When whoever has held too much without paying may ask again: something may have been paid, cancelled or expired."""

NOBODY: Final = "00000000-0000-7000-8000-000000000000"
"""The id of no booking."""


class Order(Protocol):
    """What a shop asks for, already known to be well-formed."""

    customer_id: str
    reference: str | None
    lines: tuple[tuple[str, int], ...]
    charge: Charge | None
    hold_s: int | None


class Admitted(NamedTuple):
    """A booking that is in: how its shop sees it, what is left of each tier of its event, and whether it was in before."""

    shown: bytes | None
    """As JSON. None when the key's first use is remembered but its record is not readable: PostgreSQL has it."""
    booking_id: str
    event: EventView
    availability: list[int]
    """Tickets left per tier, in the order of `event.tiers`."""
    replayed: bool
    held: bool
    """Whether it was posted to be paid later."""


Answer = Callable[[Admitted | BoxOfficeError], None]


class Form(msgspec.Struct):
    """One booking on its way into the script, or the question whether there is anything left for it."""

    id: str
    template: BookingTemplate
    kind: str
    """What it has in common with others: of the template, its kind or its question."""
    packed: str
    record_key: str
    idempotency_key: str
    answer: Answer
    since: float
    customer: str = ""
    reference: Sequence[str] = ()
    last4: Sequence[str] = ()
    whole: Callable[[], Form] | None = None
    """Of a question: makes the booking's form, to be sent when the answer is that there is."""


def asked_views(forms: Sequence[Form]) -> dict[str, EventView]:
    """The events of a call by id, in the order of their first forms, each as the view that has all of its tiers: none is
    ever taken away, so what is left is asked for in the order of the longest."""
    views: dict[str, EventView] = {}
    for form in forms:
        event = form.template.event
        view = views.setdefault(event.id, event)
        if view is not event and len(event.tiers) > len(view.tiers):
            views[event.id] = event
    return views


def answers_of(
    forms: list[Form],
    asked: dict[str, EventView],
    reply: Any,
    short: dict[str, tuple[int, float]],
    lacking: Callable[[], None],
) -> list[Admitted | BoxOfficeError | None]:
    """What each form is told, from its part of the script's reply; None for a question whose booking is to be sent.
    `asked` are the views of `asked_views` with which the script was called.

    Tiers that are short are noted in `short`; `lacking` is called when an event has lost its counters.
    """
    _, now, results, left, *_ = reply
    now_ms = int(now)
    created_at = timestamp(now_ms)
    refusals: dict[tuple[Any, ...], BoxOfficeError] = {}
    availability = {
        id(view): [max(0, int(count or 0)) for count in counts]
        for view, counts in zip(asked.values(), left, strict=True)
    }
    answers: list[Admitted | BoxOfficeError | None] = []
    add = answers.append
    for form, result in zip(forms, results, strict=True):
        event = form.template.event
        counts = availability.get(id(event))
        if counts is None:
            # A tier was added a moment ago, and this is the view without it.
            view = asked[event.id]
            by_tier = dict(zip([tier.id for tier in view.tiers], availability[id(view)], strict=False))
            counts = availability[id(event)] = [by_tier[tier.id] for tier in event.tiers] if by_tier else []
        try:
            if result == b"created":
                add(_new(form, counts, now_ms, created_at))
            elif result[0] == b"left":
                add(None)
            else:
                add(_answer(form, result, counts, refusals, now_ms))
        except Exception as error:
            seldom.exception("admission.failed", error)
            add(StoreAway())
    until = time.monotonic() + SHORT_S
    for _, _, outcome, *details in refusals:
        if outcome == b"sold_out":
            for tier, count in zip(details[::2], details[1::2], strict=True):
                short[tier.decode()] = int(count), until
        elif outcome in (b"unloaded", b"unknown_tier"):
            lacking()
    return answers


def _new(form: Form, left: list[int], admitted_ms: int, created_at: str) -> Admitted:
    template = form.template
    shown = template.shown(form.id, form.customer, form.reference, form.last4, admitted_ms, created_at)
    return Admitted(shown, form.id, template.event, left, False, bool(template.hold_ms))


def _answer(
    form: Form, result: Any, left: list[int], refusals: dict[tuple[Any, ...], BoxOfficeError], now_ms: int
) -> Admitted | BoxOfficeError:
    event, outcome = form.template.event, result[0]
    if outcome == b"created":
        admitted_ms = int(result[1])
        return _new(form, left, admitted_ms, timestamp(admitted_ms))
    if outcome == b"replayed":
        booking = result[1].decode()
        return _replayed(booking, result[2], event, left)
    # Who is refused alike is told alike: a sold-out rush gets one answer, made once a call.
    alike = (id(event), form.template.items, *result)
    return refusals.get(alike) or refusals.setdefault(alike, _refusal(form, outcome.decode(), result[1:], now_ms))


def _replayed(booking: str, raw: bytes, event: EventView, left: list[int]) -> Admitted:
    try:
        record = unpack(booking, raw)
    except ValueError:
        return Admitted(None, booking, event, left, True, False)
    return Admitted(
        render.booking(render.of_record(record, event)), booking, event, left, True, bool(record.deadline_ms)
    )


def _refusal(form: Form, outcome: str, details: list[Any], now_ms: int) -> BoxOfficeError:
    match outcome:
        case "sold_out":
            return _sold_out(form, dict(zip(details[::2], details[1::2], strict=True)))
        case "mismatch":
            return KeyReused(booking_id=details[0].decode())
        case "sale_closed":
            return _sale_closed(form.template.event, details[0].decode())
        case "customer_limit":
            return CustomerLimit(held=int(details[0]), limit=int(details[1]))
        case "unpaid_limit":
            whose, held, limit = details[0].decode(), int(details[1]), int(details[2])
            return UnpaidLimit(whose=whose, held=held, limit=limit, retry_after_s=UNPAID_RETRY_S)
        case "price_changed":
            return PriceChanged()
        case "busy":
            return Busy(retry_after_s=2)
        case "unloaded" | "unknown_tier":
            return GateClosed("The sale's counters are not loaded.")
        case _:
            seldom.error("admission.unexpected", outcome=outcome, booking_id=form.id, now_ms=now_ms)
            return StoreAway()


def _sold_out(form: Form, left: dict[bytes, bytes]) -> SoldOut:
    tiers = {tier.id: tier for tier in form.template.event.tiers}
    shortfall = [
        {
            "tier_id": line.tier,
            "code": tiers[line.tier].code,
            "requested": line.quantity,
            "available": max(0, int(left[line.tier.encode()])),
        }
        for line in form.template.lines
        if line.tier.encode() in left
    ]
    said = "; ".join(
        f"{short['code']}: requested {short['requested']}, available {short['available']}" for short in shortfall
    )
    return SoldOut(f"Not enough tickets are left. {said}.", shortfall=shortfall)


def _sale_closed(event: EventView, why: str) -> SaleClosed:
    if why == "event":
        return SaleClosed("The event is not on sale.", reason="event")
    if why == "started":
        return SaleClosed("The event has started.", reason="started")
    tier: TierView | None = next((tier for tier in event.tiers if tier.id == why), None)
    return SaleClosed(f"Tier {tier.code if tier else why} is not on sale.", reason="tier", tier_id=why)
