"""`boxoffice events`, `clients`, `keys`, `reconcile` and `rebuild` at a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.rules import RULES
from boxoffice.stores import keys
from tests.conftest import SHARD, SaleMaker
from tests.support import commands


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Terminal:
    """Runs commands against the office's servers."""

    def __init__(self, office: BoxOffice) -> None:
        self.environ = dict(
            os.environ,
            REDIS_URL=office.settings.redis_url,
            DATABASE_URL=office.settings.database_url,
            DATA_DIR=str(office.settings.data_dir),
        )

    def run(self, *arguments: str) -> Ran:
        ran = commands.run(*arguments, env=self.environ)
        return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    def json(self, *arguments: str) -> Any:
        ran = self.run(*arguments, "--json")
        assert not ran.stderr
        return json.loads(ran.stdout)


@pytest.fixture
def terminal(office: BoxOffice) -> Terminal:
    return Terminal(office)


@pytest.mark.parametrize("words", [["rebuild"], ["reconcile"], ["reconcile", "--fix"]])
async def test_nothing_is_mended_while_a_shard_would_be_left_out(
    terminal: Terminal, open_sale: SaleMaker, office: BoxOffice, words: list[str]
) -> None:
    """Its events would keep a Redis that nobody compared, and the command would say that all is well."""
    sale = await open_sale(GA=100)
    await (await office.pool()).execute("UPDATE events SET shard = $1 WHERE id = $2", len(office.shards), sale.id)
    ran = terminal.run(*words)
    assert ran.returncode == 3
    assert (
        f"PostgreSQL has events in shard {len(office.shards)}, and BOXOFFICE_SHARDS is {len(office.shards)}."
        in " ".join(ran.stderr.split())
    )
    assert not ran.stdout


async def test_an_event_is_created_listed_shown_and_closed(terminal: Terminal, office: BoxOffice) -> None:
    await office.access.create_client("Demo", client_id="demo00000000")
    options = ["--name", "Ghost", "--starts-at", "2035-05-22T16:00:00+02:00", "--currency", "EUR"]
    event = terminal.json("events", "create", *options, "--tier", "GA:1000:500", "--tier", "VIP:0:5")

    assert {key: value for key, value in event.items() if key not in ("id", "tiers")} == {
        "name": "Ghost", "starts_at": "2035-05-22T14:00:00Z", "status": "active", "currency": "EUR",
        "on_sale_at": None, "off_sale_at": None, "version": 1, **dict.fromkeys(RULES),
    }  # fmt: skip
    bounds = {"on_sale_at": None, "off_sale_at": None, **dict.fromkeys(RULES), "access_code_required": False}
    tiers = [{key: value for key, value in tier.items() if key != "id"} for tier in event["tiers"]]
    assert tiers == [
        {"code": "GA", "name": "GA", "price_cents": 1_000, "capacity": 500, **bounds, "available": 500},
        {"code": "VIP", "name": "VIP", "price_cents": 0, "capacity": 5, **bounds, "available": 5},
    ]
    assert terminal.json("events", "show", event["id"]) == event
    assert terminal.json("events", "list") == [event]
    assert "GA 500 of 500" in " ".join(terminal.run("events", "list").stdout.split())
    assert terminal.json("events", "close", event["id"])["status"] == "inactive"


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--starts-at", "soon", "--tier", "A:1:1"], 2, "is no time"),
        (["--starts-at", "2035-05-22T14:00:00", "--tier", "A:1:1", "--client", "shop00000000"], 3, "needs a time zone"),
        (["--starts-at", "2035-05-22T14:00:00Z", "--tier", "A:1"], 2, "CODE:PRICE_CENTS:CAPACITY"),
        (["--starts-at", "2035-05-22T14:00:00Z", "--tier", "A:1:2:3", "--client", "x"], 2, "CODE:PRICE_CENTS:CAPACITY"),
        (
            ["--starts-at", "2035-05-22T14:00:00Z", "--tier", "A:1:2147483648", "--client", "shop00000000"],
            3,
            "to 2147483647",
        ),
        (["--starts-at", "2035-05-22T14:00:00Z", "--tier", "A:1:1", "--client", "nobody"], 3, "no such client"),
        (["--starts-at", "2035-05-22T14:00:00Z", "--tier", "A:1:1"], 3, "--client"),
    ],
)
async def test_what_is_wrong_is_said(terminal: Terminal, options: list[str], code: int, sentence: str) -> None:
    ran = terminal.run("events", "create", "--name", "Ghost", *options)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert sentence in " ".join(ran.stderr.replace("│", " ").split())


