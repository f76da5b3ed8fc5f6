"""The simulated gateway, inside the process that calls it. Its truth is the ledger file, which others may share."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from . import cards, scenario, webhooks
from .base import (
    Authorization,
    Authorized,
    AuthorizeRequest,
    Capture,
    CaptureRequest,
    Done,
    GatewayEvent,
    Lookup,
    NotFound,
    Record,
    Refund,
    Token,
    Unknown,
    Void,
)
from .ledger import Ledger

__all__ = ["Simulator"]

_T = TypeVar("_T")

_TURN_MAX: Final = 500
"""Payments decided in one turn at the ledger, about 2 ms: other processes and the event loop wait meanwhile."""

_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""Keys that a line of the ledger can hold."""


class Simulator:
    """A `PaymentGateway` that plays what the test card stands for.

    `actions` is the address under which 3-D Secure is gone through; `late_s` and `hang_s` are how long the cards `late`
    and `timeout` take; `changed` hears of every line written, after it was written.
    """

    name = "simulator"
    accepts_cards = True
    captures_apart = True

    def __init__(
        self,
        ledger: Ledger,
        *,
        actions: str,
        late_s: float,
        hang_s: float,
        patience_s: float,
        webhook_secret: str,
        webhook_age_s: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        changed: Callable[[list[str]], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._actions = actions
        self._late_s = late_s
        self._hang_s = hang_s
        self._patience_s = patience_s
        self._webhook_secret = webhook_secret
        self._webhook_age_s = webhook_age_s
        self._now_ms = now_ms
        self._changed = changed
        self._slow: set[asyncio.Future[Authorization]] = set()

    @property
    def books(self) -> str:
        """Its ledger's."""
        return f"simulator/{self._ledger.identity}"

    def tokenize(self, card_number: str, card_name: str) -> Token:
        """The token for a test card."""
        return cards.tokenize(card_number)

    def check_token(self, token: str) -> Token:
        """The token, when a test card behaves so."""
        return cards.check_token(token)

    async def authorize(self, request: AuthorizeRequest) -> Authorization:
        """Set money aside."""
        (outcome,) = await self.authorize_batch([request])
        return await outcome if isinstance(outcome, asyncio.Future) else outcome

    async def authorize_batch(
        self, requests: Sequence[AuthorizeRequest]
    ) -> list[Authorization | asyncio.Future[Authorization]]:
        """Set money aside for many. Only the cards `late` and `timeout` come as futures."""
        outcomes: list[Authorization | asyncio.Future[Authorization]] = []
        for start in range(0, len(requests), _TURN_MAX):
            some = requests[start : start + _TURN_MAX]
            answers = await self._turn(partial(self._authorize_some, some))
            outcomes += [answers] * len(some) if isinstance(answers, Unknown) else answers
        return outcomes

    async def capture(self, payment_key: str, reference: str, amount_cents: int, currency: str = "") -> Capture:
        """Take money that was set aside."""
        (outcome,) = await self.capture_batch([CaptureRequest(payment_key, reference, amount_cents)])
        return outcome

    async def capture_batch(self, requests: Sequence[CaptureRequest]) -> list[Capture]:
        """Take money for many."""
        outcomes: list[Capture] = []
        for start in range(0, len(requests), _TURN_MAX):
            some = requests[start : start + _TURN_MAX]
            answers = await self._turn(partial(self._capture_some, some))
            outcomes += [answers] * len(some) if isinstance(answers, Unknown) else answers
        return outcomes

    async def void(self, payment_key: str, reference: str | None) -> Void:
        """Let money go that was set aside."""
        return await self._turn(partial(self._void, payment_key))

    async def refund(self, refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Refund:
        """Give captured money back."""
        if not _KEY.fullmatch(refund_key):
            raise ValueError("not a refund key")
        return await self._turn(partial(self._refund, refund_key, payment_key, amount_cents))

    async def lookup(self, payment_key: str, reference: str | None, since_ms: int | None = None) -> Lookup:
        """What became of a payment."""
        return await self._turn(partial(self._lookup, payment_key))

    async def complete_action(self, payment_key: str) -> Lookup:
        """Go through 3-D Secure in the customer's place. The payment afterwards; no harm in doing it twice."""
        return await self._turn(partial(self._complete, payment_key))

    def verify_webhook(self, headers: Mapping[str, str], body: bytes, now_s: float) -> GatewayEvent:
        """The event in a webhook that a simulator's HTTP process signed."""
        return webhooks.verify(self._webhook_secret, self._webhook_age_s, headers, body, now_s)

    async def records(self) -> AsyncIterator[Record]:
        """Every payment, oldest first, each in its present state."""
        if isinstance(nothing := await self._turn(lambda: None), Unknown):
            raise OSError(nothing.reason)
        states = self._ledger.states
        async for key, booking, made_ms in self._ledger.first_lines():
            if states[key][0] != "T":
                yield Record(key, booking, made_ms, scenario.found(states[key], key, self._actions))

    async def trouble(self) -> str:
        """Nothing: it serves everybody."""
        return ""

    async def close(self) -> None:
        """Let go of the ledger; slow cards are told `Unknown`."""
        for outcome in self._slow:
            if not outcome.done():
                outcome.set_result(Unknown("closed"))
        self._slow.clear()
        self._ledger.close()

    async def _turn(self, decide: Callable[[], _T]) -> _T | Unknown:
        """Decide while the ledger is ours, and answer when it is written."""
        try:
            await self._ledger.begin(self._patience_s)
        except TimeoutError:
            return Unknown("ledger_busy")
        try:
            answer = decide()
        finally:
            written = self._end()
        if isinstance(written, Unknown):
            return written
        if written and self._changed:
            self._changed(written)
        return answer

    def _end(self) -> list[str] | Unknown:
        try:
            return self._ledger.end()
        except OSError as error:
            return Unknown(f"ledger: {error.strerror}")

    def _authorize_some(
        self, requests: Sequence[AuthorizeRequest]
    ) -> list[Authorization | asyncio.Future[Authorization]]:
        """The hot path: 10,000 of these a second."""
        states, write, now = self._ledger.states, self._ledger.lines.append, self._now_ms()
        decide, reference_of = scenario.authorize, scenario.reference_of
        outcomes: list[Authorization | asyncio.Future[Authorization]] = []
        for request in requests:
            key = request.payment_key
            known = states.get(key)
            step = decide(known, request.token, request.amount_cents, request.currency)
            if step is None:
                outcomes.append(scenario.answer(known or "", key, self._actions))
                continue
            if not (key.isalnum() and key.isascii()) and not _KEY.fullmatch(key):
                raise ValueError("not a payment key")
            states[key] = step.word
            write(f"{key} {step.word} {request.booking_id if known is None else '-'} {now}\n")
            if step.plain:
                outcomes.append(Authorized(reference_of(key), step.amount_cents, request.currency))
            else:
                outcomes.append(self._special(step.word, key))
        return outcomes

    def _special(self, word: str, payment_key: str) -> Authorization | asyncio.Future[Authorization]:
        told = scenario.answer(word, payment_key, self._actions)
        match scenario.read(word).behaviour:
            case "late":
                return self._later(self._late_s, told)
            case "timeout":
                return self._later(self._hang_s, scenario.TIMEOUT)
            case _:
                return told

    def _later(self, seconds: float, outcome: Authorization) -> asyncio.Future[Authorization]:
        loop = asyncio.get_running_loop()
        slow: asyncio.Future[Authorization] = loop.create_future()

        def tell() -> None:
            self._slow.discard(slow)
            if not slow.done():
                slow.set_result(outcome)

        self._slow.add(slow)
        loop.call_later(seconds, tell)
        return slow

    def _capture_some(self, requests: Sequence[CaptureRequest]) -> list[Capture]:
        states, write, now = self._ledger.states, self._ledger.lines.append, self._now_ms()
        outcomes: list[Capture] = []
        for request in requests:
            key = request.payment_key
            word, answer = scenario.capture(states.get(key), request.amount_cents)
            if word is not None:
                states[key] = word
                write(f"{key} {word} - {now}\n")
            outcomes.append(answer or Done(scenario.reference_of(key)))
        return outcomes

    def _void(self, key: str) -> Void:
        word, answer = scenario.void(self._ledger.states.get(key))
        if word is not None:
            self._ledger.put(key, word, "-", self._now_ms())
        return answer or Done(scenario.reference_of(key))

    def _refund(self, refund_key: str, key: str, amount_cents: int) -> Refund:
        word, answer = scenario.refund(self._ledger.states.get(key), refund_key, amount_cents)
        if word is not None:
            self._ledger.put(key, word, "-", self._now_ms())
        return answer or Done(f"simre_{refund_key}")

    def _complete(self, key: str) -> Lookup:
        word = scenario.complete(self._ledger.states.get(key))
        if word is not None:
            self._ledger.put(key, word, "-", self._now_ms())
        return self._lookup(key)

    def _lookup(self, key: str) -> Lookup:
        word = self._ledger.states.get(key)
        if word is None or word[0] == "T":
            return NotFound()
        return scenario.found(word, key, self._actions)
