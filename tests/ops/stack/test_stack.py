"""A stack is found by other commands while it runs, and only then."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from boxoffice.errors import CannotRun
from ops.stack.data_dir import write_private
from ops.stack.processes import Child
from ops.stack.running import RunningStack, adopt_stack, find_stack, wished_urls
from ops.stack.servers import temporary_data_dir
from ops.stack.stack import Stack
from ops.stack.supervisor import Keeper, up
from tests.support.environment import kept_environment
from tests.support.ports import free_port


class Patient(Child):
    """A component that lives as long as it is told to."""

    def start(self) -> None:
        self.spawn(["sleep", "60"])


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    child = Patient("patient", tmp_path / "patient.log")
    child.start()
    yield child
    child.stop()


@pytest.fixture
def external(tmp_path: Path) -> Stack:
    """A stack on somebody else's servers: nothing of ours runs."""
    return Stack(tmp_path, redis_url="redis://elsewhere/0", database_url="postgresql://elsewhere/boxoffice")


def test_a_running_stack_is_found_and_a_stopped_one_is_not(tmp_path: Path, external: Stack) -> None:
    assert find_stack(tmp_path) is None

    with external:
        found = find_stack(tmp_path)
        assert found is not None
        assert (found.pid, found.redis_url, found.pids) == (os.getpid(), "redis://elsewhere/0", {})
        assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600

    assert find_stack(tmp_path) is None
    assert not (tmp_path / "stack.json").exists()


def test_what_a_crash_left_is_no_stack(tmp_path: Path, external: Stack) -> None:
    with external:
        left = (tmp_path / "stack.json").read_text()
    (tmp_path / "stack.json").write_text(left)

    assert find_stack(tmp_path) is None


def test_commands_use_the_running_stack_unless_the_environment_names_another(tmp_path: Path, external: Stack) -> None:
    environ = {"DATABASE_URL": "postgresql://mine/boxoffice"}

    with external:
        adopt_stack(tmp_path, environ)

    assert environ == {
        "DATABASE_URL": "postgresql://mine/boxoffice",
        "BOXOFFICE_REDIS_URL": "redis://elsewhere/0",
        "BOXOFFICE_DATA_DIR": str(tmp_path),
    }


def test_what_a_command_adopts_ends_with_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands write into the environment of their process. Run in the tests' own, they would point every program that a
    later test starts to the data directory of an earlier one."""
    monkeypatch.setenv("BOXOFFICE_PLAYED", "before")
    before = dict(os.environ)
    with kept_environment():
        adopt_stack(tmp_path)
        del os.environ["BOXOFFICE_PLAYED"]
        assert os.environ["BOXOFFICE_DATA_DIR"] == str(tmp_path)
    assert dict(os.environ) == before


def test_processes_of_a_stack_get_its_servers_and_nothing_of_make(tmp_path: Path) -> None:
    inherited = {"PATH": "/bin", "MAKELEVEL": "1", "REDIS_URL": "redis://other/0"}
    stack = Stack(tmp_path, redis_url="redis://r/0", database_url="postgresql://d/b", environ=inherited)

    environment = stack.environment({"PORT": "1"})

    assert environment["BOXOFFICE_REDIS_URL"] == "redis://r/0"
    assert environment["BOXOFFICE_DATABASE_URL"] == "postgresql://d/b"
    assert environment["PATH"] == "/bin"
    assert not {"MAKELEVEL", "REDIS_URL"} & set(environment)


def test_a_busy_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotRun, match=r"^Port \d+ is in use"):
        up(tmp_path / "data", taken.getsockname()[1])

    assert not (tmp_path / "data").exists()


def test_a_port_that_the_demo_shop_is_to_have_is_free_or_refused(tmp_path: Path) -> None:
    """One that is not named gives way to whoever has it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotRun, match=rf"^Port {port} is in use: .*SHOP_PORT={port + 1}\.$"):
            up(tmp_path / "data", free_port(), shop_port=port)
        assert not (tmp_path / "data").exists()
        stack = Stack(tmp_path / "other", redis_url="redis://r/0", database_url="postgresql://d/b")
        elsewhere = stack.port_near(port)
        assert elsewhere not in (port, 0) and stack.port_near(elsewhere) == elsewhere
        assert stack.port_near(65_536) in range(1, 65_536)


def test_who_dies_is_started_again(patient: Patient, capfd: pytest.CaptureFixture[str]) -> None:
    keeper = Keeper(patient)
    first = patient.pid
    patient.kill()

    assert not keeper.tend(100.0)
    assert keeper.tend(100.1)

    assert patient.alive
    assert patient.pid != first
    assert capfd.readouterr().err == "patient ended unexpectedly (killed by SIGKILL); starting it again in 0.1 s\n"


