"""How a customer of a rush speaks to the API: insistently, and with an eye on every answer."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Final

from boxoffice import ids
from boxoffice.states import FINAL as FINAL_LETTERS
from boxoffice.states import LETTERS, WITHDRAWN
from ops.rush.history import Entry, History
from ops.rush.http_client import Answer, HttpClient, NoAnswer, NotSent
from ops.rush.plan import GOOD_CARD, Visit

__all__ = ["Asking", "is_final"]

FINAL_WAIT_S: Final = 30.0
"""How long a customer looks for the final status of a booking."""


def is_final(status: str) -> bool:
    """Whether a booking in this status has reached its end."""
    return LETTERS.get(status, "") in FINAL_LETTERS


class Asking:
    """All requests of all customers, spread over the API processes, with what they add to the history."""

    def __init__(
        self, apis: list[HttpClient], api_key: str, history: History, *, patience_s: float, seed: int = 0
    ) -> None:
        self._apis = apis
        self._history = history
        self._patience_s = patience_s
        self._chance = random.Random(seed)
        self._reads = 0
        self._clock = asyncio.get_running_loop().time
        self._authorization = f"Authorization: Bearer {api_key}\r\n".encode()

    def headers(self, key: str) -> bytes:
        """Of a POST under an idempotency key."""
        return self._authorization + b"Content-Type: application/json\r\nIdempotency-Key: %b\r\n" % key.encode()

    async def book(
        self, entry: Entry, visit: Visit, intended: float, *, other: int = 0, replay: bool = False, body: bytes = b""
    ) -> None:
        """Ask until there is a definite answer, each time another API process; note what it was."""
        history, clock = self._history, self._clock
        headers, body = self.headers(visit.key), body or visit.body
        give_up, pause_s, tries = max(clock(), intended) + self._patience_s, 0.05, 0
        while True:
            sent_at = clock()
            answer = await self.ask("POST", "/v1/bookings", headers, body, visit.number + other + tries, entry)
            if answer is not None and answer.status < 500 and answer.status != 429:
                break
            if clock() > give_up:
                history.unanswered += 1
                return
            await asyncio.sleep(pause_s * (0.5 + self._chance.random()))
            pause_s, tries = min(2 * pause_s, 1.0), tries + 1
            history.retries += 1
        if not replay:
            history.post_s.append(clock() - intended)
        if answer.status in (200, 201, 202):
            self._accept(entry, answer, replay=replay)
            history.sold_at.append((sent_at, clock()))
        elif not entry.ids:
            entry.refused = self.refusal(answer)
        else:
            history.complain(f"{entry.accepted} asked again: {answer.status} {self.refusal(answer)}")

    def _accept(self, entry: Entry, answer: Answer, *, replay: bool) -> None:
        try:
            booking = json.loads(answer.body)
            booking_id, entry.status = str(booking["id"]), str(booking["status"])
            entry.confirmed |= entry.status == "confirmed"
        except (ValueError, KeyError, TypeError):
            self._history.complain(f"an acceptance that cannot be read: {answer.status}")
            return
        if booking_id not in entry.ids:
            entry.ids.append(booking_id)
        if ids.canonical_booking_id(booking_id) is None or answer.header("location") != f"/v1/bookings/{booking_id}":
            self._history.complain(f"{booking_id}: its Location is {answer.header('location') or 'missing'}")
        if replay and answer.header("idempotency-replayed") != "true":
            self._history.complain(f"{booking_id}: a repeat without Idempotency-Replayed")

    async def insist(self, method: str, path: str, key: str, number: int, body: bytes = b"") -> Answer | None:
        """Ask until there is a definite answer; a refusal is one."""
        give_up, pause_s = self._clock() + self._patience_s, 0.05
        while self._clock() < give_up:
            answer = await self.ask(method, path, self.headers(key), body, number)
            if answer is not None and answer.status < 500:
                if answer.status >= 400:
                    self.refusal(answer)
                return answer
            await asyncio.sleep(pause_s * (0.5 + self._chance.random()))
            pause_s, number = min(2 * pause_s, 1.0), number + 1
        return None

    async def watch(self, entry: Entry, accepted_at: float) -> bool:
        """Look again and again until the status is final."""
        pause_s = 0.01
        while self._clock() < accepted_at + FINAL_WAIT_S:
            await asyncio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 0.5)
            if await self.read(entry) is not None and is_final(entry.status):
                return True
        return False

    async def read(self, entry: Entry, api: int | None = None) -> dict[str, Any] | None:
        """Read a booking and note its status. None when it could not be read."""
        # Another API process each time: one of them may be away.
        self._reads += 1
        through = self._reads if api is None else api
        answer = await self.ask("GET", f"/v1/bookings/{entry.accepted}", self._authorization, b"", through)
        if answer is None:
            return None
        self._history.reads += 1
        if answer.status != 200:
            self.check_problem(answer, f"GET {entry.accepted}")
            if answer.status == 404 and entry.accepted not in self._history.forgotten:
                self._history.complain(f"{entry.accepted}: accepted, and then 404")
            return None
        booking: dict[str, Any] = json.loads(answer.body)
        status = str(booking["status"])
        entry.confirmed |= status == "confirmed"
        withdrawn = (booking.get("failure") or {}).get("code") == WITHDRAWN
        if is_final(entry.status) and status != entry.status and not (entry.may_change or withdrawn):
            self._history.complain(f"{entry.accepted}: was {entry.status}, is {status}")
        entry.status = status
        return booking

    async def ask(
        self, method: str, path: str, headers: bytes, body: bytes, number: int, entry: Entry | None = None
    ) -> Answer | None:
        """One request to one of the API processes. None: no answer."""
        headers = headers or self._authorization
        try:
            answer = await self._apis[number % len(self._apis)].request(method, path, headers, body)
        except NotSent:
            self._history.answers[0] += 1
            return None
        except NoAnswer:
            self._history.answers[-1] += 1
            if entry is not None:
                entry.doubt = True
            return None
        self._history.answers[answer.status] += 1
        if answer.status >= 500:
            if entry is not None:
                entry.doubt = True
            self.check_problem(answer, method)
        return answer

    # ------------------------------------------------------------------ judging answers

    def refusal(self, answer: Answer) -> str:
        """The last part of a refusal's type."""
        kind = self.check_problem(answer, "a refusal")
        self._history.refusals[kind] += 1
        return kind

    def check_problem(self, answer: Answer, what: str) -> str:
        """Every error is problem+json, and of the 5xx there is only 503 (I8)."""
        try:
            kind = str(json.loads(answer.body)["type"]).rpartition("/")[2]
        except (ValueError, KeyError, TypeError):
            kind = ""
        if not kind or not answer.header("content-type").startswith("application/problem+json"):
            self._history.complain(f"{what}: {answer.status} without a problem")
        if answer.status >= 500 and answer.status != 503:
            self._history.complain(f"{what}: {answer.status} {kind}")
        if answer.status == 503 and not answer.header("retry-after"):
            self._history.complain(f"{what}: 503 without Retry-After")
        if GOOD_CARD.encode() in answer.body:
            self._history.complain(f"{what}: a card number in the answer")
        return kind or str(answer.status)

    async def left(self, event: str) -> dict[str, int]:
        """By tier, how many tickets of an event the shop is told it may sell. Empty when nobody answers."""
        answer = await self.insist("GET", f"/v1/events/{event}", "left", 0)
        if answer is None or answer.status != 200:
            return {}
        return {tier["id"]: tier["available"] for tier in json.loads(answer.body)["tiers"]}

    async def look_again(self, entry: Entry) -> None:
        """Read a booking once more, insistently: from each API process in turn, for one may still be starting."""
        for api, pause_s in enumerate((0.05, 0.2, 0.5, 1.0)):
            if await self.read(entry, api) is not None:
                return
            await asyncio.sleep(pause_s)
