"""The alert rules of `ops/monitoring/alerts.yml`, looked at without Prometheus: by the same names, severities and limits, from
the figures that operators watch.

What a rule asks of the last minutes is taken from figures that were looked at before: of a process at which nobody looks,
nobody knows since when. What only Prometheus sees, each process by itself, is said to be so.

One file because it is one table, of the rules in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from boxoffice.backoffice.sums import SPREADS, spread_of
from boxoffice.backoffice.watched import Figures

__all__ = ["RULES", "RUNBOOK", "Alert", "Alerts", "Rule", "quantile"]

RUNBOOK: Final = "docs/operations.md"
"""Each rule has a heading there."""

WINDOW_S: Final = 300.0
"""What `rate(…[5m])` looks back for."""

LONG_S: Final = 600.0

LEAST_S: Final = 20.0
"""So much of a window has to have been seen, or nobody knows."""

STEP_S: Final = 5.0
"""Distance of the figures that are remembered."""

State: TypeAlias = Literal["quiet", "pending", "firing", "unknown"]


class Alert(Struct, frozen=True):
    """One rule, and how it stands. `state`: quiet; pending, true for less than `for_s` seconds, as far as this process has
    seen; firing; unknown, for the reason in `summary`. `since`: epoch ms from which it is true."""

    name: str
    severity: str
    state: State
    for_s: int
    summary: str
    since_ms: int | None
    runbook: str


class Seen(NamedTuple):
    """The figures now, and the counts that there were before: a window ago, or as long ago as anybody has looked; None: too
    short a time."""

    now: Figures
    short: Mapping[str, int] | None
    long: Mapping[str, int] | None

    def more(self, name: str, before: Mapping[str, int]) -> int:
        """How many more of it there are; those that there are, when Redis was emptied in between."""
        count = self.now.sums.get(name, 0)
        grown = count - before.get(name, 0)
        return grown if grown >= 0 else count

    def spread(self, name: str, before: Mapping[str, int]) -> list[int]:
        """The same of the buckets of a spread."""
        pairs = zip(spread_of(self.now.sums, name), spread_of(before, name), strict=True)
        return [now - then if now >= then else now for now, then in pairs]


Look: TypeAlias = Callable[[Seen], "str | None"]
"""A sentence when the rule is true; empty when it is not; None when nobody knows."""


class Rule(NamedTuple):
    """`look`, or the reason why only Prometheus can."""

    name: str
    severity: str
    for_s: int
    look: Look | str


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value that this share of all stay below, as Prometheus guesses it: evenly spread within a bucket. None of none."""
    wanted = share * sum(counts)
    if not wanted:
        return None
    upto, low = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if upto + count >= wanted:
            return low + (bound - low) * (wanted - upto) / count
        upto, low = upto + count, bound
    return low


def _no_worker(seen: Seen) -> str | None:
    idle = [each.shard for each in seen.now.shards if each.gate != "away" and not each.workers]
    return f"No worker serves shard {_list(idle)}: bookings are accepted and not settled." if idle else ""


def _gate(seen: Seen) -> str | None:
    shut = [each.shard for each in seen.now.shards if each.gate in ("closed", "unchecked")]
    return f"Nothing is sold in shard {_list(shut)}: its gate is closed." if shut else ""


def _waits(seen: Seen) -> str | None:
    return None if seen.now.alerts is None else " ".join(seen.now.alerts)


def _silent(seen: Seen) -> str | None:
    away = [f"the Redis of shard {each.shard}" for each in seen.now.shards if each.gate == "away"]
    away += ["PostgreSQL"] if seen.now.sales is None else []
    return f"No answer of {_list(away)}." if away else ""


def _old(seen: Seen) -> str | None:
    worst = max(seen.now.shards, key=lambda each: each.oldest_s)
    return f"A booking of shard {worst.shard} has been due for {worst.oldest_s:.0f} s." if worst.oldest_s > 10 else ""


def _slow(name: str, what: str, limit_s: float) -> Look:
    def look(seen: Seen) -> str | None:
        if seen.short is None or not seen.now.sums:
            return None
        found = quantile(SPREADS[name].bounds, seen.spread(name, seen.short), 0.99)
        return f"One booking in a hundred {what.format(found)}." if found is not None and found > limit_s else ""

    return look


