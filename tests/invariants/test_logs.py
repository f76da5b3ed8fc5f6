"""Whatever has become of their logs, API and workers go on: captures, refunds and holds that end wait for nobody.

Real processes, whose standard error is a full disk, a dead or a stuck reader, a file that may not grow, or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from arq.worker import Worker
from structlog.testing import capture_logs

from boxoffice import ids
from boxoffice.errors import CannotRun
from boxoffice.office import BoxOffice
from boxoffice.sales.catalogue import EventView
from boxoffice.settings import Settings
from boxoffice.stores import keys
from ops.stack.processes import die_with_parent
from ops.stack.running import find_stack
from tests.conftest import CLIENT, KEY, SaleMaker, counters, eventually
from tests.invariants.conftest import at_rest, working
from tests.support.checks import check_at_rest
from tests.support.ports import free_port
from tests.support.shop.office import book, book_many, record_of, status_of
from tests.support.waiting import pace
from worker.app import TASK_ENDED, WorkerApp

GROWN = 1 << 16
"""Bytes of a log that may not grow. The gateway's ledger stays below."""


@dataclass
class Log:
    """What a process gets as its standard error."""

    fd: int | None
    preexec: Callable[[], None]
    close: Callable[[], None]


def _nothing() -> None:
    pass


def bad_log(kind: str, folder: Path) -> Log:
    """A standard error that takes nothing, or nothing more."""
    if kind == "a full disk":
        fd = os.open("/dev/full", os.O_WRONLY)
        return Log(fd, _nothing, lambda: os.close(fd))
    if kind == "closed":
        return Log(None, lambda: os.close(2), _nothing)
    if kind == "a file that may not grow":
        path = folder / "grown.log"
        path.write_bytes(b"x" * GROWN)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        limit = (GROWN, GROWN)
        return Log(fd, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit), lambda: os.close(fd))
    reader, writer = os.pipe()
    if kind == "a dead reader":
        os.close(reader)
        return Log(writer, _nothing, lambda: os.close(writer))
    assert kind == "a stuck reader"

    def close() -> None:
        os.close(writer)
        os.close(reader)

    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4_096)
    os.set_blocking(writer, True)
    return Log(writer, _nothing, close)


KINDS = ["a full disk", "a dead reader", "a stuck reader", "a file that may not grow", "closed"]


@pytest.fixture
def environ(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "BOXOFFICE_REDIS_URL": settings.redis_url,
        "BOXOFFICE_DATABASE_URL": settings.database_url,
        "BOXOFFICE_DATA_DIR": str(settings.data_dir),
        "BOXOFFICE_WORKER__LEASE_MS": str(settings.worker.lease_ms),
        "BOXOFFICE_WORKER__SWEEP_MS": str(settings.worker.sweep_ms),
    }


@contextmanager
def running(*arguments: str, environ: dict[str, str], log: Log) -> Iterator[subprocess.Popen[bytes]]:
    """One of our commands with such a standard error."""
    ours = os.getpid()

    def prepare() -> None:
        die_with_parent(signal.SIGKILL, ours)()
        log.preexec()

    process = subprocess.Popen(
        [sys.executable, "-m", "ops.cli", *arguments],
        env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if log.fd is None else log.fd, preexec_fn=prepare,
    )  # fmt: skip
    log.close()
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def trouble(office: BoxOffice, seconds: float) -> None:
    """Every loop of a worker meets an error, in each of its rounds: tables that it works on are away for a moment."""
    names = ("captures", "refunds", "stock_moves", "shards", "events")
    async with (await office.pool()).acquire() as connection:
        for name in names:
            await connection.execute(f"ALTER TABLE {name} RENAME TO away_{name}")
        try:
            await pace(seconds)
        finally:
            for name in names:
                await connection.execute(f"ALTER TABLE away_{name} RENAME TO {name}")


