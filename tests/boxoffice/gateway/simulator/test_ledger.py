"""The simulator's books survive whoever writes them, and are one for all who do."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from boxoffice.errors import CannotRun
from boxoffice.gateway.base import Authorized, CaptureRequest, Declined, Done, Unknown
from boxoffice.gateway.factory import open_simulator
from boxoffice.gateway.simulator import cards, scenario
from boxoffice.gateway.simulator.ledger import Ledger
from boxoffice.settings import Settings
from tests.support.gateways import World, simulated_token

ROOT = Path(__file__).parents[4]

BUYER = """
import asyncio, sys
from pathlib import Path
from boxoffice.gateway.base import AuthorizeRequest, CaptureRequest
from boxoffice.gateway.factory import open_simulator
from boxoffice.settings import Settings

async def main(folder, name, batches):
    simulator = open_simulator(Settings(data_dir=Path(folder)))
    for batch in range(int(batches)):
        keys = [f"{name}{batch}x{i}" if i % 2 else f"shared{batch}x{i}" for i in range(100)]
        told = await simulator.authorize_batch(
            [AuthorizeRequest(key, "b-" + key, 500, "USD", "card", "tok_ok_4242") for key in keys])
        print("\\n".join(f"{key} {outcome.amount_cents}" for key, outcome in zip(keys, told)), flush=True)
        await simulator.capture_batch([CaptureRequest(key, "sim_" + key, 500) for key in keys])

