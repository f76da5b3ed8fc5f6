"""The audit: three books (Redis, PostgreSQL, the gateway's ledger) and the customers' memory, held against each other.

Nothing is written. The box office must be at rest: what moves meanwhile looks like a difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from boxoffice.gateway.simulator.deliveries import Tally
from boxoffice.office import BoxOffice
from boxoffice.stores.postgres import open_readers
from ops.rush.agreed import Agreed
from ops.rush.allocation_checks import check_allocations
from ops.rush.booking_checks import check_bookings, check_history
from ops.rush.change_checks import check_changes, check_terms
from ops.rush.findings import Findings
from ops.rush.history import History
from ops.rush.leak_checks import check_leaks, check_texts
from ops.rush.limit_checks import check_limits
from ops.rush.money_checks import check_money
from ops.rush.notice_checks import check_feed, check_notices
from ops.rush.operating import Changes
from ops.rush.record_checks import walk
from ops.rush.sampler import Sampler
from ops.rush.stock_checks import check_stock
from ops.rush.subscriber_checks import check_subscribers
from ops.rush.subscribers import Subscriber
from ops.rush.undecided import undecided
from ops.rush.webhook_checks import check_webhooks

__all__ = ["Witness", "audit"]


@dataclass(slots=True)
class Witness:
    """What is known beyond the three books, after a rush."""

    history: History | None = None
    """With it, its customers have gone, and nothing may be undecided."""
    sampler: Sampler | None = None
    secrets: list[str] = field(default_factory=list)
    """Texts that must not be written anywhere."""
    unrest: list[str] = field(default_factory=list)
    """What did not come to rest in time."""
    tally: Tally | None = None
    """How the gateway's webhooks went, when it sent any."""
    commits_lost: int | None = 0
    """How many commits PostgreSQL lost meanwhile: webhooks may be among them. None: some, nobody knows how many."""
    changes: Changes | None = None
    """What an operator changed meanwhile."""
    agreed: Agreed | None = None
    """Selling rules and access codes that were in force throughout."""
    subscribers: Sequence[Subscriber] = ()
    """Shops that were told what happened."""
    others_buy: bool = False
    """Besides the customers of the rush: theirs may be undecided."""
    parked_is_broken: bool = False
    """Nothing in a rush is poisonous, so nothing may be parked."""


async def audit(office: BoxOffice, witness: Witness | None = None) -> Findings:
    """Look at everything, and say for each invariant whether it held.

    Raises what the stores or the gateway raise when they cannot be read: half an audit is none.
    """
    pool = await open_readers(office.settings)
    try:
        return await _audit(office, pool, witness or Witness())
    finally:
        await pool.close()


async def _audit(office: BoxOffice, pool: asyncpg.Pool[Any], witness: Witness) -> Findings:
    findings = Findings()
    if witness.history is None or witness.others_buy:
        findings.undecided = await undecided(pool, office.settings.gateway.deadline_s)
    refused = set(witness.history.refused_digests()) if witness.history else set()

    async def bookings() -> None:
        walked = await walk(office.shards, pool, refused, findings)
        await check_stock(office.shards, pool, walked.opened, findings)
        await check_bookings(pool, findings)
        if witness.commits_lost == 0:
            await check_terms(office.shards, pool, findings)
        if witness.changes is not None:
            await check_changes(pool, witness.changes, went_back=_went_back(witness), findings=findings)
        if witness.agreed is not None and witness.history is not None:
            await check_limits(
                pool, witness.agreed, witness.history, witness.changes, walked.opened, went_back=_went_back(witness),
                findings=findings,
            )  # fmt: skip
            await check_allocations(
                pool, witness.agreed.aside, witness.changes.aside if witness.changes else {}, witness.history,
                walked.opened, went_back=_went_back(witness), findings=findings,
            )  # fmt: skip
        if witness.history is not None:
            await check_history(pool, witness.history, walked.unpaid, findings)

    async def money() -> None:
        await check_money(office.gateway, pool, findings)
        await check_webhooks(pool, office.settings.data_dir, witness.tally, findings, lost=witness.commits_lost)
        await check_texts(pool, findings)
        await check_notices(pool, findings)
        await check_feed(office.database, pool, findings)
        await check_subscribers(office.database, pool, witness.subscribers, findings, lost=witness.commits_lost)
        # In a thread: who reads for seconds lets the other half's answers wait until they seem late.
        await asyncio.to_thread(check_leaks, office.settings.data_dir, witness.secrets, witness.history, findings)

    await _both(bookings(), money())
    _add_samples(witness, findings)
    for what in witness.unrest:
        findings["I9"].blame(f"did not come to rest: {what}")
    if witness.parked_is_broken:
        for booking in findings.parked:
            findings["I9"].blame(f"booking {booking} was parked")
    return findings


def _went_back(witness: Witness) -> bool:
    return witness.commits_lost != 0 or (witness.history is not None and witness.history.redis_went_back)


async def _both(*halves: Coroutine[Any, Any, None]) -> None:
    """One waits for a store while the other reckons. Raises what the first of them raises, and leaves none behind."""
    tasks = [asyncio.create_task(half) for half in halves]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _add_samples(witness: Witness, findings: Findings) -> None:
    sampler, history = witness.sampler, witness.history
    if sampler is None:
        return
    went_back = history is not None and history.redis_went_back
    findings["I1"].looked_at.append(f"{sampler.counted} samples while it ran")
    findings["I3"].looked_at.append(f"{sampler.compared} comparisons while it ran")
    if went_back and sampler.surplus:
        findings["I1"].looked_at.append(
            f"{len(sampler.surplus)} of them with a surplus that an older Redis brought back"
        )
    if sampler.unsold:
        findings["I1"].looked_at.append(f"{len(sampler.unsold)} of them with a cancellation that came before its sale")
    for line in sampler.sums_broken + ([] if went_back else sampler.surplus):
        findings["I1"].blame(line)
    for line in [] if went_back else sampler.codes_broken:
        findings["I13"].blame(line)
    findings["I14"].looked_at.append(f"{sampler.sides} looks at what was set aside while it ran")
    for line in [] if _went_back(witness) else sampler.sides_broken:
        findings["I14"].blame(line)
    for line in sampler.stores_broken:
        findings["I3"].blame(line)
