"""The backup and the restores of docs/operations.md, from the first line to green audits, on servers of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from boxoffice.access.api_keys import KEYS_SHARD, ApiKeys
from boxoffice.errors import CannotRun, NotFound, Unauthorized
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.sales.codes import CodeTerms
from boxoffice.sales.store import NewTier
from boxoffice.settings import Settings
from boxoffice.stores import keys, postgres
from boxoffice.stores.postgres import migrate
from ops.commands import backup as backup_command
from ops.stack import backups, restoring
from ops.stack.backups import Backup
from ops.stack.data_dir import write_private
from ops.stack.servers import temporary_data_dir
from ops.stack.stack import Stack
from tests.conftest import CLIENT
from tests.invariants.conftest import at_rest, working
from tests.support import commands
from tests.support.checks import check_at_rest
from tests.support.environment import kept_environment
from tests.support.shop.office import Till, first_sale

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"

ARCHIVE = "BOXOFFICE_POSTGRES_ARCHIVE"


def blocks() -> list[list[list[str]]]:
    """What is typed, block by block, word by word."""
    text = PAGE.read_text().partition("### Of `boxoffice up`\n")[2].partition("\n### ")[0]
    found = re.findall(r"```sh\n(.*?)```", text, re.S)
    return [[shlex.split(line, comments=True) for line in block.split("\n") if line.strip()] for block in found]


class Machine:
    """A data directory, what its operator types, and what has to be put in place of the page's examples."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.named = {"/srv/boxoffice/monday": str(folder / "monday")}
        clean = {name: value for name, value in os.environ.items() if not name.endswith(("REDIS_URL", "DATABASE_URL"))}
        self.environ = {**clean, "BOXOFFICE_DATA_DIR": str(self.data_dir), ARCHIVE: str(folder / "log")}

    async def types(self, words: list[str]) -> Any:
        """A line of the page, with `--json`. Returns what it printed."""
        return json.loads(await self.reads([*words, "--json"]))

    async def reads(self, words: list[str]) -> str:
        """A line, as people type it. Its exit code is 0. Returns what it printed."""
        assert words[0] == "boxoffice"
        line = [self.named.get(word, word) for word in words[1:]]
        ran = await asyncio.to_thread(commands.run, *line, env=self.environ, timeout_s=110)
        assert ran.returncode == 0, f"{line}: {ran.stdout.decode()} {ran.stderr.decode()}"
        return ran.stdout.decode()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[BoxOffice]:
        """Both servers run, and an office of this process works on them."""
        with Stack(self.data_dir, environ=self.environ, debug=True) as stack:
            settings = Settings(
                redis_url=stack.redis_url, database_url=stack.database_url, data_dir=self.data_dir, log_level="error"
            )
            await asyncio.to_thread(migrate, settings)
            async with open_box_office(settings, redis_retries=3) as office:
                for guard in office.guards:
                    await guard.tick()
                yield office


async def look(office: BoxOffice, bookings: list[str]) -> list[tuple[str, str | None]]:
    """What their shop reads of each."""
    views = [(await office.bookings.get(CLIENT, booking)).view for booking in bookings]
    return [(view.status, view.failure.code if view.failure else None) for view in views]


