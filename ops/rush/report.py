"""What a rush comes to: figures, what was killed, and the audit, for people and as JSON.

One file because each figure is told in two ways, and both are read beside what it means.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from boxoffice.gateway.simulator.deliveries import Tally
from ops.rush.bad_logs import WAYS
from ops.rush.blows import KINDS
from ops.rush.chaos import Deed
from ops.rush.findings import Findings
from ops.rush.history import quantile
from ops.rush.performance import Performance
from ops.rush.subscribers import lines_of_subscribers

__all__ = ["Report", "lines_of_findings", "report_of"]


@dataclass(slots=True)
class Report:
    """One rush."""

    seed: int
    seconds: float
    arrivals: int
    accepted: int
    accepted_per_s: float
    refused: dict[str, int]
    unknown: int
    repeats: int
    reads: int
    holds: bool
    holds_changed: int
    changed_after_decline: int
    booked_again: int
    ms: dict[str, float]
    """Quantiles in milliseconds: of POST from the intended time to its definite answer; from acceptance to a final
    status that the customer read; from admission to the commit."""
    kills: dict[str, int] = field(default_factory=dict)
    pauses: dict[str, int] = field(default_factory=dict)
    promotions: int = 0
    """Of a standby of PostgreSQL that lagged."""
    commits_lost: int | None = 0
    """By these; None when nobody could count them."""
    put_back: int = 0
    """How often Redis went back to an older copy of its file."""
    holds_lost: int = 0
    """By these: holds that nobody had tried to pay."""
    read_only: int = 0
    """How often PostgreSQL refused to write for some seconds."""
    bad_logs: dict[str, int] = field(default_factory=dict)
    """How often, by the way in which logs took nothing."""
    recovery_s: dict[str, dict[str, float]] = field(default_factory=dict)
    """Per component, the longest of all its kills: until it ran again, until a booking sent after the kill was
    accepted, until one was committed."""
    slowest: list[str] = field(default_factory=list)
    """The bookings that took longest to become final, paid with plain cards."""
    changes: dict[str, int] = field(default_factory=dict)
    """What an operator changed meanwhile, by what it was."""
    webhooks: dict[str, int] = field(default_factory=dict)
    """What the gateway told us: events, those that were heard, repeats of them, given up. Empty without a gateway."""
    subscribers: dict[str, float] = field(default_factory=dict)
    """What shops were told, and how. Empty where none listened."""
    rested_s: float = 0.0
    surprises: list[str] = field(default_factory=list)
    deeds: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    verdict: str = ""

    @property
    def held(self) -> bool:
        """Whether every invariant held."""
        return self.verdict == "held"


def report_of(performance: Performance, deeds: list[Deed], surprises: list[str]) -> Report:
    """Add up."""
    history, findings = performance.history, performance.findings
    assert history is not None and findings is not None
    outcomes = history.outcomes()
    took = [took for _, took in performance.committed]
    return Report(
        seed=performance.workload.seed,
        seconds=round(performance.took_s, 1),
        arrivals=len(history.entries),
        accepted=outcomes["ok"],
        accepted_per_s=round(outcomes["ok"] / max(performance.took_s, 0.001), 1),
        refused=dict(history.refusals.most_common()),
        unknown=outcomes["unknown"],
        repeats=history.retries + history.replays,
        reads=history.reads,
        holds=performance.workload.holds,
        holds_changed=history.holds_changed,
        changed_after_decline=history.changed_after_decline,
        booked_again=history.booked_again,
        ms={
            **_quantiles("post", history.post_s),
            **_quantiles("final", history.final_s),
            **_quantiles("committed", took),
        },
        kills=_count(deeds, "kill"),
        pauses=_count(deeds, "pause"),
        promotions=sum(deed.action == "promote" for deed in deeds),
        commits_lost=performance.commits_lost,
        put_back=sum(deed.action == "put back" for deed in deeds),
        holds_lost=sum(deed.lost or 0 for deed in deeds if deed.action == "put back"),
        read_only=sum(deed.action == "read-only" for deed in deeds),
        bad_logs={way: count for way in WAYS if (count := sum(deed.action == way for deed in deeds))},
        recovery_s=dict(_recoveries(performance, deeds)),
        slowest=[
            f"{booking}: accepted after {accepted_s:.2f} s, final {waited_s:.2f} s later"
            for waited_s, accepted_s, booking in sorted(history.waits, reverse=True)[:3]
        ],
        changes=dict(sorted(performance.changes.made.items())) if performance.changes else {},
        webhooks=_webhooks(performance.tally),
        subscribers=performance.subscribers.figures() if performance.subscribers else {},
        rested_s=round(performance.rested_s, 1),
        surprises=surprises,
        deeds=[_shown(deed) for deed in deeds],
        findings=[asdict(finding) for finding in findings],
        parked=findings.parked,
        verdict="held" if findings.held else "broken",
    )


def _shown(deed: Deed) -> dict[str, Any]:
    shown: dict[str, Any] = {"at_s": round(deed.at_s, 2), "name": deed.name, "action": deed.action}
    if deed.action == "promote":
        shown |= {"lag_s": round(deed.lag_s, 2), "lost": deed.lost}
    elif deed.action == "put back":
        shown |= {"age_s": round(deed.lag_s, 2), "lost": deed.lost}
    elif deed.lag_s:
        shown["seconds"] = round(deed.lag_s, 2)
    return shown


def _webhooks(tally: Tally | None) -> dict[str, int]:
    if tally is None:
        return {}
    return {"events": tally.events, "heard": tally.heard, "repeats": tally.repeats, "given_up": tally.given_up}


def _quantiles(name: str, seconds: list[float]) -> dict[str, float]:
    return {
        f"{name}_p50": round(1_000 * quantile(seconds, 0.5), 1),
        f"{name}_p99": round(1_000 * quantile(seconds, 0.99), 1),
        f"{name}_max": round(1_000 * max(seconds, default=0.0), 1),
    }


def _count(deeds: list[Deed], action: str) -> dict[str, int]:
    counted = Counter(deed.kind for deed in deeds if deed.action == action)
    return {kind: counted[kind] for kind in KINDS if counted[kind]}


def _recoveries(performance: Performance, deeds: list[Deed]) -> Iterator[tuple[str, dict[str, float]]]:
    assert performance.history is not None
    sold = sorted(performance.history.sold_at)
    sent = [at for at, _ in sold]
    # The earliest acceptance among the requests sent from here on.
    soonest = [0.0] * len(sold)
    best = float("inf")
    for at in range(len(sold) - 1, -1, -1):
        best = min(best, sold[at][1])
        soonest[at] = best
    commits = [at for at, _ in performance.committed]
    for kind in (*KINDS, "standby", "copy"):
        worst: dict[str, float] = {}
        for deed in deeds:
            if deed.kind != kind or deed.action in ("pause", "read-only"):
                continue
            at = bisect_left(sent, deed.clock_s)
            if at < len(soonest):
                worst["sold"] = max(worst.get("sold", 0.0), soonest[at] - deed.clock_s)
            at = bisect_left(commits, deed.wall_s)
            if at < len(commits):
                worst["committed"] = max(worst.get("committed", 0.0), commits[at] - deed.wall_s)
            worst["running"] = max(worst.get("running", 0.0), deed.back_s or 0.0)
        if worst:
            yield kind, {name: round(seconds, 2) for name, seconds in worst.items()}


def lines_of(report: Report) -> Iterator[str]:
    """The figures, for people."""
    refused = ", ".join(f"{count} {kind}" for kind, count in report.refused.items()) or "none"
    yield f"Seed {report.seed}: {report.arrivals} bookings asked for in {report.seconds:g} s, {report.reads} reads"
    changed = f"{report.holds_changed} changed, {report.changed_after_decline} of them after a decline"
    yield f"  holds      {f'{changed}, {report.booked_again} booked again' if report.holds else 'not yet known to this API'}"
    yield f"  accepted   {report.accepted} ({report.accepted_per_s:g}/s)"
    yield f"  refused    {refused}"
    if report.changes:
        yield f"  operator   {_listed(report.changes)}"
    yield f"  unknown    {report.unknown}, after {report.repeats} repeats"
    for name, what in (("post", "POST"), ("final", "until final, as read"), ("committed", "until committed")):
        yield "  {:22} p50 {:g} ms, p99 {:g} ms, max {:g} ms".format(
            what, *(report.ms[f"{name}_{part}"] for part in ("p50", "p99", "max"))
        )
    yield from (f"    {one}" for one in report.slowest)
    if report.webhooks:
        yield "  webhooks   {heard} of {events} heard, {repeats} of them again, {given_up} given up".format(
            **report.webhooks
        )
    yield from lines_of_subscribers(report.subscribers)
    yield f"  at rest after {report.rested_s:g} s"
    if report.kills or report.pauses:
        yield f"  kills   {_listed(report.kills)}; pauses {_listed(report.pauses)}"
        if report.promotions:
            lost = "some" if report.commits_lost is None else report.commits_lost
            yield f"  promoted   {report.promotions} times a standby that lagged; PostgreSQL lost {lost} commits"
        yield from _setbacks(report)
        for kind, worst in report.recovery_s.items():
            parts = ", ".join(
                f"{what} again within {worst[what]:g} s" for what in ("running", "sold", "committed") if what in worst
            )
            yield f"  {kind:8} {parts}"
    yield from (f"  {surprise}" for surprise in report.surprises)


def _setbacks(report: Report) -> Iterator[str]:
    if report.put_back:
        yield f"  put back   {report.put_back} times an older Redis; {report.holds_lost} unpaid holds were lost with the newer"
    if report.read_only:
        yield f"  read-only  {report.read_only} times PostgreSQL refused to write"
    if report.bad_logs:
        yield f"  logs       took nothing: {_listed(report.bad_logs)}"


def lines_of_findings(findings: Findings) -> Iterator[str]:
    """The audit, one invariant after the other; the last line is the verdict."""
    for finding in findings:
        yield f"{finding.name} {'held  ' if finding.held else 'BROKEN'} {finding.title}"
        if finding.looked_at:
            yield f"          {'; '.join(finding.looked_at)}"
        for line in finding.evidence:
            yield f"          ! {line}"
        if finding.broken > len(finding.evidence):
            yield f"          ! and {finding.broken - len(finding.evidence)} more"
    if findings.undecided:
        some = ", ".join(sorted(findings.undecided)[:10])
        yield f"{len(findings.undecided)} undecided, with time left: {some}"
    if findings.parked:
        yield f"{len(findings.parked)} parked: {', '.join(findings.parked[:10])}"
    if findings.held:
        yield "Verdict: every invariant held."
    else:
        yield f"Verdict: BROKEN: {', '.join(findings.broken)}."


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
