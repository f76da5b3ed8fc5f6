"""How Stripe counts, where that differs from ISO 4217, and what it can charge (docs.stripe.com/currencies, read 2026).

Ours are minor units of ISO 4217. Stripe's are too, but for its own lists: currencies without decimals (`MGA` has two in
ISO 4217), `ISK` and `UGX`, which have none any more and are still written with two (5 ISK are 500), and those with three,
whose last digit must be 0. `HUF` and `TWD` differ in payouts only, which we never make.
"""

from __future__ import annotations

from typing import Final

from boxoffice.currencies import exponent, is_currency, shown

__all__ = ["CURRENCIES", "from_stripe", "to_stripe", "why_not"]

_CODES: Final = """
BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF
BHD JOD KWD OMR TND
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC CVE CZK DKK
DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR ISK JMD KES KGS KHR KYD KZT LAK LBP LKR
LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB
SAR SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TOP TRY TTD TWD TZS UAH UGX USD UYU UZS WST XCD XCG YER ZAR ZMW
"""
_, _NONE, _DINARS, _ = _CODES.split("\n", 3)
_ZERO: Final = frozenset(_NONE.split())
_THREE: Final = frozenset(_DINARS.split())

CURRENCIES: Final = frozenset(_CODES.split())
"""Presentment currencies. Which of them an account may use is for Stripe to say."""

_LEAST: Final = {
    "AED": 200, "AUD": 50, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30, "HKD": 400,
    "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200, "RON": 200,
    "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
"""Least charge, in Stripe's units, of an account that settles in that currency. Others are converted: Stripe tells."""

_DIGITS_MAX: Final = 8
_DIGITS_MAX_OF: Final = {"IDR": 12}


def to_stripe(amount: int, currency: str) -> int | None:
    """The amount as Stripe counts; None when it cannot be said there (a fraction of a króna, the last digit of a dinar)."""
    digits = _digits(currency) - exponent(currency)
    scaled, rest = (amount * _ten(digits), 0) if digits >= 0 else divmod(amount, _ten(-digits))
    if rest or (currency in _THREE and scaled % 10):
        return None
    return scaled


def from_stripe(amount: int, currency: str) -> int:
    """An amount that Stripe tells, in minor units of ISO 4217. One that has no whole number of them comes back negative:
    it is none that we asked for, and must not look like it."""
    if not is_currency(currency):
        return amount
    digits = exponent(currency) - _digits(currency)
    if digits >= 0:
        return amount * _ten(digits)
    units, rest = divmod(amount, _ten(-digits))
    return -amount if rest else units


def why_not(amount: int, currency: str) -> str:
    """Why Stripe cannot charge this amount; empty when it can, as far as its documentation says. 0 is nothing to charge."""
    if currency not in CURRENCIES or not is_currency(currency):
        return f"Stripe cannot charge {currency}."
    if amount == 0:
        return ""
    scaled, step = to_stripe(amount, currency), _step(currency)
    if scaled is None:
        return f"Stripe charges {currency} in steps of {shown(step, currency)}."
    if scaled < _LEAST.get(currency, 1):
        return f"Stripe charges {shown(from_stripe(_LEAST[currency], currency), currency)} or more."
    if len(str(scaled)) > (digits := _DIGITS_MAX_OF.get(currency, _DIGITS_MAX)):
        most = next(
            m for m in range(_ten(digits) - 1, 0, -1) if (ours := from_stripe(m, currency)) > 0 and ours % step == 0
        )
        return f"Stripe charges up to {shown(from_stripe(most, currency), currency)}."
    return ""


def _step(currency: str) -> int:
    """The least amount that Stripe can say, in our minor units."""
    return 10 if currency in _THREE else _ten(max(0, exponent(currency) - _digits(currency)))


def _digits(currency: str) -> int:
    return 0 if currency in _ZERO else 3 if currency in _THREE else 2


def _ten(power: int) -> int:
    return int(10**power)
