"""An upgrade while it sells, from the previous release's wheel, in the order of docs/operations.md: no customer notices."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxoffice.office import open_box_office
from boxoffice.settings import Settings
from boxoffice.stores.postgres import revisions
from ops.seed import DEMO_CLIENT, DEMO_KEY
from ops.stack import stack as module
from ops.stack.servers import temporary_data_dir
from ops.stack.stack import Stack
from tests.conftest import counters, eventually
from tests.invariants.conftest import at_rest, ends, working
from tests.support.checks import check_at_rest
from tests.support.crowd import Crowd, serves
from tests.support.previous import PreviousProgram, command_of, environment_of, unpack_previous

CUSTOMERS = 8

DRAIN = {"BOXOFFICE_API__DRAIN_S": "1.0"}

Spawn = Callable[..., PreviousProgram]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_previous(tmp_path_factory.mktemp("previous"))


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Servers of its own: their schema is the previous release's at first, and it tells nobody of settings that this release
    does not know."""
    known = {name: value for name, value in module.WITHIN.items() if not name.startswith("BOXOFFICE_WEBHOOKS__")}
    monkeypatch.setattr(module, "WITHIN", known)
    with temporary_data_dir() as folder, Stack(folder / "data", debug=True) as stack:
        yield stack


@pytest.fixture
def previous(stack: Stack, installed: Path) -> Iterator[Spawn]:
    """Starts a process of the previous release: `previous("api", "--port", "8000")`."""
    started: list[PreviousProgram] = []

    def spawn(*arguments: str) -> PreviousProgram:
        log = stack.servers.home.logs / f"previous-{arguments[0]}-{len(started)}.log"
        program = PreviousProgram(f"previous {arguments[0]}", log, installed, arguments, stack.environment(DRAIN))
        program.start()
        started.append(program)
        return program

    yield spawn
    for program in started:
        program.stop()


def says(installed: Path, stack: Stack, *arguments: str) -> str:
    """What a command of the previous release prints."""
    environ = environment_of(stack.environment())
    ran = subprocess.run(
        command_of(*arguments), cwd=installed, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def on_sale(installed: Path, stack: Stack) -> str:
    """A tier of an event with tickets for everybody, made by the previous release."""
    says(installed, stack, "migrate")
    says(installed, stack, "seed", "--demo-key")
    made = says(
        installed, stack, "events", "create", "--client", DEMO_CLIENT, "--name", "Concert", "--json",
        "--starts-at", "2035-05-22T14:00:00Z", "--tier", "GA:1000:100000",
    )  # fmt: skip
    return str(json.loads(made)["tiers"][0]["id"])


@pytest.mark.timeout(180)
async def test_no_customer_notices_an_upgrade(stack: Stack, installed: Path, previous: Spawn) -> None:
    """Each step is followed by bookings of everybody: old processes on the new schema, then beside new workers, then an old and
    a new API, and, when somebody thinks better of it, an old one again."""
    tier = await asyncio.to_thread(on_sale, installed, stack)
    ports = stack.spare_port(), stack.spare_port()
    apis = [previous("api", "--port", str(port)) for port in ports]
    worker = previous("worker")

    async def both_serve() -> None:
        for port in ports:
            await eventually(lambda port=port: serves(port), timeout_s=30)

    await both_serve()
    crowd = Crowd(ports, tier, CUSTOMERS, DEMO_KEY)
    await crowd.book_again()

    await asyncio.to_thread(stack.run, "migrate")
    await crowd.book_again()

    stack.spawn_worker()
    await crowd.book_again()
    worker.ask_to_stop()
    assert await ends(worker) == "exit 0"
    await crowd.book_again()

    for port, api in zip(ports, apis, strict=True):
        await both_serve()
        api.ask_to_stop()
        assert await ends(api) == "exit 0"
        replaced = stack.spawn_api(port, env=DRAIN)
        await both_serve()
        await crowd.book_again()

    replaced.ask_to_stop()
    assert await ends(replaced) == "exit 0"
    apis[-1].start()
    await both_serve()
    await crowd.book_again()
    await crowd.go_home()

    settings = Settings(
        redis_url=stack.redis_url, database_url=stack.database_url, data_dir=stack.servers.home.path, log_level="error"
    )
    async with open_box_office(settings, redis_retries=3) as office, working(office):
        await at_rest(office)
        # The previous release did not count tickets of shops; ours does so before an event's first allocation.
        event, _ = await office.catalogue.event_of_tier(tier)
        await office.repair.reconcile(event=event.id, fix=True)
        assert (await counters(office, event, "GA")).sold == len(crowd.booked)
        await check_at_rest(office, crowd.booked)


def test_the_previous_release_has_an_older_schema(installed: Path) -> None:
    """Otherwise the upgrade would try no migration. And it is one that ours goes on from."""
    theirs = {path.name[:4] for path in (installed / "migrations" / "versions").glob("0*.py")}
    assert theirs < revisions().keys()
