"""What is traced of money: in the trace of a sampled booking, each time that the gateway was asked for some of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from boxoffice.books import traces
from boxoffice.stores.database import Reader
from boxoffice.telemetry.metrics import word_of
from boxoffice.telemetry.traces import TRACES, place_of

__all__ = ["MoneyTraces"]


class MoneyTraces:
    """Where the traces are of the payments that a pump has at hand."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self.given: dict[str, str] = {}
        """Payment key to `traceparent`, of what this process has committed and is about to capture."""
        self.due: dict[str, str] = {}
        """The same of what is due and was claimed."""

    async def find(self, reader: Reader, payment_keys: Sequence[str]) -> None:
        """Look up whose bookings are traced, of payments that were claimed."""
        if TRACES.on and payment_keys:
            self.due.update(await traces.of_payments(reader, payment_keys))

    def called(self, verb: str, payment_key: str, outcome: Any, began_s: float) -> None:
        """The gateway was asked at `began_s` to `capture`, `void` or `refund`, and has answered so."""
        traceparent = self.due.get(payment_key) or self.given.pop(payment_key, "")
        parent = place_of(traceparent) if traceparent else None
        if parent is None or not TRACES.on:
            return
        kind: type = type(outcome)
        attributes = {"boxoffice.payment_key": payment_key, "boxoffice.outcome": word_of(kind)}
        TRACES.record(verb, TRACES.begin(parent), parent, self.now_s() - began_s, attributes, kind="client")
