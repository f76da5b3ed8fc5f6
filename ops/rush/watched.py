"""A rush that is watched from the operators' page: `python -m ops.rush.watched DATA_DIR`, started by `boxoffice up`.

It plays on the stack that runs, beside whoever else buys there: events of its own, sold by a shop of its own, and at the end
the audit of the whole box office. In the middle it kills who was wished to die; the supervisor starts that one again.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from api.rushes import KilledView, RushDesk, RushFinding, RushState, RushTerms, TierCount, Wish
from boxoffice.clock import iso
from boxoffice.settings import Settings
from ops.options import settings_for
from ops.rush.performance import Performance
from ops.rush.plan import Workload
from ops.stack.running import find_stack

__all__ = ["play"]

LOOK_S: Final = 0.2

DIES_AT: Final = 0.4
"""Share of the time after which somebody dies: most tickets are gone, many bookings are pending."""

STAND_SHARE: Final = {"few": 0.35, "many": 4.0}
"""Tickets of the biggest tier for each customer."""

REST_S: Final = 60.0

PHASES: Final = {"opening the sale": "starting", "selling": "selling", "auditing": "auditing"}
"""All others are `settling`."""


def play(desk: RushDesk, wish: Wish, data_dir: Path, settings: Settings) -> None:
    """From the first customer to the verdict; how it goes is told all the time."""
    terms, running = wish.terms, find_stack(data_dir)
    assert running is not None
    performance = Performance(
        settings, [running.port], _workload(terms), gateway_port=_bank_port(settings), rest_s=REST_S, others_buy=True
    )  # fmt: skip
    state = RushState(wish.id, terms, began_at=iso(datetime.now(UTC)))
    death = _Death(data_dir, terms)
    thread = performance.start()
    performance.calm.set()
    while thread.is_alive():
        if performance.began.is_set() and performance.failure is None:
            death.look(state)
        desk.write(_seen(state, performance, death))
        thread.join(LOOK_S)
    while state.killed and death.pending:  # nobody leaves before the successor is there
        death.look(state)
        time.sleep(LOOK_S)
    desk.write(_judged(_seen(state, performance, death), performance))


class _Death:
    """Of one component, once."""

    def __init__(self, data_dir: Path, terms: RushTerms) -> None:
        self._data_dir = data_dir
        self._name = terms.dies
        self._after_s = terms.seconds * DIES_AT
        self._began = 0.0
        self._killed_at = 0.0
        self._pid = 0
        self.pending = terms.dies != "nobody"

    @property
    def elapsed_s(self) -> float:
        """Since the first customer."""
        return time.monotonic() - self._began if self._began else 0.0

    def look(self, state: RushState) -> None:
        """Kill it when its time has come; then see when its successor runs."""
        self._began = self._began or time.monotonic()
        if not self.pending or self.elapsed_s < self._after_s:
            return
        running = find_stack(self._data_dir)
        pid = running.pids.get(self._name, 0) if running else 0
        if not self._pid and pid:
            os.kill(pid, signal.SIGKILL)
            self._pid, self._killed_at = pid, time.monotonic()
            state.killed = [KilledView(self._name, round(self.elapsed_s, 1))]
        elif self._pid and pid not in (0, self._pid):
            state.killed[0].back_s = round(time.monotonic() - self._killed_at, 1)
            self.pending = False


def _workload(terms: RushTerms) -> Workload:
    return Workload(
        seconds=terms.seconds, rate=terms.customers / terms.seconds, burst=True, customers=terms.customers,
        seed=random.randrange(1_000_000), trouble=terms.trouble, stand_share=STAND_SHARE[terms.tickets],
    )  # fmt: skip


def _bank_port(settings: Settings) -> int:
    """Of a simulated bank that is a process of this machine; 0 where the API itself serves its pages."""
    found = urlsplit(settings.gateway.url or "")
    return (found.port or 0) if found.hostname == "127.0.0.1" else 0


def _seen(state: RushState, performance: Performance, death: _Death) -> RushState:
    history, sampler, sale = performance.history, performance.sampler, performance.sale
    state.status = PHASES.get(performance.phase, "settling")  # type: ignore[assignment]
    state.elapsed_s = round(death.elapsed_s, 1)
    if history is not None:
        state.arrivals, state.accepted = len(history.entries), len(history.sold_at)
        state.refused = dict(history.refusals.most_common())
    if sampler is not None and sale is not None:
        by_code: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for event in sale.events:
            for tier in event.tiers:
                counted = sampler.tiers.get(tier.id, (tier.capacity, 0, 0, tier.capacity))
                by_code[tier.code] = [sum(pair) for pair in zip(by_code[tier.code], counted, strict=True)]
        state.tiers = [TierCount(code, t, c, h, a) for code, (a, h, c, t) in by_code.items()]
    return state


def _judged(state: RushState, performance: Performance) -> RushState:
    if performance.failure is not None or performance.findings is None:
        state.status, state.error = "failed", _words(performance.failure)
        return state
    state.status = "held" if performance.findings.held else "broken"
    state.findings = [
        RushFinding(each.name, each.title, each.held, each.looked_at, each.evidence) for each in performance.findings
    ]
    return state


def _words(failure: BaseException | None) -> str:
    return f"{type(failure).__name__}: {failure}" if failure else "It was never audited."


def main(data_dir: Path) -> None:
    """The rush that is wished for there, if one is."""
    desk = RushDesk(data_dir)
    wish = desk.wish()
    if wish is not None:
        play(desk, wish, data_dir, settings_for(data_dir))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
