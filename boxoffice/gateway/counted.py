"""A gateway whose answers are counted and whose calls are timed: once a call, whatever it is asked about."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from boxoffice.clock import CLOCK, Clock
from boxoffice.gateway.base import (
    Authorization,
    AuthorizeRequest,
    Capture,
    CaptureRequest,
    Lookup,
    NotFound,
    PaymentGateway,
    Refund,
    Reversals,
    Unknown,
    Void,
)
from boxoffice.telemetry.metrics import REGISTRY, word_of
from boxoffice.telemetry.series import GATEWAY_ANSWERS, GATEWAY_SECONDS

__all__ = ["counted"]

_A = TypeVar("_A")


def counted(gateway: PaymentGateway, clock: Clock = CLOCK) -> PaymentGateway:
    """The same gateway, for whoever asks it about money."""
    return cast(PaymentGateway, _Counted(gateway, clock))


class _Counted:
    """Hands everything on; what moves or reads money is counted."""

    def __init__(self, gateway: PaymentGateway, clock: Clock) -> None:
        self._gateway = gateway
        self._now_s = clock.now_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def authorize_batch(
        self, requests: Sequence[AuthorizeRequest]
    ) -> list[Authorization | asyncio.Future[Authorization]]:
        """What comes later is counted when it comes."""
        began_s = self._now_s()
        answers = await self._timed("authorize", self._gateway.authorize_batch(requests), len(requests))
        if REGISTRY.counts:
            _count("authorize", [answer for answer in answers if not isinstance(answer, asyncio.Future)])
            for answer in answers:
                if isinstance(answer, asyncio.Future):
                    answer.add_done_callback(partial(self._came, began_s))
        return answers

    async def capture_batch(self, requests: Sequence[CaptureRequest]) -> list[Capture]:
        """As the gateway's."""
        return _noted("capture", await self._timed("capture", self._gateway.capture_batch(requests), len(requests)))

    async def void(self, payment_key: str, reference: str | None) -> Void:
        """As the gateway's."""
        return await self._one("void", self._gateway.void(payment_key, reference))

    async def refund(self, refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Refund:
        """As the gateway's."""
        return await self._one("refund", self._gateway.refund(refund_key, payment_key, reference, amount_cents))

    async def lookup(self, payment_key: str, reference: str | None, since_ms: int | None = None) -> Lookup:
        """As the gateway's."""
        return await self._one("lookup", self._gateway.lookup(payment_key, reference, since_ms))

    async def reversals(self, payment_key: str, reference: str) -> Reversals | NotFound | Unknown:
        """As the gateway's."""
        return await self._one("reversals", self._gateway.reversals(payment_key, reference))

    async def _one(self, call: str, answered: Awaitable[_A]) -> _A:
        answer = await self._timed(call, answered, 1)
        _noted(call, [answer])
        return answer

    async def _timed(self, call: str, answered: Awaitable[_A], count: int) -> _A:
        """What is asked about nothing is no call."""
        began_s = self._now_s()
        try:
            answer = await answered
        except Exception:
            if REGISTRY.counts:
                GATEWAY_ANSWERS.cell(call, "error").add(count)
            raise
        if REGISTRY.counts and count:
            GATEWAY_SECONDS.cell(call).add(self._now_s() - began_s)
        return answer

    def _came(self, began_s: float, answer: asyncio.Future[Authorization]) -> None:
        """A slow answer; none when whoever waited for it has ended."""
        if not answer.cancelled():
            GATEWAY_SECONDS.cell("authorize").add(self._now_s() - began_s)
            outcome = "error" if answer.exception() else word_of(type(answer.result()))
            GATEWAY_ANSWERS.cell("authorize", outcome).add()


def _noted(call: str, answers: list[_A]) -> list[_A]:
    if REGISTRY.counts:
        _count(call, answers)
    return answers


def _count(call: str, answers: Sequence[Any]) -> None:
    for kind, count in Counter(map(type, answers)).items():
        GATEWAY_ANSWERS.cell(call, word_of(kind)).add(count)
