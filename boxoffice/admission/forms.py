"""A booking on its way into admit.lua, and what the script says of it.

One file because each answer of the script is one short case of the same few functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from boxoffice.access.rates import Allowance, Spent, rate_limited
from boxoffice.admission import outcomes
from boxoffice.admission.limits import beyond
from boxoffice.admission.outcomes import CREATED, LEFT, Outcome, outcome_of
from boxoffice.admission.protocol import Kind, Reply
from boxoffice.admission.templates import BookingTemplate, Gaps
from boxoffice.clock import timestamp
from boxoffice.errors import (
    AccessCodeInvalid,
    AccessCodeRequired,
    AccessCodeUsedUp,
    BoxOfficeError,
    Busy,
    GateClosed,
    KeyReused,
    PriceChanged,
    PriceOutdated,
    SaleClosed,
    SaleNotOpen,
    SalePaused,
    StoreAway,
    Unavailable,
    UnpaidLimit,
)
from boxoffice.sales.catalogue import NEVER_MS, EventView
from boxoffice.sales.refusals import declined_too_often, sale_closed, sold_out
from boxoffice.states import DUPLICATE_OF, WORDS
from boxoffice.stores.record import Charge, traced, unpack
from boxoffice.telemetry.seldom import seldom
from boxoffice.telemetry.traces import Trace
from boxoffice.wire import render

__all__ = ["NOBODY", "Admitted", "Answer", "Form", "Named", "Order", "answers_of", "refusal_of", "views_of"]


SHORT_S: Final = 1.0
"""So long after a tier was short, orders for more than it had are asked about first, and sent if there is some again."""

UNPAID_RETRY_S: Final = 15
"""When whoever has held too much without paying may ask again: something may have been paid, cancelled or expired."""

_CODE_REFUSED: Final = {
    "unknown": "There is no such access code for this event.",
    "revoked": "The access code was revoked.",
    "expired": "The access code has expired.",
    "other_tier": "The access code is for another tier.",
}

NOBODY: Final = "00000000-0000-7000-8000-000000000000"
"""The id of no booking."""


class Named(Protocol):
    """Whatever names tiers, with a quantity of each."""

    lines: tuple[tuple[str, int], ...]


class Order(Named, Protocol):
    """What a shop asks for, already known to be well-formed."""

    customer_id: str
    reference: str | None
    charge: Charge | None
    hold_s: int | None
    metadata: str | None
    return_url: str | None
    expected_amount_cents: int | None
    """What the shop has seen that it costs; None when it does not say."""
    access_code: str
    """Digest of its access code; empty without one."""
    barred: Callable[[], BoxOfficeError] | None
    """Makes the error with which it is refused, unless it is the repeat of a booking."""


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """A booking that is in: how its shop sees it, what is left of each tier of its event, and whether it was in before."""

    shown: bytes | None
    """As JSON. None when the key's first use is remembered but its record is not readable, or names a booking that used it
    before: PostgreSQL has it."""
    booking_id: str
    event: EventView
    availability: list[int]
    """Tickets left per tier, in the order of `event.tiers`."""
    replayed: bool
    status: str
    """`held`, `pending`, or whatever it ended as. A hold past its deadline has `expired`, told or not."""
    spent: Spent | None = None
    """How the API key's limit stands after the call; None of a repeat, and of whoever is not counted."""
    retry_after_s: int = 1
    """When to look whether it is final, if it is pending."""


Answer = Callable[[Admitted | BoxOfficeError], None]


class Form(msgspec.Struct):
    """One booking on its way into the script, or the question whether there is anything left for it."""

    id: str
    template: BookingTemplate
    kind: Kind
    """Of the template: its kind, that of another expected amount, or its question."""
    packed: str
    record_key: str
    idempotency_key: str
    answer: Answer
    since: float
    gaps: Gaps | None = None
    """None of a question."""
    as_booking: Callable[[], Form] | None = None
    """Of a question: makes the booking's form, to be sent when the answer is that there is."""
    barred: Callable[[], BoxOfficeError] | None = None
    """Of a question that asks for the first use of its key alone: makes what is said when there is none."""
    newcomer: str = ""
    """Digest of a customer whose first booking in a window of the limits this is; empty of all others."""
    trace: Trace | None = None
    """None when its request is not sampled."""
    owner: str = ""
    """Digest of its customer."""
    access_code: str = ""
    """Digest of the code that it is made with. Of a question always empty."""

    def traced(self, trace: Trace) -> Form:
        """This booking, whose record says where it is traced."""
        self.trace, self.packed = trace, traced(self.packed, trace.place.traceparent)
        return self


