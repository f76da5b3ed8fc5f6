"""The id of a request is the one that it came with, its trace's, or a new one; and what might hurt is never repeated."""

from __future__ import annotations

import re

import pytest

from boxoffice.telemetry import request_id
from boxoffice.telemetry.request_id import choose, make, now

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00-" + TRACE + b"-00f067aa0ba902b7-01"


def is_new(name: bytes) -> bool:
    return re.fullmatch(rb"[0-9a-f]{12}-[0-9a-f]+", name) is not None


@pytest.mark.parametrize(
    "given",
    [
        b"x", b"a" * 128, b"0190b1a2-7c7e-7000-8000-0123456789ab", b"Root=1-67891233-abcdef012345678912345678",
        b"A.b_c:d+e/f=g@h~i-0", b"123456789012", b"1234567890123", b"0123a456789012", b"a1bf4242424242424242c3d4e5f6a7b8",
    ],
)  # fmt: skip
def test_a_well_formed_id_is_taken(given: bytes) -> None:
    """As load balancers and frameworks write them. It is nearer to whoever asks than the trace."""
    assert choose(given, None) == choose(given, PARENT) == given


@pytest.mark.parametrize(
    "given",
    [
        None, b"", b"a" * 129, b"a b", b"a\nb", b"a\r\nSet-Cookie: x", b"a\n", b'a"b', b"a\\b", b"a,b", b"a;b", b"a%b", b"<b>",
        b"\xc3\xa9",
        b"a\x00b", b"${jndi}",
        b"4242424242424242", b"order-4242-4242-4242-4242", b"x4242424242424242x", b"4242a4242a4242a4242", b"3782x822463x10005",
    ],
)  # fmt: skip
def test_any_other_id_is_not_repeated(given: bytes | None) -> None:
    """Too long, of other characters, or with a card number in it: then the trace names the request, or a new id does."""
    assert is_new(choose(given, None))
    assert choose(given, PARENT) == TRACE


@pytest.mark.parametrize(
    ("parent", "trace"),
    [
        (PARENT, TRACE), (b"cc" + PARENT[2:], TRACE), (b"cc" + PARENT[2:] + b"-what.will.be", TRACE), (PARENT + b"-more", None),
        (b"ff" + PARENT[2:], None), (PARENT.upper(), None), (PARENT[:-1], None), (PARENT + b"0", None), (b" " + PARENT, None),
        (PARENT.replace(TRACE, b"0" * 32), None), (PARENT.replace(b"00f067aa0ba902b7", b"0" * 16), None), (b"", None),
        (PARENT.replace(TRACE, b"a1bf4242424242424242c3d4e5f6a7b8"), b"a1bf4242424242424242c3d4e5f6a7b8"),
        (PARENT.replace(b"-01", b"-00"), TRACE), (PARENT.replace(TRACE, b"4242424242424242" + b"a" * 16), None),
    ],
)  # fmt: skip
def test_a_trace_is_read_as_w3c_writes_it(parent: bytes, trace: bytes | None) -> None:
    """Versions to come may add something; sampled or not, it is the same trace."""
    chosen = choose(None, parent)
    assert chosen == trace if trace else is_new(chosen)


def test_what_is_in_hand_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A booking is taken in the context of its connection, or of whatever task has just answered the one before it."""
    assert now() == b""
    token = request_id.current.set(b"task")
    assert now() == b"task"
    monkeypatch.setattr(request_id.in_hand, "name", b"booking")
    assert now() == b"booking"
    request_id.current.reset(token)


def test_no_two_are_made_alike() -> None:
    names = {make() for _ in range(1_000)}
    assert len(names) == 1_000
    assert all(map(is_new, names))
    assert len({name.partition(b"-")[0] for name in names}) == 1, "by the process, and by its count"
    assert re.fullmatch(request_id.WELL_FORMED, max(names))
