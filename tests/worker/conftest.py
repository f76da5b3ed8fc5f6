"""A worker's parts, on a box office that only notes what it is asked for."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boxoffice.clock import CLOCK
from boxoffice.settings import Settings
from tests.support.worker_parts import HOME, SHARDS, Calls, homes
from worker.rounds import Rounds
from worker.stop import Stop


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def office(calls: Calls, tmp_path: Path) -> Any:
    """A box office whose parts only note what they are asked for."""

    def part(name: str, shard: int, *methods: str) -> SimpleNamespace:
        return SimpleNamespace(**{method: partial(calls.recorder(f"{name}.{method}"), shard) for method in methods})

    guards = [part("guard", shard, "tick", "load") for shard in range(SHARDS)]
    pump_ends = asyncio.Event()
    return SimpleNamespace(
        clock=CLOCK,
        settings=Settings(data_dir=tmp_path, shards=SHARDS),
        shards=homes(*[HOME] * SHARDS),
        database=SimpleNamespace(renew=calls.recorder("renew")),
        loader=SimpleNamespace(publish_unmirrored=calls.recorder("publish_unmirrored")),
        holds=SimpleNamespace(expire=calls.recorder("holds.expire")),
        settlements=[part("settlement", shard, "drain", "stop") for shard in range(SHARDS)],
        menders=[part("mender", shard, "mend") for shard in range(SHARDS)],
        guards=guards,
        couriers=SimpleNamespace(look=calls.recorder("couriers.look"), stop=calls.recorder("couriers.stop")),
        gateway=SimpleNamespace(trouble=calls.recorder("gateway.trouble", "")),
        pump=SimpleNamespace(
            run=pump_ends.wait, stop=pump_ends.set, say_what_others_owe=calls.recorder("pump.say_what_others_owe")
        ),
    )


@pytest.fixture
def stop() -> Stop:
    """What ends the worker."""
    return Stop()


@pytest.fixture
def rounds(office: Any, stop: Stop) -> Rounds:
    """The work of its rounds."""
    return Rounds(office, homes(*[f"watcher {shard}" for shard in range(SHARDS)]), stop)  # type: ignore[arg-type]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it waited each time, which takes no time."""
    waited: list[float] = []

    async def pause(_stop: Stop, seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(Stop, "pause", pause)
    return waited
