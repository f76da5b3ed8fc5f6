"""`make bench`: everything in one run, one table.

python -m bench [--quick] [--short] [--rounds N] [--generator wrk|ours] [--only round|growth] [--profile]

One file because it is one command: what is measured, in which order, and what becomes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Final

from bench import everything, whole
from bench.figures import Figure, Growth, Memory, Results, Round, between
from bench.forge import forge
from bench.generators import find_wrk
from bench.machine import describe_machine
from bench.parts import commit_alone, script_alone
from bench.profile import profile
from bench.saved import FOLDER, save
from bench.stage import Sale, Stage, open_stage
from bench.stopwatch import Stopwatch
from boxoffice.errors import CannotRun

__all__ = ["Plan", "main"]

LIMIT_S: Final = 30 * 60.0
"""A run that takes longer is given up."""

SLICES: Final = 3
"""On many bookings and on few, side by side."""

BASELINE_CLIENTS: Final = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part takes. With all that is around them some 12 minutes on two cores; 15 are the limit."""

    rounds: int = 3
    noop_s: float = 3
    alone: int = 60_000
    admission_s: float = 6
    sustained_s: float = 30
    slice_s: float = 8
    """One of the three with forty tiers between two with one."""
    half_s: float = 12
    refusals_s: float = 2
    """Twice: before and after admissions."""
    reads_s: float = 3
    baseline_s: float = 3
    baseline_clients: tuple[int, ...] = BASELINE_CLIENTS
    memory: int = 20_000
    pairs: int = 6
    """With everything on and off, slices of `pair_s`."""
    pair_s: float = 4
    levels: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    level_s: float = 8
    """At a fixed rate, and at full rate; slices side by side are half as long."""
    quick: bool = False


QUICK: Final = Plan(
    rounds=1, noop_s=1, alone=8_000, admission_s=2, sustained_s=5, slice_s=2, half_s=3, refusals_s=1, reads_s=1,
    baseline_s=1, baseline_clients=(8,), memory=3_000, pairs=1, pair_s=2, levels=(1_000, 10_000), level_s=2, quick=True,
)  # fmt: skip


class _Round:
    """Everything once, on one stage. What is held against each other is measured side by side, one between two slices
    of the other: the speed of a shared machine changes within a minute."""

    def __init__(self, plan: Plan, stage: Stage, watch: Stopwatch) -> None:
        self._plan = plan
        self._stage = stage
        self._watch = watch
        self.figures: dict[str, Figure] = {}
        self.memory: Memory | None = None
        self._noops: list[float] = []

    async def play(self, clients: tuple[int, ...], *, first: bool) -> None:
        """Measure all of it."""
        plan, stage, watch = self._plan, self._stage, self._watch
        hot, forty = await stage.open_sale(1), await stage.open_sale(40)
        gone = await stage.open_sale(1, capacity=100)
        watch.split("sales")
        if first:
            self.memory = await whole.memory(stage, plan.memory, hot)
            watch.split("memory")
        self._add("script", await script_alone(stage, hot, plan.alone))
        self._add("commit", await commit_alone(stage, plan.alone))
        await self._measure_noop(hot)
        await self._admit(hot, gone)
        await self._measure_noop(hot)
        figure = self._add("hot", await whole.end_to_end(stage, plan.sustained_s, hot, "hot"))
        await self._measure_noop(hot)
        figure.noop_rate = mean(self._noops[-2:])
        await self._compare_tiers(hot, forty)
        await self._poll("poll", forty, older_s=0)
        path = f"/v1/events/{hot.event.id}"
        self._add("availability", await whole.reads(stage, plan.reads_s, hot, "availability", [path]))
        self._add("half", await whole.fixed_rate(stage, plan.half_s, figure.rate / 2, hot, "half"))
        await self._poll("poll_old", hot, older_s=31)
        for count in clients:
            figure = await whole.baseline(stage, plan.baseline_s, count, hot)
            if figure.rate > self._rate("baseline"):
                self._add("baseline", figure)
        stage.stop_helpers()
        watch.split("baseline")

    async def _admit(self, hot: Sale, gone: Sale) -> None:
        """Admissions, between refusals."""
        plan, stage = self._plan, self._stage
        async with whole.nobody_settles(stage):
            before = await whole.refusals(stage, plan.refusals_s, gone)
            figure = await whole.admission(stage, plan.admission_s, hot)
            after = await whole.refusals(stage, plan.refusals_s, gone)
            self._watch.split("admission")
            await self._measure_noop(hot)
        self._add("admission", figure).noop_rate = mean(self._noops[-2:])
        refused = self._add("refusals", max(before, after, key=lambda each: each.rate))
        refused.ratios = {"admission": 1 / between(before, figure, after)}

    async def _compare_tiers(self, hot: Sale, forty: Sale) -> None:
        """Forty tiers, between two slices with one."""
        plan, stage = self._plan, self._stage
        before = await whole.end_to_end(stage, plan.slice_s, hot, "one tier")
        figure = await whole.end_to_end(stage, plan.slice_s, forty, "forty")
        after = await whole.end_to_end(stage, plan.slice_s, hot, "one tier")
        self._add("forty", figure).ratios = {"hot": between(before, figure, after)}

    def _rate(self, name: str) -> float:
        return self.figures[name].rate if name in self.figures else 0.0

    def _add(self, name: str, figure: Figure) -> Figure:
        figure.name, figure.noop_rate = name, self._noops[-1] if self._noops else 0.0
        self.figures[name] = figure
        self._watch.split(name)
        _print(_line(figure))
        return figure

    async def _measure_noop(self, sale: Sale) -> None:
        figure = await whole.noop(self._stage, self._plan.noop_s, sale)
        # Next to the real thing it would be one more process that the machine has to turn to.
        self._stage.stop_helper("bench.noop")
        self._watch.split("noop")
        self._noops.append(figure.rate)
        if figure.rate > self._rate("noop"):
            self._add("noop", figure)

    async def _poll(self, name: str, sale: Sale, *, older_s: int) -> None:
        """Read bookings of this sale, made so long ago."""
        ids = await whole.latest_bookings(self._stage, sale, older_s=older_s)
        if ids:
            paths = [f"/v1/bookings/{booking}" for booking in ids]
            self._add(name, await whole.reads(self._stage, self._plan.reads_s, sale, name, paths))


