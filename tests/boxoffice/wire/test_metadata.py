"""A shop's own words about a booking: how many, how long, and what is in none of them."""

from __future__ import annotations

import pytest

from boxoffice.errors import CardDataRefused, Malformed
from boxoffice.wire.metadata import BYTES_MAX, metadata_of

CARD = "4242 4242 4242 4242"


def test_it_is_one_text_whatever_its_order() -> None:
    assert metadata_of({"b": "2", "aa": "1"}) == metadata_of({"aa": "1", "b": "2"}) == '{"aa":"1","b":"2"}'


@pytest.mark.parametrize(
    "good",
    [
        {f"key-{n}": "x" for n in range(20)}, {"k" * 40: "v" * 500}, {"Größe": "\u4f60\u597d"}, {"a:b": "https://shop.example/?a=1"},
        {"order": "1748503543012"}, {"q": "\"\\{}%s"},
    ],
)  # fmt: skip
def test_what_may_be(good: dict[str, str]) -> None:
    assert metadata_of(good)


@pytest.mark.parametrize(
    ("bad", "pointer", "code"),
    [
        ({f"key-{n}": "x" for n in range(21)}, "/metadata", "too_many"),
        ({"k" * 41: "v"}, "/metadata", "too_long"),
        ({"": "v"}, "/metadata", "empty"),
        ({"a\0b": "v"}, "/metadata", "control_character"),
        ({"seat": "v" * 501}, "/metadata/seat", "too_long"),
        ({"seat": ""}, "/metadata/seat", "empty"),
        ({"seat": "a\nb"}, "/metadata/seat", "control_character"),
        ({"row 7": "\0"}, "/metadata", "control_character"),
        ({"seat": "\u200b"}, "/metadata/seat", "invisible"),
        ({"seat": "\ud800"}, "/metadata/seat", "control_character"),
    ],
)
def test_what_may_not_be(bad: dict[str, str], pointer: str, code: str) -> None:
    with pytest.raises(Malformed) as refused:
        metadata_of(bad)
    assert refused.value.details["errors"] == [{"pointer": pointer, "code": code}]


def test_all_together_are_bounded() -> None:
    """By bytes of JSON, not by characters."""
    most = {f"k{n}": "x" * 500 for n in range(8)}
    room = BYTES_MAX - len(metadata_of(most)) - len(',"last":""')
    assert len(metadata_of(most | {"last": "x" * room})) == BYTES_MAX
    for more in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(Malformed) as refused:
            metadata_of(most | {"last": more})
        assert refused.value.details["errors"] == [{"pointer": "/metadata", "code": "too_long"}]


@pytest.mark.parametrize(
    ("bad", "pointer"), [({"card": CARD}, "/metadata/card"), ({"a b": CARD}, "/metadata"), ({CARD: "x"}, "/metadata")]
)
def test_it_has_no_card_number(bad: dict[str, str], pointer: str) -> None:
    with pytest.raises(CardDataRefused) as refused:
        metadata_of(bad)
    assert refused.value.pointer == pointer


def test_what_is_too_long_together_is_not_searched() -> None:
    """Looking for a card number costs the most: nobody makes us look through more than would be kept."""
    with pytest.raises(Malformed) as refused:
        metadata_of({f"k{n}": f"{CARD} {'x' * 480}" for n in range(9)})
    assert refused.value.details["errors"] == [{"pointer": "/metadata", "code": "too_long"}]
