"""The machine and the programs that the figures belong to."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from ops.stack.binaries import find_postgres, find_redis
from ops.stack.interpreter import is_optimised

__all__ = ["describe_machine", "fdatasync_us", "resident_kb"]


def describe_machine(wrk: str | None) -> dict[str, str]:
    """What a reader needs to know to compare."""
    return {
        "machine": f"{os.cpu_count()} CPUs ({_cpu_model()}), {_memory_gb():.0f} GB, {platform.system()} {platform.release()}",
        "disk": f"fdatasync of 4 kB takes {fdatasync_us():.0f} µs (median of 200)",
        "Python": f"{platform.python_version()}, {_built()}, uvicorn {version('uvicorn')}, uvloop {version('uvloop')}",
        "Redis": _version(find_redis(os.environ), "--version"),
        "PostgreSQL": _version(find_postgres(os.environ).bin_dir / "postgres", "--version"),
        "load generator": "wrk in closed loops, bench/load.py in open ones" if wrk else "bench/load.py",
        "durability": "appendfsync always, fsync on, synchronous_commit on, data checksums; no AOF rewrite during a run",
    }


def resident_kb(pid: int) -> int:
    """Resident memory of a process."""
    (line,) = (line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Rss:"))
    return int(line.split()[1])


def fdatasync_us() -> float:
    """What a promise costs on this disk."""
    took = []
    with tempfile.TemporaryFile(dir=tempfile.gettempdir(), buffering=0) as file:
        for _ in range(200):
            file.write(bytes(4_096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return 1e6 * statistics.median(took)


def _built() -> str:
    return "built with optimisation" if is_optimised() else "built **without optimisation**, which costs all our Python"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(program: Path | str, option: str) -> str:
    ran = subprocess.run([str(program), option], capture_output=True, text=True, check=False)
    return ran.stdout.strip().split(" sha=")[0]
