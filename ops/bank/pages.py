"""Pages of shops that customers go back to from the simulated bank."""

from __future__ import annotations

from typing import Final

__all__ = ["PAGES_MAX", "Pages"]

PAGES_MAX: Final = 10_000
"""Payments whose pages are remembered."""


class Pages:
    """Where customers go back to, of the latest payments that said. Whoever starts anew sends customers where all go."""

    def __init__(self, usual: str) -> None:
        self._usual = usual
        self._urls: dict[str, str] = {}

    def keep(self, payment: str, url: str) -> None:
        """What a payment said first: a repeat changes nothing of it. The oldest makes room."""
        self._urls.setdefault(payment, url)
        if len(self._urls) > PAGES_MAX:
            del self._urls[next(iter(self._urls))]

    def of(self, payment: str) -> str:
        """Its own, or where all go."""
        return self._urls.get(payment, self._usual)
