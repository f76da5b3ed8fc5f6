"""Booking templates: what bookings of the same lines have in common, written out once.

A rush asks for the same few tiers again and again. Its bookings differ in who asks, under which key and with which card;
the rest of the form that goes to admit.lua, and of the answer that comes back, is the same. A template has both, with gaps,
made by the very functions that pack a record and show a booking. Nothing but speed depends on it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from boxoffice.access.rates import FREE, Allowance
from boxoffice.admission.protocol import Kind, booking_kind, question_kind
from boxoffice.clock import timestamp
from boxoffice.sales.catalogue import EventView
from boxoffice.stores.record import Body, Charge, Line, Payload, Record, pack_items, pack_rest
from boxoffice.wire import render

__all__ = ["BookingTemplate", "Gaps", "text_of"]

Pick = Callable[[tuple[str, ...]], tuple[str, ...]]

_json = msgspec.json.Encoder().encode


class Gaps(NamedTuple):
    """The values of one booking, for form and answer; empty what its order does not have. Customer, reference and what
    is of the charge are given as JSON: see `text_of`."""

    booking: str
    scope: str
    fingerprint: str
    owner: str
    customer: str
    reference: str
    charge: str
    last4: str
    key_digest: str
    metadata: str = ""
    return_url: str = ""
    access_code: str = ""


_NAMES: Final = (*Gaps._fields, "created_at", "expires_at")
"""All gaps: the last two are filled when the booking is in."""

_TAG: Final = secrets.token_hex(8)
"""In every mark, so that no text which a shop has chosen (a tier's code) is taken for one."""

_MARKS: Final = {name: f"{_TAG}-{name}" for name in _NAMES}

_CARD: Final = Charge(_MARKS["charge"], "")
"""Stands where a charge does."""

_AS_JSON: Final = frozenset({"customer", "reference", "last4", "return_url"})


def text_of(value: str | Charge) -> str:
    """A text, or a charge as a record has it, as JSON, to be put into a gap."""
    return _json(value).decode()


digits_of: Final = lru_cache(16_384)(text_of)
"""The same of a card's last four digits, of which there are not many."""


class BookingTemplate:
    """The form of one client for bookings of these lines, paid by a charge of this shape, held, or free."""

    __slots__ = (
        "_coded",
        "_form",
        "_limited",
        "_pick_form",
        "_pick_shown",
        "_shown",
        "allowance",
        "amount",
        "client",
        "event",
        "first_kind",
        "first_question",
        "hold_ms",
        "items",
        "kind",
        "lines",
        "question",
    )

    def __init__(
        self, client: str, event: EventView, lines: tuple[Line, ...], *, charge: Charge | None, referred: bool,
        hold_ms: int, described: bool = False, returning: bool = False, unpaid_max: tuple[int, int, int] = (0, 0, 0),
        coded: bool = False, allowance: Allowance = FREE,
    ) -> None:  # fmt: skip
        """`hold_ms` is 0 for a booking that is settled at once; without a charge it costs nothing then. `unpaid_max`
        are tickets that the customer, and the client, may have set aside and not paid for, and those that the client
        gives up before it may have fewer; `coded`: each booking has an access code; `allowance`: how often its API key may
        ask."""
        self.event = event
        self.allowance = allowance
        self.lines = lines
        self.items = pack_items(lines)
        self.amount = sum(line.quantity * line.unit_price_cents for line in lines)
        self.hold_ms = hold_ms
        self._limited = unpaid_max if hold_ms or charge else ()
        self._coded, self.client = coded, client
        again, first = allowance.again.text, allowance.first.text
        self.kind, self.first_kind = self._kind(again), self._kind(first)
        self.question = question_kind(event.id, self.items, client, again)
        self.first_question = question_kind(event.id, self.items, client, first)
        has = {"reference": referred, "metadata": described, "return_url": returning}
        given = {"customer", *(name for name, there in has.items() if there)}
        record = self._marked(client, charge and _CARD, given)
        rest = pack_rest(
            payment_key=record.payment_key, scope=record.scope, fingerprint=record.fingerprint, event=event.id,
            owner=record.owner, items=self.items, body=record.body, payload=record.payload,
        )  # fmt: skip
        has = {"charge": charge is not None, "access_code": coded}
        more = {name for name, there in has.items() if there}
        self._form, self._pick_form = _with_gaps(
            rest.decode(), {"scope", "fingerprint", "owner", "key_digest", *given, *more}
        )
        last4 = _MARKS["last4"] if charge and charge.last4 else None
        card = charge and Charge(charge.method, "", None, last4)
        view = render.of_record(self._marked(client, card, given), event)
        view.created_at, view.expires_at = _MARKS["created_at"], _MARKS["expires_at"] if hold_ms else None
        view.expires_in_s = hold_ms // 1_000 if hold_ms else None
        shown = {"booking", "created_at", *given, *(["expires_at"] if hold_ms else []), *(["last4"] if last4 else [])}
        self._shown, self._pick_shown = _with_gaps(render.booking(view).decode(), shown)

    def kind_of(self, expected: int | None, *, first: bool) -> Kind:
        """The kind of a booking whose shop has seen this amount, or says of none; `first`: of its customer in a window of the
        limits (see newcomers.py)."""
        if expected is None or expected == self.amount:
            return self.first_kind if first else self.kind
        allowance = self.allowance.first if first else self.allowance.again
        return self._kind(allowance.text, expected)

    def _kind(self, rate: str, expected: int | None = None) -> Kind:
        return booking_kind(
            self.event.id, client=self.client, hold_ms=self.hold_ms, unpaid_max=self._limited, items=self.items,
            prices=[line.unit_price_cents for line in self.lines], expected=expected, coded=self._coded,
            rate=rate,
        )  # fmt: skip

    def _marked(self, client: str, card: Charge | None, given: set[str]) -> Record:
        """The record of such a booking, paid so, with a mark for each gap."""
        marks, state = Gaps(*map(_MARKS.__getitem__, Gaps._fields)), "H" if self.hold_ms else "P"
        reference, metadata, return_url = (
            getattr(marks, name) if name in given else None for name in ("reference", "metadata", "return_url")
        )
        words = {metadata: ""} if metadata else None
        return Record(
            marks.booking, state, 0, 0, self.hold_ms, "" if self.hold_ms else marks.scope, marks.scope, marks.fingerprint,
            self.event.id, marks.owner, self.items, "",
            Body(
                client, marks.customer, self.amount, self.event.currency, self.lines, reference, words, return_url,
                marks.access_code if self._coded else None,
            ),
            Payload(card, key=marks.key_digest),
        )  # fmt: skip

    def form(self, gaps: Gaps) -> str:
        """What admit.lua reads of one booking, behind the index of its kind."""
        return self._form % self._pick_form(gaps)

    def shown(self, gaps: Gaps, admitted_ms: int, created_at: str) -> bytes:
        """The new booking as its shop sees it, as JSON."""
        expires_at = timestamp(admitted_ms + self.hold_ms) if self.hold_ms else ""
        return (self._shown % self._pick_shown(gaps + (created_at, expires_at))).encode()  # noqa: RUF005 - half the time


def _with_gaps(text: str, there: set[str]) -> tuple[str, Pick]:
    """The text with `%s` in place of each mark, and what picks their values from the gaps, in the order of the text."""
    marks = {name: f'"{_MARKS[name]}"' if name in _AS_JSON else _MARKS[name] for name in there}
    if "charge" in there:
        marks["charge"] = text_of(_CARD)
    if "metadata" in there:
        marks["metadata"] = f'{{"{_MARKS["metadata"]}":""}}'
    in_order = sorted(there, key=lambda name: text.index(marks[name]))
    pieces = []
    for name in in_order:
        before, _, text = text.partition(marks[name])
        pieces.append(before.replace("%", "%%"))
    return "%s".join([*pieces, text.replace("%", "%%")]), itemgetter(*map(_NAMES.index, in_order))