async def everything_moves(office: BoxOffice, event: EventView) -> None:
    """A capture, a refund and a hold that ends, all done by whatever worker runs."""
    sold, refunded = [(await book(office, event, GA=2)).booking_id for _ in range(2)]
    hold = (await book(office, event, token=None, hold_s=1, GA=1)).booking_id

    async def captured() -> bool:
        query = "SELECT count(*) FROM payments WHERE status = 'captured' AND booking_id = ANY($1)"
        return await (await office.pool()).fetchval(query, [sold, refunded]) == 2

    await eventually(captured, timeout_s=30)
    await office.refunds.refund(CLIENT, refunded, ids.digest(f"refund {refunded}"), None, "test")

    async def ended() -> bool:
        record = await record_of(office, hold)
        return record is not None and record.state == "E"

    await eventually(ended, timeout_s=30)
    await at_rest(office)
    assert await status_of(office, sold) == "confirmed"
    assert (await counters(office, event, "GA")).held == 0
    await check_at_rest(office, [sold, refunded])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_whose_log_takes_nothing_does_all_its_work(
    office: BoxOffice, open_sale: SaleMaker, environ: dict[str, str], tmp_path: Path, kind: str
) -> None:
    event = await open_sale(GA=100)
    with running("worker", environ=environ, log=bad_log(kind, tmp_path)) as worker:
        await at_rest_of_one(office, event)
        await trouble(office, 1.5)
        await everything_moves(office, event)

        assert worker.poll() is None, "it lives"
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 20) == 0


async def at_rest_of_one(office: BoxOffice, event: EventView) -> None:
    """The worker is there: it has settled a booking."""
    (booking,) = await book_many(office, event, 1, GA=1)

    async def settled() -> bool:
        return await status_of(office, booking) == "confirmed"

    await eventually(settled, timeout_s=30)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_api_whose_log_takes_nothing_answers_as_ever(
    office: BoxOffice, open_sale: SaleMaker, environ: dict[str, str], tmp_path: Path, kind: str
) -> None:
    """Also what it logs: refusals, and a request that is a bug's."""
    event = await open_sale(GA=3)
    port = free_port()
    body = {
        "customer_id": "ada", "items": [{"tier_id": event.tiers[0].id, "quantity": 2}],
        "payment": {"method": "card", "card_number": "4242424242424242", "card_name": "Ada"},
    }  # fmt: skip
    with running("api", "--port", str(port), environ=environ, log=bad_log(kind, tmp_path)) as api:
        base, auth = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(base_url=base, headers=auth, timeout=10) as client:

            async def up() -> bool:
                with contextlib.suppress(httpx2.HTTPError):
                    return (await client.get("/healthz")).status_code == 200
                return False

            await eventually(up, timeout_s=30)
            answers = [
                (await client.post("/v1/bookings", json=body, headers={"Idempotency-Key": f"k{n}"})).status_code
                for n in range(50)
            ]
            assert answers == [202] + 49 * [409]
            pool = await office.pool()
            await pool.execute("ALTER TABLE bookings RENAME TO away_bookings")
            try:
                answer = await client.get("/v1/bookings", params={"customer_id": "ada"})
                assert answer.status_code in (500, 503)
                assert answer.json()["status"] == answer.status_code
            finally:
                await pool.execute("ALTER TABLE away_bookings RENAME TO bookings")
        # After a bug's answer the server closes the connection.
        async with httpx2.AsyncClient(base_url=base, headers=auth, timeout=10) as client:
            assert (await client.get("/v1/bookings", params={"customer_id": "ada"})).status_code == 200
        assert api.poll() is None, "it lives"
        api.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(api.wait, 20) == 0


@pytest.mark.parametrize("how", ["raises", "returns", "is cancelled"])
@pytest.mark.parametrize("which", ["money", "sweeping", "hearing"])
async def test_a_worker_one_of_whose_tasks_ends_ends(
    office: BoxOffice, monkeypatch: pytest.MonkeyPatch, which: str, how: str
) -> None:
    """Whatever made it end. A worker that does half of its work would be missed by nobody."""

    async def end(*_: object, **__: object) -> None:
        if how == "raises":
            raise AssertionError("a bug")
        if how == "is cancelled":
            raise asyncio.CancelledError

    app = WorkerApp(office)
    if which == "money":
        monkeypatch.setattr(office.pump, "run", end)
    elif which == "hearing":
        monkeypatch.setattr("worker.app.hear", end)
    else:
        real = app.supervise

        async def supervise(what: str, *rest: Any) -> None:
            await (end() if what == "sweeping" else real(what, *rest))

        monkeypatch.setattr(app, "supervise", supervise)

    with capture_logs() as lines, pytest.raises(CannotRun, match=f"'{which}' has ended"):
        async with asyncio.timeout(15):
            await app.run()

    (line,) = (line for line in lines if line["event"] == "worker.task_ended")
    assert (line["task"], line["cancelled"]) == (which, how == "is cancelled")


