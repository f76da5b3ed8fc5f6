"""The codec of admit.lua. Whether the script understands it is tried in tests/lua/test_admit.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from boxoffice.admission.outcomes import CREATED
from boxoffice.admission.protocol import (
    Call,
    Codec,
    Kind,
    Reply,
    Sizes,
    booking_kind,
    decode,
    question,
    question_kind,
    sizes_of,
    written,
)
from boxoffice.stores.scripts import load_scripts

ADMIT = load_scripts().admit


@dataclass
class Member:
    kind: Kind
    packed: str = "packed"
    record_key: str = "record"
    idempotency_key: str = "key"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (booking_kind("e", hold_ms=0, amount=2_500, items="t:1"), "P|0|2500|t:1"),
        (booking_kind("e", hold_ms=0, amount=2_500, items="t:1", unpaid_max=(4, 5, 6)), "P|0:4:5:6|2500|t:1"),
        (booking_kind("e", hold_ms=9, amount=0, items="t:1,u:2", unpaid_max=(4,)), "H|9:4|0|t:1,u:2"),
        (question_kind("e", "t:1"), "Q|0|0|t:1"),
    ],
)
def test_what_bookings_have_in_common_is_one_text(kind: Kind, text: str) -> None:
    assert kind == ("e", text)


def test_a_question_has_its_fingerprint_and_items_where_a_record_has_them() -> None:
    assert question("f00d", "t:1") == "=|0|f00d||0|t:1|"


def test_sizes_are_those_of_the_call() -> None:
    """Each kind counts once, of each event."""
    kinds = [Kind("a", "x"), Kind("b", "x"), Kind("a", "x"), Kind("a", "y")]
    call = Call({"a": "t,u", "b": "v", "c": ""}, [Member(kind) for kind in kinds])
    request = Codec(ADMIT, 1, 7).encode(call)
    assert sizes_of(request.args) == Sizes(events=3, kinds=3, members=4)
    assert request.args[:1] == [7] and request.args[6:9] == ["t,u", "v", ""]
    assert request.args[9:12] == ["1|x", "2|x", "1|y"]
    assert request.args[12:] == ["1|packed", "2|packed", "1|packed", "3|packed"]


@pytest.mark.parametrize("field", ["keys", "args"])
def test_a_script_with_other_slots_is_not_called(field: str) -> None:
    """A header that was changed is noticed when the process starts."""
    slots = getattr(ADMIT, field)
    with pytest.raises(TypeError, match=r"admit\.lua has other slots"):
        Codec(replace(ADMIT, **{field: (slots[1], slots[0], *slots[2:])}), 0, 1)


def test_a_reply_has_names() -> None:
    """No tier has less than nothing, nor has one whose counter is gone."""
    reply = decode([b"open", b"17", [CREATED], [[b"3", b"-2", None], []], 4, 5])
    assert reply == Reply(now_ms=17, results=[CREATED], left=[[3, 0, 0], []], behind=4, admissions=5)
    assert decode(written(reply)) == reply


@pytest.mark.parametrize("reply", [[b"open", b"17"], [b"open", b"soon", [], [], 0, 0], None])
def test_what_is_no_reply_is_no_answer(reply: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(reply)
