"""A rush from beginning to end: a stack (ours or a running one), the performance, the chaos, the report."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings
from ops.options import settings_for
from ops.rush.blows import draw_blows
from ops.rush.chaos import Chaos
from ops.rush.old_copy import OldCopy
from ops.rush.operating import Change, draw_changes
from ops.rush.performance import Performance
from ops.rush.plan import Workload
from ops.rush.read_only import ReadOnly
from ops.rush.report import Report, report_of
from ops.rush.show import Show
from ops.stack.running import find_stack, wished_urls
from ops.stack.servers import temporary_data_dir
from ops.stack.signals import Interrupted, StopWatch
from ops.stack.stack import Stack
from ops.stack.standby import Standby

__all__ = ["Options", "rush"]

TICK_S: Final = 0.02

AFTERWARDS_S: Final = 240.0
"""Time for the last customers, for rest and for the audit, before a rush is given up."""

PRIVATE: Final = {"BOXOFFICE_GATEWAY__DEADLINE_S": "20"}
"""In a private stack, payments that nobody completes end soon enough for the audit to see it."""

ASKS_OVER_HTTP: Final = {
    "BOXOFFICE_GATEWAY__KIND": "http",
    "BOXOFFICE_GATEWAY__CONCURRENCY": "24",
    "BOXOFFICE_WORKER__BATCH_MAX": "16",
    "BOXOFFICE_WORKER__LINGER_MS": "400",
}
"""One worker's way to the gateway is the network; the others keep the simulator in their process, on the same ledger.
A call over HTTP costs a hundred times as much as one in the process, and a webhook as much again: it claims 40 bookings
a second and leaves the rest to the others. A gateway next door answers at once; of more calls at the same time its loop
would see nothing else, and its transactions would keep their locks meanwhile."""

IMPATIENT: Final = {
    "BOXOFFICE_WORKER__LEASE_MS": "2000",
    "BOXOFFICE_WORKER__SWEEP_MS": "250",
    "BOXOFFICE_GATEWAY__TIMEOUT_S": "3",
    "BOXOFFICE_WEBHOOKS__TIMEOUT_S": "2",
    "BOXOFFICE_WEBHOOKS__RETRY_S": "0.5",
    "BOXOFFICE_WEBHOOKS__RETRY_MAX_S": "2",
    "BOXOFFICE_WEBHOOKS__RATE_MAX": "1000",
}
"""Settings of a private stack under chaos: short leases, so that a minute sees many of them lapse, and short pauses before
a shop that was away is told again."""

AFTER_AN_ABSENCE_S: Final = 120.0
"""More of that time, where shops are told what happened: they may be away when the last customer has gone, and then have to be
told all of it."""

PRIVATE_APIS: Final = 2
PRIVATE_WORKERS: Final = 2

SHOPS: Final = 2
"""That sell in a rush."""

_OUR_PLACE: Final = ("BOXOFFICE_DATA_DIR", "DATA_DIR", "BOXOFFICE_PORT", "PORT")


@dataclass(frozen=True, slots=True)
class Options:
    """What somebody at a terminal asked for."""

    workload: Workload
    chaos: bool = False
    private: bool = False
    """Start a stack of our own even when one runs."""
    ports: tuple[int, ...] = ()
    """Of the APIs of a running stack."""
    data_dir: Path = Path(".boxoffice")
    quiet: bool = False
    changes: tuple[Change, ...] = ()
    """What an operator does meanwhile. Under chaos, and without any: as the seed draws."""
    keep: bool = False
    """Do not remove the data directory of a private stack."""


@dataclass(frozen=True, slots=True)
class _Scene:
    settings: Settings
    ports: list[int]
    stack: Stack | None
    gateway_port: int = 0
    """Of a gateway process that sends webhooks; 0 without one."""
    shop_ports: Sequence[int] = ()
    """On which shops are told what happens."""


def rush(options: Options, environ: Mapping[str, str] = os.environ) -> tuple[Report, Performance]:
    """Let the customers in, and audit afterwards. Raises `CannotRun`."""
    with StopWatch(environ) as watch, Show(quiet=options.quiet) as show:
        try:
            with _scene(options, watch, show, environ) as scene:
                return _play(scene, options, watch, show)
        except Interrupted:
            raise CannotRun("The rush was interrupted; nothing was audited.") from None


@contextlib.contextmanager
def _scene(options: Options, watch: StopWatch, show: Show, environ: Mapping[str, str]) -> Iterator[_Scene]:
    named = any(wished_urls(environ)) or find_stack(options.data_dir) is not None
    if named and not options.private and not options.chaos:
        settings = settings_for(options.data_dir)
        running = find_stack(options.data_dir)
        ports = list(options.ports) or ([running.port] if running and running.port else [8000])
        yield _Scene(settings, ports, None)
        return
    with contextlib.ExitStack() as stack:
        folder = _kept_data_dir(show) if options.keep else stack.enter_context(temporary_data_dir())
        yield stack.enter_context(_private(folder, options, watch, show, environ))


def _kept_data_dir(show: Show) -> Path:
    folder = Path(f"rush-{os.getpid()}").absolute()
    show.say(f"everything is kept in {folder}")
    return folder


@contextlib.contextmanager
def _private(
    folder: Path, options: Options, watch: StopWatch, show: Show, environ: Mapping[str, str]
) -> Iterator[_Scene]:
    show.say("starting a private stack")
    ours = {name: value for name, value in environ.items() if name not in _OUR_PLACE}
    end = time.monotonic() + options.workload.seconds + AFTERWARDS_S + AFTER_AN_ABSENCE_S + 60

    def check() -> None:
        watch.check()
        if time.monotonic() > end:
            raise CannotRun("The rush takes far longer than it should.")

    extra = PRIVATE | (IMPATIENT if options.chaos else {})
    with Stack(folder, debug=True, environ=ours | extra, check=check, hurry=lambda: watch.hurry) as stack:
        stack.run("migrate")
        ports = [*options.ports, *(stack.spare_port() for _ in range(PRIVATE_APIS))][:PRIVATE_APIS]
        gateway_port = stack.spare_port()
        stack.spawn_gateway(gateway_port, f"http://127.0.0.1:{ports[0]}/v1/webhooks/simulator")
        pages = {"BOXOFFICE_GATEWAY__URL": f"http://127.0.0.1:{gateway_port}"}
        for port in ports:
            stack.spawn_api(port, env=pages)
        for number in range(PRIVATE_WORKERS):
            stack.spawn_worker(env=pages | (ASKS_OVER_HTTP if number == 0 else {}))
        for port in ports:
            stack.wait_ready(port)
        settings = Settings(redis_url=stack.redis_url, database_url=stack.database_url, data_dir=folder)
        shop_ports = [stack.spare_port() for _ in range(SHOPS)] if options.chaos else []
        yield _Scene(settings, ports, stack, gateway_port, shop_ports)


def _play(scene: _Scene, options: Options, watch: StopWatch, show: Show) -> tuple[Report, Performance]:
    workload = options.workload
    performance = Performance(
        scene.settings, scene.ports, workload, gateway_port=scene.gateway_port, shop_ports=scene.shop_ports
    )
    drawn = draw_changes(workload.seconds, workload.seed) if options.chaos else []
    performance.to_change = options.changes or drawn
    chaos = _chaos(scene, scene.stack, performance, options, show) if scene.stack else None
    show.say(f"seed {workload.seed}, {workload.rate:g} bookings/s for {workload.seconds:g} s")
    thread = performance.start()
    try:
        _tend(performance, chaos, watch, show)
    finally:
        if chaos:
            chaos.make_amends()
        performance.give_up()
        thread.join(10)
    if performance.failure is not None:
        raise CannotRun(f"The rush failed: {type(performance.failure).__name__}: {performance.failure}") from (
            performance.failure
        )
    if performance.findings is None:
        raise CannotRun("The rush was never audited.")
    if performance.history is None or not performance.history.sold_at:
        raise CannotRun("Nobody could book anything, so nothing was proven.")
    return report_of(performance, chaos.deeds if chaos else [], chaos.surprises if chaos else []), performance


def _chaos(scene: _Scene, stack: Stack, performance: Performance, options: Options, show: Show) -> Chaos:
    """The supervisor of a private stack, with what it deals if it is asked to."""
    servers = stack.servers
    return Chaos(
        stack,
        draw_blows(options.workload.seconds, options.workload.seed) if options.chaos else [],
        show.say,
        Standby(servers.postgres, servers.home),
        OldCopy(servers.redis, scene.settings, performance.forget),
        ReadOnly(servers.postgres),
    )


def _tend(performance: Performance, chaos: Chaos | None, watch: StopWatch, show: Show) -> None:
    """Deal the blows, start what died, until the audit is done."""
    began = time.monotonic()
    end = began + performance.workload.seconds + AFTERWARDS_S + (AFTER_AN_ABSENCE_S if performance.shop_ports else 0.0)
    while performance.findings is None and performance.failure is None:
        watch.check()
        now = time.monotonic()
        if now > end:
            raise CannotRun(f"The rush did not end in time, while {performance.phase}.")
        if not performance.began.is_set():
            began = now
            if chaos:
                chaos.begin()
        elif not performance.ended.is_set():
            if chaos:
                chaos.step()
        elif chaos is None or chaos.calm():
            performance.commits_lost = chaos.commits_lost if chaos else 0
            performance.calm.set()
        show.update(performance, now - began)
        time.sleep(TICK_S)
