"""Commands and stacks find servers whose URLs stand in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxoffice.errors import CannotRun
from ops.options import settings_for
from ops.stack.running import adopt_stack, external_urls, settings_in, settings_left, without_secrets
from ops.stack.stack import Stack
from ops.stack.supervisor import up

REDIS, POSTGRES = "redis://:r@r/0", "postgresql://u:p@d/b"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """An environment that names files."""
    named = {"BOXOFFICE_REDIS_URL_FILE": REDIS, "DATABASE_URL_FILE": POSTGRES}
    for name, url in named.items():
        (tmp_path / name).write_text(f"{url}\n")
    return {name: str(tmp_path / name) for name in named}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "DATABASE_URL", "BOXOFFICE_REDIS_URL", "BOXOFFICE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_file_names_a_server_as_the_environment_does(files: dict[str, str]) -> None:
    assert external_urls(files) == (REDIS, POSTGRES)
    assert external_urls({"REDIS_URL_FILE": files["BOXOFFICE_REDIS_URL_FILE"]}) == (REDIS, "")
    assert external_urls({"BOXOFFICE_DATABASE_URL_FILE": files["DATABASE_URL_FILE"]}) == ("", POSTGRES)


@pytest.mark.usefixtures("bare")
def test_a_command_works_on_the_servers_of_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str]
) -> None:
    """Also while a stack runs there."""
    for name, file in files.items():
        monkeypatch.setenv(name, file)
    with Stack(tmp_path / "data", redis_url="redis://other/0", database_url="postgresql://other/b", environ={}):
        settings = settings_for(tmp_path / "data")
    assert (settings.redis_url, settings.database_url) == (REDIS, POSTGRES)


@pytest.mark.usefixtures("bare")
def test_a_command_goes_to_no_other_server_when_a_file_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str]
) -> None:
    monkeypatch.setenv("BOXOFFICE_REDIS_URL_FILE", files["BOXOFFICE_REDIS_URL_FILE"])
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "no"))
    with (
        Stack(tmp_path / "data", redis_url="redis://other/0", database_url="postgresql://other/b", environ={}),
        pytest.raises(CannotRun) as refused,
    ):
        settings_for(tmp_path / "data")
    assert refused.value.detail == "DATABASE_URL_FILE names a file that cannot be read"
    assert "BOXOFFICE_DATABASE_URL" not in os.environ


def test_up_starts_nothing_when_a_file_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="REDIS_URL_FILE names a file that cannot be read"):
        up(tmp_path / "data", 8_000, {"REDIS_URL_FILE": str(tmp_path / "no")})
    assert not (tmp_path / "data").exists()


def test_the_processes_of_a_stack_are_told_one_thing(tmp_path: Path, files: dict[str, str]) -> None:
    """The URLs themselves; what is secret otherwise they read where it is."""
    inherited = {
        **files, "REDIS_URL_FILE": "x", "BOXOFFICE_DATABASE_URL_FILE": "x", "BOXOFFICE_GATEWAY__API_KEY_FILE": "y"
    }  # fmt: skip
    stack = Stack(tmp_path / "data", redis_url=REDIS, database_url=POSTGRES, environ=inherited)
    told = {name: value for name, value in stack.environment().items() if "URL" in name or "KEY" in name}
    assert told == {
        "BOXOFFICE_REDIS_URL": REDIS, "BOXOFFICE_DATABASE_URL": POSTGRES, "BOXOFFICE_GATEWAY__API_KEY_FILE": "y",
    }  # fmt: skip
    assert settings_in(inherited) == {"BOXOFFICE_GATEWAY__API_KEY_FILE": "y"}


def test_a_stack_leaves_its_settings_to_its_account_and_a_backup_no_secret(tmp_path: Path) -> None:
    of_the_stack = {"BOXOFFICE_SHARDS": "2", "BOXOFFICE_GATEWAY__API_KEY": "k", "BOXOFFICE_GATEWAY__API_KEY_FILE": "f",
                    "BOXOFFICE_gateway__webhook_secret": "w", "BOXOFFICE_GATEWAY": "{}",
                    "BOXOFFICE_POSTGRES_ARCHIVE": "log"}  # fmt: skip
    assert settings_left(tmp_path) == {}
    with Stack(tmp_path, redis_url=REDIS, database_url=POSTGRES, environ=of_the_stack):
        pass
    told = settings_left(tmp_path)
    assert told == {**of_the_stack, "BOXOFFICE_POSTGRES_ARCHIVE": str(Path("log").absolute())}
    assert (tmp_path / "settings.json").stat().st_mode & 0o777 == 0o600
    assert without_secrets(told) == {
        "BOXOFFICE_SHARDS": "2", "BOXOFFICE_GATEWAY__API_KEY_FILE": "f",
        "BOXOFFICE_POSTGRES_ARCHIVE": told["BOXOFFICE_POSTGRES_ARCHIVE"],
    }  # fmt: skip
    (tmp_path / "settings.json").write_text("[]")
    assert settings_left(tmp_path) == {}


@pytest.mark.parametrize(
    ("own", "adopted"),
    [
        ({}, {"BOXOFFICE_GATEWAY__API_KEY_FILE": "k", "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "w"}),
        ({"BOXOFFICE_GATEWAY__API_KEY": "mine"}, {"BOXOFFICE_GATEWAY__API_KEY": "mine"}),
        ({"BOXOFFICE_GATEWAY__API_KEY_FILE": "mine"}, {"BOXOFFICE_GATEWAY__API_KEY_FILE": "mine"}),
        ({"BOXOFFICE_GATEWAY__WEBHOOK_SECRET_FILE": "mine"},
         {"BOXOFFICE_GATEWAY__WEBHOOK_SECRET_FILE": "mine", "BOXOFFICE_GATEWAY__API_KEY_FILE": "k"}),
    ],
)  # fmt: skip
def test_a_secret_that_a_shell_has_is_not_said_again_by_the_stack(
    tmp_path: Path, own: dict[str, str], adopted: dict[str, str]
) -> None:
    """In a file and beside it, it would be said twice."""
    of_the_stack = {"BOXOFFICE_GATEWAY__API_KEY_FILE": "k", "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": "w"}
    environ = dict(own)
    with Stack(tmp_path, redis_url=REDIS, database_url=POSTGRES, environ=of_the_stack):
        adopt_stack(tmp_path, environ)
    assert {name: value for name, value in environ.items() if "GATEWAY" in name} == adopted