asyncio.run(main(*sys.argv[1:]))
"""


def buyer(folder: Path, name: str, batches: int) -> subprocess.Popen[str]:
    """A process that authorises and captures as fast as it can, and tells every answer it got."""
    return subprocess.Popen(
        [sys.executable, "-c", BUYER, str(folder), name, str(batches)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def ledger_path(settings: Settings) -> Path:
    """Where the books are."""
    return settings.data_dir / "gateway.ledger"


def world_of(settings: Settings) -> World:
    """The simulator, without a contract around it."""
    simulator = open_simulator(settings)
    return World(simulator, simulated_token, simulator.complete_action)


@pytest.mark.parametrize("answers_before_death", [1, 150, 950])
async def test_what_was_answered_survives_a_killed_caller(settings, ledger_path, answers_before_death: int):
    """SIGKILL in the middle of writing loses no payment that anybody heard of."""
    process = buyer(settings.data_dir, "buyer", 1_000_000)
    assert process.stdout is not None
    told = [process.stdout.readline().split()[0] for _ in range(answers_before_death)]
    process.send_signal(signal.SIGKILL)
    told += [line.split()[0] for line in process.stdout.read().split("\n")[:-1]]
    process.wait()

    world = world_of(settings)
    books = {record.payment_key async for record in world.gateway.records()}
    assert set(told) <= books
    assert isinstance(await world.gateway.authorize(world.request("ok")), Authorized)
    await world.gateway.close()


async def test_two_processes_keep_one_ledger(settings, ledger_path):
    """A payment that both ask for is authorised once and captured once."""
    processes = [buyer(settings.data_dir, name, 30) for name in ("left", "right")]
    for process in processes:
        process.communicate(timeout=60)
    lines = Counter(tuple(line.split(" ")[:2]) for line in ledger_path.read_text().splitlines())
    assert set(lines.values()) == {1}
    assert len({key for key, _ in lines}) == 30 * 150
    assert len(lines) == 2 * 30 * 150


async def test_two_gateways_see_each_other(settings):
    """What one authorised, the other captures."""
    left, right = world_of(settings), world_of(settings)
    request = left.request("ok")
    outcome = await left.gateway.authorize(request)
    assert isinstance(outcome, Authorized)
    assert await right.gateway.authorize(request) == outcome
    assert await right.gateway.capture(request.payment_key, outcome.reference, 5_000) == Done(outcome.reference)
    assert await left.gateway.capture(request.payment_key, outcome.reference, 5_000) == Done(outcome.reference)
    await left.gateway.close()
    await right.gateway.close()


async def test_a_torn_last_line_is_cut_off(settings, ledger_path):
    """Nobody was told of it; the next writer begins a fresh line, also when the file holds nothing else."""
    ledger_path.write_text("torn A:50")
    world = world_of(settings)
    first = world.request("ok")
    await world.gateway.authorize(first)
    with ledger_path.open("a") as file:
        file.write(f"{first.payment_key} C:5000:USD:50")
    second = world.request("ok")
    await world.gateway.authorize(second)
    await world.gateway.close()

    again = world_of(settings)
    records = [record async for record in again.gateway.records()]
    assert [record.payment_key for record in records] == [first.payment_key, second.payment_key]
    assert {record.payment.status for record in records} == {"authorized"}
    await again.gateway.close()


async def test_a_damaged_ledger_is_not_believed(settings, ledger_path):
    """A line that is complete and makes no sense was written by nobody we know."""
    ledger_path.write_text("who knows\n")
    world = world_of(settings)
    with pytest.raises(CannotRun):
        await world.gateway.lookup("x", None)
    await world.gateway.close()


async def test_a_long_ledger_is_read_in_pieces(settings, ledger_path):
    """The event loop goes on meanwhile."""
    word = scenario.State("C", 100, "USD", 100, 0, "", "tok_ok_4242").word
    count = 60_000
    ledger_path.write_text("".join(f"key{i:06} {word} booking{i} 1700000000000\n" for i in range(count)))
    world = world_of(settings)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    payment = await world.gateway.lookup(f"key{count - 1:06}", None)
    counting.cancel()
    assert payment == scenario.found(word, f"key{count - 1:06}", "/actions")
    assert turns >= ledger_path.stat().st_size // (1 << 20)
    assert len([record async for record in world.gateway.records()]) == count
    await world.gateway.close()


@pytest.mark.parametrize("timeout_s", [0.6])
async def test_a_stopped_process_does_not_stop_the_others(settings, ledger_path):
    """Whoever holds the ledger for ever makes the others say that they do not know, and nothing worse."""
    world = world_of(settings)
    stopped = Ledger(ledger_path)
    await stopped.begin(1)
    began = time.monotonic()
    assert await world.gateway.authorize(world.request("ok")) == Unknown("ledger_busy")
    assert time.monotonic() - began < 30
    stopped.end()
    assert isinstance(await world.gateway.authorize(world.request("ok")), Authorized)
    stopped.close()
    await world.gateway.close()


async def test_a_full_disk_is_unknown(settings, ledger_path, monkeypatch):
    """What the disk took counts; the rest never happened, and the index in memory does not pretend it did."""
    world = world_of(settings)
    await world.gateway.authorize(world.request("ok"))
    request = world.request("ok")
    real = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) > 60:
            return real(file, data[:60])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", half)
        assert isinstance(await world.gateway.authorize(request), Unknown)
    assert [record.payment_key async for record in world.gateway.records()] != []
    assert isinstance(await world.gateway.authorize(request), Authorized)
    assert len([record async for record in world.gateway.records()]) == 2
    await world.gateway.close()


async def test_no_card_number_is_in_the_ledger(settings, ledger_path):
    """Only what the card does, and its last four digits."""
    world = world_of(settings)
    for card in cards.CARDS:
        token = world.gateway.tokenize(card.number, "Ada Lovelace")
        request = world.request(card.behaviour)
        outcome = await world.gateway.authorize_batch([msgspec.structs.replace(request, token=token.token)])
        assert len(outcome) == 1
    await world.gateway.close()
    text = ledger_path.read_text()
    assert not [card.number for card in cards.CARDS if card.number in text]
    assert "Ada" not in text
    assert "4242" in text


async def test_a_token_that_nobody_checked_declines(settings, ledger_path):
    """And is not written down: it may be a card number, or break the line."""
    world = world_of(settings)
    unchecked = ("4242424242424242", "tok_ok_4242 \nx", "pm_card_visa")
    for token in unchecked:
        outcome = await world.gateway.authorize(msgspec.structs.replace(world.request("ok"), token=token))
        assert isinstance(outcome, Declined)
    assert len([record async for record in world.gateway.records()]) == 3
    written = ledger_path.read_text()
    assert [token for token in (*unchecked, "tok_ok_4242") if token in written] == []
    await world.gateway.close()


async def test_a_key_that_would_break_a_line_is_refused(settings, ledger_path):
    """And the payments before it in the same batch stand."""
    world = world_of(settings)
    good = world.request("ok", payment_key="good")
    with pytest.raises(ValueError, match="payment key"):
        await world.gateway.authorize_batch([good, world.request("ok", payment_key="no\ngood")])
    assert [record.payment_key async for record in world.gateway.records()] == ["good"]
    assert await world.gateway.capture_batch([CaptureRequest("good", "sim_good", 5_000)]) == [Done("sim_good")]
    await world.gateway.close()
