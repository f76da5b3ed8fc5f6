"""What a worker does at once, for which shards, how often, and what it does when a part of it fails. No server is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAway
from structlog.testing import capture_logs

from boxoffice.errors import CannotRun, GateClosed
from boxoffice.settings import Settings
from boxoffice.stores import keys
from tests.conftest import eventually
from worker import app as worker_app
from worker.app import WorkerApp

SHARDS = 3


class Calls(list[tuple[Any, ...]]):
    """What was called, in order. `recorder("name")` is a coroutine function that notes its arguments."""

    def recorder(self, name: str, answer: Any = None, error: Exception | None = None) -> Callable[..., Any]:
        async def record(*arguments: Any, **named: Any) -> Any:
            self.append((name, *arguments, *named.values()))
            if error is not None:
                raise error
            return answer

        return record


HOME = SimpleNamespace(connection_pool=None)
"""The Redis of all shards."""


class Homes(list[Any]):
    """Shards that have nothing but a Redis each."""

    scripts = "the scripts"
    clients = (HOME,)


def homes(*clients: Any) -> Homes:
    return Homes(SimpleNamespace(number=number, redis=client) for number, client in enumerate(clients))


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
        settings=Settings(data_dir=tmp_path, shards=SHARDS),
        shards=homes(*[HOME] * SHARDS),
        database=SimpleNamespace(renew=calls.recorder("renew")),
        holds=SimpleNamespace(expire=calls.recorder("holds.expire")),
        settlements=[part("settlement", shard, "drain", "stop") for shard in range(SHARDS)],
        menders=[part("mender", shard, "mend") for shard in range(SHARDS)],
        guards=guards,
        gateway=SimpleNamespace(trouble=calls.recorder("gateway.trouble", "")),
        pump=SimpleNamespace(
            run=pump_ends.wait, stop=pump_ends.set, tell_of_others=calls.recorder("pump.tell_of_others")
        ),
    )


@pytest.fixture
def app(office: Any) -> WorkerApp:
    return WorkerApp(office)


@pytest.fixture
def pauses(app: WorkerApp, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it waited each time, which takes no time."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(app, "pause", pause)
    return waited


async def test_everything_is_done_for_every_shard(
    app: WorkerApp, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as often as the settings say."""
    kept: dict[str, list[tuple[Any, float, float]]] = {}
    heard: list[int] = []

    async def supervise(what: str, work: Any, every_s: float, after_s: float = 0) -> None:
        kept.setdefault(what, []).append((work, every_s, after_s))
        await asyncio.Event().wait()

    async def hear(shard: int) -> None:
        heard.append(shard)
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "supervise", supervise)
    monkeypatch.setattr(app, "hear", hear)
    running = asyncio.create_task(app.work(homes(*["watcher"] * SHARDS)))
    while "trimming" not in kept:
        await asyncio.sleep(0)
    app.stop()
    async with asyncio.timeout(5):
        await running

    worker = office.settings.worker
    assert heard == [0, 1, 2]
    times = {what: {(every_s, after_s) for _, every_s, after_s in works} for what, works in kept.items()}
    assert times == {
        "guarding": {(0, 0)},
        "loading": {(0, 0)},
        "sweeping": {(worker.sweep_ms / 1_000, 0)},
        "mending": {(2 * worker.lease_ms / 1_000, 0)},
        "reconciling": {(worker.reconcile_s, worker_app.COUNT_AFTER_S)},
        "watching": {(worker_app.WATCH_S, 0)},
        "trimming": {(worker_app.TRIM_S, worker_app.TRIM_S)},
    }
    for what in ("guarding", "loading", "sweeping", "reconciling"):
        assert [work.args[0] for work, _, _ in kept[what]] == [0, 1, 2], what
    for what in ("guarding", "loading"):
        assert {work.args[1] for work, _, _ in kept[what]} == {"watcher"}
    for work, _, _ in kept["mending"]:
        await work()
    assert [call for call in calls if call[0] == "mender.mend"] == [("mender.mend", shard) for shard in range(SHARDS)]
    assert [call for call in calls if call[0] == "settlement.stop"] == [
        ("settlement.stop", shard) for shard in range(SHARDS)
    ]


