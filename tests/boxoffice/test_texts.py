"""What is wrong with a text is said by its first character that cannot be used, counted from 1, and never repeated."""

from __future__ import annotations

import pytest

from boxoffice.texts import fault_of, is_storable


@pytest.mark.parametrize(
    ("text", "code", "what"),
    [
        ("", "empty", "must not be empty"),
        (" \t ", "empty", "must not be empty"),
        ("a" * 41, "too_long", "has more than 40 characters"),
        ("é" * 41, "too_long", "has more than 40 characters"),
        ("\x00", "control_character", "has U+0000 as character 1, which cannot be used"),
        ("ab\x7fc\x00", "control_character", "has U+007F as character 3, which cannot be used"),
        ("é\u2028", "control_character", "has U+2028 as character 2, which cannot be used"),
        ("x\ufdd0", "control_character", "has U+FDD0 as character 2, which cannot be used"),
        ("x\ufdef", "control_character", "has U+FDEF as character 2, which cannot be used"),
        ("x\U0001ffff", "control_character", "has U+1FFFF as character 2, which cannot be used"),
        ("x\ud800", "control_character", "has U+D800 as character 2, which cannot be used"),
        ("\u200b\u200b", "invisible", "shows nothing: it has only characters like U+200B"),
        ("\u3164", "invisible", "shows nothing: it has only characters like U+3164"),
    ],
)
def test_what_is_wrong_is_said(text: str, code: str, what: str) -> None:
    assert fault_of(text, 40) == (code, what)


@pytest.mark.parametrize(
    "text", ["a" * 40, "é" * 40, "Soirée\u00a0: l’été", "علی\u200cرضا", "नमस्ते", "שָׁלוֹם\u200f", "x\ufdcf", "x\ufdf0", "🎟️"]
)
def test_names_of_any_language_may_stand(text: str) -> None:
    assert fault_of(text, 40) is None
    assert is_storable(text)


def test_every_character_has_to_be_storable() -> None:
    assert not is_storable("ab\x00cd")
    assert is_storable("")
