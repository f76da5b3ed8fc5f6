"""Exports: whole, of one moment, in memory that does not grow with them, and never half a file."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from boxoffice.backoffice.exporting import CHUNK, Chosen, export
from boxoffice.errors import CannotRun
from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from tests.conftest import SaleMaker, load_all
from tests.ops.terminal import run
from tests.support.many import sell_many
from tests.support.shop.office import Till
from tests.support.shop.orders import CLIENT, OTHER

pytestmark = pytest.mark.usefixtures("terminal")

RESULTS = Path(__file__).parents[2] / "bench" / "export.json"


@pytest.fixture
async def till(office: BoxOffice, open_sale: SaleMaker) -> Till:
    await load_all(office)
    return Till(office, await open_sale(GA=50, VIP=5))


async def lines(*arguments: str) -> list[dict[str, Any]]:
    code, said = await run("export", *arguments, "--json")
    assert code == 0
    return [json.loads(line) for line in said.splitlines()]


async def table(*arguments: str) -> list[dict[str, str]]:
    code, said = await run("export", *arguments)
    assert code == 0
    return list(csv.DictReader(io.StringIO(said)))


async def test_bookings_with_their_items_and_payment(till: Till) -> None:
    first = await till.book(GA=2, VIP=1, customer="=1+1", reference="order-1", metadata={"b": "=1", "a": "2"})
    declined = await till.book("tok_card_declined", GA=1)
    await till.rest()
    await till.refund(first, GA=1)
    await till.rest()
    one, two = await lines("bookings")
    assert [one["booking_id"], two["booking_id"]] == [first, declined]
    assert (one["client_id"], one["event"], one["customer_id"], one["reference"]) == (
        CLIENT,
        "Concert",
        "=1+1",
        "order-1",
    )
    assert (one["status"], one["amount_cents"], one["refunded_cents"], one["currency"]) == (
        "confirmed",
        4_000,
        1_000,
        "USD",
    )
    assert [(item["code"], item["quantity"], item["refunded"], item["unit_price_cents"]) for item in one["items"]] == [
        ("GA", 2, 1, 1_000),
        ("VIP", 1, 0, 2_000),
    ]
    assert (one["payment_status"], one["method"], one["last4"]) == ("captured", "card", "4242")
    assert (two["status"], two["failure_code"], two["payment_status"]) == ("failed", "payment_declined", "declined")
    assert (one["metadata"], two["metadata"]) == ({"a": "2", "b": "=1"}, {})
    row, other = await table("bookings")
    assert (json.loads(row["metadata"]), other["metadata"]) == ({"a": "2", "b": "=1"}, "")
    assert (row["amount"], row["refunded"], row["items"], row["customer_id"]) == (
        "40.00",
        "10.00",
        "GA:2 VIP:1",
        "'=1+1",
    )
    assert row["created_at"] == one["created_at"]
    assert row["created_at"].endswith("Z")


async def test_payments_and_refunds(till: Till) -> None:
    booking = await till.book(GA=2)
    await till.rest()
    refund = await till.refund(booking, GA=1)
    await till.rest()
    (payment,) = await lines("payments")
    assert (payment["booking_id"], payment["status"], payment["amount_cents"]) == (booking, "captured", 2_000)
    (row,) = await table("refunds")
    assert (row["refund_key"], row["booking_id"], row["amount"], row["status"]) == (
        refund.refund_key, booking, "10.00", "succeeded",
    )  # fmt: skip
    everything = json.dumps([await lines(what) for what in ("bookings", "payments", "refunds")])
    assert "tok_ok" not in everything, "what the gateway takes instead of a card stays here"
    assert "Ada Lovelace" not in everything


@pytest.mark.parametrize("what", ["bookings", "payments", "refunds"])
async def test_filters(till: Till, what: str) -> None:
    booking = await till.book(GA=2)
    await till.rest()
    await till.refund(booking, GA=1)
    await till.fetch(f"UPDATE {what} SET created_at = '2030-05-22T14:00:00Z'")

    async def count(*arguments: str) -> int:
        return len(await lines(what, *arguments))

    assert await count() == await count("--event", till.event.id) == await count("--client", CLIENT) == 1
    assert await count("--event", till.event.id, "--event", "elsewhere000") == 1
    assert await count("--event", "elsewhere000") == await count("--client", OTHER) == 0
    assert await count("--since", "2030-05-22T14:00", "--until", "2030-05-22T16:00:01+02:00") == 1
    assert await count("--since", "2030-05-22T14:00:01") == await count("--until", "2030-05-22T14:00") == 0
    assert (await run("export", what, "--event", "elsewhere000"))[1].count("\n") == 1, "the heading alone"


async def test_a_repeat_of_a_forgotten_key_is_no_booking(till: Till) -> None:
    booking = await till.book(GA=2)
    await till.rest()
    await till.fetch("UPDATE bookings SET duplicate_of = $1", booking)
    assert await lines("bookings") == []


async def test_an_export_shows_one_moment(till: Till, settings: Settings) -> None:
    """What is written while it is read is in none of its parts."""
    await sell_many(settings.database_url, till.event, CLIENT, CHUNK + 1)
    parts = export(settings, "bookings", "jsonl", Chosen())
    first = await anext(parts)
    await till.fetch("UPDATE bookings SET reference = 'changed'")
    rest = [part async for part in parts]
    assert (first.rows, [part.rows for part in rest]) == (CHUNK, [1])
    assert "changed" not in first.text + rest[0].text
    assert '"order-2001"' in rest[0].text


async def test_a_file_is_there_when_it_is_whole(till: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await till.book(GA=2)
    await till.rest()
    file = tmp_path / "bookings.csv"
    code, said = await run("export", "bookings", "-o", str(file))
    assert (code, said) == (0, f"1 bookings written to {file}.\n")
    assert (len(file.read_text().splitlines()), stat.S_IMODE(file.stat().st_mode)) == (2, 0o600)

    file.write_text("of yesterday")
    monkeypatch.setattr("os.fsync", _full)
    with pytest.raises(CannotRun, match=r"bookings.csv cannot be written: No space left"):
        await run("export", "bookings", "-o", str(file))
    assert ([path.name for path in tmp_path.iterdir() if "bookings" in path.name], file.read_text()) == (
        [file.name],
        "of yesterday",
    )
    with pytest.raises(CannotRun, match="No such file"):
        await run("export", "bookings", "-o", str(tmp_path / "nowhere" / "bookings.csv"))


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


async def test_who_stops_reading_is_no_error(till: Till, settings: Settings) -> None:
    await sell_many(settings.database_url, till.event, CLIENT, 2 * CHUNK)
    command = f"{sys.executable} -m ops.cli export bookings; echo $? >&2"
    ran = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", f"({command}) | head -1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout.startswith("booking_id,client_id,")
    assert ran.stderr == "141\n"


def exported(what: str, form: str, to: Path) -> tuple[int, float]:
    """Peak memory in bytes of a process that exports, and the seconds it took. As the kernel counts it since the program
    began (VmHWM): what `wait4` tells is never less than what the process that started it has."""
    started = time.monotonic()
    told = to.with_name("status")
    program = (
        "import atexit, pathlib, runpy, sys; status = sys.argv.pop(1); atexit.register(lambda: pathlib.Path(status)"
        ".write_bytes(pathlib.Path('/proc/self/status').read_bytes())); runpy.run_module('ops.cli', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, str(told), "export", what, "--format", form, "-o", str(to)]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True, timeout=600)
    peak_kb = re.search(r"^VmHWM:\s+(\d+) kB$", told.read_text(), re.MULTILINE)
    assert peak_kb is not None
    return int(peak_kb[1]) * 1_024, time.monotonic() - started


async def grown(
    till: Till, settings: Settings, tmp_path: Path, count: int, measure: Callable[[str, str, int, int, float], None]
) -> None:
    """Export so many bookings in each form. What it takes of memory is that of a few rows, and a little."""
    url, file = settings.database_url, tmp_path / "export"
    few, _ = await asyncio.to_thread(exported, "bookings", "csv", file)
    await sell_many(url, till.event, CLIENT, count)
    for what, form, rows in (("bookings", "csv", count), ("bookings", "jsonl", count), ("payments", "csv", count)):
        peak, seconds = await asyncio.to_thread(exported, what, form, file)
        with file.open() as written:
            assert sum(1 for _ in written) == rows + (form == "csv")
        assert peak < min(200_000_000, few + 40_000_000)
        measure(what, form, rows, peak, seconds)


async def test_memory_does_not_grow_with_the_export(till: Till, settings: Settings, tmp_path: Path) -> None:
    await grown(till, settings, tmp_path, 5 * CHUNK, lambda *_: None)


@pytest.mark.soak
@pytest.mark.timeout(1_200)
async def test_a_million_bookings_stay_under_200_mb(till: Till, settings: Settings, tmp_path: Path) -> None:
    """Writes `bench/export.json`, from which the documentation has its figures."""
    found: list[dict[str, Any]] = []

    def measure(what: str, form: str, rows: int, peak: int, seconds: float) -> None:
        found.append(
            {"what": what, "format": form, "rows": rows, "peak_mb": round(peak / 1e6), "seconds": round(seconds, 1)}
        )

    await grown(till, settings, tmp_path, 1_000_000, measure)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    connection = await asyncpg.connect(settings.database_url)
    for each in ("refunds", "payments", "booking_items", "bookings"):
        await connection.execute(f"TRUNCATE {each} CASCADE")
    await connection.close()
