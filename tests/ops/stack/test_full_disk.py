"""A whole stack on a disk that fills up: everything ends, `boxoffice up` stays, and with room again all of it is back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import httpx2
import pytest

from ops.stack.running import RunningStack, find_stack
from tests.support.ports import free_port
from tests.support.waiting import until

FULL_S = 5
"""How long customers come while the disk is full, and how long it is full after that."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one."""
    tmp_path.chmod(0o711)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=900m,mode=0711", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a tmpfs, and some containers forbid that too")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_stack_on_a_full_disk_comes_back_with_all_that_was_accepted(disk: Path) -> None:
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.endswith(("REDIS_URL", "DATABASE_URL"))}
    with (disk / "up.out").open("wb") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "up", "--port", str(port), "--data-dir", str(disk / "data")],
            env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    client = httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer demo.boxoffice"}, timeout=3
    )
    accepted: list[str] = []

    def book(number: int) -> int:
        body = {
            "customer_id": f"c{number}", "items": [{"tier_id": tier, "quantity": 1}],
            "payment": {"method": "card", "card_number": "4242424242424242", "card_name": "Ada"},
        }  # fmt: skip
        with contextlib.suppress(httpx2.HTTPError):
            answer = client.post("/v1/bookings", json=body, headers={"Idempotency-Key": f"k{number}"})
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])
            return answer.status_code
        return 0

    def stack() -> RunningStack:
        found = find_stack(disk / "data")
        assert found is not None
        return found

    def says(text: str) -> bool:
        assert up.poll() is None, "up lives"
        return text in (disk / "up.out").read_text()

    def ready() -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return client.get("/readyz").status_code == 200
        return False

    try:
        until(lambda: says("boxoffice ready"), timeout_s=120)
        tier = client.get("/v1/events").json()["data"][0]["tiers"][0]["id"]
        assert book(0) == 202
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * (1 << 16))
        for number, end in enumerate(repeat(time.monotonic() + FULL_S), 1):
            book(number)
            if time.monotonic() > end:
                break
        for name in ("postgres", "redis", "worker"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(stack().pids[name], signal.SIGKILL)
        end = time.monotonic() + FULL_S
        until(lambda: up.poll() is not None or time.monotonic() > end)
        assert up.poll() is None, "up lives"
        (disk / "ballast").unlink()
        until(ready, timeout_s=90)
        assert book(1_000) == 202
        audit = subprocess.run(
            [sys.executable, "-m", "ops.cli", "audit", "--data-dir", str(disk / "data"), "--json"],
            env=environ, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert audit.returncode == 0, audit.stdout[-3_000:] + audit.stderr[-1_000:]
        states = {client.get(f"/v1/bookings/{booking}").json()["status"] for booking in accepted}
        assert states == {"confirmed"}, json.dumps(sorted(states))
    finally:
        client.close()
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0
