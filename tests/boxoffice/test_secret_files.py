"""Whatever is secret may stand in a file: it means the same there, is said once, and is repeated nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from boxoffice.errors import CannotRun
from boxoffice.secret_files import SECRET_FILES, read_secrets, secret_of
from boxoffice.settings import Settings, load_settings, misspelt

SECRETS = {
    "BOXOFFICE_REDIS_URL": ("redis://:hunter2@h/0", "redis_url"), "REDIS_URL": ("redis://:hunter2@h/0", "redis_url"),
    "BOXOFFICE_DATABASE_URL": ("postgresql://u:hunter2@h/d", "database_url"),
    "DATABASE_URL": ("postgresql://u:hunter2@h/d", "database_url"),
    "BOXOFFICE_GATEWAY__API_KEY": ("sk_hunter2", "gateway.api_key"),
    "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": ("whsec_hunter2", "gateway.webhook_secret"),
    "BOXOFFICE_GATEWAY__WEBHOOK_SECRET_BEFORE": ("whsec_hunter2", "gateway.webhook_secret_before"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of them."""
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)


def at(found: Any, path: str) -> Any:
    for word in path.split("."):
        found = getattr(found, word)
    return found


def test_these_settings_are_secret() -> None:
    """And those that are kept out of what is printed are no others."""
    assert {f"{name}_FILE" for name in SECRETS} == SECRET_FILES
    hidden = {name for name, field in Settings.model_fields.items() if not field.repr}
    gateway = Settings.model_fields["gateway"].annotation
    hidden |= {f"gateway.{name}" for name, field in gateway.model_fields.items() if not field.repr}  # type: ignore[union-attr]
    assert hidden == {path for _, path in SECRETS.values()}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, end: str) -> None:
    """And what is said beside it in the environment is heard as ever."""
    value, path = SECRETS[name]
    (tmp_path / "secret").write_text(value + end)
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("BOXOFFICE_GATEWAY__TIMEOUT_S", "7")
    settings = load_settings()
    assert at(settings, path) == value
    assert settings.gateway.timeout_s == 7
    assert misspelt({f"{name}_FILE": ""}) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "BOXOFFICE_DATABASE_URL_FILE names a file that cannot be read"),
        (b"\xff", "BOXOFFICE_DATABASE_URL_FILE names a file that cannot be read"),
        (b"", "BOXOFFICE_DATABASE_URL_FILE names an empty file"),
        (b" \n", "BOXOFFICE_DATABASE_URL_FILE names an empty file"),
        (b"x" * 65_537, "BOXOFFICE_DATABASE_URL_FILE names a file of more than 65536 characters"),
    ],
)
def test_a_file_that_is_no_secret_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "hunter2"
    if content is not None:
        file.write_bytes(content)
    assert read_secrets({"BOXOFFICE_DATABASE_URL_FILE": str(file)}) == ({}, [said])
    monkeypatch.setenv("boxoffice_database_url_file", str(file))
    monkeypatch.setenv("BOXOFFICE_SHARD", "1")
    with pytest.raises(CannotRun) as refused:
        load_settings()
    assert refused.value.detail == f"BOXOFFICE_SHARD is no setting: did you mean BOXOFFICE_SHARDS?; {said}"


def test_as_much_as_may_be_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x" * 65_536)
    assert read_secrets({"REDIS_URL_FILE": str(tmp_path / "a")}) == ({"redis_url": "x" * 65_536}, [])


def test_what_is_wrong_with_a_secret_is_said_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mysql://u:hunter2@h")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "a"))
    with pytest.raises(CannotRun) as refused:
        load_settings()
    assert "DATABASE_URL begins with postgresql://" in refused.value.detail
    assert "hunter2" not in refused.value.detail


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["REDIS_URL", "REDIS_URL_FILE"], "REDIS_URL_FILE and REDIS_URL are both set: keep one"),
        (["BOXOFFICE_REDIS_URL", "REDIS_URL_FILE"], "REDIS_URL_FILE and BOXOFFICE_REDIS_URL are both set: keep one"),
        (["REDIS_URL", "BOXOFFICE_REDIS_URL_FILE"], "BOXOFFICE_REDIS_URL_FILE and REDIS_URL are both set: keep one"),
        (["REDIS_URL_FILE", "BOXOFFICE_REDIS_URL_FILE"], "REDIS_URL_FILE and BOXOFFICE_REDIS_URL_FILE are both set: keep one"),
        (["BOXOFFICE_GATEWAY__API_KEY", "BOXOFFICE_GATEWAY__API_KEY_FILE"],
         "BOXOFFICE_GATEWAY__API_KEY_FILE and BOXOFFICE_GATEWAY__API_KEY are both set: keep one"),
        (["REDIS_URL", "DATABASE_URL_FILE"], ""),
    ],
)  # fmt: skip
def test_a_secret_is_said_once(tmp_path: Path, names: list[str], said: str) -> None:
    (tmp_path / "a").write_text("redis://h")
    environ = {name: str(tmp_path / "a") if name.endswith("_FILE") else "redis://h" for name in names}
    assert read_secrets(environ).wrong == ([said] if said else [])


def test_an_empty_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("redis://h")
    found = read_secrets({"REDIS_URL": "", "REDIS_URL_FILE": str(tmp_path / "a"), "DATABASE_URL_FILE": ""})
    assert found == ({"redis_url": "redis://h"}, [])


def test_the_first_name_that_says_something_is_heard(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in a file\n")
    file = str(tmp_path / "a")
    names = ("A", "B")
    assert secret_of({}, *names) == ""
    assert secret_of({"A": "", "B": "b"}, *names) == "b"
    assert secret_of({"A_FILE": file, "B": "b"}, *names) == "in a file"
    assert secret_of({"A": "a", "A_FILE": file}, *names) == "a"
    assert secret_of({"B_FILE": file}, *names) == "in a file"
    assert secret_of({"A_FILE": f"{file}x", "B": "b"}, *names) == "", "nobody goes on with another server"


def test_no_secret_has_a_default() -> None:
    """What everybody knows protects nothing."""
    settings = Settings.model_construct()
    for name in ("api_key", "webhook_secret", "webhook_secret_before"):
        assert getattr(settings.gateway, name) == ""
    for name in ("redis_url", "database_url"):
        assert not re.search(r":[^/@]+@", getattr(settings, name))
