"""What an operator types, and what goes wrong in words."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ops.stack.stack import Stack
from tests.support import commands


def boxoffice(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("REDIS_URL", "DATABASE_URL"))}
    ran = commands.run(*arguments, env=clean | environ, timeout_s=30)
    return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def test_env_prints_the_servers_of_the_running_stack(tmp_path: Path) -> None:
    with Stack(tmp_path, redis_url="redis://:a b@r/0", database_url="postgresql://d/b"):
        lines = boxoffice("env", DATA_DIR=str(tmp_path))
        as_json = boxoffice("env", "--json", "--data-dir", str(tmp_path))

    assert lines.stdout == "export REDIS_URL='redis://:a b@r/0'\nexport DATABASE_URL=postgresql://d/b\n"
    assert json.loads(as_json.stdout) == {"REDIS_URL": "redis://:a b@r/0", "DATABASE_URL": "postgresql://d/b"}


def test_a_command_without_servers_says_how_to_get_some(tmp_path: Path) -> None:
    ran = boxoffice("env", DATA_DIR=str(tmp_path))

    assert ran.returncode == 3
    assert ran.stdout == ""
    assert ran.stderr == (
        f"boxoffice: No box office runs on {tmp_path}: start one with `boxoffice up`, "
        "or set REDIS_URL and DATABASE_URL.\n"
    )


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    ran = boxoffice(
        "env",
        DATA_DIR=str(tmp_path),
        REDIS_URL="redis://r/0",
        DATABASE_URL="postgresql://d/b",
        BOXOFFICE_LIMITS__ITEMS_MAX="0",
    )

    assert ran.returncode == 3
    assert ran.stderr.startswith("boxoffice: Setting limits.items_max: ")


def test_wrong_usage_ends_with_two() -> None:
    assert boxoffice("env", "--no-such-option").returncode == 2


def test_a_terminal_that_knows_few_letters_is_no_error(tmp_path: Path) -> None:
    """No traceback, and no half a table."""
    with Stack(tmp_path, redis_url="redis://:naïve@r/0", database_url="postgresql://d/b"):
        ran = boxoffice("env", DATA_DIR=str(tmp_path), PYTHONIOENCODING="ascii")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("export REDIS_URL='redis://:na")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "0<&- 1>&- 2>&-"])
def test_the_exit_code_tells_when_nothing_else_can(tmp_path: Path, redirection: str) -> None:
    """Standard streams that are closed or full. None of their numbers may go to a file or a connection either."""
    command = f"{sys.executable} -m ops.cli env --data-dir {tmp_path} {redirection}"
    assert subprocess.run(["sh", "-c", command], check=False, timeout=30).returncode == 3


SERVERS = {"REDIS_URL": "redis://r/0", "DATABASE_URL": "postgresql://d/b"}


def test_names_that_are_no_settings_are_told_all_at_once(tmp_path: Path) -> None:
    ran = boxoffice(
        "env", DATA_DIR=str(tmp_path), **SERVERS, BOXOFFICE_GATEWAY_KIND="stripe", BOXOFFICE_LIMIT__ITEMS_MAX="3",
        boxoffice_frobnicate="1", BOXOFFICE_GATEWAY__KIN="stripe", BOXOFFICE_LIMITS__ITEMS_MAX="0",
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (3, "")
    for said in (
        "BOXOFFICE_GATEWAY_KIND is no setting: did you mean BOXOFFICE_GATEWAY__KIND?",
        "BOXOFFICE_LIMIT__ITEMS_MAX is no setting: did you mean BOXOFFICE_LIMITS__ITEMS_MAX?",
        "BOXOFFICE_GATEWAY__KIN is no setting: did you mean BOXOFFICE_GATEWAY__KIND?",
        "boxoffice_frobnicate is no setting",
        "Setting limits.items_max: ",
    ):
        assert said in ran.stderr
    assert "stripe" not in ran.stderr.replace("kind=stripe", ""), "values are not repeated"


def test_up_names_them_before_it_starts_anything(tmp_path: Path) -> None:
    ran = boxoffice("up", "--data-dir", str(tmp_path / "data"), BOXOFFICE_SHARD="2")
    assert (ran.returncode, "BOXOFFICE_SHARDS?" in ran.stderr) == (3, True)
    assert not (tmp_path / "data").exists()


STRIPE = {
    "BOXOFFICE_GATEWAY__KIND": "stripe",
    "BOXOFFICE_GATEWAY__API_KEY": "sk_test_1",
    "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "whsec_of_the_endpoint",
    "BOXOFFICE_GATEWAY__RETURN_URL": "https://shop.example/paid",
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"BOXOFFICE_GATEWAY__API_KEY": ""}, "BOXOFFICE_GATEWAY__API_KEY"),
        ({"BOXOFFICE_GATEWAY__API_KEY": "pk_test_1"}, "no secret key"),
        ({"BOXOFFICE_GATEWAY__API_KEY": "sk_test_1 "}, "no secret key"),
        ({"BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "whsec_simulator"}, "BOXOFFICE_GATEWAY__WEBHOOK_SECRET"),
        ({"BOXOFFICE_GATEWAY__WEBHOOK_SECRET": ""}, "BOXOFFICE_GATEWAY__WEBHOOK_SECRET"),
        ({"BOXOFFICE_GATEWAY__RETURN_URL": "https://example.com/paid"}, "BOXOFFICE_GATEWAY__RETURN_URL"),
        ({"BOXOFFICE_GATEWAY__RETURN_URL": "shop.example/paid"}, "BOXOFFICE_GATEWAY__RETURN_URL"),
        ({"BOXOFFICE_GATEWAY__RETURN_URL": ""}, "BOXOFFICE_GATEWAY__RETURN_URL"),
        ({"BOXOFFICE_GATEWAY__API_KEY": "", "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "whsec_simulator"}, "__API_KEY"),
    ],
)
def test_stripe_does_not_start_by_half(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    assert boxoffice("env", DATA_DIR=str(tmp_path), **SERVERS, **STRIPE).returncode == 0
    for command in ("env", "api", "worker"):
        ran = boxoffice(command, DATA_DIR=str(tmp_path), **SERVERS, **(STRIPE | changes))
        assert (ran.returncode, said in ran.stderr) == (3, True)
        assert len(ran.stderr.splitlines()) == 1
    if len(changes) == 2:
        assert "__WEBHOOK_SECRET" in ran.stderr, "both at once"


def test_it_knows_its_version() -> None:
    ran = boxoffice("--version")
    assert (ran.returncode, ran.stdout) == (0, f"boxoffice {version('boxoffice')}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    """The script that a shell reads calls us back, and is answered with what may stand there."""
    script = boxoffice(_BOXOFFICE_COMPLETE=f"source_{shell}")
    assert (script.returncode, f"complete_{shell}" in script.stdout) == (0, True)
    asked = "boxoffice bookings re"
    answered = boxoffice(
        _BOXOFFICE_COMPLETE=f"complete_{shell}", COMP_WORDS=asked, COMP_CWORD="2", _TYPER_COMPLETE_ARGS=asked,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )  # fmt: skip
    assert answered.returncode == 0
    assert "refund" in answered.stdout
    assert "cancel" not in answered.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path: Path) -> None:
    """The script as bash runs it, with a `boxoffice` on its path."""
    program = tmp_path / "boxoffice"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from ops.cli import main; main()" "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(_BOXOFFICE_COMPLETE=source_bash boxoffice)"; COMP_WORDS=(boxoffice events cl); COMP_CWORD=2;'
        " $(complete -p boxoffice | sed 's/.*-F \\([^ ]*\\).*/\\1/') boxoffice; echo \"${COMPREPLY[@]}\""
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path, "PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert ran.stdout == "close\n", ran.stderr


def test_commands_of_a_group_are_in_no_other() -> None:
    """What stands at the top is what was meant to: a module of a group's commands begins with an underscore."""
    listed = boxoffice("--help").stdout
    named = set(re.findall(r"^│ ([a-z-]+) ", listed, re.M))
    assert {"up", "bookings", "events", "sales", "export", "trim"} <= named
    assert not named & {"edit", "schedule", "pause", "history", "refund", "forget"}


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_terminal_reads_no_traceback_of_a_library(debug: str) -> None:
    """As asyncpg logs that it could not connect, and tries again, while a rush kills PostgreSQL."""
    program = """
import atexit, logging, sys
from ops import cli
def late():
    try:
        raise OSError("refused")
    except OSError:
        logging.getLogger("asyncpg.pool").exception("Failed")
atexit.register(late)
sys.argv[1:] = ["--version"]
cli.main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"BOXOFFICE_DEBUG": debug},
    )  # fmt: skip
    assert ("Traceback" in ran.stderr) is (debug == "1")
