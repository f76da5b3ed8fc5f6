"""Where the CPU goes: one hot tier at full rate, API and worker looked into by py-spy meanwhile."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from bench import whole
from bench.figures import Figure
from bench.stage import open_stage
from boxoffice.errors import CannotRun

__all__ = ["find_spy", "own_shares", "profile"]

SECONDS: Final = 10
SHOWN: Final = 25


def find_spy() -> str:
    """py-spy, beside this Python or on the path. Raises `CannotRun` when it is not installed."""
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        raise CannotRun(f"py-spy is not installed: {sys.executable} -m pip install py-spy")
    return spy


async def profile(wrk: str | None) -> tuple[Figure, dict[str, list[tuple[str, float]]]]:
    """What was reached, and for each component the functions that were on top of the stack most often."""
    spy = find_spy()
    async with open_stage(wrk) as stage:
        sale = await stage.open_sale(1)
        load = asyncio.create_task(whole.end_to_end(stage, SECONDS + 4, sale, "hot"))
        await asyncio.sleep(2)
        names = ("api", "worker")
        seen = await asyncio.gather(*(_look(spy, stage.stack[name].pid) for name in names))
        return await load, {name: own_shares(stacks) for name, stacks in zip(names, seen, strict=True)}


async def _look(spy: str, pid: int) -> str:
    """Stacks of a process with the number of times that each was seen, one to a line."""
    with tempfile.NamedTemporaryFile() as out:
        options = [
            "--pid",
            str(pid),
            "--duration",
            str(SECONDS),
            "--rate",
            "200",
            "--format",
            "raw",
            "--output",
            out.name,
        ]
        process = await asyncio.create_subprocess_exec(
            spy, "record", *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        if process.returncode:
            raise CannotRun(f"py-spy failed; it may need root: {errors.decode(errors='replace').strip()[-300:]}")
        return Path(out.name).read_text()


def own_shares(stacks: str) -> list[tuple[str, float]]:
    """Functions by the share of looks at which they themselves ran, the most frequent first."""
    own: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, times = line.rpartition(" ")
        # Without the line that it had come to.
        own[re.sub(r":\d+\)$", ")", stack.rpartition(";")[2])] += int(times)
    return [(name, times / own.total()) for name, times in own.most_common(SHOWN)]