async def test_a_client_gets_a_key(terminal: Terminal, office: BoxOffice) -> None:
    client = terminal.run("clients", "create", "Corner shop").stdout.strip()
    key = terminal.run("keys", "create", client).stdout.strip()
    assert (await office.catalogue.api_keys.caller_of(key)).client == client
    assert client in [one["id"] for one in terminal.json("clients", "list")]

    assert terminal.run("keys", "revoke", key.partition(".")[0]).returncode == 0

    (listed,) = terminal.json("keys", "list", "--client", client)
    assert listed["prefix"] == key.partition(".")[0]
    assert listed["revoked_at"]
    assert key.partition(".")[2] not in terminal.run("keys", "list").stdout


async def test_reconcile_tells_by_its_exit_code(terminal: Terminal, office: BoxOffice, open_sale: SaleMaker) -> None:
    """0 no drift, 1 found, 2 fixed, 3 could not run."""
    event = await open_sale(GA=100)
    assert terminal.run("reconcile").returncode == 0
    # Together they are right: counters that do not add up are lost, and put off sale before anybody counts.
    await office.redis.hincrby(keys.event(SHARD, event.id), f"a:{event.tiers[0].id}", -7)
    await office.redis.hincrby(keys.event(SHARD, event.id), f"h:{event.tiers[0].id}", 7)

    looked = terminal.run("reconcile", "--event", event.id)
    assert looked.returncode == 1
    assert "-7" in looked.stdout
    fixed = terminal.run("reconcile", "--fix", "--json")
    assert fixed.returncode == 2
    report = json.loads(fixed.stdout)
    assert report["result"] == "fixed"
    tier = report["events"][0]["tiers"][0]
    assert (tier["found"]["available"], tier["expected"]["available"], tier["drift"]["available"]) == (93, 100, -7)
    assert terminal.run("reconcile", "--fix").returncode == 0
    assert terminal.run("reconcile", "--event", "nothing").returncode == 3


async def test_who_stops_reading_is_told_of_no_difference(terminal: Terminal, office: BoxOffice) -> None:
    """`boxoffice … | head`: 1 means that a difference was found, and here nothing was looked for."""
    for command in (["reconcile"], ["--help"], ["clients", "list", "--json"], ["audit"]):
        read, write = os.pipe()
        os.close(read)
        ran = subprocess.run(
            [sys.executable, "-m", "ops.cli", *command],
            env=terminal.environ, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
        os.close(write)
        assert (ran.returncode, ran.stderr) == (141, ""), command


async def test_rebuild_by_hand(terminal: Terminal, office: BoxOffice, open_sale: SaleMaker) -> None:
    await open_sale(GA=100)
    await office.redis.flushall()
    for number in (office.settings.shards, 99):
        nowhere = terminal.run("rebuild", "--shard", str(number))
        assert (nowhere.returncode, nowhere.stdout) == (3, "")
        assert "There is no such shard" in nowhere.stderr
    left = set(await office.redis.keys("*")) - {keys.probe(shard).encode() for shard in range(len(office.shards))}
    assert not left, "nothing was opened that nobody serves"

    ran = terminal.run("rebuild")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Shard 0 is open, generation ")
    await office.redis.sadd(keys.told(SHARD), "50:1")
    await (await office.pool()).execute("DELETE FROM shards")
    refused = terminal.run("rebuild")
    assert refused.returncode == 3
    assert "--accept-postgres" in refused.stderr
    assert terminal.run("reconcile", "--fix").returncode == 3
    assert terminal.run("reconcile", "--fix", "--accept-postgres").returncode == 2
    assert terminal.run("reconcile").returncode == 0
