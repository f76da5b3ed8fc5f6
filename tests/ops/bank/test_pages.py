"""Where a customer of the simulated bank goes back to: what the payment said first, and no list without end."""

from __future__ import annotations

import pytest

from ops.bank.pages import Pages


def test_a_payment_goes_back_to_what_it_said_first_and_old_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.bank.pages.PAGES_MAX", 2)
    pages = Pages("https://all")
    for payment, url in (("a", "https://1"), ("a", "https://2"), ("b", "https://3")):
        pages.keep(payment, url)
    assert [pages.of(payment) for payment in "abc"] == ["https://1", "https://3", "https://all"]
    pages.keep("c", "https://4")
    assert [pages.of(payment) for payment in "abc"] == ["https://all", "https://3", "https://4"]
