"""A torn append-only file: what only the disk lost is cut off and told, and what is behind a damage is never thrown away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as sync_redis

from boxoffice.errors import CannotRun
from ops.stack.aof import damage, mend_tail
from ops.stack.data_dir import DataDir
from ops.stack.servers import temporary_data_dir
from ops.stack.valkey import RedisServer

WRITES = 400


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One that was killed after some writes."""
    with temporary_data_dir() as folder:
        home = DataDir(folder)
        home.open()
        server = RedisServer(home, os.environ, debug=True)
        server.start()
        with sync_redis.Redis.from_url(server.url) as redis:
            for number in range(WRITES):
                with redis.pipeline(transaction=True) as pipe:
                    pipe.set(f"key {number}", "x" * 40)
                    pipe.set("highest", number)
                    pipe.execute()
        server.kill()
        yield server
        server.stop()
        home.close()


def file_of(server: RedisServer) -> Path:
    (path,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    return path


def highest(server: RedisServer) -> int:
    """The last write that is left, and that all before it are there: a transaction is whole or not at all."""
    with sync_redis.Redis.from_url(server.url) as redis:
        found = int(redis.get("highest") or -1)  # type: ignore[arg-type]
        assert redis.dbsize() == found + 2
        return found


@pytest.mark.parametrize("zeros", [1, 4_096, 1_000_000])
def test_zeros_behind_the_end_are_cut_off(server: RedisServer, capfd: pytest.CaptureFixture[str], zeros: int) -> None:
    """Blocks that were given to the file and not written: nothing is lost."""
    path = file_of(server)
    before = path.read_bytes()
    path.write_bytes(before + b"\0" * zeros)
    server.start()
    assert highest(server) == WRITES - 1
    said = capfd.readouterr().err
    assert f"{zeros} zeros from byte {len(before)} on were cut off" in said
    assert path.with_name(path.name + ".torn").read_bytes().endswith(b"\0" * zeros)
    server.restart()
    assert "torn" not in capfd.readouterr().err, "once"


def test_zeros_over_the_last_commands_leave_the_others(server: RedisServer, capfd: pytest.CaptureFixture[str]) -> None:
    """The last blocks were never written: what is before them is kept, no transaction by half, and the copy has the rest."""
    path = file_of(server)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4_096] + b"\0" * 4_096)
    server.start()
    assert WRITES - 60 < highest(server) < WRITES - 1
    assert "may be lost" in capfd.readouterr().err
    copy = path.with_name(path.name + ".torn").read_bytes()
    assert whole[:-4_096].endswith(copy.rstrip(b"\0"))


@pytest.mark.parametrize("cut", [1, 37, 1_000])
def test_a_file_that_ends_within_a_command_is_cut_by_the_server(server: RedisServer, cut: int) -> None:
    path = file_of(server)
    path.write_bytes(path.read_bytes()[:-cut])
    server.start()
    assert highest(server) >= WRITES - 20


def test_damage_with_something_behind_it_is_left_alone(server: RedisServer) -> None:
    """Nobody knows what was there: the operator is told what can be done, and the file is as it was."""
    path = file_of(server)
    whole = path.read_bytes()
    middle = len(whole) // 2
    holed = whole[:middle] + b"\0" * 4_096 + whole[middle + 4_096 :]
    path.write_bytes(holed)
    with pytest.raises(CannotRun, match=r"Do not delete it.*valkey-check-aof --fix .*manifest"):
        server.start()
    assert path.read_bytes() == holed
    assert not path.with_name(path.name + ".torn").exists()


def test_only_the_newest_file_is_looked_at(tmp_path: Path) -> None:
    """By its number, not by its name; and an empty folder is none of our business."""
    folder = tmp_path / "appendonlydir"
    assert mend_tail(tmp_path) == ""
    folder.mkdir()
    for number in (2, 10):
        (folder / f"appendonly.aof.{number}.incr.aof").write_bytes(b"*1\r\n\0\0")
    assert "appendonly.aof.10.incr.aof" in mend_tail(tmp_path)
    assert (folder / "appendonly.aof.2.incr.aof").read_bytes() == b"*1\r\n\0\0"
    assert (folder / "appendonly.aof.10.incr.aof").read_bytes() == b"*1\r\n"
    assert damage("something else", tmp_path) == ""