def views_of(forms: Sequence[Form]) -> dict[str, EventView]:
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
    forms: Sequence[Form],
    views: dict[str, EventView],
    reply: Reply,
    short: dict[str, tuple[int, float]],
    lacking: Callable[[], None],
    now_s: Callable[[], float],
) -> list[Admitted | BoxOfficeError | None]:
    """The answer to each form, from its part of the script's reply; None to a question whose booking is to be sent.
    `views` are those of `views_of` with which the script was called.

    Tiers that are short are noted in `short`; `lacking` is called when an event has lost its counters.
    """
    created_at = timestamp(reply.now_ms)
    refusals: dict[tuple[Any, ...], tuple[Outcome, BoxOfficeError]] = {}
    availability = {id(view): counts for view, counts in zip(views.values(), reply.left, strict=True)}
    answers: list[Admitted | BoxOfficeError | None] = []
    add = answers.append
    limits = _Spent(reply) if reply.counted else None
    allowance, spent = None, None
    alike: tuple[Any, Any, BoxOfficeError | None] = None, None, None
    for form, result in zip(forms, reply.results, strict=True):
        event = form.template.event
        counts = availability.get(id(event))
        if counts is None:
            # A tier was added a moment ago, and this is the view without it.
            view = views[event.id]
            by_tier = dict(zip([tier.id for tier in view.tiers], availability[id(view)], strict=False))
            counts = availability[id(event)] = [by_tier[tier.id] for tier in event.tiers] if by_tier else []
        try:
            if result == CREATED:
                if limits is not None and form.template.allowance is not allowance:
                    allowance = form.template.allowance
                    spent = limits.by(allowance)
                add(_new(form, counts, reply.now_ms, created_at, spent))
            elif result is alike[0] and form.template is alike[1] and form.barred is None:
                add(alike[2])  # as most of a sold-out rush
            elif result[0] == LEFT:
                add(form.barred and form.barred())
            else:
                answer = _answer(form, result, counts, refusals, reply)
                if isinstance(answer, BoxOfficeError):
                    alike = result, form.template, answer
                if form.barred is None or isinstance(answer, Admitted | KeyReused | Unavailable):
                    add(answer)
                else:
                    add(form.barred())
        except Exception as error:
            seldom.exception("admission.failed", error)
            add(StoreAway())
    until = now_s() + SHORT_S
    for outcome, _ in refusals.values():
        if isinstance(outcome, outcomes.SoldOut):
            for tier, count in outcome.left.items():
                short[tier] = count, until
        elif isinstance(outcome, outcomes.Unloaded | outcomes.UnknownTier):
            lacking()
    return answers