async def _play_round(plan: Plan, wrk: str | None, number: int, clients: tuple[int, ...]) -> Round:
    began, watch = time.monotonic(), Stopwatch()
    _print(f"round {number} of {plan.rounds}")
    async with open_stage(wrk) as stage:
        watch.split("start")
        played = _Round(plan, stage, watch)
        await played.play(clients, first=number == 1)
        audit = await _audit(stage)
        watch.split("audit")
    watch.split("stop")
    _print(watch.line)
    return Round(
        figures=played.figures, audit=audit, seconds=time.monotonic() - began, took_s=watch.took_s, memory=played.memory
    )


async def _grow(plan: Plan, wrk: str | None, rate: float, watch: Stopwatch) -> tuple[list[Growth], dict[str, str]]:
    """The same load on ever more bookings."""
    found: list[Growth] = []
    async with open_stage(wrk) as stage:
        watch.split("start")
        sale = await stage.open_sale(1)
        made = await stage.admitted()
        forged = 0
        for level in plan.levels:
            more = max(0, level - made)
            _print(f"{level:,} bookings already made")
            await forge(stage, sale, forged + 1, forged + more)
            forged += more
            await stage.warm_up(sale)
            watch.split(f"forge {more:,}")
            name = f"{level:,} made"
            fixed = await whole.fixed_rate(stage, plan.level_s, rate, sale, name)
            _print(_line(fixed))
            full = await whole.end_to_end(stage, plan.level_s, sale, name)
            _print(_line(full))
            redis_mb, postgres_mb = await whole.sizes(stage)
            found.append(
                Growth(made=level, open_loop=fixed, closed_loop=full, redis_mb=redis_mb, postgres_mb=postgres_mb)
            )
            made = await stage.admitted()
            watch.split(name)
        found[-1].dearer, little_audit = await _side_by_side(plan, wrk, rate, stage, sale)
        watch.split("side by side")
        audit = await _audit(stage)
        watch.split("audit")
    watch.split("stop")
    _print(watch.line)
    return found, {name: "held" if word == little_audit[name] == "held" else "broken" for name, word in audit.items()}


async def _side_by_side(
    plan: Plan, wrk: str | None, rate: float, stage: Stage, sale: Sale
) -> tuple[list[float], dict[str, str]]:
    """CPU a booking on this stage to that on a fresh one with the fewest bookings, in alternating slices: from one size to
    the next it takes a minute, in which the machine changes its speed. And the fresh one's audit."""
    dearer: list[float] = []
    async with open_stage(wrk) as little:
        few = await little.open_sale(1)
        await forge(little, few, 1, plan.levels[0] - await little.admitted())
        await little.warm_up(few)
        for _ in range(SLICES):
            many = await whole.fixed_rate(stage, plan.level_s / 2, rate, sale, "on many")
            alone = await whole.fixed_rate(little, plan.level_s / 2, rate, few, "on few")
            for figure in (many, alone):
                _print(_line(figure))
            dearer.append(many.cpu_sum_us / alone.cpu_sum_us)
        return dearer, await _audit(little)


