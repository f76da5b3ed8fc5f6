"""Secrets that stand in files: `BOXOFFICE_DATABASE_URL_FILE=/run/secrets/database_url` instead of the URL itself.

An environment is inherited, shown by tools and kept in crash reports; a file has an owner. Orchestrators mount secrets so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["SECRET_FILES", "Secrets", "read_secrets", "secret_of"]

_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "BOXOFFICE_REDIS_URL": ("redis_url",),
    "REDIS_URL": ("redis_url",),
    "BOXOFFICE_DATABASE_URL": ("database_url",),
    "DATABASE_URL": ("database_url",),
    "BOXOFFICE_GATEWAY__API_KEY": ("gateway", "api_key"),
    "BOXOFFICE_GATEWAY__WEBHOOK_SECRET": ("gateway", "webhook_secret"),
    "BOXOFFICE_GATEWAY__WEBHOOK_SECRET_BEFORE": ("gateway", "webhook_secret_before"),
}
"""Every setting that is secret, by its names in the environment, with where `Settings` has it."""

_SUFFIX: Final = "_FILE"

SECRET_FILES: Final = frozenset(name + _SUFFIX for name in _PLACES)
"""The names of the files."""

_MOST: Final = 65_536
"""Characters of a secret: who names a device or a log by mistake is told so."""


class Secrets(NamedTuple):
    """What the files say."""

    values: dict[str, Any]
    """As `Settings` takes them."""
    wrong: list[str]
    """A sentence for each file that cannot be believed; none of them repeats what is in it."""


def read_secrets(environ: Mapping[str, str]) -> Secrets:
    """The secrets of the files that an environment names. One that is named by two settings, or said beside its file, is said
    twice: nobody knows which is meant."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    upper = {name.upper(): value for name, value in environ.items()}
    given: dict[tuple[str, ...], str] = {place: name for name, place in _PLACES.items() if upper.get(name)}
    for name, place in _PLACES.items():
        path = upper.get(name + _SUFFIX)
        if not path:
            continue
        if place in given:
            wrong.append(f"{name}{_SUFFIX} and {given[place]} are both set: keep one")
            continue
        given[place] = name + _SUFFIX
        try:
            secret = _read(path)
        except ValueError as error:
            wrong.append(f"{name}{_SUFFIX} {error}")
            continue
        _put(values, place, secret)
    return Secrets(values, wrong)


def secret_of(environ: Mapping[str, str], *names: str) -> str:
    """What the first of these names that is set says, itself or by its file; empty when none is, or its file cannot be read."""
    for name in names:
        if value := environ.get(name):
            return value
        if path := environ.get(name + _SUFFIX):
            try:
                return _read(path)
            except ValueError:
                return ""
    return ""


def _read(path: str) -> str:
    """Without the newline that editors put at the end. Raises `ValueError` with the end of a sentence."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            secret = file.read(_MOST + 1)
    except (OSError, UnicodeError):
        raise ValueError("names a file that cannot be read") from None
    if len(secret) > _MOST:
        raise ValueError(f"names a file of more than {_MOST} characters")
    secret = secret.rstrip("\r\n")
    if not secret.strip():
        raise ValueError("names an empty file")
    return secret


def _put(values: dict[str, Any], place: tuple[str, ...], secret: str) -> None:
    *parts, name = place
    for part in parts:
        values = values.setdefault(part, {})
    values[name] = secret
