"""What went back of a payment at the simulated gateway: which word is written, what is answered and seen. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from boxoffice.gateway.base import DisputeSeen, Done, Pending, RefundSeen, Refused, Reversals
from boxoffice.gateway.simulator import givings, scenario
from boxoffice.gateway.simulator.scenario import State, read

KEY = "0123456789abcdefghijKLMNOP"


def word(refunds: str = "", refunded: int = 0, behaviour: str = "ok", status: str = "C", captured: int = 1_000) -> str:
    """A payment of 10.50, of which 10.00 were taken."""
    return State(status, 1_050, "USD", captured, refunded, refunds, f"tok_{behaviour}_4242").word


@pytest.mark.parametrize(
    ("known", "key", "amount", "number", "after", "answer"),
    [
        (None, "r", 100, 0, None, Refused("not_captured")),
        *((word(status=status), "r", 100, 0, None, Refused("not_captured")) for status in "TRADV"),
        (word(), "r", 100, 0, word("r=100", 100), Done("simre_r")),
        (word(), "r", 1_000, 0, word("r=1000", 1_000), Done("simre_r")),
        (word(), "r", 1_001, 0, None, Refused("refund_too_large")),
        (word(), "r", 0, 0, None, Refused("refund_too_large")),
        (word(), "r", -1, 0, None, Refused("refund_too_large")),
        (word("q=400", 400), "r", 600, 0, word("q=400,r=600", 1_000), Done("simre_r")),
        (word("q=400", 400), "r", 601, 0, None, Refused("refund_too_large")),
        (word("q=1000", 1_000), "r", 1, 0, None, Refused("charge_already_refunded")),
        (word("r=100", 100), "r", 100, 0, None, Done("simre_r")),
        (word("r=100", 100), "r", 101, 0, None, Refused("already_refunded")),
        (word("r=100", 100), "r-1", 100, 0, None, Done("simre_r")),
        (word("r-1=100", 100), "r-2", 100, 0, None, Done("simre_r-1")),
        (word("r=100", 100), "s-1", 100, 0, word("r=100,s-1=100", 200), Done("simre_s-1")),
        (word("r=100f"), "r", 100, 0, None, Refused("expired_or_canceled_card")),
        (word("r=100f"), "r-1", 100, 0, word("r=100f,r-1=100", 100), Done("simre_r-1")),
        (word("r=100p~50", 100), "r", 100, 0, None, Pending("simre_r", "processing")),
        (word("dash=100t~50"), "r", 1_000, 0, word("dash=100t~50,r=1000", 1_000), Done("simre_r")),
        (word(behaviour="refund_refused"), "r", 100, 0, None, Refused("refund_failed")),
        (word(behaviour="refund_refused"), "r-1", 100, 0, None, Refused("refund_failed")),
        (word(behaviour="refund_refused_once"), "r", 100, 0, None, Refused("refund_failed")),
        (word(behaviour="refund_refused_once"), "r-1", 100, 0, word("r-1=100", 100, "refund_refused_once"), Done("simre_r-1")),
        (word(behaviour="refund_error"), "r", 100, 0, word("r", 0, "refund_error"), scenario.ERROR),
        (word("r", 0, "refund_error"), "r", 100, 0, None, scenario.REPLAYED),
        (word("r", 0, "refund_error"), "r", 100, 1, word("r=100", 100, "refund_error"), Done("simre_r")),
        (word(behaviour="refund_error"), "r-1", 100, 0, word("r-1=100", 100, "refund_error"), Done("simre_r-1")),
        (
            word(behaviour="refund_pending"), "r", 100, 0,
            word("r=100p~57", 100, "refund_pending"), Pending("simre_r", "processing"),
        ),
        (
            word(behaviour="refund_pending_fails"), "r", 100, 0,
            word("r=100q~57", 100, "refund_pending_fails"), Pending("simre_r", "processing"),
        ),
        (word(behaviour="refund_fails_late"), "r", 100, 0, word("r=100l~57", 100, "refund_fails_late"), Done("simre_r")),
    ],
)  # fmt: skip
def test_what_a_refund_does(
    known: str | None, key: str, amount: int, number: int, after: str | None, answer: Any
) -> None:
    """At 50 ms, when what is slow takes 7: once for each key, no more than was taken, each attempt by itself."""
    assert givings.refund(known, key, amount, 50, 7, number) == (after, answer)


@pytest.mark.parametrize(
    ("known", "amount", "after"),
    [
        (None, 100, None), (word(status="A"), 100, None), (word(), 0, None), (word(), 1_001, None),
        (word(), 1_000, word("dash50x0=1000", 1_000)), (word("r=300", 300), 700, word("r=300,dash50x1=700", 1_000)),
        (word("r=300", 300), 701, None),
    ],
)  # fmt: skip
def test_what_somebody_refunds_at_the_gateway_itself(known: str | None, amount: int, after: str | None) -> None:
    assert givings.at_the_gateway(known, amount, 50) == after


@pytest.mark.parametrize(
    ("known", "after"),
    [
        (word(behaviour="disputed"), word("!dispute=1000t~90", 0, "disputed")),
        (word(behaviour="dashboard_refund"), word("dash=500t~90", 0, "dashboard_refund")),
        (word(behaviour="dashboard_refund", captured=1), word("dash=1t~90", 0, "dashboard_refund", captured=1)),
    ],
)
def test_what_is_to_happen_by_itself(known: str, after: str) -> None:
    assert givings.planned(known, 90) == after


@pytest.mark.parametrize(
    ("known", "after"),
    [
        ("", None),
        (word("r=100", 100), None),
        (word("r=100p~51", 100), None),
        (word("r=100p~50", 100), word("r=100", 100)),
        (word("r=100q~50", 100), word("r=100f", 0)),
        (word("r=100l~50", 100), word("r=100f", 0)),
        (word("!dispute=1000t~50"), word("!dispute=1000o")),
        (word("dash=500t~50"), word("dash=500", 500)),
        (word("dash=500t~50,r=800", 800), word("r=800,dash=200", 1_000)),
        (word("dash=500t~50,r=1000", 1_000), word("r=1000,dash=0f", 1_000)),
        (word("a=100p~51,b=200p~49", 300), word("a=100p~51,b=200", 300)),
    ],
)
def test_what_ripens(known: str, after: str | None) -> None:
    """One of those whose time has come, and what changed last stands last."""
    assert givings.ripen(known, 50) == after


def test_what_is_seen() -> None:
    """Who asked for it, how much, how it stands, and why; nothing that has not happened."""
    entries = "late,a=1,b=2p~9,c=3q~9,d=4l~9,e=5f,dash7x0=6,dash=7t~9,!x=8t~9,!y=9o,z=0f"
    assert givings.reversals(word(entries), KEY) == Reversals(
        (
            RefundSeen("a", "simre_a", 1, "succeeded", None),
            RefundSeen("b", "simre_b", 2, "pending", "processing"),
            RefundSeen("c", "simre_c", 3, "pending", "processing"),
            RefundSeen("d", "simre_d", 4, "succeeded", None),
            RefundSeen("e", "simre_e", 5, "failed", "expired_or_canceled_card"),
            RefundSeen(None, "simre_dash7x0", 6, "succeeded", None),
        ),
        (DisputeSeen("simdp_0123456789abcdefghij", 9, "needs_response", "fraudulent", True),),
    )
    assert givings.reversals(word(), KEY) == Reversals()


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        ("", None), ("r", None), ("r=1", "refunded"), ("r=1p~9", "refunded"), ("r=1l~9", "refunded"), ("r=1f", "refund_failed"),
        ("dash=1t~9", None), ("!x=1t~9", None), ("!x=1o", "disputed"), ("!x=1o,r=1", "refunded"), ("r=1,!x=1o", "disputed"),
    ],
)  # fmt: skip
def test_what_the_last_change_was(entries: str, kind: str | None) -> None:
    assert givings.took_back(read(word(entries))) == kind
