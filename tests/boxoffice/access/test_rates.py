"""What an API key may spend: from the settings, and from what was said of it alone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from boxoffice.access.rates import FREE, Allowance, allowance_of, decline_terms
from boxoffice.rate_settings import DeclineSettings, RateSettings


@pytest.mark.parametrize(
    ("settings", "own_max", "allowance"),
    [
        ({}, None, Allowance("k", 200_000, 300, 10, "1::50:600000")),
        ({}, 7, Allowance("k", 7, 300, 10, "1::50:600000")),
        ({"key_max": 5, "customer_max": 4, "window_s": 60}, None, Allowance("k", 5, 4, 60, "1::50:600000")),
        ({"key_max": 0}, None, Allowance("k", None, 300, 10, "1::50:600000")),
        ({"key_max": 0, "customer_max": 0}, 9, Allowance("k", 9, None, 10, "1::50:600000")),
    ],
)
def test_what_is_said_of_a_key_comes_first(
    settings: dict[str, int], own_max: int | None, allowance: Allowance
) -> None:  # fmt: skip
    """0 is no limit."""
    declines = DeclineSettings(customer_max=1, least=0)
    found = allowance_of(RateSettings(changes_max=0, reads_max=0, **settings), declines, "k", own_max)
    assert replace(found, changes_max=None, reads_max=None) == allowance


@pytest.mark.parametrize(
    ("settings", "own_max", "most"),
    [
        ({}, None, (200_000, 200_000)), ({"changes_max": 3, "reads_max": 4}, None, (3, 4)),
        ({"changes_max": 0, "reads_max": 0}, None, (None, None)), ({"changes_max": 3, "reads_max": 4}, 7, (7, 70)),
    ],
)  # fmt: skip
def test_other_requests_have_limits_of_their_own(settings: dict[str, int], own_max: int | None, most: Any) -> None:
    found = allowance_of(RateSettings(**settings), DeclineSettings(), "k", own_max)
    assert (found.changes_max, found.reads_max) == most


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, "10:500:50:600000"),
        ({"customer_max": 0, "share": 70, "window_s": 1}, ":500:70:1000"),
        ({"least": 0}, "10::50:600000"),
        ({"customer_max": 0, "least": 0}, ""),
    ],
)
def test_the_scripts_are_told_from_how_many_declined_payments_on(settings: dict[str, int], terms: str) -> None:
    assert decline_terms(DeclineSettings(**settings)) == terms


@pytest.mark.parametrize(
    ("allowance", "text"),
    [
        (FREE, ""),
        (Allowance("k", None, None, 60), ""),
        (Allowance("k", 7, None, 60), "k:7::60000"),
        (Allowance("k", None, 8, 60), "k::8:60000"),
        (Allowance("k", 7, 8, 1), "k:7:8:1000"),
        (Allowance("k", 7, 8, 1, "terms"), "k:7:8:1000|terms"),
        (Allowance("k", None, None, 1, "terms"), "|terms"),
    ],
)
def test_the_script_is_told_of_limits_that_there_are(allowance: Allowance, text: str) -> None:
    assert allowance.text == text