def _share(part: Sequence[str], of: str, limit: float, sentence: str) -> Look:
    def look(seen: Seen) -> str | None:
        if seen.short is None or not seen.now.sums:
            return None
        every = seen.more(of, seen.short)
        share = sum(seen.more(name, seen.short) for name in part) / every if every else 0.0
        return sentence.format(round(100 * share)) if share > limit else ""

    return look


def _any(name: str, sentence: str) -> Look:
    def look(seen: Seen) -> str | None:
        if seen.long is None or not seen.now.sums:
            return None
        count = seen.more(name, seen.long)
        return sentence.format(count) if count else ""

    return look


def _drift(seen: Seen) -> str | None:
    drifted = [each for each in seen.now.shards if each.drifted]
    return " ".join(
        f"Counters of {each.drifted} events of shard {each.shard} differ from PostgreSQL's." for each in drifted
    )


def _parked(seen: Seen) -> str | None:
    parked = sum(each.parked for each in seen.now.shards)
    return f"{parked} bookings are parked." if parked else ""


def _overdue(seen: Seen) -> str | None:
    if seen.now.money is None:
        return None
    overdue = [each for each in seen.now.money if each.kind != "owed" and each.oldest_s > 900]
    return " ".join(f"A {each.kind} has been due at the gateway for {each.oldest_s / 60:.0f} min." for each in overdue)


def _owed(seen: Seen) -> str | None:
    if seen.now.money is None:
        return None
    owed = sum(each.count for each in seen.now.money if each.kind == "owed")
    return f"{owed} refunds were refused by the gateway." if owed else ""


def _undelivered(seen: Seen) -> str | None:
    if seen.now.undelivered_s is None:
        return None
    behind = seen.now.undelivered_s > WINDOW_S
    return (
        f"Endpoints that take what they are sent have waited for {seen.now.undelivered_s / 60:.0f} min."
        if behind
        else ""
    )


def _disabled(seen: Seen) -> str | None:
    if seen.now.disabled is None:
        return None
    return f"{seen.now.disabled} endpoints of shops are disabled, as they take nothing." if seen.now.disabled else ""


def _memory(seen: Seen) -> str | None:
    full = [each for each in seen.now.servers if each.max_bytes and (each.used_bytes or 0) / each.max_bytes > 0.8]
    return f"Redis {_list([each.redis for each in full])} has used more than 80 % of its memory." if full else ""


def _file(seen: Seen) -> str | None:
    bad = [each.redis for each in seen.now.servers if each.file_ok is False]
    return f"Redis {_list(bad)} could not write its append-only file: nothing is accepted until it can." if bad else ""


def _list(names: Sequence[object]) -> str:
    return ", ".join(map(str, names))


_EACH: Final = "Prometheus alone sees each process by itself."
_SLOW_CLIENTS: Final = ("refused:head_late", "refused:body_late", "refused:unread")

