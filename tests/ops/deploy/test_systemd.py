"""The units for systemd: it takes them, they give the product what it needs, and no right beyond it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from api.server import GRACE_S
from boxoffice.settings import Settings
from ops.cli import app

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "ops" / "deploy" / "systemd"
UNITS = ["boxoffice-api@.service", "boxoffice-migrate.service", "boxoffice-worker@.service"]
LASTING = ["boxoffice-api@.service", "boxoffice-worker@.service"]

EXPOSED_MOST = 15
"""Tenths: what `systemd-analyze security` calls OK, with room for another version's opinion."""


def lines(unit: str) -> list[tuple[str, str]]:
    text = (FOLDER / unit).read_text()
    return re.findall(r"^([A-Za-z]+)=(.*)$", text, re.M)


def value(unit: str, name: str) -> str:
    (found,) = (value for each, value in lines(unit) if each == name)
    return found


@pytest.fixture
def analyze(tmp_path: Path) -> list[str]:
    """systemd-analyze, and the units in the folder where it runs, with a program that is there."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        (tmp_path / unit).write_text((FOLDER / unit).read_text().replace("/opt/boxoffice/bin/boxoffice", "/bin/true"))
    return [program]


def test_all_units_are_looked_at() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.service")) == UNITS


def test_systemd_takes_every_unit(analyze: list[str], tmp_path: Path) -> None:
    """A name that it does not know is a warning to it, which is a mistake here."""
    names = [str(tmp_path / unit) for unit in UNITS]
    ended = subprocess.run(
        [*analyze, "verify", "--man=no", *names], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_calls_it_hardened(unit: str, analyze: list[str], tmp_path: Path) -> None:
    asked = [*analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSED_MOST}", str(tmp_path / unit)]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_three_are_hardened_alike() -> None:
    """From the line on that says so; what is true of one is true of all."""
    parts = {(FOLDER / unit).read_text().partition("\n# It reads its program")[2] for unit in UNITS}
    assert len(parts) == 1 and "MemoryDenyWriteExecute=yes" in parts.pop()


@pytest.mark.parametrize("unit", UNITS)
def test_it_starts_a_command_that_there_is_as_a_user_of_its_own(unit: str) -> None:
    program, command, *arguments = value(unit, "ExecStart").split()
    known = {each.name or (each.callback and each.callback.__name__) for each in app.registered_commands}
    assert program == "/opt/boxoffice/bin/boxoffice" and command in known
    assert arguments == (["--host", "127.0.0.1", "--port", "%i"] if command == "api" else [])
    assert (value(unit, "User"), value(unit, "Group")) == ("boxoffice", "boxoffice")
    assert re.search(r"^u boxoffice - .* /var/lib/boxoffice$", (FOLDER / "boxoffice.conf").read_text(), re.M)
    assert value(unit, "StateDirectory") == "boxoffice"
    assert "BOXOFFICE_DATA_DIR=/var/lib/boxoffice" in value(unit, "Environment").split()


@pytest.mark.parametrize("unit", UNITS)
def test_settings_come_from_files_that_root_reads(unit: str) -> None:
    part = unit.removeprefix("boxoffice-").removesuffix(".service").replace("@", "-%i")
    files = [value for name, value in lines(unit) if name == "EnvironmentFile"]
    assert files == ["/etc/boxoffice/boxoffice.env", f"-/etc/boxoffice/{part}.env"]


@pytest.mark.parametrize("unit", LASTING)
def test_what_ends_is_started_again_however_often(unit: str) -> None:
    assert (value(unit, "Restart"), value(unit, "RestartSec"), value(unit, "StartLimitIntervalSec")) == (
        "always",
        "1",
        "0",
    )
    assert "boxoffice-migrate.service" in value(unit, "After").split()
    assert "boxoffice-migrate.service" in value(unit, "Wants").split()


def test_a_service_may_finish_what_it_has_begun() -> None:
    settings = Settings()
    assert int(value("boxoffice-api@.service", "TimeoutStopSec")) >= settings.api.drain_s + GRACE_S + 5
    assert int(value("boxoffice-worker@.service", "TimeoutStopSec")) >= settings.worker.lease_ms / 1_000 + 15
    # SIGTERM to the process, which is its own only one.
    assert not [name for unit in UNITS for name, _ in lines(unit) if name in ("KillSignal", "KillMode")]


def test_there_are_descriptors_for_every_connection() -> None:
    for unit in LASTING:
        assert int(value(unit, "LimitNOFILE")) > 2 * Settings().api.connections_max


def test_migrations_run_once_and_again_when_they_could_not() -> None:
    unit = "boxoffice-migrate.service"
    assert (value(unit, "Type"), value(unit, "RemainAfterExit"), value(unit, "Restart")) == (
        "oneshot",
        "yes",
        "on-failure",
    )
