"""docs/architecture.md and docs/tour.md say what the code does: each of their sentences has a test in tests/proofs.toml."""

from __future__ import annotations

import ast
import re
import tempfile
import tomllib
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy import DateTime

from boxoffice.bookings import reading
from boxoffice.database_url import read_database_url
from boxoffice.office import open_box_office
from boxoffice.setting_parts import WorkerSettings
from boxoffice.settings import Settings
from boxoffice.stores import models, postgres
from boxoffice.stores.keys import shard_tag
from boxoffice.stores.scripts import load_scripts
from ops.stack.servers import Servers
from tests.mutation import __main__ as mutate
from tests.support.patience import LIMITS
from tests.test_docs import ROOT, example, imported_by, key_functions, read, rooms

PROOFS: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "tests/proofs.toml").read_text())


def sentences(page: str) -> list[str]:
    """Of its paragraphs, lists and tables: without headings, pictures, code, what is written from the code, the list of
    words, which has a test of its own, and the lines of the tour that name a stop."""
    text = re.sub(
        r"^\|[^\n]*\|\n(?=\|[-| ]+\|$)|^```.*?^```$|<!-- from the code: .*?<!-- end -->"
        r"|^Below all rooms are the words:[^.]*\.$|^\[`[^`]+`\]\(\S+\) · `[^`]+`$",
        "",
        page,
        flags=re.M | re.S,
    )
    found: list[str] = []
    for block in map(str.strip, re.split(r"\n\s*\n|\n(?=\d+\. |- |#|\|)", text)):
        if block.startswith("|") and not re.match(r"\|[-| ]+\|$", block):
            found.append(block)
        elif block and not re.match(r"#|!\[|\|", block):
            plain = re.sub(r"^(\d+\.|-) (\*\*[\w ]+\.\*\* )?", "", block)
            found += re.split(r"(?<=\.) (?=[A-Z`\[])", " ".join(plain.split()))
    return found


def test_a_page_falls_apart_into_its_sentences() -> None:
    page = "# Title\n\nOne, `a.b`. Two\nlines.\n\n1. **Step.** Three.\n- Four\n\n| x |\n|---|\n| y |\n\n```sh\nno. Code\n```\n"
    assert sentences(page) == ["One, `a.b`.", "Two lines.", "Three.", "Four", "| y |"]


@pytest.mark.parametrize("page", PROOFS)
def test_every_sentence_has_its_proof(page: str) -> None:
    """In the order of the page; none that the page does not say any more."""
    assert sentences(read(page)) == list(PROOFS[page])


def is_there(proof: str) -> bool:
    """Whether there is such a test, or such a contract."""
    if proof.startswith("contract: "):
        return f'\nname = "{proof.removeprefix("contract: ")}' in read("pyproject.toml")
    path, _, name = proof.partition("::")
    there = ROOT / "tests" / path
    return name.startswith("test_") and there.exists() and f"def {name}(" in there.read_text()


@pytest.mark.parametrize("page", PROOFS)
def test_every_proof_is_there(page: str) -> None:
    assert [proof for proofs in PROOFS[page].values() for proof in proofs if not is_there(proof)] == []
    bare = [sentence for sentence, proofs in PROOFS[page].items() if not proofs]
    assert [sentence for sentence in bare if "](" not in sentence and "beside this page" not in sentence] == []


@pytest.mark.parametrize(
    "proof",
    [
        "contract: No such",
        "test_architecture.py::test_nothing",
        "nowhere.py::test_is_there",
        "test_architecture.py::is_there",
    ],
)
def test_a_proof_that_is_none_is_seen(proof: str) -> None:
    assert not is_there(proof)


def test_rooms_import_rooms_below_them_alone() -> None:
    """As the picture shows it: every mark stands to the right of the room's own place."""
    order = rooms()
    up = {(room, other) for room in order for other in imported_by(room) if order.index(other) < order.index(room)}
    assert up == set()
    assert {"books", "gateway", "stores"} <= imported_by("money"), "some are found"