class _Spent:
    """How the limits of a call's API keys stand: worked out once for each."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._known: dict[str, Spent | None] = {}

    def by(self, allowance: Allowance) -> Spent | None:
        """None when the key has no limit."""
        key = allowance.api_key
        try:
            return self._known[key]
        except KeyError:
            found = self._known[key] = self._of(allowance)
            return found

    def _of(self, allowance: Allowance) -> Spent | None:
        counted = self._reply.counted.get(allowance.api_key)
        if counted is None or allowance.key_max is None:
            return None
        window_ms = 1_000 * allowance.window_s
        left_ms = window_ms - self._reply.now_ms % window_ms
        return Spent(allowance, max(0, allowance.key_max - counted), -(-left_ms // 1_000))


def _new(
    form: Form, left: list[int], admitted_ms: int, created_at: str, spent: Spent | None = None
) -> Admitted:  # fmt: skip
    template = form.template
    assert form.gaps is not None, "no question is admitted"
    shown = template.shown(form.gaps, admitted_ms, created_at)
    return Admitted(shown, form.id, template.event, left, False, "held" if template.hold_ms else "pending", spent)


def _answer(
    form: Form,
    result: Any,
    left: list[int],
    refusals: dict[tuple[Any, ...], tuple[Outcome, BoxOfficeError]],
    reply: Reply,
) -> Admitted | BoxOfficeError:
    event = form.template.event
    # Who is refused alike gets the same answer: a sold-out rush makes one a call.
    alike = (id(event), form.template.items, id(form.template.allowance), *result)
    if (known := refusals.get(alike)) is not None:
        return known[1]
    match outcome := outcome_of(result):
        case outcomes.Created(admitted_ms):
            return _new(form, left, admitted_ms, timestamp(admitted_ms))
        case outcomes.Replayed(booking, record):
            return _replayed(booking, record, event, left, reply.now_ms)
        case outcomes.RateLimited(whose, limit, ends_ms):
            allowance = form.template.allowance
            if whose == "customer":
                limit = allowance.customer_max or limit  # the script knows of those that it counts
            left_ms = ends_ms - reply.now_ms
            often: BoxOfficeError = rate_limited(whose, limit, allowance.window_s, left_ms, allowance.api_key)
            refusals[alike] = outcome, often
            return often
    template = form.template
    wanted = [(line.tier, line.quantity) for line in template.lines]
    refusal = refusal_of(outcome, event, wanted, reply.now_ms, form.id)
    refusals[alike] = outcome, refusal
    return refusal


def _replayed(booking: str, raw: bytes, event: EventView, left: list[int], now_ms: int) -> Admitted:
    try:
        record = unpack(booking, raw)
    except ValueError:
        record = None
    if record is None or (record.payload.failure or "").startswith(DUPLICATE_OF):
        return Admitted(None, booking, event, left, True, "")
    over = record.state == "H" and record.deadline_ms <= now_ms
    status = "expired" if over else WORDS[record.state]
    return Admitted(render.booking(render.of_record(record, event)), booking, event, left, True, status)


def refusal_of(
    outcome: Outcome, event: EventView, wanted: Iterable[tuple[str, int]], now_ms: int, booking: str
) -> BoxOfficeError:
    """Why tickets were not given: what was `wanted`, tier and quantity."""
    match outcome:
        case outcomes.SoldOut(left, held, next_end_ms):
            return sold_out(event, wanted, left, held, next_end_ms, now_ms)
        case outcomes.Mismatch(first):
            return KeyReused(booking_id=first)
        case outcomes.SaleClosed(why):
            return sale_closed(event, why)
        case outcomes.Paused():
            return SalePaused()
        case outcomes.Ended(tier):
            return SaleClosed("The sale has ended.", reason="ended", tier_id=tier)
        case outcomes.NotOpen(opens_ms):
            return AccessCodeRequired() if opens_ms == NEVER_MS else SaleNotOpen(opens_at=timestamp(opens_ms))
        case outcomes.CodeRefused(why):
            return AccessCodeInvalid(_CODE_REFUSED[why], reason=why)
        case outcomes.CodeUsedUp(left):
            return AccessCodeUsedUp(left=left)
        case outcomes.BookingLimit() | outcomes.CustomerLimit():
            return beyond(event, outcome)
        case outcomes.UnpaidLimit(whose, have, limit):
            return UnpaidLimit(whose=whose, held=have, limit=limit, retry_after_s=UNPAID_RETRY_S)
        case outcomes.DeclinedTooOften(whose, left_ms):
            return declined_too_often(whose, left_ms)
        case outcomes.PriceChanged(amount, outdated):
            changed = PriceOutdated if outdated else PriceChanged
            return changed(amount_cents=amount, currency=event.currency)
        case outcomes.Busy():
            return Busy(retry_after_s=2)
        case outcomes.Unloaded() | outcomes.UnknownTier():
            return GateClosed("The sale's counters are not loaded.")
        case _:
            word = outcome.word if isinstance(outcome, outcomes.Unexpected) else "malformed"
            seldom.error("admission.unexpected", outcome=word, booking_id=booking, now_ms=now_ms)
            return StoreAway()