def test_who_keeps_dying_waits_longer_up_to_a_limit(patient: Patient, capfd: pytest.CaptureFixture[str]) -> None:
    keeper, now, delays = Keeper(patient), 100.0, []
    for _ in range(8):
        patient.kill()
        keeper.tend(now)
        now += 0.001
        asked = now
        while not keeper.tend(now):
            now += 0.1
        delays.append(round(now - asked, 1))

    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]

    now += 3 * Keeper.LONGEST_S
    patient.kill()
    keeper.tend(now)
    assert keeper.tend(now + 0.1), "who lived long begins anew"


class Talker(Child):
    """A component that fills its log."""

    def start(self) -> None:
        self.spawn([sys.executable, "-c", TALK])


TALK = """
import os, time
while True:
    for _ in range(100):
        os.write(1, b"x" * 999 + b"\\n")
    time.sleep(0.01)
"""


def test_a_log_is_capped_while_its_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has grown too long is put aside, once; the process goes on writing, and nobody else may read either."""
    most = 200_000
    monkeypatch.setattr("ops.stack.processes.LOG_MAX_BYTES", most)
    monkeypatch.setattr(Keeper, "LOG_LOOK_S", 0.0)
    talker = Talker("talker", tmp_path / "logs" / "talker.log")
    (tmp_path / "logs").mkdir(mode=0o755)
    talker.log.touch(mode=0o644)
    talker.start()
    keeper = Keeper(talker)
    aside = talker.log.with_name("talker.log.1")
    try:
        cuts, end, before = 0, time.monotonic() + 60, 0
        while cuts < 3:
            assert time.monotonic() < end
            keeper.tend(time.monotonic())
            size = talker.log.stat().st_size
            cuts += size < before
            before = size
        assert aside.stat().st_size >= most
        line = b"x" * 999 + b"\n"
        assert aside.read_bytes() == aside.stat().st_size // len(line) * line
        assert talker.log.read_bytes()[: len(line)] in (b"", line), "it goes on at the new end"
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (talker.log, aside)]
        assert modes == [0o600, 0o600]
        assert [path.name for path in sorted(talker.log.parent.iterdir())] == ["talker.log", "talker.log.1"]
    finally:
        talker.stop()


@pytest.mark.parametrize(("said", "kept"), [("one\ntwo\nthr", "one\ntwo\n"), ("one\n", "one\n"), ("one", "one")])
def test_half_a_line_is_not_put_aside(patient: Patient, monkeypatch: pytest.MonkeyPatch, said: str, kept: str) -> None:
    """The copy may meet a line that is being written. Of a process that has ended, the last words are whatever they are."""
    monkeypatch.setattr("ops.stack.processes.LOG_MAX_BYTES", 2)
    monkeypatch.setattr("ops.stack.processes.LINE_MAX_BYTES", 4)
    aside = patient.log.with_name("patient.log.1")
    patient.log.write_text(said)
    patient.cap_log()
    assert (patient.log.read_text(), aside.read_text()) == ("", kept)

    patient.kill()
    patient.log.write_text(said)
    patient.cap_log()
    assert (patient.log.read_text(), aside.read_text()) == ("", said)


def test_on_a_disk_without_room_for_the_copy_a_log_is_left(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.stack.processes.LOG_MAX_BYTES", 3)

    def full(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr("shutil.copyfile", full)
    patient.log.write_text("said")
    patient.cap_log()
    assert patient.log.read_text() == "said"
    assert [path.name for path in patient.log.parent.iterdir()] == ["patient.log"]


def test_what_a_disk_refuses_does_not_end_the_keeper(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A component whose start fails for whatever reason is started again later."""
    keeper = Keeper(patient)
    refusals: list[BaseException] = [OSError(28, "no space left"), ValueError("a bug"), CannotRun("Nobody.")]
    real = patient.start

    def start() -> None:
        if refusals:
            raise refusals.pop(0)
        real()

    monkeypatch.setattr(patient, "start", start)
    patient.kill()
    now = 100.0
    while not keeper.tend(now):
        now += 0.1
    assert patient.alive
    said = capfd.readouterr().err.splitlines()
    assert [line.split("back: ")[1].split(";")[0] for line in said[1:]] == [
        "OSError: [Errno 28] no space left", "ValueError: a bug", "Nobody.",
    ]  # fmt: skip


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a configuration, on a full disk, would start a server without its password. The same text is no write."""
    path = tmp_path / "redis.conf"
    write_private(path, "requirepass x")

    def full(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(Path, "write_text", full)
    write_private(path, "requirepass x")
    with pytest.raises(OSError, match="no space"):
        write_private(path, "requirepass y")
    assert path.read_text() == "requirepass x"


def gateway_of(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if "GATEWAY" in name}


STRIPE = {
    "BOXOFFICE_GATEWAY__KIND": "stripe",
    "BOXOFFICE_GATEWAY__API_KEY": "sk_test_1",
    "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "whsec_1",
    "BOXOFFICE_GATEWAY__RETURN_URL": "https://shop.example/paid",
}


def stack_with(tmp_path: Path, **inherited: str) -> Stack:
    return Stack(tmp_path, redis_url="redis://r/0", database_url="postgresql://d/b", environ=inherited)


def test_commands_adopt_the_settings_of_the_running_stack(tmp_path: Path) -> None:
    """Its gateway and its shards: an audit elsewhere would be of other books, a repair of half the sale."""
    environ = {"BOXOFFICE_SHARDS": "2"}
    with stack_with(tmp_path, **STRIPE, BOXOFFICE_SHARDS="4", BOXOFFICE_LIMITS__ITEMS_MAX="3", HOME="/root"):
        adopt_stack(tmp_path, environ)

    assert gateway_of(environ) == STRIPE
    assert environ["BOXOFFICE_SHARDS"] == "2", "what the shell names stays"
    assert environ["BOXOFFICE_LIMITS__ITEMS_MAX"] == "3"
    assert "HOME" not in environ


@pytest.mark.parametrize(
    "own",
    [
        {"BOXOFFICE_GATEWAY__KIND": "simulator"},
        {"BOXOFFICE_GATEWAY__API_KEY": "sk_live_2"},
        {"BOXOFFICE_GATEWAY__URL": "http://other"},
    ],
)
def test_a_shell_that_names_a_gateway_gets_no_half_of_another(tmp_path: Path, own: dict[str, str]) -> None:
    environ = dict(own)
    with stack_with(tmp_path, **STRIPE):
        adopt_stack(tmp_path, environ)
    assert gateway_of(environ) == own


def test_a_shell_that_names_other_servers_gets_no_settings(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://mine/0", "DATABASE_URL": "postgresql://mine/b"}
    with stack_with(tmp_path, **STRIPE):
        adopt_stack(tmp_path, environ)
    assert gateway_of(environ) == {}


def printed(text: str) -> dict[str, str]:
    """What a shell has after `eval`."""
    ran = subprocess.run(["sh", "-c", f"{text}\nenv -0"], env={}, capture_output=True, text=True, check=True)
    return dict(entry.split("=", 1) for entry in ran.stdout.split("\0") if "=" in entry)


def test_a_shell_that_remembers_a_stack_may_start_another(tmp_path: Path) -> None:
    """After `eval "$(boxoffice env)"`, `make run` in that terminal starts servers of its own again, and commands find the
    stack that runs, not the ports of the one before."""
    before = RunningStack(1, 8000, "redis://default:a@127.0.0.1:1/0", "postgresql://b@127.0.0.1:2/b",
                          {"redis": 1, "postgres": 2})  # fmt: skip
    shell = {
        "REDIS_URL": before.redis_url,
        "DATABASE_URL": before.database_url,
        "BOXOFFICE_ENV": before.mark(),
    }
    assert wished_urls(shell) == ("", "")
    with stack_with(tmp_path, BOXOFFICE_SHARDS="4"):
        adopt_stack(tmp_path, shell)
    assert (shell["BOXOFFICE_REDIS_URL"], shell["BOXOFFICE_SHARDS"]) == ("redis://r/0", "4")
    shell = {"REDIS_URL": "redis://mine/0", "DATABASE_URL": before.database_url, "BOXOFFICE_ENV": before.mark()}
    assert wished_urls(shell) == ("redis://mine/0", ""), "what somebody named since counts"
    assert adopt_stack(tmp_path / "nothing runs", shell) is None
    assert "BOXOFFICE_REDIS_URL" not in shell, "and where none runs, the shell's are used as they are"


def test_what_env_prints_of_a_stack_of_its_own(tmp_path: Path) -> None:
    with temporary_data_dir() as folder, Stack(folder, debug=True) as stack:
        ran = subprocess.run(
            [sys.executable, "-m", "ops.cli", "env", "--data-dir", str(folder)],
            env={name: value for name, value in os.environ.items() if not name.endswith("_URL")},
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        shell = printed(ran.stdout)
        assert shell["REDIS_URL"].startswith("redis://default:"), "as redis-cli needs it"
        assert redis.Redis.from_url(shell["REDIS_URL"]).ping()
        assert stack.database_url == shell["DATABASE_URL"]
    assert wished_urls(shell) == ("", "")