def test_admission_writes_in_the_order_that_is_told() -> None:
    """By the page, and by the script after all that may refuse: what can fail of a full server comes first."""
    page = " ".join(read("docs/architecture.md").split())
    told = ("counters, customers' counts, sequence, records and idempotency keys, deadlines, pending set, doorbell",)
    assert f"Then it writes: {told[0]}." in page
    script = read("lua/admit.lua")
    places = [
        script.index(text)
        for text in (
            'redis.call("HSET", sale.key', 'redis.call("HSET", sale.owners_key', 'redis.call("INCRBY", sequence',
            'redis.call("MSET"', 'redis.call("ZADD", deadlines', 'redis.call("ZADD", pending', "ring(bell",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    writes = re.findall(
        r'redis\.call\("(?:[HM]?SET|INCR\w*|HINCRBY|[ZSH]ADD|DEL|HDEL|P?EXPIRE\w*)"', script[: places[0]]
    )
    assert writes == [], "nothing is written before"


def test_every_module_stands_in_a_room_or_is_a_word() -> None:
    section = read("docs/architecture.md").partition("### Inside the box office")[2].partition("\n## ")[0]
    words = {path.stem for path in (ROOT / "boxoffice").glob("*.py")} - {"__init__", "office", "office_parts"}
    (listed,) = re.findall(r"^Below all rooms are the words: (.*?)\.$", section, re.M | re.S)
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(words)
    folders = {path.parent.name for path in (ROOT / "boxoffice").glob("*/__init__.py")}
    assert folders == set(rooms())


def test_the_layout_names_every_folder() -> None:
    section = read("docs/architecture.md").partition("## Layout")[2].partition("\n### ")[0]
    folders = {path.parent.name for path in ROOT.glob("*/*") if path.suffix in (".py", ".lua", ".md")}
    assert set(re.findall(r"^\| `(\w+)/` \|", section, re.M)) == {name for name in folders if not name.startswith(".")}


def test_the_times_on_a_bookings_path_are_those_of_the_code() -> None:
    page = " ".join(read("docs/architecture.md").split())
    assert f"looks every {WorkerSettings().sweep_ms:,} ms (`BOXOFFICE_WORKER__SWEEP_MS`)" in page
    assert (
        f"admitted {reading.FRESH_MS // 1_000} s ago, or is pending and was admitted {reading.UNSETTLED_MS // 1_000} s ago,"
        in page
    )


BY_TIME = ("admit", "cancel", "change", "claim", "expire", "extend", "pay", "revive", "settle", "wake")
"""Scripts whose decision depends on the time."""


def test_scripts_read_the_servers_clock_and_are_handed_none() -> None:
    scripts = {script.name: script for script in load_scripts()}
    handed = {
        (name, slot) for name, script in scripts.items() for slot in script.args if slot in ("now", "now_ms", "time")
    }
    assert handed == set()
    assert [name for name in BY_TIME if 'redis.call("TIME")' not in scripts[name].text] == []


def test_what_is_due_goes_by_the_clock_of_postgresql() -> None:
    """Whatever is compared with `due_at`, with a lease or with the time to cancel is `now()`, and no value of ours."""
    compared = re.compile(
        r"(?:due_at|leased_until|cancel_until\b[^<>=]*)\s*(?:<=?|>=?)\s*(\S+)|(\S+)\s*(?:<=?|>=?)\s*coalesce\(e\.cancel_until"
    )
    texts = [path.read_text() for path in sorted((ROOT / "boxoffice/books").glob("*.py"))]
    found = [other for text in texts for pair in compared.findall(text) for other in pair if other]
    assert len(found) > 5
    assert {other.rstrip(")") for other in found} == {"now("}


def test_what_decides_reads_and_writes_nothing() -> None:
    """`decide` and all of its module: nothing is awaited, and neither a store nor the gateway's calls are imported."""
    tree = ast.parse(read("boxoffice/settlement/deciding.py"))
    assert not any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in ast.walk(tree))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in modules if name and re.search(r"stores\.(?!record)|asyncpg|redis|factory", name)}


def test_the_contracts_are_part_of_make_check() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", read("Makefile"), re.M)
    assert recipe and "lint-imports" in recipe[1]


def test_make_mutate_fails_below_what_the_page_says() -> None:
    page = " ".join(read("docs/architecture.md").split())
    assert f"less than {mutate.WHOLE_MIN:.0%} of all, or {mutate.ROOM_MIN:.0%} of one room's".replace("%", " %") in page


def test_every_key_of_a_shard_has_its_tag() -> None:
    """But those of arq's jobs, which arq names."""
    untagged = {name for name, function in key_functions().items() if not example(function).startswith(shard_tag(0))}
    assert untagged == {"arq_job"}


def test_money_has_a_currency_and_times_a_zone() -> None:
    tables = models.Base.metadata.tables.values()
    times = [column for table in tables for column in table.columns if isinstance(column.type, DateTime)]
    assert len(times) > 20
    assert [str(column) for column in times if not column.type.timezone] == []
    assert {"bookings", "payments", "refunds", "events"} <= {
        table.name for table in tables if "currency" in table.columns
    }


async def test_tests_run_on_servers_of_their_own(servers: Servers) -> None:
    """A Valkey and a PostgreSQL, below a folder of this process alone, or those that a run of mutants keeps for it."""
    redis = Redis.from_url(servers.redis_url)
    connection = await asyncpg.connect(read_database_url(servers.database_url).dsn)
    try:
        assert (await redis.info("server"))["server_name"] == "valkey"
        assert (await connection.fetchval("SELECT version()")).startswith("PostgreSQL ")
        folder = (await redis.config_get("dir"))["dir"]
        assert Path(folder).is_relative_to(tempfile.gettempdir())
    finally:
        await redis.aclose()
        await connection.close()


def test_processes_of_the_tests_may_pause_a_minute() -> None:
    assert {getattr(postgres, name) for name in LIMITS} == {60_000}
    assert all(limit_ms < 60_000 for limit_ms in LIMITS.values()), "the product's own are shorter"


async def test_an_office_gets_the_sessions_of_the_office_before_it(kept_sessions: None, settings: Settings) -> None:
    async with open_box_office(settings) as office:
        rows = await office.database.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    async with open_box_office(settings) as office:
        assert await office.database.fetchval("SELECT pg_backend_pid()") in {row["pid"] for row in rows}
