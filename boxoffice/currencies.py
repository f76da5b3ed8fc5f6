"""Currencies and their minor units, from the table that SIX publishes for ISO 4217 (package `iso4217`, dated by its version).

All amounts of ours are whole numbers of the minor unit. This is the only place that knows how many make one.
"""

from __future__ import annotations

from functools import cache

__all__ = ["decimal", "exponent", "is_currency", "shown"]


def is_currency(code: str) -> bool:
    """Whether it is the code of a currency that amounts can be counted in. Not gold (XAU), tests (XTS), or none (XXX)."""
    return code in _exponents()


def exponent(code: str) -> int:
    """Decimals of the minor unit: 2 for USD, 0 for JPY, 3 for KWD. Raises `KeyError` for what is no currency."""
    return _exponents()[code]


def shown(amount: int, code: str) -> str:
    """The amount for people: `10.00 USD`, `1500 JPY`, `1.250 KWD`. What is no currency is told in its minor units."""
    return f"{decimal(amount, code)} {code}" if is_currency(code) else f"{amount} minor units of {code}"


def decimal(amount: int, code: str) -> str:
    """The amount in whole units with all decimals of the minor unit: `10.00`, `1500`, `1.250`; for a column with the
    currency in another. Of what is no currency, the minor units."""
    digits = _exponents().get(code, 0)
    units, part = divmod(abs(amount), 10**digits)
    minus = "-" if amount < 0 else ""
    return f"{minus}{units}{f'.{part:0{digits}}' if digits else ''}"


@cache
def _exponents() -> dict[str, int]:
    """Read at first use: the package parses the whole table when it is imported."""
    from iso4217 import Currency

    return {each.code: each.exponent for each in Currency if each.exponent is not None}
