"""Card numbers are found, however they are written; other long numbers are let be."""

from __future__ import annotations

import pytest

from boxoffice.card_data import has_card_number, mask_card_numbers
from boxoffice.ids import booking_id

CARD = "4242424242424242"


@pytest.mark.parametrize(
    "text",
    [
        CARD, "4242 4242 4242 4242", "4242-4242-4242-4242", "378282246310005", "3782 822463 10005", "4222222222222",
        "6304000000000000", "\uff14\uff12" * 8, f"to {CARD}.", f"({CARD})", "pay 4242 4242 4242 4242 now",
    ],
)  # fmt: skip
def test_a_card_number_is_found(text: str) -> None:
    assert has_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "Ada", "4242424242424241", "424242424242", "+1 555 0100", "2026-11-22T20:00:00Z", f"x{CARD}", f"{CARD}0000",
        "12345678-1234-4234-8234-123456789012", "00000000-0000-4000-8000-000000000000", "ORD-2026-0000-0000-0018",
    ],
)  # fmt: skip
def test_other_texts_are_let_be(text: str) -> None:
    assert not has_card_number(text)
    assert mask_card_numbers(text) == text


def test_our_own_ids_are_no_card_numbers() -> None:
    assert not [name for now in range(20_000) if has_card_number(name := booking_id(0, 1_763_840_000_000 + now))]


def test_only_the_last_four_digits_are_left() -> None:
    assert mask_card_numbers(f"declined: {CARD}, 4000 0000 0000 0002") == "declined: [card 4242], [card 0002]"
    assert mask_card_numbers("4242-4242-4242-4242") == "[card 4242]"
