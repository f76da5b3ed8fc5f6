"""Telling Redis what PostgreSQL has decided of a shard's bookings: the last step of a settlement, safe to repeat."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from boxoffice.bookings.holds import Holds
from boxoffice.books.decisions import CONFIRM, Decision, Verdict
from boxoffice.crashpoint import crashpoint
from boxoffice.settings import Settings
from boxoffice.stores import keys
from boxoffice.stores.fence import Pair
from boxoffice.stores.gate import once_checked
from boxoffice.stores.record import confirmed, pack_payload
from boxoffice.stores.shard import Shard

__all__ = ["Mirror"]

CHUNK: Final = 250
"""Bookings settled by one script call: some milliseconds in which Redis runs nothing else."""


CHECK_S: Final = 10.0
"""How long a server that has just started is waited for, to be checked."""


LETTERS: Final = {
    Verdict.CONFIRM: "C", Verdict.FAIL: "F", Verdict.EXPIRE: "E", Verdict.CANCEL: "X", Verdict.GIVE_BACK: "B",
    Verdict.HOLD: "H", Verdict.RELEASE: "R", Verdict.PARK: "D",
}  # fmt: skip
"""Verdicts as settle.lua reads them."""


class Mirror:
    """Of one shard. Its scripts move a booking only from P, and only under the payment that was decided."""

    def __init__(self, here: Shard, holds: Holds, settings: Settings) -> None:
        self._shard = here.number
        self.here = here
        self._holds = holds
        self._ttl_s = settings.worker.settled_ttl_s

    async def tell(self, decisions: list[Decision], done: set[str], pair: Pair | None = None) -> None:
        """What PostgreSQL has decided, a chunk at a time, by the commit of this pair; None when nothing is final. Each
        booking is added to what is `done` as soon as Redis knows.

        Raises `GateClosed`, for a server that has just started after a while: the guard's check tells it then."""
        sold: list[Decision] = []
        others: list[Decision] = []
        for decision in decisions:
            (sold if just_sold(decision) else others).append(decision)
        for script, part in ((self._confirm, sold), (self._settle, others)):
            for start in range(0, len(part), CHUNK):
                chunk = part[start : start + CHUNK]
                log_it = partial(script, chunk, str(pair or ""))
                await once_checked(self.here, log_it, CHECK_S)
                done.update([decision.claim.record.id for decision in chunk])
                crashpoint("chunk_settled")

    async def park(self, booking: str, payment_key: str) -> None:
        """A booking that cannot be read, or kills its workers: out of the way, its stock kept, until an operator decides."""
        booking_keys = [keys.booking(self._shard, booking), keys.idempotency(self._shard, "-")]
        await self._move([], booking_keys, [f"1|{LETTERS[Verdict.PARK]}|{payment_key}|0|".encode()], "")

    async def _confirm(self, decisions: list[Decision], pair: str) -> None:
        """Sold, and their records as they were claimed: then there is nothing to look at. Otherwise each is looked at."""
        sold: dict[str, dict[str, int]] = {}
        booking_keys: list[str] = []
        records: list[bytes] = []
        record_prefix, idempotency_prefix = keys.booking(self._shard, ""), keys.idempotency(self._shard, "")
        for decision in decisions:
            raw, record = decision.claim.raw, decision.claim.record
            tickets = sold.get(record.event)
            if tickets is None:
                tickets = sold[record.event] = {}
            for line in record.body.lines:
                tickets[line.tier] = tickets.get(line.tier, 0) + line.quantity
            booking_keys += (record_prefix + record.id, idempotency_prefix + record.scope)
            records += (raw, confirmed(raw, decision.payload))
        counts = [",".join([f"{tier}:{count}" for tier, count in tickets.items()]) for tickets in sold.values()]
        done = await self.here.run(
            "confirm", keys=[*(keys.event(self._shard, event) for event in sold), *booking_keys],
            ttl_s=self._ttl_s, pair=pair, events=len(sold), more=[*counts, *records],
        )  # fmt: skip
        if not done:
            await self._settle(decisions, pair)

    async def _settle(self, decisions: list[Decision], pair: str) -> None:
        events: dict[str, int] = {}
        sale_keys: list[str] = []
        booking_keys: list[str] = []
        verdicts: list[bytes] = []
        for decision in decisions:
            record, verdict, payload = decision.claim.record, decision.verdict, decision.payload
            index = events.get(record.event)
            if index is None:
                index = events[record.event] = len(events) + 1
                sale_keys += (keys.event(self._shard, record.event), keys.owners(self._shard, record.event))
            booking_keys += (keys.booking(self._shard, record.id), keys.idempotency(self._shard, record.scope))
            keep = verdict is Verdict.PARK or (verdict is Verdict.RELEASE and not payload.outcome)
            packed = b"" if keep else pack_payload(payload)
            letter, key = LETTERS[verdict].encode(), record.payment_key.encode()
            verdicts.append(b"%d|%s|%s|%d|%s" % (index, letter, key, decision.delay_ms, packed))
        outcomes = await self._move(sale_keys, booking_keys, verdicts, pair)
        for state in ("E", "X"):
            ended = [
                decision.claim.record.id
                for decision, outcome in zip(decisions, outcomes, strict=True)
                if decision.verdict is Verdict.HOLD and outcome == state.encode()
            ]
            if ended:
                await self._holds.write_state(ended, state)

    async def _move(self, sale_keys: list[str], booking_keys: list[str], verdicts: list[bytes], pair: str) -> Any:
        """settle.lua. Two keys for each event and for each booking."""
        return await self.here.run(
            "settle", keys=[*sale_keys, *booking_keys], ttl_s=self._ttl_s, pair=pair, events=len(sale_keys) // 2,
            verdicts=verdicts,
        )  # fmt: skip


def just_sold(decision: Decision) -> bool:
    """Whether it was claimed pending and is sold, with nothing else to see to: confirm.lua tells Redis. A hold's tickets
    are counted as unpaid until then, and so are those of whoever was at the bank."""
    record = decision.claim.record
    return (
        decision.verdict is CONFIRM
        and record.state == "P"
        and not (record.deadline_ms or record.given_back or record.at_bank)
    )