async def _audit(stage: Stage) -> dict[str, str]:
    _print("audit")
    findings = await stage.audit()
    for finding in findings:
        for line in finding.evidence[:3]:
            _print(f"  {finding.name} BROKEN: {line}")
    return {finding.name: "held" if finding.held else "broken" for finding in findings}


async def _run(plan: Plan, wrk: str | None, only: str) -> Results:
    began, started = datetime.now(UTC), time.monotonic()
    results = Results(
        began=began.strftime("%Y-%m-%d %H:%M UTC"),
        took_s=0.0,
        quick=plan.quick,
        machine=describe_machine(wrk),
        settings=_settings(),
        rounds=[],
        growth=[],
        growth_audit={},
    )
    clients = plan.baseline_clients
    if only != "growth":
        for number in range(1, plan.rounds + 1):
            results.rounds.append(await _play_round(plan, wrk, number, clients))
            # Looked for once; later rounds have the number that was best.
            clients = (results.rounds[0].figures["baseline"].clients or clients[0],)
    if only != "round":
        hot = results.best("hot")
        watch = Stopwatch()
        results.growth, results.growth_audit = await _grow(plan, wrk, hot.rate / 2 if hot else 2_000, watch)
        results.growth_took_s = watch.took_s
    if not only:
        with redirect_stdout(sys.stderr):
            measured = await asyncio.to_thread(everything.measure, "everything", plan.pairs, plan.pair_s, 0)
        results.everything["everything"] = measured
    results.took_s = time.monotonic() - started
    return results


def _settings() -> dict[str, str]:
    """What was changed from the defaults by whoever started this."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("BOXOFFICE_") and "__" in name}
    return {"settings": ", ".join(f"{name}={value}" for name, value in settings.items()) or "all defaults"}


def _line(figure: Figure) -> str:
    cpu = ", ".join(f"{name} {us:.0f}" for name, us in figure.cpu_us.items())
    commit = f", to commit p99 {figure.commit_p99_ms:.0f} ms" if figure.commit_p99_ms else ""
    strange = f", strange {figure.strange}" if figure.strange else ""
    busy = f", busy {figure.busy:.0%}" if figure.busy else ""
    return (
        f"{figure.name:12} {figure.rate:9,.0f}/s, p50 {figure.p50_ms:.1f} p99 {figure.p99_ms:.1f} ms{commit}, "
        f"CPU µs {figure.cpu_sum_us:.0f} ({cpu}){busy}{strange}"
    )


def _print(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


async def _bounded(plan: Plan, wrk: str | None, only: str) -> Results:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(LIMIT_S):
        return await _run(plan, wrk, only)


def _show_profile(wrk: str | None) -> None:
    figure, shares = asyncio.run(profile(wrk))
    print(_line(figure))
    for component, functions in shares.items():
        print(f"\n{component}: share of looks, function that ran")
        for name, share in functions:
            print(f"  {share:6.1%}  {name}")


def main() -> None:
    """Measure, write `results.json`, `results.md` and `results.png`, and say what missed. 1: an audit was broken."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under 90 seconds; figures mean nothing")
    parser.add_argument("--rounds", type=int, help="rounds of which the best counts")
    parser.add_argument("--short", action="store_true", help="leave out a million bookings already made")
    parser.add_argument("--generator", choices=("wrk", "ours"), help="of closed loops; wrk if it is installed")
    parser.add_argument("--only", choices=("round", "growth"), default="", help="half of it")
    parser.add_argument("--profile", action="store_true", help="only show where the CPU of API and worker goes")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, levels=plan.levels[:2] if options.short else plan.levels)
    wrk = None if options.generator == "ours" else find_wrk()
    if options.generator == "wrk" and wrk is None:
        sys.exit("bench: wrk is not installed.")
    try:
        if options.profile:
            _show_profile(wrk)
            return
        results = asyncio.run(_bounded(plan, wrk, options.only))
    except (CannotRun, TimeoutError) as error:
        sys.exit(f"bench: {error or 'it took too long and was given up.'}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("bench: interrupted.")
    print(save(results, options.out))
    if not results.sound:
        sys.exit(1)
