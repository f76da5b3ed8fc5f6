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
from boxoffice.stores import keys
from boxoffice.stores.jobs import BELL_TTL_MS, job_prefix, pack_ring
from boxoffice.stores.scripts import Script, Scripts, load_scripts
from boxoffice.stores.shard import Shard

ADMIT = load_scripts().admit


def codec(script: Script = ADMIT, pending_max: int = 7) -> Codec:
    """Of shard 3, whose Redis nobody asks."""
    nobody: Any = None
    return Codec(Shard(nobody, Scripts({"admit": script}), 3), pending_max)


@dataclass
class Member:
    kind: Kind
    packed: str = "packed"
    record_key: str = "record"
    idempotency_key: str = "key"
    access_code: str = ""


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (booking_kind("e", client="s", hold_ms=0, prices=(2_500,), items="t:1"), "P|0|2500|s|t:1"),
        (
            booking_kind("e", client="s", hold_ms=0, prices=(2_500,), items="t:1", unpaid_max=(4, 5, 6)),
            "P|0:4:5:6|2500|s|t:1",
        ),
        (
            booking_kind("e", client="s", hold_ms=9, prices=[0, 5], items="t:1,u:2", unpaid_max=(4,)),
            "H|9:4|0,5|s|t:1,u:2",
        ),
        (booking_kind("e", client="s", hold_ms=0, prices=(5, 6), items="t:1,u:2", expected=25), "P|0|5,6:25|s|t:1,u:2"),
        (booking_kind("e", client="s", hold_ms=0, prices=(25,), items="t:1", expected=0), "P|0|25:0|s|t:1"),
        (booking_kind("e", client="s", hold_ms=0, prices=(25,), items="t:1", rate="k:7:8:9"), "P|0|25|s|t:1|k:7:8:9"),
        (question_kind("e", "t:1", "s", "k:7:8:9"), "Q|0|0|s|t:1|k:7:8:9"),
        (question_kind("e", "t:1", "s"), "Q|0|0|s|t:1"),
    ],
)
def test_what_bookings_have_in_common_is_one_text(kind: Kind, text: str) -> None:
    assert kind == ("e", text)


def test_a_question_has_its_fingerprint_and_items_where_a_record_has_them() -> None:
    assert question("f00d", "t:1") == "=|0|f00d||0|t:1|"
    assert question("f00d", "t:1", "beef") == "=|0|f00d||beef|t:1|"


def test_sizes_are_those_of_the_call() -> None:
    """Each kind counts once, of each event."""
    kinds = [Kind("a", "x"), Kind("b", "x"), Kind("a", "x"), Kind("a", "y")]
    call = Call({"a": "t,u", "b": "v", "c": ""}, [Member(kind) for kind in kinds])
    request = codec().encode(call)
    assert sizes_of(request.args) == Sizes(events=3, kinds=3, members=4)
    assert request.args[:1] == [7] and request.args[6:10] == ["0,0,0", "t,u", "v", ""]
    assert request.args[10:13] == ["1|x", "2|x", "1|y"]
    assert request.args[13:] == ["1|packed", "2|packed", "1|packed", "3|packed"]


def test_a_code_of_an_event_is_told_once() -> None:
    """Its bookings, of whatever kind, name it by its place among the event's."""
    kind, other, elsewhere = Kind("a", "PC|x"), Kind("a", "HC|x"), Kind("b", "PC|x")
    members = [Member(kind, access_code=code) for code in ("c1", "c2", "c1")] + [Member(other, access_code="c1")]
    members += [Member(elsewhere, access_code=code) for code in ("c2", "c1", "c2")] + [Member(Kind("a", "P|x"))]
    request = codec().encode(Call({"a": "t", "c": "", "b": "u"}, members))
    assert request.args[4:7] == [3, 4, "2,0,2"]
    assert request.args[10:18] == ["1|PC|x", "1|HC|x", "3|PC|x", "1|P|x", "kc1", "kc2", "kc2", "kc1"]
    assert [*request.args[18]] == [1, 2, 1, 1, 1, 2, 1, 0]
    assert request.args[19:] == [f"{kind}|packed" for kind in (1, 1, 1, 2, 3, 3, 3, 4)]
    assert sizes_of(request.args) == Sizes(events=3, kinds=4, members=8)