# fmt: off
RULES: Final = (
    Rule("BoxofficeDown", "page", 60, _EACH),
    Rule("BoxofficeGone", "page", 120, _EACH),
    Rule("BoxofficeNoWorker", "page", 60, _no_worker),
    Rule("BoxofficeGateClosed", "page", 60, _gate),
    Rule("BoxofficeShardWaitsForOperator", "page", 0, _waits),
    Rule("BoxofficeStoreSilent", "page", 30, _silent),
    Rule("BoxofficeBacklogOld", "page", 30, _old),
    Rule("BoxofficeSettlementSlow", "ticket", 300,
         _slow("accept_to_commit", "takes {:.0f} s from its acceptance to its commit", 30)),
    Rule("BoxofficeAdmissionSlow", "ticket", 300, _slow("admission", "waits {:.1f} s for its answer", 0.5)),
    Rule("BoxofficeErrors", "page", 120, _share(["http:5xx"], "http", 0.05, "{} % of requests are answered with 5xx.")),
    Rule("BoxofficeOurMistake", "ticket", 0, _any("http:500", "{} answers were 500: a fault of ours, which the log has.")),
    Rule("BoxofficeDrift", "ticket", 900, _drift),
    Rule("BoxofficeParked", "ticket", 60, _parked),
    Rule("BoxofficeLeasesLapse", "ticket", 300, _any("lapses", "{} leases lapsed: workers die, hang, or give bookings up.")),
    Rule("BoxofficeMoneyLate", "page", 60, _overdue),
    Rule("BoxofficeRefundsOwed", "ticket", 60, _owed),
    Rule("BoxofficeGatewayUnsure", "page", 120,
         _share(["gateway:unsure"], "gateway", 0.1, "The gateway leaves {} % of what it is asked without an answer.")),
    Rule("BoxofficeGatewaySlow", "ticket", 300, "How long each kind of call takes the gateway, Prometheus alone is told."),
    Rule("BoxofficeWebhooksLate", "ticket", 60, _undelivered),
    Rule("BoxofficeWebhooksDisabled", "ticket", 60, _disabled),
    Rule("BoxofficeRedisMemory", "page", 60, _memory),
    Rule("BoxofficeRedisDisk", "page", 0, _file),
    Rule("BoxofficeDiskLow", "page", 60, _EACH),
    Rule("BoxofficePoolExhausted", "ticket", 120, _EACH),
    Rule("BoxofficeConnectionsRefused", "ticket", 60, _EACH),
    Rule("BoxofficeFlooded", "ticket", 60, _EACH),
    Rule("BoxofficeSlowClients", "ticket", 300,
         _share(_SLOW_CLIENTS, "connections", 0.2, "{} % of connections are cut, as their clients are slow.")),
)
"""As they stand in `alerts.yml`."""
# fmt: on


class Alerts:
    """Of one process: remembers what it has seen for ten minutes."""

    def __init__(self) -> None:
        self._past: deque[tuple[int, Mapping[str, int]]] = deque()
        self._since: dict[str, int] = {}
        self._looked_ms = 0

    def look(self, figures: Figures) -> list[Alert]:
        """How each rule stands by these figures; those that fire first."""
        seen = Seen(figures, self._before(figures.at_ms, WINDOW_S), self._before(figures.at_ms, LONG_S))
        self._remember(figures)
        if figures.at_ms - self._looked_ms > 1_000 * LEAST_S:
            self._since.clear()  # nobody has seen that it stayed true
        self._looked_ms = figures.at_ms
        order = ("firing", "pending", "unknown", "quiet")
        return sorted((self._stands(rule, seen) for rule in RULES), key=lambda alert: order.index(alert.state))

    def _stands(self, rule: Rule, seen: Seen) -> Alert:
        found = None if isinstance(rule.look, str) else rule.look(seen)
        since: int | None = None
        state: State = "quiet"
        if found is None:
            state, summary = (
                "unknown",
                rule.look if isinstance(rule.look, str) else "Not enough has been seen yet to say.",
            )
        else:
            summary = found
        if found:
            since = self._since.setdefault(rule.name, seen.now.at_ms)
            state = "firing" if seen.now.at_ms - since >= 1_000 * rule.for_s else "pending"
        else:
            self._since.pop(rule.name, None)
        runbook = f"{RUNBOOK}#{rule.name.lower()}"
        return Alert(rule.name, rule.severity, state, rule.for_s, summary, since, runbook)

    def _before(self, now_ms: int, window_s: float) -> Mapping[str, int] | None:
        for at_ms, sums in self._within(now_ms, window_s):
            return sums if now_ms - at_ms >= 1_000 * LEAST_S else None
        return None

    def _within(self, now_ms: int, window_s: float) -> Iterator[tuple[int, Mapping[str, int]]]:
        return (each for each in self._past if now_ms - each[0] <= 1_000 * window_s)

    def _remember(self, figures: Figures) -> None:
        if figures.sums and (not self._past or figures.at_ms - self._past[-1][0] >= 1_000 * STEP_S):
            self._past.append((figures.at_ms, figures.sums))
        while self._past and figures.at_ms - self._past[0][0] > 1_000 * LONG_S:
            self._past.popleft()