@pytest.mark.timeout(180)
async def test_everything_comes_back_and_what_shall_be_forgotten_is_withdrawn() -> None:
    """To the end of the log nothing is lost. To a moment, what came later is gone in both stores: a booking and its money, an
    access code, an allocation, a price, an API key, a shop and its event."""
    (archive, up), (backup,), (restore,), (restore_to,), audits = blocks()
    assert (archive[0], archive[1].partition("=")[0], up) == ("export", ARCHIVE, ["boxoffice", "up"])
    assert restore_to[: len(restore)] == restore and restore_to[-1] == "--accept-postgres"
    with temporary_data_dir() as folder:
        machine = Machine(folder)
        async with machine.up() as office:
            till = Till(office, await first_sale(office))
            shard = till.event.shard
            await office.guards[shard].tick()
            bookings = [await till.book(GA=1)]
            await till.rest()
            await machine.types(backup)
            bookings += [await till.book(GA=2, customer="grace"), await till.book(GA=1, customer="alan")]
            await till.rest()
            moment: datetime = await (await office.pool()).fetchval("SELECT clock_timestamp()")
            machine.named["2030-05-22T14:00:00Z"] = moment.isoformat()
            bookings.append(await till.book(GA=3, customer="mary"))
            await till.rest()
            await till.cancel(bookings[2])
            await office.codes.create(till.event.id, CodeTerms(2), given=["LATE-CODE-2030-X"])
            await office.access.create_client("Late", client_id="late00000000")
            late_key = await office.access.create_api_key("late00000000")
            late = await office.store.create_event(
                "late00000000", "Late", datetime.now(UTC) + timedelta(days=9), "USD", [NewTier("GA", 1_000, 5)]
            )
            (tier,) = till.event.tiers
            change = [tier.id, "--price-cents", "900", "--capacity", "50"]
            await machine.types(["boxoffice", "events", "edit-tier", *change])
            await machine.types(
                ["boxoffice", "allocations", "create", till.event.id, tier.id, "--tickets", "2", "--shop", CLIENT]
            )
            await till.rest()

        # A shell of its own remembers no archive; the backup does.
        log = machine.environ.pop(ARCHIVE)
        told = await machine.types(restore)
        machine.environ[ARCHIVE] = log
        assert told["archive"] == log
        assert [each["shard"] for each in told["shards"]] == list(range(len(office.shards)))
        assert not sum(each["confirmed"] + each["ended"] + each["withdrawn"] for each in told["shards"])
        async with machine.up() as office:
            ends = [("confirmed", None), ("confirmed", None), ("cancelled", "cancelled"), ("confirmed", None)]
            assert await look(office, bookings) == ends
            assert (await ApiKeys(office.shards, 30).caller_of(late_key)).client == "late00000000"

        lines = (await machine.reads(restore_to)).splitlines()
        assert lines[0].startswith(f"PostgreSQL is restored. Its last commit is of {moment:%Y-}")
        assert lines[1].startswith(f"What was there before is in {machine.data_dir}/postgres")
        assert lines[1].endswith(": delete it when all is well and a new backup is made.")
        assert [line.partition(" is open: ")[0] for line in lines[2:]] == [
            f"Shard {each.number}" for each in office.shards
        ]
        assert (
            f"Shard {shard} is open: 0 bookings confirmed again, 0 ended, 1 refunds made again, 1 withdrawn." in lines
        )
        async with machine.up() as office:
            async with working(office):
                await at_rest(office)
                await audited(machine, audits)
            await check_at_rest(office, bookings)
            # The cancellation was forgotten, but not its refund: the shop was told of it, and the money is back.
            ends[3] = ("failed", "withdrawn")
            assert await look(office, bookings) == ends
            event = await office.catalogue.event(till.event.id)
            assert (event.tiers, event.allocated) == (till.event.tiers, ())
            assert (await Till(office, event).payment(bookings[3])).refunded_cents == 3_000
            assert await office.redis.hkeys(keys.codes(shard, event.id)) == [b"v"]  # type: ignore[misc]
            assert not await office.redis.exists(keys.event(late.shard, late.id))
            with pytest.raises(NotFound):
                await office.catalogue.event(late.id)
            with pytest.raises(Unauthorized):
                await ApiKeys(office.shards, 30).caller_of(late_key)
            assert await office.redis.hexists(keys.api_keys(KEYS_SHARD), late_key.partition(".")[0])


async def audited(machine: Machine, audits: list[list[str]]) -> None:
    """The audits of the page find nothing."""
    assert [line[1] for line in audits] == ["payments", "reconcile", "audit"]
    for line in audits:
        await machine.types(line)


