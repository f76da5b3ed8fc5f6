"""A template writes what the record and the view would say."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxoffice import ids
from boxoffice.admission.templates import BookingTemplate, Gaps, digits_of, text_of
from boxoffice.clock import timestamp
from boxoffice.sales.catalogue import EventView, TierView
from boxoffice.stores.record import Charge, Line, unpack
from boxoffice.wire import render
from tests.conftest import SHARD

CODES = ('A"%s%%', "€ {} %(x)s")
"""Codes that a shop may give its tiers."""

EVENT = EventView(
    "concert00000", "Concert", "2030-01-01T00:00:00.000Z", 1_893_456_000_000, "active", "USD", 0, 0,
    tuple(TierView(f"tier0000000{n}", code, code, 1_000 * n, 10, True) for n, code in enumerate(CODES, 1)),
)  # fmt: skip

texts = st.text(st.characters(exclude_categories=("C", "Zs", "Zl", "Zp")), min_size=1, max_size=40)
lines = st.sampled_from(
    [
        (Line("tier00000001", 1, 1_000),),
        (Line("tier00000002", 3, 2_000),),
        (Line("tier00000001", 2, 1_000), Line("tier00000002", 10, 2_000)),
    ]
)
charges = st.none() | st.builds(Charge, st.just("card"), texts, st.none() | texts, st.none() | st.just("4242"))


def card_of(charge: Charge | None) -> tuple[str, str]:
    """Charge and last four as they stand in gaps."""
    if charge is None:
        return "", ""
    return text_of(charge), digits_of(charge.last4) if charge.last4 else ""


words = st.none() | st.dictionaries(texts, texts, min_size=1, max_size=3).map(lambda found: dict(sorted(found.items())))


@settings(max_examples=300)
@given(
    lines, charges, texts, st.none() | texts, st.integers(1, 600_000), words, st.none() | texts,
    st.sampled_from(["", "c0de" * 8]),
)  # fmt: skip
def test_a_filled_template_is_the_record_and_the_booking_as_shown(
    lines: tuple[Line, ...], charge: Charge | None, customer: str, reference: str | None, hold_ms: int,
    words: dict[str, str] | None, return_url: str | None, access_code: str,
) -> None:  # fmt: skip
    """Whatever stands in a gap, and whatever in the texts around it."""
    hold_ms = 0 if charge else hold_ms
    template = BookingTemplate("shop00000000", EVENT, lines, charge=charge, referred=reference is not None, hold_ms=hold_ms,
                  unpaid_max=(40, 50_000, 30), described=words is not None, returning=return_url is not None,
                  coded=bool(access_code))  # fmt: skip
    key = ids.digest("key")
    scope, fingerprint, owner = ids.scope("shop00000000", EVENT.id, key), "f" * 16, "0" * 16
    gaps = Gaps(
        ids.booking_id(SHARD, 1), scope, fingerprint, owner, text_of(customer),
        "" if reference is None else text_of(reference), *card_of(charge), key,
        "" if words is None else msgspec.json.encode(words).decode(), "" if return_url is None else text_of(return_url),
        access_code,
    )  # fmt: skip

    form = template.form(gaps)
    assert template.kind.event == EVENT.id
    letters, hold, prices, shop, items = template.kind.text.split("|")
    letter, coded = letters[0], letters[1:]
    deadline_ms = 1_700_000_000_123 + hold_ms if hold_ms else 0
    record = unpack(gaps.booking, f"{letter}|7|1700000000123|{deadline_ms}|{form}".encode())
    shown = template.shown(gaps, record.admitted_ms, timestamp(record.admitted_ms))

    assert coded == ("C" if access_code else "") and record.body.access_code == (access_code or None)
    assert (letter, hold) == ("P" if charge else "H", f"{hold_ms}:40:50000:30")
    assert prices == ",".join(str(line.unit_price_cents) for line in record.body.lines)
    assert items == record.items and template.question == (EVENT.id, f"Q|0|0|{shop}|{items}")
    assert shop == record.body.client
    assert (record.scope, record.fingerprint, record.owner) == (scope, fingerprint, owner)
    assert record.payment_key == (scope if charge else "")
    assert (record.body.customer, record.body.reference, record.payload.charge) == (customer, reference, charge)
    assert record.body.lines == lines and record.payload.key == key
    assert (record.body.metadata, record.body.return_url) == (words, return_url)
    assert shown == render.booking(render.of_record(record, EVENT, record.admitted_ms))


@pytest.mark.parametrize("fill", ["%s", "%", "%%d", '"', "\\", "\ud7ff", "é"])
def test_no_text_is_taken_for_a_gap(fill: str) -> None:
    """Not that of a customer, of a reference, or of a card."""
    charge = Charge("card", fill, fill, "4242")
    line = (Line("tier00000001", 1, 1_000),)
    template = BookingTemplate("shop00000000", EVENT, line, charge=charge, referred=True, hold_ms=0)
    text = text_of(fill)

    form = template.form(Gaps("id", "a" * 32, "f" * 16, "0" * 16, text, text, *card_of(charge), "b" * 32))
    record = unpack("", f"P|1|1|0|{form}".encode())

    assert (record.body.customer, record.body.reference, record.payload.charge) == (fill, fill, charge)
