"""A body that is no body of its kind: where, and by which word; nothing of it is repeated but a plain name."""

from __future__ import annotations

import pytest
from msgspec import Struct

from boxoffice.errors import Malformed
from boxoffice.wire.strict import may_be_named, read_strictly


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("page", True), ("page_2", True), ("x-trace", True), ("a" * 40, True), ("a" * 41, False), ("", False), ("1a", False),
        ("a1234", True), ("a1234b", True), ("a12345", False), ("a1b1", False), ("a b", False), ("a\n", False), ("ä", False),
        ("a.b", False), ("_a", False),
    ],
)  # fmt: skip
def test_a_name_is_repeated_when_it_is_a_plain_word(name: str, may: bool) -> None:
    assert may_be_named(name) is may


class Part(Struct, forbid_unknown_fields=True):
    size: int = 0


class Whole(Struct, forbid_unknown_fields=True):
    part_one: Part | None = None
    parts: list[Part] = []


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"surprise": 1}', "/surprise", "unknown_member"),
        (b'{"part_one": {"surprise": 1}}', "/part_one/surprise", "unknown_member"),
        (b'{"parts": [{}, {"sur-prise": 1}]}', "/parts/1/sur-prise", "unknown_member"),
        (b'{"parts": [{}, {"a b": 1}]}', "/parts/1", "unknown_member"),
        (b'{"parts": [{}, {"a`b": 1}]}', "/parts/1", "unknown_member"),
        (b'{"parts": [{}, {"a\\nb": 1}]}', "/parts/1", "unknown_member"),
        (b'{"4242424242424242": 1}', "", "unknown_member"),
        (b'{"~/": 1}', "", "unknown_member"),
        (b'{"x - at `$.4242424242424242": 1}', "", "unknown_member"),
        (b'{"x` - at `$.parts[1].4242424242424242": 1}', "/parts/1/x", "unknown_member"),
        (b'{"x - at `$.parts[4242424242424242].size": 1}', "/parts", "unknown_member"),
        (b'{"x - at `$.a4242.4242424242424242": 1}', "/a4242", "unknown_member"),
        (b'{"parts": [{}, {"size": "x"}]}', "/parts/1/size", "wrong_type"),
        (b'{"part_one": {"size": "x"}}', "/part_one/size", "wrong_type"),
        (b'{"part_one": {"size": 1, "size": 1}}', "", "duplicate_member"),
        (b"", "", "not_json"),
    ],
)
def test_what_is_wrong_is_told_where_it_is(body: bytes, pointer: str, code: str) -> None:
    with pytest.raises(Malformed) as refused:
        read_strictly(body, Whole)
    assert refused.value.details["errors"] == [{"pointer": pointer, "code": code}]