async def test_a_task_that_ends_ends_the_worker(app: WorkerApp, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives back first what it has, and ends the other loops."""
    cancelled: list[int] = []

    async def hear(shard: int) -> None:
        if shard == 1:
            raise MemoryError("planted")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(shard)
            raise

    async def supervise(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "hear", hear)
    monkeypatch.setattr(app, "supervise", supervise)
    with capture_logs() as said, pytest.raises(CannotRun, match="'hearing' has ended"):
        await app.work(homes(*["watcher"] * SHARDS))

    (line,) = [line for line in said if line["event"] == "worker.task_ended"]
    assert (line["task"], line["cancelled"], repr(line["exc_info"])) == ("hearing", False, "MemoryError('planted')")
    assert sorted(cancelled) == [0, 2]
    assert [call[0] for call in calls].count("settlement.stop") == SHARDS


async def test_captures_that_do_not_end_are_told(app: WorkerApp, office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []

    async def wait(_tasks: Any, timeout: float | None = None) -> None:
        waits.append(timeout)

    async def hangs() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "wait", wait)
    pump = asyncio.create_task(hangs())
    with pytest.raises(TimeoutError):
        await app.wind_up([pump])
    assert waits == [10]
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    await app.wind_up([pump])

    async def broken() -> None:
        raise ValueError("planted")

    pump = asyncio.create_task(broken())
    await asyncio.gather(pump, return_exceptions=True)
    with pytest.raises(ValueError, match="planted"):
        await app.wind_up([pump])


@pytest.mark.parametrize("shard", [0, 2])
async def test_a_sweep_is_of_one_shard(
    app: WorkerApp, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    """Late holds, then what is pending, then stock."""
    monkeypatch.setattr(worker_app, "apply_moves", calls.recorder("apply_moves"))
    await app.sweep(shard)
    assert calls == [
        ("holds.expire", shard),
        ("settlement.drain", shard),
        ("apply_moves", office.shards[shard], office.database),
    ]


async def test_a_sweep_of_a_closed_shard_does_nothing_more(app: WorkerApp, office: Any, calls: Calls) -> None:
    office.holds.expire = calls.recorder("holds.expire", error=GateClosed())
    await app.sweep(1)
    assert calls == [("holds.expire", 1)]


@pytest.mark.parametrize("error", [None, ValueError("planted")])
async def test_a_guard_looks_then_waits_for_its_own_shard(
    app: WorkerApp, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Also when the look failed: not at once again."""
    monkeypatch.setattr(worker_app, "wait_until_asked", calls.recorder("wait", False))
    office.guards[2].tick = calls.recorder("tick", error=error)
    if error is None:
        await app.guard(2, "watcher")
    else:
        with pytest.raises(ValueError, match="planted"):
            await app.guard(2, "watcher")
    assert calls == [("tick",), ("wait", "watcher", keys.asked(2), office.settings.worker.guard_ms / 1_000)]


async def test_who_misses_what_cannot_be_loaded_is_heard_ever_more_seldom(
    app: WorkerApp, office: Any, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shard for itself; from the beginning again once something was loaded."""
    monkeypatch.setattr(worker_app, "wait_until_asked", calls.recorder("wait", True))
    office.guards[1].load = calls.recorder("load", 0)
    for _ in range(8):
        await app.load(1, "watcher")
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert calls[:2] == [("load",), ("wait", "watcher", keys.lacking(1), office.settings.worker.guard_ms / 1_000)]
    await app.load(0, "watcher")
    office.guards[1].load = calls.recorder("load", 3)
    await app.load(1, "watcher")
    office.guards[1].load = calls.recorder("load", 0)
    await app.load(1, "watcher")
    assert pauses[8:] == [0.5, 0.5, 1]


async def test_when_nobody_misses_anything_it_begins_again(
    app: WorkerApp, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_app, "wait_until_asked", calls.recorder("wait", True))
    for _ in range(3):
        await app.until_load(0, "watcher", False)  # type: ignore[arg-type]
    now = iter([0.0, 29.0, 30.0])
    monkeypatch.setattr(worker_app, "wait_until_asked", calls.recorder("wait", False))
    monkeypatch.setattr(worker_app, "time", SimpleNamespace(monotonic=lambda: next(now)))
    await app.until_load(0, "watcher", False)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert app.load_again_s == {}
    assert calls[-1][3] <= 1.0


async def test_a_worker_that_stops_waits_for_nobody_who_misses_something(
    app: WorkerApp, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_app, "wait_until_asked", calls.recorder("wait", False))
    app.stop()
    await app.until_load(0, "watcher", True)  # type: ignore[arg-type]
    assert (calls, pauses, app.load_again_s) == ([], [0.5], {})


@pytest.mark.parametrize(("guard_ms", "steps"), [(60_000, [29.5]), (20_000, [20.0, 9.5])])
async def test_who_waits_to_be_asked_looks_around_now_and_then(
    app: WorkerApp, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, guard_ms: int, steps: list[float]
) -> None:
    """As often as a guard does, and half a minute in all, the pause before it included."""
    now = 100.0

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def wait(_watcher: Any, key: str, seconds: float) -> bool:
        assert key == keys.lacking(2)
        calls.append((seconds,))
        await pass_time(seconds)
        return False

    worker = office.settings.worker.model_copy(update={"guard_ms": guard_ms})
    office.settings = office.settings.model_copy(update={"worker": worker})
    monkeypatch.setattr(app, "pause", pass_time)
    monkeypatch.setattr(worker_app, "wait_until_asked", wait)
    monkeypatch.setattr(worker_app, "time", SimpleNamespace(monotonic=lambda: now))
    await app.until_load(2, "watcher", True)  # type: ignore[arg-type]
    monkeypatch.undo()
    assert [seconds for (seconds,) in calls] == steps


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CannotRun("its reason"), {"event": "work.failed", "error": "CannotRun", "reason": "its reason", "log_level": "error"}),
        (RedisAway(), {"event": "work.failed", "error": "ConnectionError", "log_level": "warning"}),
        (GateClosed(), {"event": "work.failed", "error": "GateClosed", "log_level": "warning"}),
        (ValueError("ours"), {"event": "work.failed", "log_level": "error"}),
    ],
)  # fmt: skip
async def test_a_loop_outlives_what_its_work_raises(
    app: WorkerApp, office: Any, pauses: list[float], error: Exception, line: dict[str, Any]
) -> None:
    renewed: list[Exception] = []

    async def renew(error: Exception) -> None:
        renewed.append(error)

    office.database.renew = renew
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            app.stop()
        if rounds == 1:
            raise error

    with capture_logs() as said:
        await app.supervise("work", work, 7, 5)
    assert (rounds, pauses) == (3, [5, 7, 7, 7])
    assert [{name: entry[name] for name in line} for entry in said] == [line]
    assert renewed == ([error] if isinstance(error, RedisAway | GateClosed) else [])


async def test_arq_is_started_again_ever_more_slowly(
    app: WorkerApp, office: Any, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fast again after it has lived a while. It hears its own shard, and takes one job at a time."""
    made: list[dict[str, Any]] = []
    now = 0.0

    class Arq:
        def __init__(self, **options: Any) -> None:
            made.append(options)

        async def async_run(self) -> None:
            nonlocal now
            now += 3.0 if len(made) == 6 else 0.0
            if len(made) == 7:
                app.stop()
            raise RedisAway

    office.shards = homes(*[SimpleNamespace(connection_pool=None)] * SHARDS)
    monkeypatch.setattr(worker_app, "Worker", Arq)
    monkeypatch.setattr(worker_app, "ArqRedis", lambda **options: options)
    monkeypatch.setattr(worker_app, "time", SimpleNamespace(monotonic=lambda: now))
    await app.hear(2)
    monkeypatch.undo()

    assert pauses == [0.4, 0.8, 1.6, 2.0, 2.0, 0.2, 0.4]
    assert {options["queue_name"] for options in made} == {keys.arq_queue(2)}
    assert {options["redis_pool"]["default_queue_name"] for options in made} == {keys.arq_queue(2)}
    assert made[0]["ctx"] == {"office": office}
    options = {"max_jobs": 1, "handle_signals": False, "keep_result": 0, "poll_delay": 0.02, "queue_read_limit": 8}
    assert made[0] | options == made[0]
    for serializer in ("job_serializer", "job_deserializer"):
        assert made[0][serializer] is made[0]["redis_pool"][serializer]


@pytest.fixture
def arq(office: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An arq that has taken a ring and hears until it is cancelled."""
    arq = SimpleNamespace(allow_pick_jobs=True, job_counter=1, started=asyncio.Event(), ended=asyncio.Event())

    async def async_run() -> None:
        arq.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            arq.ended.set()

    arq.async_run = async_run
    office.shards = homes(*[SimpleNamespace(connection_pool=None)] * SHARDS)
    monkeypatch.setattr(worker_app, "Worker", lambda **_: arq)
    monkeypatch.setattr(worker_app, "ArqRedis", lambda **options: options)
    return arq


async def test_who_stops_a_worker_stops_arq_when_it_has_answered_its_ring(app: WorkerApp, arq: Any) -> None:
    """One that is cut off is marked as taken for over a minute."""
    hearing = asyncio.create_task(app.hear(0))
    await arq.started.wait()
    hearing.cancel()

    async def takes_no_more() -> bool:
        return not arq.allow_pick_jobs

    await eventually(takes_no_more)
    assert not hearing.done()
    assert not arq.ended.is_set()
    arq.job_counter = 0
    with capture_logs() as said, pytest.raises(asyncio.CancelledError):
        await hearing
    assert arq.ended.is_set()
    assert said == [], "it is not started again"


async def test_a_ring_that_is_never_answered_keeps_no_worker(
    app: WorkerApp, arq: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_app, "RING_S", 0.02)
    hearing = asyncio.create_task(app.hear(0))
    await arq.started.wait()
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    assert arq.ended.is_set()


async def test_an_arq_that_cancels_itself_is_started_again(
    app: WorkerApp, office: Any, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Arq:
        def __init__(self, **_: Any) -> None: ...

        async def async_run(self) -> None:
            if len(pauses) == 2:
                app.stop()
            raise asyncio.CancelledError

    office.shards = homes(*[SimpleNamespace(connection_pool=None)] * SHARDS)
    monkeypatch.setattr(worker_app, "Worker", Arq)
    monkeypatch.setattr(worker_app, "ArqRedis", lambda **options: options)
    with capture_logs() as said:
        await app.hear(2)
    assert [(line["event"], line["shard"], line["error"]) for line in said][:1] == [
        ("arq.restarted", 2, "CancelledError")
    ]
    assert len(pauses) == 3


@pytest.mark.parametrize("guard_ms", [50, 4_000])
async def test_a_guards_own_connection_waits_a_second_longer_than_it_is_asked_to(
    app: WorkerApp, office: Any, monkeypatch: pytest.MonkeyPatch, guard_ms: int
) -> None:
    """It is closed when the work ends, however it ends."""
    opened: list[tuple[Any, ...]] = []
    watched: list[Any] = []

    class Watcher:
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    watcher = Watcher()

    def open_shards(settings: Settings, scripts: Any, *, timeout_s: float) -> Watcher:
        assert scripts == "the scripts"
        opened.append((settings, timeout_s))
        return watcher

    async def work(redis: Any) -> None:
        watched.append(redis)
        raise ValueError("planted")

    async def nothing() -> None: ...

    office.settings = office.settings.model_copy(
        update={"worker": office.settings.worker.model_copy(update={"guard_ms": guard_ms})}
    )
    monkeypatch.setattr(worker_app, "open_shards", open_shards)
    monkeypatch.setattr(app, "check_servers", nothing)
    monkeypatch.setattr(app, "work", work)
    with pytest.raises(ValueError, match="planted"):
        await app.run()
    assert opened == [(office.settings, guard_ms / 1_000 + 1.0)]
    assert (watched, watcher.closed) == ([watcher], True)


def test_what_an_operator_sees_of_a_worker() -> None:
    """The exit code is documented; the waits decide how soon a supervisor starts another."""
    assert (worker_app.TASK_ENDED, worker_app.END_S, worker_app.REDIS_RETRIES) == (3, 10, 20)
    assert (worker_app.WATCH_S, worker_app.TRIM_S, worker_app.LOAD_S, worker_app.LOAD_AGAIN_S) == (15, 60, 30, 0.5)
    assert (worker_app.BOOKS_S, worker_app.GUARD_LATE_S) == (3, 1)


@pytest.mark.parametrize("waits", [True, False])
async def test_who_stops_ends_a_pause(app: WorkerApp, waits: bool) -> None:
    """And a pause that nobody ends is over in its time."""
    if waits:
        asyncio.get_running_loop().call_soon(app.stop)
    async with asyncio.timeout(5):
        await app.pause(60 if waits else 0.01)


async def test_a_worker_says_what_it_waits_for(
    app: WorkerApp, pauses: list[float], monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    monkeypatch.setattr(worker_app.durability, "tell_what_is_stated", lambda _: None)

    async def away(*_: Any) -> None:
        app.stop()
        raise RedisAway

    monkeypatch.setattr(worker_app.durability, "check_redis", away)
    with capture_logs() as said:
        await app.check_servers()
    assert [(line["event"], line["error"], line["log_level"]) for line in said] == [
        ("worker.waiting", "ConnectionError", "warning")
    ]
    assert pauses == [0.5]


async def test_drift_is_counted_and_left_alone(app: WorkerApp, office: Any, calls: Calls) -> None:
    reports = [SimpleNamespace(word="well", event="concert"), SimpleNamespace(word="drift", event="theatre")]
    office.guards[2].reconciler = SimpleNamespace(every_event=calls.recorder("every_event", reports))
    with capture_logs() as said:
        await app.count_drift(2)
    assert calls == [("every_event", False)]
    assert said == [{"event": "drift.found", "shard": 2, "event_id": "theatre", "log_level": "error"}]


@pytest.mark.parametrize("trimmed", [{}, {"stock_moves": 3}])
async def test_trimming(
    app: WorkerApp, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, trimmed: dict[str, int]
) -> None:
    monkeypatch.setattr(worker_app, "trim", calls.recorder("trim", trimmed))
    with capture_logs() as said:
        await app.trim_rows()
    assert calls == [("trim", office.database, office.settings.worker.retention_days)]
    assert [(line["event"], line["stock_moves"]) for line in said] == ([("tables.trimmed", 3)] if trimmed else [])


@pytest.mark.parametrize("weak", ["check_redis", "check_postgresql", ""])
async def test_a_watch_asks_the_gateway_and_both_stores(
    app: WorkerApp, office: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, weak: str
) -> None:
    for name in ("check_redis", "check_postgresql"):
        error = CannotRun("appendonly no") if name == weak else None
        monkeypatch.setattr(worker_app.durability, name, calls.recorder(name, error=error))
    with capture_logs() as said:
        await app.watch()
    done = list(calls)
    both = [("check_redis", HOME, office.settings), ("check_postgresql", office.database, office.settings)]
    assert done == [
        ("gateway.trouble",), *(both[:1] if weak == "check_redis" else both), ("pump.tell_of_others",)
    ]  # fmt: skip
    assert [(line["event"], line["reason"]) for line in said] == (
        [("durability.weak", "appendonly no")] if weak else []
    )


async def test_a_worker_waits_for_the_stores_and_looks_at_everything(
    app: WorkerApp, office: Any, calls: Calls, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_app.durability, "tell_what_is_stated", lambda _: calls.append(("stated",)))
    monkeypatch.setattr(worker_app.durability, "check_redis", calls.recorder("redis", error=RedisAway()))
    monkeypatch.setattr(worker_app.redis, "run_id", calls.recorder("run_id"))
    monkeypatch.setattr(worker_app.postgres, "check_schema", calls.recorder("schema"))
    monkeypatch.setattr(worker_app.durability, "check_postgresql", calls.recorder("postgresql"))
    monkeypatch.setattr(worker_app.durability, "check_shards", calls.recorder("shards"))
    checking = asyncio.create_task(app.check_servers())
    while len(pauses) < 3:
        await asyncio.sleep(0)
    assert set(pauses) == {0.5}
    monkeypatch.setattr(worker_app.durability, "check_redis", calls.recorder("redis"))
    await checking
    done = [call[0] for call in calls if call[0] != "stated"]
    assert done[-6:] == ["redis", "run_id", "schema", "postgresql", "shards", "gateway.trouble"]
    assert calls[0] == ("stated",)

    monkeypatch.setattr(worker_app.durability, "check_shards", calls.recorder("shards", error=CannotRun("of shards")))
    with pytest.raises(CannotRun, match="of shards"):
        await app.check_servers()
    app.stop()
    await app.check_servers()


@pytest.mark.parametrize("error", [None, CannotRun("planted")])
async def test_a_worker_outlives_a_restart_of_redis_and_ends_when_it_cannot_run(
    office: Any, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Should something hang while it is closed, the process ends all the same, with a code of its own."""
    opened: list[dict[str, Any]] = []
    later: list[tuple[Any, ...]] = []

    @contextlib.asynccontextmanager
    async def open_box_office(settings: Settings, **options: Any) -> AsyncIterator[Any]:
        opened.append(options | {"settings": settings})
        yield office

    async def run(app: WorkerApp) -> None:
        signal.raise_signal(signal.SIGTERM)
        await app.stopping.wait()
        if error is not None:
            raise error

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(worker_app, "open_box_office", open_box_office)
    monkeypatch.setattr(WorkerApp, "run", run)
    monkeypatch.setattr(worker_app, "gc", SimpleNamespace(collect=int, freeze=int, set_threshold=lambda *_: None))
    monkeypatch.setattr(type(loop), "call_later", lambda _, *arguments: later.append(arguments), raising=False)
    try:
        with pytest.raises(CannotRun) if error else contextlib.nullcontext():
            await worker_app.main(office.settings)
    finally:
        monkeypatch.undo()
        for signum in (signal.SIGTERM, signal.SIGINT):
            assert loop.remove_signal_handler(signum)

    assert opened == [{"settings": office.settings, "redis_retries": worker_app.REDIS_RETRIES}]
    assert later == ([(worker_app.END_S, os._exit, worker_app.TASK_ENDED)] if error else [])


async def test_a_worker_that_is_stopped_before_it_is_ready_does_no_work(
    app: WorkerApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(_watcher: Any) -> None:
        raise AssertionError("it works")

    monkeypatch.setattr(worker_app.durability, "tell_what_is_stated", lambda _: None)
    monkeypatch.setattr(app, "work", work)
    app.stop()
    with capture_logs() as said:
        await app.run()
    assert [line["event"] for line in said] == ["worker.stopped"]
