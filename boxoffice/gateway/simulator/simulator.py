"""The simulated gateway, inside the process that calls it. Its truth is the ledger file, which others may share.

One file because it is one protocol (`PaymentGateway`), as the ledger answers it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from boxoffice.gateway.base import (
    Authorization,
    Authorized,
    AuthorizeRequest,
    Capture,
    CaptureRequest,
    Done,
    Lookup,
    NotFound,
    Record,
    Refund,
    Reversals,
    Token,
    Unknown,
    Void,
)
from boxoffice.gateway.simulator import cards, givings, scenario, signing
from boxoffice.gateway.simulator.ledger import Ledger
from boxoffice.gateway.webhooks import GatewayEvent

__all__ = ["Simulator"]

_T = TypeVar("_T")

TURN_MAX: Final = 500
"""Payments decided in one turn at the ledger, about 2 ms: other processes and the event loop wait meanwhile."""

_NOTHING: Final = Reversals()

_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""Keys that a line of the ledger can hold."""


class Simulator:
    """A `PaymentGateway` that plays what the test card stands for.

    `actions` is the address under which 3-D Secure is gone through; `slow_s` and `hang_s` are how long the cards `late`
    and `timeout` take, and `slow_s` also how long what comes later (a pending refund's end, a dispute) takes; `changed`
    hears of every line written, after it was written.
    """

    name = "simulator"
    accepts_cards = True
    captures_apart = True
    signs = False

    def __init__(
        self,
        ledger: Ledger,
        *,
        actions: str,
        slow_s: float,
        hang_s: float,
        patience_s: float,
        webhook_secrets: Sequence[str],
        webhook_age_s: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        changed: Callable[[list[str]], None] | None = None,
    ) -> None:
        self.ledger = ledger
        self.actions = actions
        self.slow_s = slow_s
        self.later_ms = int(1_000 * slow_s)
        self.hang_s = hang_s
        self.patience_s = patience_s
        self.webhook_secrets = webhook_secrets
        self.webhook_age_s = webhook_age_s
        self._now_ms = now_ms
        self.changed = changed
        self._slow: set[asyncio.Future[Authorization]] = set()

    @property
    def books(self) -> str:
        """Its ledger's."""
        return f"simulator/{self.ledger.identity}"

    def sign_as(self, installation: str) -> None:
        """Its ledger is ours alone."""

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
        for start in range(0, len(requests), TURN_MAX):
            some = requests[start : start + TURN_MAX]
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
        for start in range(0, len(requests), TURN_MAX):
            some = requests[start : start + TURN_MAX]
            answers = await self._turn(partial(self._capture_some, some))
            outcomes += [answers] * len(some) if isinstance(answers, Unknown) else answers
        return outcomes

    async def void(self, payment_key: str, reference: str | None) -> Void:
        """Let money go that was set aside."""
        return await self._turn(partial(self._void, payment_key))

    async def refund(self, refund_key: str, payment_key: str, reference: str, amount_cents: int) -> Refund:
        """Give captured money back. An error that is repeated under its key is looked behind: another key is used."""
        outcome = await self.refund_once(refund_key, payment_key, amount_cents)
        return (
            await self.refund_once(refund_key, payment_key, amount_cents, 1)
            if outcome is scenario.REPLAYED
            else outcome
        )

    async def refund_once(self, refund_key: str, payment_key: str, amount_cents: int, number: int = 0) -> Refund:
        """As the gateway itself answers, under one idempotency key: the refund's `number`th after its first."""
        if not _KEY.fullmatch(refund_key):
            raise ValueError("not a refund key")
        return await self._turn(partial(self._refund, refund_key, payment_key, amount_cents, number))

    async def capture_once(self, payment_key: str, amount_cents: int, number: int) -> Capture:
        """As the gateway itself answers, under one idempotency key."""
        return await self._turn(lambda: self._capture(payment_key, amount_cents, number, self._now_ms()))

    async def reversals(self, payment_key: str, reference: str) -> Reversals | NotFound | Unknown:
        """What went back of a payment."""
        return await self._turn(partial(self._reversals, payment_key))

    async def payment_key_of(self, reference: str) -> str | Unknown | None:
        """Never asked: every event of the simulator names its payment key."""
        return None

    async def refund_at_gateway(self, payment_key: str, amount_cents: int) -> Lookup:
        """Refund as a person at the gateway itself would, past us. The payment afterwards."""
        return await self._turn(partial(self._refund_at_gateway, payment_key, amount_cents))

    async def ripen(self) -> int:
        """Let happen what is to happen by itself and whose time has come. How much is still to happen."""
        left = await self._turn(self._ripen_all)
        return left if isinstance(left, int) else 1

    async def lookup(self, payment_key: str, reference: str | None, since_ms: int | None = None) -> Lookup:
        """What became of a payment."""
        return await self._turn(partial(self._lookup, payment_key))

    async def complete_action(self, payment_key: str) -> Lookup:
        """Go through 3-D Secure in the customer's place. The payment afterwards; no harm in doing it twice."""
        return await self._turn(partial(self._complete, payment_key))

    def verify_webhook(self, headers: Mapping[str, str], body: bytes, now_s: float) -> GatewayEvent:
        """The event in a webhook that a simulator's HTTP process signed."""
        return signing.verify(self.webhook_secrets, self.webhook_age_s, headers, body, now_s)

    async def records(self) -> AsyncIterator[Record]:
        """Every payment, oldest first, each in its present state."""
        if isinstance(nothing := await self._turn(self._ripen_all), Unknown):
            raise OSError(nothing.reason)
        states = self.ledger.states
        async for key, booking, made_ms in self.ledger.first_lines():
            if states[key][0] != "T":
                word = states[key]
                seen = givings.reversals(word, key) if "=" in word else _NOTHING
                yield Record(key, booking, made_ms, scenario.found(word, key, self.actions), seen)

    async def trouble(self) -> str:
        """Nothing: it serves everybody."""
        return ""

    async def close(self) -> None:
        """Let go of the ledger; slow cards are told `Unknown`."""
        for outcome in self._slow:
            if not outcome.done():
                outcome.set_result(Unknown("closed"))
        self._slow.clear()
        self.ledger.close()

    async def _turn(self, decide: Callable[[], _T]) -> _T | Unknown:
        """Decide while the ledger is ours, and answer when it is written."""
        try:
            await self.ledger.begin(self.patience_s)
        except TimeoutError:
            return Unknown("ledger_busy")
        try:
            answer = decide()
        finally:
            written = self._end()
        if isinstance(written, Unknown):
            return written
        if written and self.changed:
            self.changed(written)
        return answer

    def _end(self) -> list[str] | Unknown:
        try:
            return self.ledger.end()
        except OSError as error:
            return Unknown(f"ledger: {error.strerror}")

    def _authorize_some(
        self, requests: Sequence[AuthorizeRequest]
    ) -> list[Authorization | asyncio.Future[Authorization]]:
        """The hot path: 10,000 of these a second."""
        states, write, now = self.ledger.states, self.ledger.lines.append, self._now_ms()
        decide, reference_of = scenario.authorize, scenario.reference_of
        outcomes: list[Authorization | asyncio.Future[Authorization]] = []
        for request in requests:
            key = request.payment_key
            known = states.get(key)
            step = decide(known, request.token, request.amount_cents, request.currency)
            if step is None:
                outcomes.append(scenario.answer(known or "", key, self.actions))
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
        answer = scenario.answer(word, payment_key, self.actions)
        match scenario.read(word).behaviour:
            case "late":
                return self._later(self.slow_s, answer)
            case "timeout":
                return self._later(self.hang_s, scenario.TIMEOUT)
            case _:
                return answer

    def _later(self, seconds: float, outcome: Authorization) -> asyncio.Future[Authorization]:
        loop = asyncio.get_running_loop()
        slow: asyncio.Future[Authorization] = loop.create_future()

        def deliver() -> None:
            self._slow.discard(slow)
            if not slow.done():
                slow.set_result(outcome)

        self._slow.add(slow)
        loop.call_later(seconds, deliver)
        return slow

    def _capture_some(self, requests: Sequence[CaptureRequest]) -> list[Capture]:
        states, write, now = self.ledger.states, self.ledger.lines.append, self._now_ms()
        outcomes: list[Capture] = []
        for request in requests:
            key = request.payment_key
            word, answer, more = scenario.capture(states.get(key), request.amount_cents)
            if more or answer is scenario.REPLAYED:
                outcomes.append(self._capture(key, request.amount_cents, int(not more), now))
                continue
            if word is not None:
                states[key] = word
                write(f"{key} {word} - {now}\n")
            outcomes.append(answer or Done(scenario.reference_of(key)))
        return outcomes

    def _capture(self, key: str, amount_cents: int, number: int, now_ms: int) -> Capture:
        """One that is not as the others: in two steps when something is to happen to it by itself later."""
        word, answer, more = scenario.capture(self.ledger.states.get(key), amount_cents, number)
        if word is not None:
            self.ledger.put(key, word, "-", now_ms)
        if word is not None and more:
            self.ledger.put(key, givings.planned(word, now_ms + self.later_ms), "-", now_ms)
        return answer or Done(scenario.reference_of(key))

    def _void(self, key: str) -> Void:
        word, answer = scenario.void(self.ledger.states.get(key))
        if word is not None:
            self.ledger.put(key, word, "-", self._now_ms())
        return answer or Done(scenario.reference_of(key))

    def _refund(self, refund_key: str, key: str, amount_cents: int, number: int) -> Refund:
        self._ripen(key)
        word, answer = givings.refund(
            self.ledger.states.get(key), refund_key, amount_cents, self._now_ms(), self.later_ms, number
        )
        if word is not None:
            self.ledger.put(key, word, "-", self._now_ms())
        return answer

    def _refund_at_gateway(self, key: str, amount_cents: int) -> Lookup:
        word = givings.at_the_gateway(self.ledger.states.get(key), amount_cents, self._now_ms())
        if word is not None:
            self.ledger.put(key, word, "-", self._now_ms())
        return self._lookup(key)

    def _reversals(self, key: str) -> Reversals | NotFound:
        self._ripen(key)
        word = self.ledger.states.get(key)
        return givings.reversals(word, key) if word and word[0] != "T" else NotFound()

    def _ripen(self, key: str) -> None:
        while word := givings.ripen(self.ledger.states.get(key) or "", self._now_ms()):
            self.ledger.put(key, word, "-", self._now_ms())

    def _ripen_all(self) -> int:
        timed = [key for key, word in self.ledger.states.items() if givings.TIMED in word]
        for key in timed:
            self._ripen(key)
        return sum(givings.TIMED in self.ledger.states[key] for key in timed)

    def _complete(self, key: str) -> Lookup:
        word = scenario.complete(self.ledger.states.get(key))
        if word is not None:
            self.ledger.put(key, word, "-", self._now_ms())
        return self._lookup(key)

    def _lookup(self, key: str) -> Lookup:
        self._ripen(key)
        word = self.ledger.states.get(key)
        if word is None or word[0] == "T":
            return NotFound()
        return scenario.found(word, key, self.actions)
