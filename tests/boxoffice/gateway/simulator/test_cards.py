"""Test cards: the number chooses what happens, the token says no more than that."""

from __future__ import annotations

import pytest

from boxoffice.errors import Malformed
from boxoffice.gateway.base import Token
from boxoffice.gateway.simulator import cards


def test_every_test_card_passes_the_luhn_check():
    """Or the API would refuse it as malformed. Numbers and behaviours are each their own."""
    assert all(cards.passes_luhn(card.number) for card in cards.CARDS)
    assert len({card.number for card in cards.CARDS}) == len({card.behaviour for card in cards.CARDS})


@pytest.mark.parametrize("card", cards.CARDS, ids=lambda card: card.behaviour)
def test_a_token_says_only_behaviour_and_last_four(card: cards.Card):
    """And is its own token."""
    token = cards.tokenize(card.number)
    assert token == Token(f"tok_{card.behaviour}_{card.number[-4:]}", card.number[-4:])
    assert cards.check_token(token.token) == token
    assert cards.behaviour_of(token.token) == card.behaviour


@pytest.mark.parametrize("number", ["4111111111111111", "378282246310005", "4222222222222", "6304000000000000000"])
def test_any_other_card_number_declines(number: str):
    """13 to 19 digits that pass the Luhn check."""
    assert cards.tokenize(number).token == f"tok_card_declined_{number[-4:]}"


@pytest.mark.parametrize(
    "number",
    [
        "",
        "4242",
        "4242424242424241",
        "4242 4242 4242 4242",
        "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢",
        "424242424242",
        "4" * 20,
        "x" * 16,
        "42" * 8 + "\n",
    ],
)
def test_what_is_no_card_number_is_malformed(number: str):
    """The error does not repeat it."""
    with pytest.raises(Malformed) as refusal:
        cards.tokenize(number)
    assert not number or number not in str(refusal.value)


def test_the_last_four_digits_may_be_left_out_of_a_token():
    """For whoever types tokens by hand."""
    assert cards.check_token("tok_ok") == Token("tok_ok_4242", "4242")
    assert cards.check_token("tok_3ds_fail") == Token("tok_3ds_fail_1629", "1629")


@pytest.mark.parametrize("token", ["tok_nothing", "tok_ok_42424", "TOK_OK", "tok_ok_4242 "])
def test_a_token_of_no_known_behaviour_is_malformed(token: str):
    """Rather than a decline that nobody scripted."""
    with pytest.raises(Malformed):
        cards.check_token(token)
