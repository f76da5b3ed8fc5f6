"""What of a parked booking's record still makes sense, and can be written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from boxoffice import ids
from boxoffice.books.dead_letters import DeadLetter
from boxoffice.repair.salvage import Names, lines_of, names_of
from boxoffice.stores.record import Line, Payload
from tests.conftest import CLIENT
from tests.support.damaged import LINE, RECORD, body
from tests.support.shop.office import Till
from tests.support.shop.orders import OTHER

FACTS: list[tuple[dict[str, Any], str, object]] = [
    ({}, "client", CLIENT),
    (body(client=OTHER), "client", OTHER),
    (body(client="nobody000000"), "client", CLIENT),
    (body(client="a\0b"), "client", CLIENT),
    ({}, "customer", "ada"),
    (body(customer="a\0b"), "customer", ""),
    ({}, "reference", "order 1"),
    (body(reference=None), "reference", None),
    (body(reference="a\0b"), "reference", None),
    ({}, "amount_cents", 5),
    (body(amount_cents=0), "amount_cents", 0),
    (body(amount_cents=-1), "amount_cents", 0),
    (body(amount_cents=2**63 - 1), "amount_cents", 2**63 - 1),
    (body(amount_cents=2**63), "amount_cents", 0),
    (body(currency="EUR"), "currency", "USD"),
    ({}, "key", "cd" * 16),
    ({"payload": Payload(key="nonsense")}, "key", ids.digest(RECORD.id)),
    ({"payload": Payload(key="a" * 15)}, "key", ids.digest(RECORD.id)),
    ({"payload": Payload(key="a" * 16)}, "key", "a" * 16),
    ({"payload": Payload(key="a" * 64)}, "key", "a" * 64),
    ({"payload": Payload(key="a" * 65)}, "key", ids.digest(RECORD.id)),
    ({}, "fingerprint", "ab" * 16),
    ({"fingerprint": "xyz"}, "fingerprint", ""),
    ({}, "sequence", 7),
    ({"sequence": 0}, "sequence", 0),
    ({"sequence": -1}, "sequence", 0),
    ({"sequence": 2**63 - 1}, "sequence", 2**63 - 1),
    ({"sequence": 2**63}, "sequence", 0),
    ({}, "deadline_ms", 2_000),
    ({"deadline_ms": -1}, "deadline_ms", 0),
    ({"deadline_ms": 10**14 - 1}, "deadline_ms", 10**14 - 1),
    ({"deadline_ms": 10**14}, "deadline_ms", 0),
    ({}, "admitted_ms", 1_000),
    ({"admitted_ms": 1}, "admitted_ms", 1),
    ({"admitted_ms": 0}, "admitted_ms", int(RECORD.id.replace("-", "")[:12], 16)),
    ({"admitted_ms": 10**14 - 1}, "admitted_ms", 10**14 - 1),
    ({"admitted_ms": 10**14}, "admitted_ms", int(RECORD.id.replace("-", "")[:12], 16)),
    ({}, "lines", [tuple(msgspec.structs.astuple(LINE))]),
]


async def test_what_can_be_written_of_a_record(till: Till) -> None:
    """Whatever PostgreSQL takes, to the edge; else what stands for nothing."""
    async with (await till.office.pool()).acquire() as connection:
        for changes, field, value in FACTS:
            record = replace(RECORD, event=till.event.id, **changes)
            facts = await till.office.parked.failing.facts(connection, DeadLetter(record.id, "", 5, "", record, b""))
            assert facts is not None
            assert (getattr(facts, field), facts.event) == (value, till.event.id), changes


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (LINE, True),
        (replace(LINE, tier="a\0b"), False),
        (replace(LINE, tier=""), False),
        (replace(LINE, quantity=0), False),
        (replace(LINE, quantity=2**31 - 1), True),
        (replace(LINE, quantity=2**31), False),
        (replace(LINE, unit_price_cents=0), True),
        (replace(LINE, unit_price_cents=-1), False),
        (replace(LINE, unit_price_cents=2**31 - 1), True),
        (replace(LINE, unit_price_cents=2**31), False),
    ],
)
def test_lines_that_postgresql_takes(line: Line, kept: bool) -> None:
    found = lines_of(replace(RECORD.body, lines=(line, LINE)))
    assert found == [msgspec.structs.astuple(each) for each in ([line, LINE] if kept else [LINE])]


HEAD = Names("event0000001", "ab" * 16, "0f")
NOTHING = Names("", "", "")


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"P|1|2|3|0f|%s|finger|event0000001|rest\nof it", HEAD),
        (b"P|x|y|z|0f|%s|finger|event0000001|", HEAD),
        (b"P|1|2|3|=|%s|finger|event0000001|", HEAD._replace(payment_key="ab" * 16)),
        (b"P|1|2|3||%s|finger|event0000001|", HEAD._replace(payment_key="")),
        (b"p|1|2|3|0f|%s|finger|event0000001|", NOTHING),
        (b"P|1|2|3|0f|%s|finger|event0000001", NOTHING),
        (b"P|1|2|3|0f|%s|finger||", NOTHING),
        (b"P|1|2|3|0g|%s|finger|event0000001|", NOTHING),
        (b"P|1|2|3|0f|%s0|finger|event0000001|", NOTHING),
        (b"P|1|\n|3|0f|%s|finger|event0000001|", NOTHING),
        (b"x P|1|2|3|0f|%s|finger|event0000001|", NOTHING),
    ],
)
def test_what_of_a_damaged_head_still_makes_sense(raw: bytes, found: Names) -> None:
    assert names_of(DeadLetter("b1", "", 5, "", None, raw.replace(b"%s", b"ab" * 16))) == found


def test_a_record_that_can_be_read_is_known_by_what_it_says() -> None:
    record = replace(RECORD, event="event0000001")
    assert names_of(DeadLetter(record.id, "", 5, "", record, b"nothing of this")) == ("event0000001", "scope", "pay")
