"""Results of admit.lua, by name. That no word of its header is left out is tried in tests/test_lua_headers.py."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.admission import outcomes
from boxoffice.admission.outcomes import OUTCOMES, outcome_of


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ([b"created", b"17"], outcomes.Created(admitted_ms=17)),
        ([b"replayed", b"id", b"raw"], outcomes.Replayed(booking_id="id", record=b"raw")),
        ([b"left"], outcomes.Left()),
        ([b"mismatch", b"id"], outcomes.Mismatch(booking_id="id")),
        ([b"rate_limited", b"key", 7, b"17"], outcomes.RateLimited(whose="key", limit=7, ends_ms=17)),
        ([b"declined_too_often", b"event", b"17"], outcomes.DeclinedTooOften(whose="event", left_ms=17)),
        ([b"unloaded"], outcomes.Unloaded()),
        ([b"unknown_tier", b"t"], outcomes.UnknownTier(tier="t")),
        ([b"sale_closed", b"event"], outcomes.SaleClosed(why="event")),
        ([b"paused"], outcomes.Paused()),
        ([b"ended", b"t"], outcomes.Ended(tier="t")),
        ([b"not_open", b"17"], outcomes.NotOpen(opens_ms=17)),
        ([b"code_refused", b"revoked"], outcomes.CodeRefused(why="revoked")),
        ([b"code_used_up", b"2"], outcomes.CodeUsedUp(left=2)),
        (
            [b"sold_out", b"7", b"t", b"1", b"3", b"u", b"-2", b"0"],
            outcomes.SoldOut(left={"t": 1, "u": -2}, held={"t": 3, "u": 0}, next_end_ms=7),
        ),
        ([b"booking_limit", b"t", 2, 0], outcomes.BookingLimit(tier="t", least=2, most=None)),
        ([b"booking_limit", b"", 0, 4], outcomes.BookingLimit(tier=None, least=None, most=4)),
        ([b"customer_limit", b"", 3, 0, 4, 1], outcomes.CustomerLimit(tier=None, have=3, least=None, most=4, left=1)),
        (
            [b"customer_limit", b"t", 0, 5, 0, b""],
            outcomes.CustomerLimit(tier="t", have=0, least=5, most=None, left=None),
        ),
        ([b"customer_limit", b"t", 4, 0, 4, 0], outcomes.CustomerLimit(tier="t", have=4, least=None, most=4, left=0)),
        ([b"unpaid_limit", b"client", 3, 4], outcomes.UnpaidLimit(whose="client", have=3, limit=4)),
        ([b"price_changed", b"4900", 0], outcomes.PriceChanged(amount=4_900, outdated=False)),
        ([b"price_changed", b"4900", 1], outcomes.PriceChanged(amount=4_900, outdated=True)),
        ([b"busy"], outcomes.Busy()),
        ([b"malformed"], outcomes.Malformed()),
        ([b"something new"], outcomes.Unexpected(word="something new")),
    ],
)
def test_a_result_has_names(result: list[Any], outcome: Any) -> None:
    found = outcome_of(result)
    assert (type(found), found) == (type(outcome), outcome)
    assert result[0] in OUTCOMES or isinstance(outcome, outcomes.Unexpected)