def test_of_many_codes_a_place_is_two_bytes() -> None:
    """Of every booking of the call, whatever its place is."""
    members = [Member(Kind("a", "PC|x"), access_code=f"c{n}") for n in range(256)] + [Member(Kind("a", "P|x"))]
    places = codec().encode(Call({"a": "t"}, members)).args[10 + 256]
    assert places == b"".join(bytes((n // 256, n % 256)) for n in [*range(1, 257), 0])
    assert len(codec().encode(Call({"a": "t"}, members[1:])).args[10 + 255]) == 256


def test_what_a_shard_has_stands_where_the_header_says() -> None:
    """And then what is this call's: of each event its sale and owners, of each member its record and key."""
    request = codec().encode(Call({"a": "t"}, [Member(Kind("a", "x"))]))
    own = [keys.gate(3), keys.pending(3), keys.deadlines(3), keys.sequence(3), keys.bell(3), keys.rings(3)]
    assert request.keys == [*own, keys.arq_queue(3), keys.event(3, "a"), keys.owners(3, "a"), "record", "key"]
    assert request.args == [7, BELL_TTL_MS, pack_ring(3), job_prefix(3), 1, 1, "0", "t", "1|x", "1|packed"]
    (gate, pending, *others), (most, ttl_ms, *more) = ADMIT.keys, ADMIT.args
    other = replace(ADMIT, keys=(pending, gate, *others), args=(ttl_ms, most, *more))
    turned = codec(other).encode(Call({}, []))
    assert (turned.keys[:2], turned.args) == ([own[1], own[0]], [BELL_TTL_MS, 7, *request.args[2:4], 0, 0, ""])


def test_one_call_leaves_nothing_for_the_next() -> None:
    writes = codec()
    first, then = (writes.encode(Call({"a": "t"}, [Member(Kind("a", "x"))])) for _ in range(2))
    assert (then.keys, then.args) == (first.keys, first.args)


@pytest.mark.parametrize(
    ("slots", "says"),
    [({"keys": (*ADMIT.keys, "more")}, "admit.lua needs 'more'"),
     ({"args": ADMIT.args[1:]}, "admit.lua has no slot pending_max"),
     ({"args": (*ADMIT.args[:4], "kinds", "events", "codes", "forms")}, "admit.lua takes events, kinds, codes, forms last"),
     ({"args": ("events", *ADMIT.args[:4], "kinds", "codes", "forms")}, "admit.lua takes events, kinds, codes, forms last"),
     ({"args": ("told", *ADMIT.args)}, "admit.lua takes events, kinds, codes, forms last, from its argument 5 on")],
)  # fmt: skip
def test_a_script_with_other_slots_is_not_called(slots: dict[str, Any], says: str) -> None:
    """A header that was changed is noticed when the process starts."""
    with pytest.raises(TypeError, match=says):
        codec(replace(ADMIT, **slots))


def test_a_reply_has_names() -> None:
    """No tier has less than nothing, nor has one whose counter is gone."""
    reply = decode([b"open", b"17", [CREATED], [[b"3", b"-2", None], []], 4, 5, [b"ann", 6, b"bob", 7]])
    assert reply == Reply(
        now_ms=17, results=[CREATED], left=[[3, 0, 0], []], behind=4, admissions=5, counted={"ann": 6, "bob": 7}
    )
    assert decode(written(reply)) == reply


def test_a_result_may_be_that_of_a_member_before() -> None:
    """It is told once."""
    refused, other = [b"sold_out", b"0"], [b"busy"]
    reply = decode([b"open", b"17", [CREATED, refused, 2, other, 2, 4], [[]], 0, 0, []])
    assert reply.results == [CREATED, refused, refused, other, refused, other]


@pytest.mark.parametrize("reply", [[b"open", b"17"], [b"open", b"soon", [], [], 0, 0], None])
def test_what_is_no_reply_is_no_answer(reply: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(reply)
