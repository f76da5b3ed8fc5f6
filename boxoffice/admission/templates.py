"""Booking templates: what bookings of the same lines have in common, written out once.

A rush asks for the same few tiers again and again. Its bookings differ in who asks, under which key and with which card;
the rest of the form that goes to admit.lua, and of the answer that comes back, is the same. A template has both, with gaps,
made by the very functions that pack a record and show a booking. Nothing but speed depends on it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from boxoffice.clock import timestamp
from boxoffice.sales.catalogue import EventView
from boxoffice.stores.record import Body, Charge, Line, Payload, Record, pack_items, pack_rest
from boxoffice.wire import render

__all__ = ["BookingTemplate", "text_of"]

_json = msgspec.json.Encoder().encode

_TAG: Final = secrets.token_hex(8)
"""In every mark, so that no text which a shop has chosen (a tier's code) is taken for one."""

_ID, _CUSTOMER, _REFERENCE, _TOKEN, _NAME, _LAST4, _CREATED, _EXPIRES, _SCOPE, _FINGERPRINT, _OWNER, _KEY = (
    f"{_TAG}-{name}"
    for name in (
        "id", "customer", "reference", "token", "name", "last4", "created", "expires", "scope", "fingerprint", "owner",
        "key",
    )
)  # fmt: skip


def text_of(value: str) -> str:
    """A text as JSON has it, to be put into a gap."""
    return _json(value).decode()


class BookingTemplate:
    """The form of one client for bookings of these lines, paid by a charge of this shape, held, or free."""

    __slots__ = ("_form", "_shown", "amount", "event", "hold_ms", "items", "kind", "lines", "question")

    def __init__(
        self, client: str, event: EventView, lines: tuple[Line, ...], *, charge: Charge | None, referred: bool,
        hold_ms: int, unpaid_max: tuple[int, int, int] = (0, 0, 0),
    ) -> None:  # fmt: skip
        """`hold_ms` is 0 for a booking that is settled at once; without a charge it costs nothing then. `unpaid_max`
        are tickets that the customer, and the client, may have set aside and not paid for, and those that the client
        gives up before it may have fewer."""
        self.event = event
        self.lines = lines
        self.items = pack_items(lines)
        self.amount = sum(line.quantity * line.unit_price_cents for line in lines)
        self.hold_ms = hold_ms
        marked = charge and Charge(charge.method, _TOKEN, charge.card_name and _NAME, charge.last4 and _LAST4)
        body = Body(client, _CUSTOMER, self.amount, event.currency, lines, _REFERENCE if referred else None)
        payload = Payload(marked, key=_KEY)
        payment_key = "" if hold_ms else _SCOPE
        rest = pack_rest(
            payment_key=payment_key, scope=_SCOPE, fingerprint=_FINGERPRINT, event=event.id, owner=_OWNER,
            items=self.items, body=body, payload=payload,
        )  # fmt: skip
        state = "H" if hold_ms else "P"
        lasts = ":".join(map(str, (hold_ms, *unpaid_max))) if hold_ms or charge else "0"
        self.kind = f"{state}|{lasts}|{self.amount}|{self.items}"
        self.question = f"Q|0|0|{self.items}"
        self._form = _with_gaps(
            rest.decode(),
            [_SCOPE, _FINGERPRINT, _OWNER, _quoted(_CUSTOMER), *([_quoted(_REFERENCE)] if referred else []),
             *(_quoted(mark) for mark in _marks(marked)), _KEY],
        )  # fmt: skip
        record = Record(
            _ID, state, 0, 0, hold_ms, payment_key, _SCOPE, _FINGERPRINT, event.id, _OWNER, self.items, "", body, payload
        )  # fmt: skip
        view = render.of_record(record, event)
        view.created_at, view.expires_at = _CREATED, _EXPIRES if hold_ms else None
        view.expires_in_s = hold_ms // 1_000 if hold_ms else None
        self._shown = _with_gaps(
            render.booking(view).decode(),
            [_ID, _quoted(_CUSTOMER), *([_quoted(_REFERENCE)] if referred else []), _CREATED,
             *([_EXPIRES] if hold_ms else []), *([_quoted(_LAST4)] if marked and marked.last4 else [])],
        )  # fmt: skip

    def form(
        self, scope: str, fingerprint: str, owner: str, customer: str, reference: Sequence[str], card: Sequence[str],
        key_digest: str,
    ) -> str:  # fmt: skip
        """What admit.lua reads of one booking, behind the index of its kind. Customer, reference (one text or none) and
        what the charge has of token, name and last four are given as JSON."""
        return self._form % (scope, fingerprint, owner, customer, *reference, *card, key_digest)

    def shown(
        self, booking: str, customer: str, reference: Sequence[str], last4: Sequence[str], admitted_ms: int,
        created_at: str,
    ) -> bytes:  # fmt: skip
        """The new booking as its shop sees it, as JSON."""
        if self.hold_ms:
            expires_at = timestamp(admitted_ms + self.hold_ms)
            return (self._shown % (booking, customer, *reference, created_at, expires_at, *last4)).encode()
        return (self._shown % (booking, customer, *reference, created_at, *last4)).encode()


def _marks(charge: Charge | None) -> list[str]:
    return [mark for mark in (charge.token, charge.card_name, charge.last4) if mark] if charge else []


def _quoted(mark: str) -> str:
    return f'"{mark}"'


def _with_gaps(text: str, marks: Sequence[str]) -> str:
    """A template with `%s` in place of the marks, which stand in the text in this order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        assert found, "every mark is in the text"
        pieces.append(before.replace("%", "%%"))
    return "%s".join([*pieces, text.replace("%", "%%")])
