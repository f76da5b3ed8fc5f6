"""Customers of a rush: each knows what it wants, asks again when nobody answers, and remembers what it was told."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import Final

from ops.rush.asking import Asking, is_final
from ops.rush.bank import Act
from ops.rush.history import Entry, History
from ops.rush.plan import DECLINING, HOLD_TROUBLE, REFUND_TROUBLE, SLOW_TROUBLE, Visit

__all__ = ["Customers"]

HOLD_S: Final = 6
"""Length of the holds of a rush: some are left to expire, and the audit waits for them."""

DECLINE_LOOKS: Final = 20
"""How often a customer looks whether its card was declined, ten times a second."""

ACTION_LOOKS: Final = 40
"""How often a customer looks for the page of 3-D Secure, four times a second."""


class Customers:
    """Everything that a visit may turn into."""

    def __init__(
        self,
        shop: Asking,
        history: History,
        *,
        start: float,
        complete_action: Act | None = None,
        seed: int = 0,
        client: str = "",
    ) -> None:
        """`client`: whose customers they are, if not those of the rush's own shop."""
        self._client = client
        self._shop = shop
        self._history = history
        self._start = start
        self._complete_action = complete_action
        self._chance = random.Random(seed)
        self._clock = asyncio.get_running_loop().time

    async def come(self, visit: Visit) -> None:
        """One visit, from arrival to the last look."""
        match visit.manner:
            case "browse":
                await self._browse(visit)
            case "bad":
                await self._blunder(visit)
            case manner if manner.startswith("hold_"):
                await self._hold(visit)
            case _:
                await self._buy(visit)

    # ------------------------------------------------------------------ what they do

    async def _buy(self, visit: Visit) -> None:
        """Book with payment; then perhaps ask the same again, look what becomes of it, or give it back."""
        entry = self._history.open(visit.key, visit.customer, visit.code, self._client)
        # A refused capture cancels what was confirmed.
        entry.may_change = visit.card in HOLD_TROUBLE
        intended = self._start + visit.at_s
        if visit.manner == "double":
            await asyncio.gather(
                self._shop.book(entry, visit, intended), self._shop.book(entry, visit, intended, other=1)
            )
        else:
            await self._shop.book(entry, visit, intended)
        if not entry.accepted:
            return
        accepted_at = self._clock()
        match visit.manner:
            case "replay":
                await asyncio.sleep(self._chance.random() * 2)
                self._history.replays += 1
                await self._shop.book(entry, visit, self._clock(), other=1, replay=True)
            case "mismatch":
                await self._mistake_key(entry, visit)
            case "watch":
                if await self._shop.watch(entry, accepted_at) and visit.card not in (*SLOW_TROUBLE, *HOLD_TROUBLE):
                    waited_s = self._clock() - accepted_at
                    self._history.final_s.append(waited_s)
                    self._history.waits.append((waited_s, accepted_at - self._start, entry.accepted))
            case "cancel" | "refund":
                if await self._shop.watch(entry, accepted_at) and entry.status == "confirmed":
                    await self._give_back(entry, visit)
        if visit.card in HOLD_TROUBLE[:2]:
            await self._go_through_action(entry)

    async def _hold(self, visit: Visit) -> None:
        """Set tickets aside, and then pay, extend, cancel, or forget about them."""
        entry = self._history.open(visit.key, visit.customer, visit.code, self._client)
        await self._shop.book(entry, visit, self._start + visit.at_s, body=visit.hold(HOLD_S))
        if not entry.accepted:
            return
        entry.may_change = True
        path = f"/v1/bookings/{entry.accepted}"
        await asyncio.sleep(self._chance.random() * 2)
        match visit.manner:
            case "hold_cancel":
                await self._shop.insist("POST", f"{path}/cancel", visit.key + "-x", visit.number)
                return
            case "hold_leave":
                return
            case "hold_again":
                await self._have_again(visit, path)
                return
            case "hold_extend_pay":
                body = b'{"extra_s":%d}' % HOLD_S
                await self._shop.insist("POST", f"{path}/extend", visit.key + "-e", visit.number, body)
            case "hold_change_pay":
                await self._change(entry, visit, path)
            case "hold_decline_pay":
                await self._pay(visit, path, DECLINING[0], "-first")
                await asyncio.sleep(1.0)
            case "hold_decline_change_pay":
                declined = await self._be_declined(entry, visit, path)
                self._history.changed_after_decline += await self._change(entry, visit, path) and declined
        await self._pay(visit, path, visit.card, "-pay")
        if visit.card in HOLD_TROUBLE[:2]:
            await self._go_through_action(entry)

    async def _be_declined(self, entry: Entry, visit: Visit, path: str) -> bool:
        """Pay with a card that is declined, and wait until the tickets are held once more. Whether they are."""
        await self._pay(visit, path, DECLINING[0], "-first")
        for _ in range(DECLINE_LOOKS):
            booking = await self._shop.read(entry) or {}
            if entry.status == "held" and (booking.get("payment") or {}).get("status") == "declined":
                return True
            await asyncio.sleep(0.1)
        return False

    async def _have_again(self, visit: Visit, path: str) -> None:
        """Cancel, and book the same: its code and its customer are nobody else's, so nothing is in the way but what was given
        back."""
        answer = await self._shop.insist("POST", f"{path}/cancel", visit.key + "-x", visit.number)
        if answer is None or answer.status != 200:
            return
        again = replace(visit, key=visit.key + "-again")
        entry = self._history.open(again.key, again.customer, again.code, self._client)
        await self._shop.book(entry, again, self._clock())
        self._history.booked_again += bool(entry.ids)
        if entry.refused in ("access-code-used-up", "customer-limit"):
            self._history.not_given_back.append(f"{visit.customer}, with a code of its own: {entry.refused}")

    async def _change(self, entry: Entry, visit: Visit, path: str) -> bool:
        """To other items, twice at once: all of them, or none. Whether it was changed."""
        post, key = self._shop.insist, visit.key + "-c"
        answers = await asyncio.gather(*(post("PATCH", path, key, visit.number + n, visit.change) for n in range(2)))
        changed = [answer for answer in answers if answer is not None and answer.status == 200]
        self._history.holds_changed += bool(changed)
        for answer in changed:
            items = json.loads(answer.body)["items"]
            if sorted((item["tier_id"], item["quantity"]) for item in items) != sorted(visit.other):
                self._history.complain(f"{entry.accepted}: was changed, and has {items}")
        return bool(changed)

    async def _pay(self, visit: Visit, path: str, card: str, suffix: str) -> None:
        await self._shop.insist("POST", f"{path}/payment", visit.key + suffix, visit.number, visit.payment_of(card))

    async def _give_back(self, entry: Entry, visit: Visit) -> None:
        """Cancel a confirmed booking, twice at once; or have a part of it refunded."""
        entry.may_change = True
        path = f"/v1/bookings/{entry.accepted}"
        if visit.manner == "cancel":
            post = self._shop.insist
            answers = await asyncio.gather(*(post("POST", f"{path}/cancel", f"{visit.key}-x", n) for n in range(2)))
            statuses = {answer.status for answer in answers if answer is not None}
            if 200 in statuses and len(statuses) > 1:
                self._history.complain(f"{entry.accepted}: two cancellations were answered {sorted(statuses)}")
        else:
            tier, _ = visit.items[0]
            body = json.dumps({"items": [{"tier_id": tier, "quantity": 1}]}).encode()
            post, key = self._shop.insist, visit.key + "-r"
            await asyncio.gather(*(post("POST", f"{path}/refunds", key, n, body) for n in range(2)))
        if visit.card in REFUND_TROUBLE:
            # Perhaps it is owed by now: then it is tried again, twice at once.
            await asyncio.sleep(self._chance.random() * 4)
            owed, post, key = b'{"items":"owed"}', self._shop.insist, visit.key + "-o"
            await asyncio.gather(*(post("POST", f"{path}/refunds", key, n, owed) for n in range(2)))

    async def _go_through_action(self, entry: Entry) -> None:
        """3-D Secure: the gateway's page, opened in the customer's place."""
        if self._complete_action is None:
            return
        for _ in range(ACTION_LOOKS):
            booking = await self._shop.read(entry) or {}
            if action := (booking.get("payment") or {}).get("next_action"):
                await self._complete_action(str(action))
            if action or is_final(entry.status):
                return
            await asyncio.sleep(0.25)

    async def _browse(self, visit: Visit) -> None:
        """Look at the event, and leave."""
        answer = await self._shop.ask("GET", f"/v1/events/{visit.event}", b"", b"", visit.number)
        if answer is not None:
            self._history.reads += 1
            if answer.status != 200:
                self._shop.check_problem(answer, "GET event")

    async def _blunder(self, visit: Visit) -> None:
        """A request that can never succeed gets a 4xx, whatever else is going on (or 503)."""
        bad = self._chance.choice(
            (b"{", b'{"customer_id": NaN}', b"[" * 5_000, b'{"customer_id":"\\ud800","items":[]}',
             visit.body.replace(visit.items[0][0].encode(), b"no-such-tier"))
        )  # fmt: skip
        entry = self._history.open(visit.key, client=self._client)
        answer = await self._shop.insist("POST", "/v1/bookings", visit.key, visit.number, bad)
        if answer is None:
            return
        entry.refused = "malformed"
        if not 400 <= answer.status < 500:
            self._history.complain(f"a malformed booking was answered {answer.status}")

    async def _mistake_key(self, entry: Entry, visit: Visit) -> None:
        """The same key with another request is refused."""
        other = visit.body.replace(b'"customer_id":"', b'"customer_id":"other-')
        answer = await self._shop.ask("POST", "/v1/bookings", self._shop.headers(visit.key), other, visit.number + 1)
        if answer is None or answer.status == 503:
            return
        self._shop.refusal(answer)
        if answer.status != 422:
            self._history.complain(f"key of {entry.accepted} with another request: {answer.status}, not 422")
