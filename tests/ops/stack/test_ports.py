"""A port that one boxoffice was given is given to no other, however many start in the same instant."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxoffice.errors import CannotRun
from ops.stack import ports
from ops.stack.data_dir import DataDir
from ops.stack.ports import PORTS, Ports, port_is_free

DRAWER = """
import sys
from ops.stack import ports
ports.PORTS = range(int(sys.argv[1]), int(sys.argv[2]))
ours = ports.Ports()
print("here", flush=True)
sys.stdin.readline()
print(*(ours.draw() for _ in range(int(sys.argv[3]))), flush=True)
sys.stdin.readline()
"""

STACK = """
import contextlib, socket, sys
from pathlib import Path
from boxoffice.errors import CannotRun
from ops.stack import ports
from ops.stack.stack import Stack

def serves(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False

def wait(*says):
    print(*says, flush=True)
    sys.stdin.readline()

ports.PORTS = range(int(sys.argv[1]), int(sys.argv[2]))
with Stack(Path(sys.argv[3]), redis_url="redis://elsewhere/0", database_url="postgresql://elsewhere/b") as stack:
    wait()
    ours = [stack.spare_port() for _ in range(4)]
    wait(*ours)
    gateways = [stack.spawn_gateway(port, "http://127.0.0.1:9/") for port in ours[:2]]
    for gateway, port in zip(gateways, ours):
        gateway.wait_until(lambda: serves(port), 60)
    wait(*ours[:2])
    if sys.argv[3].endswith("one"):
        gateways[0].kill()
        wait(ours[0])
        gateways[0].start()
        gateways[0].wait_until(lambda: serves(ours[0]), 60)
        wait(ours[0])
    else:
        left = []
        try:
            while True:
                left.append(stack.spare_port())
        except CannotRun:
            wait(*left)
"""


def narrow(width: int) -> range:
    """So many ports in a row, all free."""
    for start in range(PORTS.stop - width, PORTS.start, -width):
        ours, row = Ports(), range(start, start + width)
        taken = [ours.take(port) for port in row]
        ours.close()
        if all(taken):
            return row
    raise AssertionError("nothing is free")


@pytest.fixture
def ours() -> Iterator[Ports]:
    ours = Ports()
    yield ours
    ours.close()


def test_no_two_processes_draw_the_same(ours: Ports) -> None:
    """Four of them, at once, want all but a few of the same forty."""
    row = narrow(40)
    drawers = [
        subprocess.Popen(
            [sys.executable, "-c", DRAWER, str(row.start), str(row.stop), "9"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    try:
        for drawer in drawers:
            assert drawer.stdout and drawer.stdout.readline() == "here\n"
        for drawer in drawers:
            assert drawer.stdin
            drawer.stdin.write("draw\n")
            drawer.stdin.flush()
        drawn = [[int(port) for port in drawer.stdout.readline().split()] for drawer in drawers if drawer.stdout]
        assert [len(ports) for ports in drawn] == [9] * 4
        assert len({port for ports in drawn for port in ports}) == 36

        drawers[0].send_signal(signal.SIGKILL)
        drawers[0].wait()
        assert all(ours.take(port) for port in drawn[0]), "with its process a mark is gone"
        assert not any(ours.take(port) for port in drawn[1])
    finally:
        for drawer in drawers:
            drawer.kill()
            drawer.communicate()


def test_what_is_taken_is_ours_until_we_leave_it(ours: Ports) -> None:
    port, others = ours.draw(), Ports()

    assert port_is_free(port), "for our server"
    assert not others.take(port)
    assert ours.take(port)
    with socket.create_server(("127.0.0.1", port)):
        assert ours.take(port), "our server's"
    ours.leave(port)
    assert others.take(port)
    others.close()
    assert ours.take(port)


def test_a_port_where_somebody_listens_is_nobodys(ours: Ports) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        assert not ours.take(port)
    assert ours.take(port), "and was not marked meanwhile"


def test_when_all_are_taken_it_is_said(ours: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PORTS", narrow(3))

    assert ours.draw(avoid=[(kept := ports.PORTS[0])]) != kept
    assert {ours.draw(), ours.draw()} <= set(ports.PORTS)
    with pytest.raises(CannotRun, match="No free port"):
        ours.draw()


def test_a_data_directory_keeps_its_ports_while_its_servers_are_away(tmp_path: Path) -> None:
    """A server that was killed has nobody on its port for a moment."""
    homes = [DataDir(tmp_path / name) for name in ("one", "other")]
    for home in homes:
        home.open()
    first = homes[0].port("redis")

    assert homes[0].port("redis") == first
    assert not homes[1].take_port(first)
    second = homes[0].new_port("redis")
    assert second != first
    assert homes[1].take_port(first), "the one before is nobody's"
    spare = homes[0].spare_port()
    homes[0].close()
    assert homes[1].take_port(second)
    assert homes[1].take_port(spare)
    homes[1].close()
    assert homes[0].port("redis") == second, "as the URL was"
    homes[0].close()


def test_two_stacks_started_in_the_same_instant_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each has four servers to start, and there is room for nine. One of them is killed, and its port waits for it."""
    row = narrow(9)
    stacks = [
        subprocess.Popen(
            [sys.executable, "-c", STACK, str(row.start), str(row.stop), str(tmp_path / name)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in ("one", "other")
    ]  # fmt: skip

    def tell(at: int) -> None:
        hears = stacks[at].stdin
        assert hears
        hears.write("go on\n")
        hears.flush()

    def said(at: int) -> list[int]:
        says = stacks[at].stdout
        assert says
        return [int(port) for port in says.readline().split()]

    try:
        assert [said(0), said(1)] == [[], []], "both are there"
        tell(0)
        tell(1)
        first, second = said(0), said(1)
        assert len({*first, *second}) == 8
        tell(0)
        tell(1)
        assert [said(0), said(1)] == [first[:2], second[:2]], "their servers run"
        tell(0)
        assert said(0) == first[:1], "it is dead, and its stack waits"
        tell(1)
        assert said(1) == [*({*row} - {*first, *second})], "no other is left to draw"
        tell(0)
        assert said(0) == first[:1], "it runs again"
    finally:
        for stack in stacks:
            stack.kill()
            stack.communicate()
