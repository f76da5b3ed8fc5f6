"""Who is sent away in a flood, and who is let in though the turn has no time: on a transport that only tells."""

from __future__ import annotations

from typing import Any

import pytest

from api.transport.sent_away import SentAway
from api.transport.turns import PAST_MOST, Turns
from boxoffice.admission.flood import FLOOD
from tests.api.transport.test_connection_turns import GET, one, state, turned

__all__ = ["one", "state", "turned"]


def test_one_that_cannot_be_read_leaves_its_connection_as_it_was(turned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one whose every request is sent away."""

    def fails(_: Any) -> None:
        raise OSError

    FLOOD.begin(0.5)
    turned.turns.over = True
    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(turned.turns, "send_away", fails)
        turned.data_received(GET)
    turned.turns.over = False
    turned.data_received(GET)
    assert turned.busy and not turned.turns.sent_away and turned.turns.counted[-1] is False


PAYS = b"POST /v1/bookings/b/payment"


@pytest.mark.parametrize(("start", "most"), [
    (PAYS, PAST_MOST), (PAYS + b"?x", PAST_MOST), (b"POST /v1/webhooks/stripe", PAST_MOST),
    (b"POST /v1/bookings/b/cancel", PAST_MOST // 2), (b"PATCH /v1/bookings/b", PAST_MOST // 2),
    (b"POST /v1/bookings/b/payments", PAST_MOST // 2), (b"DELETE /v1/webhook-endpoints/w", PAST_MOST // 2),
    (b"POST /v1/bookings", 0), (b"POST /v1/bookings?x", 0), (b"GET /v1/bookings/b/payment", 0), (b"GET /v1/events", 0),
])  # fmt: skip
def test_what_is_about_something_that_is_in_already_is_let_in_beyond_the_time(
    one: Any, start: bytes, most: int
) -> None:
    """So many in a turn, and payments have places that others have not."""
    FLOOD.begin(60)
    one.turns = turns = Turns()
    turns.is_over(one.loop)
    turns.spend(1)
    let_in = []
    for _ in range(PAST_MOST + 2):
        one.data_received(start + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        let_in.append(not isinstance(one.cycle, SentAway))
        one.cycle = None
    assert let_in == [True] * most + [False] * (PAST_MOST + 2 - most)
    paid = [turns.lets_past(b"POST", b"/v1/webhooks/stripe", 0.0) for _ in range(PAST_MOST)]
    assert paid.count(True) == PAST_MOST - most
