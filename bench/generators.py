"""Who makes the load: wrk where it is installed, our own client otherwise, and always for latency at a fixed rate."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.histogram import Histogram
from bench.load import LoadReport, LoadSpec
from boxoffice.errors import CannotRun
from ops.stack.processes import die_with_parent

__all__ = ["Load", "LoadClient", "find_wrk"]

WRK_LUA: Final = Path(__file__).with_name("wrk.lua")
EXTRA_S: Final = 90.0


class Load(msgspec.Struct, kw_only=True):
    """One spell of load, as its generator saw it."""

    generator: str
    issued: int
    good: int
    """Answers of the wanted status, as far as the generator can tell."""
    began: float
    took_s: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    answers: dict[str, int]
    unanswered: int = 0
    late_p99_ms: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.good / self.took_s if self.took_s else 0.0


def find_wrk() -> str | None:
    """wrk, if it is installed."""
    return shutil.which("wrk")


class LoadClient:
    """Asks one port. Closed loops use wrk when there is one."""

    def __init__(self, folder: Path, *, wrk: str | None) -> None:
        self._folder = folder
        self._wrk = wrk
        self._books = 0

    @property
    def name(self) -> str:
        """The generator of closed loops."""
        return "wrk" if self._wrk else "bench/load.py"

    async def closed(
        self, port: int, templates: Sequence[bytes], seconds: float, *, connections: int = 128, wanted: int = 202,
        ours: bool = False,
    ) -> Load:  # fmt: skip
        """As much as so many connections can ask."""
        if self._wrk and not ours:
            return await self._run_wrk(port, templates, seconds, connections, wanted)
        book = self._write_book(templates, ".json")
        spec = LoadSpec(port=port, book=str(book), seconds=seconds, connections=connections)
        return await self._run(spec, wanted)

    async def count(self, port: int, templates: Sequence[bytes], count: int, *, wanted: int = 202) -> Load:
        """Exactly so many requests, as fast as they go."""
        book = self._write_book(templates, ".json")
        return await self._run(LoadSpec(port=port, book=str(book), count=count, connections=64), wanted)

    async def open(
        self, port: int, templates: Sequence[bytes], seconds: float, rate: float, sent: Path, *, wanted: int = 202
    ) -> Load:
        """At a fixed rate; `sent` gets the time at which each request was due."""
        book = self._write_book(templates, ".json")
        spec = LoadSpec(port=port, book=str(book), seconds=seconds, rate=rate, connections=256, sent=str(sent))
        return await self._run(spec, wanted)

    def _write_book(self, templates: Sequence[bytes], suffix: str) -> Path:
        self._books += 1
        path = self._folder / f"book-{self._books}{suffix}"
        if suffix == ".json":
            path.write_bytes(msgspec.json.encode([template.decode("latin-1") for template in templates]))
        else:
            path.write_bytes(b"\0".join(templates))
        return path

    async def _run(self, spec: LoadSpec, wanted: int) -> Load:
        out, _ = await _run_process(
            [sys.executable, "-m", "bench.load"], msgspec.json.encode(spec), spec.seconds + EXTRA_S
        )
        report = msgspec.json.decode(out, type=LoadReport)
        latency = Histogram()
        latency.merge(report.latency)
        return Load(
            generator="bench/load.py",
            issued=report.issued,
            good=report.answers.get(str(wanted), 0),
            began=report.began,
            took_s=report.took_s,
            cpu_s=report.cpu_s,
            p50_ms=latency.quantile_ms(0.5),
            p99_ms=latency.quantile_ms(0.99),
            p999_ms=latency.quantile_ms(0.999),
            answers=report.answers,
            unanswered=report.unanswered,
            late_p99_ms=report.late_p99_ms,
        )

    async def _run_wrk(
        self, port: int, templates: Sequence[bytes], seconds: float, connections: int, wanted: int
    ) -> Load:
        assert self._wrk is not None
        book = self._write_book(templates, ".bin")
        began = time.time()
        command = [self._wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
        command += ["-s", str(WRK_LUA), f"http://127.0.0.1:{port}", "--", str(book), "0"]
        out, cpu_s = await _run_process(command, b"", seconds + EXTRA_S)
        found = re.search(rb"REPORT (\{.*\})", out)
        if found is None:
            raise CannotRun(f"wrk said no figures: {out[-300:]!r}")
        report: dict[str, Any] = msgspec.json.decode(found[1])
        refused = int(report["refused"])
        answers = {"2xx": report["issued"] - refused, "4xx/5xx": refused}
        return Load(
            generator="wrk",
            issued=report["issued"],
            good=refused if wanted >= 400 else report["issued"] - refused,
            began=began,
            took_s=report["took_s"],
            cpu_s=cpu_s,
            p50_ms=report["p50_ms"],
            p99_ms=report["p99_ms"],
            p999_ms=report["p999_ms"],
            answers={status: count for status, count in answers.items() if count},
            unanswered=int(report["broken"]),
        )


async def _run_process(command: list[str], text: bytes, timeout_s: float) -> tuple[bytes, float]:
    """Run a program to its end; what it printed, and the CPU that it used."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(signal.SIGKILL, os.getpid()),
    )
    before = os.times()
    try:
        async with asyncio.timeout(timeout_s):
            out, errors = await process.communicate(text)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    after = os.times()
    if process.returncode:
        raise CannotRun(f"{command[0]} failed ({process.returncode}): {errors.decode(errors='replace')[-600:]}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return out, cpu_s