@pytest.mark.parametrize(
    ("own", "kept", "shards"),
    [
        ({}, {}, "2"),
        ({}, {"BOXOFFICE_SHARDS": "3"}, "3"),
        ({"BOXOFFICE_SHARDS": "4"}, {"BOXOFFICE_SHARDS": "3"}, "4"),
    ],
)
def test_a_restore_goes_on_with_the_settings_of_the_stack(
    tmp_path: Path, own: dict[str, str], kept: dict[str, str], shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's own first, then those of the stack that ran there last, then the backup's."""
    found = []

    def put_back(*_: object, **__: object) -> None:
        found.append([os.environ.get(name) for name in ("BOXOFFICE_SHARDS", "BOXOFFICE_GATEWAY__KIND")])
        raise CannotRun("so far")

    monkeypatch.setattr(restoring, "put_back", put_back)
    note = Backup("1", 18, "", "", 0, "", "", {"BOXOFFICE_SHARDS": "2", "BOXOFFICE_GATEWAY__KIND": "stripe"})
    monkeypatch.setattr(backups, "read_backup", lambda _: note)
    for name in [name for name in os.environ if name.startswith("BOXOFFICE_") or name.endswith("_URL")]:
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    write_private(tmp_path / "settings.json", json.dumps(kept))
    with kept_environment(), pytest.raises(CannotRun, match="so far"):
        backup_command.restore(tmp_path, data_dir=tmp_path)
    assert found == [[shards, "stripe"]]


def test_a_restore_opens_no_shard_when_it_would_leave_one_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def in_office(*_: object, every_shard: bool = False) -> None:
        asked.append(every_shard)
        raise CannotRun("so far")

    monkeypatch.setattr(restoring, "put_back", lambda *_, **__: restoring.PutBack("", (), None))
    monkeypatch.setattr(backups, "read_backup", lambda _: Backup("1", 18, "", "", 0, ""))
    monkeypatch.setattr(postgres, "migrate", lambda _: None)
    monkeypatch.setattr(backup_command, "in_office", in_office)
    for name in [name for name in os.environ if name.endswith("_URL")]:
        monkeypatch.delenv(name)
    with kept_environment(), pytest.raises(CannotRun, match="so far"):
        backup_command.restore(tmp_path, data_dir=tmp_path)
    assert asked == [True]


@pytest.mark.parametrize("flags", [[], ["--no-archive"], ["--no-archive", "--with-redis"]])
def test_the_archive_is_done_without_only_where_that_is_said(
    tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def put_back(*_: object, with_redis: bool, without_archive: bool) -> None:
        asked.append([*["--no-archive"] * without_archive, *["--with-redis"] * with_redis])
        raise CannotRun("so far")

    monkeypatch.setattr(restoring, "put_back", put_back)
    monkeypatch.setattr(backups, "read_backup", lambda _: Backup("1", 18, "", "", 0, ""))
    for name in ("REDIS_URL", "DATABASE_URL", "BOXOFFICE_REDIS_URL", "BOXOFFICE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    app = Typer()
    app.command()(backup_command.backup)
    app.command()(backup_command.restore)
    ran = CliRunner().invoke(app, ["restore", "there", "--data-dir", str(tmp_path), *flags])
    assert (str(ran.exception), asked) == ("so far", [flags])


@pytest.mark.parametrize(
    ("words", "environ", "code", "sentence"),
    [
        (["backup", "there"], {}, 3, "No stack with a Redis and a PostgreSQL of its own runs on"),
        (["restore", "there"], {}, 3, "there is no backup, or only half of one"),
        (["restore", "there", "--to", "noon"], {}, 2, "'noon' is no time such as"),
        (["restore", "there", "--timeline", "0"], {}, 2, "'0' is no number of a line of history"),
        (["restore", "there"], {"REDIS_URL": "redis://r/0"}, 3, "names a server of yours"),
        (["restore", "there"], {"DATABASE_URL": "postgresql://d/b"}, 3, "names a server of yours"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, words: list[str], environ: dict[str, str], code: int, sentence: str
) -> None:
    machine = Machine(tmp_path)
    ran = commands.run(*words, env={**machine.environ, **environ, "COLUMNS": "200"})
    said = " ".join(re.sub(r"[│╭╮╰╯─]", "", ran.stderr.decode()).split())
    assert ran.returncode == code
    assert sentence in said
