"""The audit's look at webhooks, and at the gateway's own steps: each was taken in once, and each step was made once (I6)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

from boxoffice.gateway.simulator.deliveries import Tally
from boxoffice.gateway.simulator.signing import event_of
from boxoffice.gateway.webhooks import GatewayEvent
from ops.rush.findings import Finding, Findings
from ops.rush.stock_checks import Pool

__all__ = ["check_webhooks"]

_INBOX: Final = "SELECT id, kind, payment_key FROM webhook_events"


async def check_webhooks(
    pool: Pool, data_dir: Path, tally: Tally | None, findings: Findings, *, lost: int | None = 0
) -> None:
    """Whatever was taken in did happen, nothing that the gateway saw answered is missing, and no capture, void or
    refund was made twice because something was told twice.

    Of webhooks that were answered, PostgreSQL may have forgotten as many as it `lost` commits (None: nobody knows): each
    is kept by one of its own. What they told is looked up by workers and by the audit of payments, and I6 and I10 see it.
    """
    finding = findings["I6"]
    inbox = await pool.fetch(_INBOX)
    line = f"{len(inbox)} webhooks taken in"
    if tally is not None:
        line += f" of {tally.events}, {tally.repeats} came again"
        if len(inbox) < tally.heard:
            line += f", {tally.heard - len(inbox)} were lost with PostgreSQL's last commits"
        least = 0 if lost is None else tally.heard - lost
        # More may be kept than it knows of: an answer that was lost, and no time to send it again.
        if not least <= len(inbox) <= tally.events:
            finding.blame(f"the gateway was answered for {tally.heard} webhooks, {len(inbox)} are kept")
        happened = await asyncio.to_thread(_steps, data_dir / "gateway.ledger", finding)
        for row in inbox:
            event = happened.get(row["id"])
            if event is None or (event.kind, event.payment_key) != (row["kind"], row["payment_key"]):
                finding.blame(f"webhook {row['id']} ({row['kind']} of {row['payment_key']}) tells what never happened")
    finding.looked_at.append(line)


def _steps(ledger: Path, finding: Finding) -> dict[str, GatewayEvent]:
    """Every step that the simulated gateway made, by the id of its webhook. A step is a payment and its new state."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    steps = Counter(tuple(line.split(" ")[:2]) for line in lines)
    events = {}
    for (payment_key, word), times in steps.items():
        if times > 1:
            finding.blame(f"payment {payment_key}: the gateway made the same step {times} times, to {word[0]}")
        if event := event_of(payment_key, word):
            events[event.id] = event
    return events
