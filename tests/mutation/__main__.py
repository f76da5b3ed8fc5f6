"""`make mutate`: draws a sample of small mistakes, tries each against the tests of its place, and prints what survives.

    make mutate                             # 200 mutants over everything, SEED=1, at most MINUTES=40
    make mutate SEED=7 N=60 MINUTES=15
    make mutate FILES="boxoffice/money/refunds.py lua/pay.lua" N=20
    make mutate FILES=boxoffice/money/refunds.py KIND=sibling
    make mutate MAP=1                       # see first which test runs which line (20 minutes, then only what changed)

Without a map the tests of a mutant are those that bear the name of its file, or import it.

Exit code 0 when at least 85 % of the mutants that are not equivalent are noticed, and 75 % in each room.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.bench import Bench
from tests.mutation.coverage_map import CoverageMap, mapped_files
from tests.mutation.mutant import Known, Mutant, known
from tests.mutation.rooms import ROOT
from tests.mutation.sample import sample

WHOLE_MIN, ROOM_MIN = 0.85, 0.75
BUDGET_S, TESTS_MAX, TIMEOUT_S = 30.0, 150, 540.0
NOTICED, SURVIVED, TIMEOUT, EQUIVALENT = "noticed", "survived", "timeout", "equivalent"


@dataclass
class Verdict:
    mutant: Mutant
    word: str
    by: str = ""
    tests: list[str] = field(default_factory=list)
    seconds: float = 0.0
    known: Known | None = None

    def line(self) -> str:
        by = self.by or (self.known.reason if self.known else f"{len(self.tests)} tests")
        place = f"{self.mutant.path}:{self.mutant.line}"
        return f"{self.word:<10} {self.mutant.room:<10} {place:<40} {self.mutant.kind:<22} {self.seconds:5.1f} s  {by}"


def _entry(mutant: Mutant) -> Known | None:
    return next((entry for entry in known() if entry.is_of(mutant)), None)


_passed: set[str] = set()
"""Tests that were seen to pass on sound code."""


async def _believed(bench: Bench, mutant: Mutant, by: str) -> bool:
    """Whether a test fails once more on the mutant, and passes without it."""
    if (await bench.run([by], timeout_s=TIMEOUT_S)).passed:
        return False
    if by not in _passed:
        with bench.mutated(mutant.path, mutant.source):
            if not (await bench.run([by], timeout_s=TIMEOUT_S)).passed:
                print(f"  {by} fails on sound code", flush=True)
                return False
        _passed.add(by)
    return True


async def try_it(bench: Bench, tests: CoverageMap, mutant: Mutant) -> Verdict:
    """One mutant. Tests that fail by chance, or without the mutant, are left out and the others tried."""
    entry = _entry(mutant)
    if entry and entry.what == EQUIVALENT:
        return Verdict(mutant, EQUIVALENT, known=entry)
    start = time.monotonic()
    chosen = tests.choose(mutant, budget_s=BUDGET_S, tests_max=TESTS_MAX)
    verdict = Verdict(mutant, SURVIVED, tests=chosen, known=entry)
    with bench.mutated(mutant.path, mutant.mutated):
        left, unsound = chosen, list[str]()
        while left:
            ran = await bench.run(left, timeout_s=TIMEOUT_S, but=unsound)
            if ran.passed:
                break
            by = ran.failed[0] if ran.failed else ""
            if ran.code is None:
                verdict.word, verdict.by = TIMEOUT, by
                break
            if not by or await _believed(bench, mutant, by):
                verdict.word, verdict.by = NOTICED, by or "cannot even be collected"
                break
            if by in unsound:
                break
            # Of a file that was chosen as a whole the other tests are tried.
            unsound.append(by)
            left = [test for test in left if test != by]
    verdict.seconds = time.monotonic() - start
    return verdict


async def draw_map(benches: list[Bench], tests: CoverageMap, files: list[str]) -> None:
    """Run the files of tests that have changed since the map was drawn."""
    waiting = tests.stale(files)
    if waiting:
        print(f"Drawing the map of {len(waiting)} files of tests ...", flush=True)

    async def work(bench: Bench) -> None:
        while waiting:
            test = waiting.pop(0)
            ran = await bench.run([test], timeout_s=540, draw_map=True, first=False)
            tests.keep(test, ran.report)
            if ran.code not in (0, 5):
                print(
                    f"  {test}: {'timeout' if ran.code is None else len(ran.failed)} failed on sound code", flush=True
                )

    await asyncio.gather(*(work(bench) for bench in benches))


def report(verdicts: list[Verdict], drawn: int) -> bool:
    """Print the figures by room and the survivors. Whether they suffice."""
    rooms: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        rooms[verdict.mutant.room][verdict.word] += 1
        rooms["whole"][verdict.word] += 1
    for verdict in verdicts:
        if verdict.word == SURVIVED:
            print(f"\nSURVIVED {verdict.mutant.path}:{verdict.mutant.line} in {verdict.mutant.where or 'the module'}"
                  f" ({verdict.mutant.kind})\n{verdict.mutant.diff}")  # fmt: skip
            print(f"    listed: {verdict.known.reason}" if verdict.known else f"    ran: {_short(verdict.tests)}")
    print(f"\n{'room':<12}{'noticed':>8}{'timeout':>8}{'survived':>9}{'equivalent':>11}{'share':>7}")
    enough = True
    for room in [*sorted(set(rooms) - {"whole"}), "whole"]:
        words = rooms[room]
        good, bad = words[NOTICED] + words[TIMEOUT], words[SURVIVED]
        share = good / (good + bad) if good + bad else 1.0
        fine = share >= (WHOLE_MIN if room == "whole" else ROOM_MIN)
        enough = enough and fine
        print(f"{room:<12}{words[NOTICED]:>8}{words[TIMEOUT]:>8}{bad:>9}{words[EQUIVALENT]:>11}{share:>7.0%}"
              f"{'' if fine else '  too few'}")  # fmt: skip
    if len(verdicts) < drawn:
        print(f"{drawn - len(verdicts)} of {drawn} were not tried: the time was up.")
    return enough


def _short(tests: list[str]) -> str:
    files = Counter(test.partition("::")[0] for test in tests)
    return ", ".join(f"{count} of {file}" for file, count in files.most_common(8)) or "no test at all"


async def run(options: argparse.Namespace) -> bool:
    """Draw, try, report."""
    ends = time.monotonic() + options.minutes * 60
    async with contextlib.AsyncExitStack() as stack:
        benches = list(
            await asyncio.gather(*(stack.enter_async_context(Bench()) for _ in range(options.at_once)))
        )  # fmt: skip
        tests = CoverageMap()
        if options.map:
            await draw_map(benches, tests, mapped_files())
        tests.read(mapped_files())
        if options.n == 0:
            return True
        mutants = sample(options.n, options.seed, options.files, options.kind)
        print(f"{len(mutants)} mutants, seed {options.seed}", flush=True)
        waiting, verdicts = list(mutants), []

        async def work(bench: Bench) -> None:
            while waiting and time.monotonic() < ends:
                verdict = await try_it(bench, tests, waiting.pop(0))
                verdicts.append(verdict)
                print(verdict.line(), flush=True)
                if options.json:
                    _write(options.json, verdicts)

        await asyncio.gather(*(work(bench) for bench in benches))
    return report(verdicts, len(mutants))


def _write(path: Path, verdicts: list[Verdict]) -> None:
    rows = [
        {"word": v.word, "room": v.mutant.room, "file": v.mutant.path, "line": v.mutant.line, "where": v.mutant.where,
         "kind": v.mutant.kind, "before": v.mutant.before, "after": v.mutant.after, "by": v.by, "tests": v.tests}
        for v in verdicts
    ]  # fmt: skip
    path.write_text(json.dumps(rows, indent=1))


def main() -> int:
    """Parse, run, say how it went."""
    parser = argparse.ArgumentParser(prog="make mutate")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=40, help="draws no more mutants after that")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--kind", default="", help="only operators whose name has this word")
    parser.add_argument("--json", type=Path, default=None, help="write what became of each here")
    parser.add_argument("--map", action="store_true", help="first draw the map of what has changed since it was drawn")
    parser.add_argument("files", nargs="*", help="only these files, from the root of the repository")
    options = parser.parse_args()
    missing = [name for name in options.files if not (ROOT / name).is_file()]
    if missing:
        parser.error(f"no such file: {' '.join(missing)}")
    return 0 if asyncio.run(run(options)) else 1


if __name__ == "__main__":
    sys.exit(main())
