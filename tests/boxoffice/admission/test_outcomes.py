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
        ([b"unloaded"], outcomes.Unloaded()),
        ([b"unknown_tier", b"t"], outcomes.UnknownTier(tier="t")),
        ([b"sale_closed", b"event"], outcomes.SaleClosed(why="event")),
        ([b"paused"], outcomes.Paused()),
        ([b"ended", b"t"], outcomes.Ended(tier="t")),
        ([b"not_open", b"17"], outcomes.NotOpen(opens_ms=17)),
        (
            [b"sold_out", b"7", b"t", b"1", b"3", b"u", b"-2", b"0"],
            outcomes.SoldOut(left={"t": 1, "u": -2}, held={"t": 3, "u": 0}, next_end_ms=7),
        ),
        ([b"customer_limit", 3, 4], outcomes.CustomerLimit(have=3, limit=4)),
        ([b"unpaid_limit", b"client", 3, 4], outcomes.UnpaidLimit(whose="client", have=3, limit=4)),
        ([b"price_changed", b"4900"], outcomes.PriceChanged(amount=4_900)),
        ([b"busy"], outcomes.Busy()),
        ([b"malformed"], outcomes.Malformed()),
        ([b"something new"], outcomes.Unexpected(word="something new")),
    ],
)
def test_a_result_has_names(result: list[Any], outcome: Any) -> None:
    found = outcome_of(result)
    assert (type(found), found) == (type(outcome), outcome)
    assert result[0] in OUTCOMES or isinstance(outcome, outcomes.Unexpected)