async def test_its_process_ends_with_a_code_and_a_line(office: BoxOffice, environ: dict[str, str]) -> None:
    """As the supervisor sees it."""
    code = "async def end(self): raise RuntimeError('a bug')\n"
    code += "from boxoffice.money.pump import MoneyPump; MoneyPump.run = end\n"
    code += "import sys; sys.argv = ['boxoffice', 'worker']; from ops.cli import main; main()"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == TASK_ENDED
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (line,) = (line for line in lines if line["event"] == "worker.task_ended")
    assert "RuntimeError: a bug" in line["exception"]
    assert done.stderr.rstrip().splitlines()[-1].startswith("boxoffice: The worker's task 'money' has ended")


async def test_arq_that_is_cancelled_by_itself_starts_anew(
    office: BoxOffice, open_sale: SaleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation from within is a death like any other: each shard's hearing goes on."""
    starts: Counter[str | None] = Counter()
    real = Worker.async_run

    async def dies(self: Worker) -> None:
        starts[self.queue_name] += 1
        if starts[self.queue_name] < 3:
            raise asyncio.CancelledError
        await real(self)

    monkeypatch.setattr(Worker, "async_run", dies)
    event = await open_sale(GA=10)
    async with working(office):

        async def heard() -> bool:
            return starts == {keys.arq_queue(shard): 3 for shard in range(office.settings.shards)}

        await eventually(heard)
        (booking,) = await book_many(office, event, 1, GA=1)
        await at_rest(office)
    assert await status_of(office, booking) == "confirmed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a megabyte where the logs of a stack on `tmp_path` are."""
    logs = tmp_path / "logs"
    logs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(logs)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a tmpfs, and some containers forbid that too")
    yield logs
    subprocess.run(["umount", "-l", str(logs)], check=True)


@pytest.mark.parametrize("full", [True, False], ids=["a full disk under its logs", "nobody reads what it says"])
async def test_up_outlives_it_and_starts_again_who_dies(
    request: pytest.FixtureRequest, office: BoxOffice, open_sale: SaleMaker, environ: dict[str, str], full: bool
) -> None:
    """`boxoffice up`, its own output a pipe that nobody reads any more, and a disk without a byte left for its children's
    logs: it lives, and whoever dies is there again and does its work."""
    logs: Path | None = request.getfixturevalue("small_disk") if full else None
    event = await open_sale(GA=100)
    port, data_dir = free_port(), Path(environ["BOXOFFICE_DATA_DIR"])
    up = subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "up", "--port", str(port)], env=environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert up.stdout is not None
        assert (await asyncio.to_thread(up.stdout.readline)).startswith("boxoffice ready")
        up.stdout.close()
        if logs:
            with contextlib.suppress(OSError), (logs / "ballast").open("wb", buffering=0) as ballast:
                while True:
                    ballast.write(b"x" * 4_096)
        for name in ("worker", "api", "worker"):
            stack = find_stack(data_dir)
            assert stack is not None
            dead = stack.pids[name]
            os.kill(dead, signal.SIGKILL)

            async def another(name: str = name, dead: int = dead) -> bool:
                stack = find_stack(data_dir)
                return stack is not None and stack.pids.get(name, dead) != dead

            await eventually(another, timeout_s=30)
            assert up.poll() is None, "up lives"
        await trouble(office, 1.5)
        await everything_moves(office, event)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def ready() -> bool:
                with contextlib.suppress(httpx2.HTTPError):
                    return (await client.get("/readyz")).status_code == 200
                return False

            await eventually(ready, timeout_s=30)
        if logs:
            (logs / "ballast").unlink()
            os.kill(find_stack(data_dir).pids["worker"], signal.SIGKILL)  # type: ignore[union-attr]

            async def told() -> bool:
                return "worker.ready" in (logs / "worker.log").read_text()[-2_000:]

            await eventually(told, timeout_s=30)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (logs, *logs.iterdir())}
            assert set(modes.values()) == {0o700, 0o600}, modes
    finally:
        up.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(up.wait, 30) == 0
