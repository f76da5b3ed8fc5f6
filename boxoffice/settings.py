"""Every number that somebody may want to change, with its unit and its reason.

Settings are read from the environment at a door (`load_settings()`), checked together, frozen, and passed down.
Names are `BOXOFFICE_` + the path in upper case with `__` between levels: `BOXOFFICE_LIMITS__ITEMS_MAX=4`.
`REDIS_URL`, `DATABASE_URL`, `DATA_DIR` and `PORT` are also understood bare. What is secret may stand in a file, which the
name with `_FILE` behind it names.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

from pydantic import AliasChoices, BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from boxoffice.database_url import check_database_files
from boxoffice.errors import CannotRun
from boxoffice.rate_settings import DeclineSettings, RateSettings
from boxoffice.redis_url import check_redis_files
from boxoffice.secret_files import SECRET_FILES, read_secrets
from boxoffice.setting_parts import (
    SIMULATOR_SECRET,
    ApiSettings,
    GatewaySettings,
    HoldSettings,
    LimitSettings,
    WorkerSettings,
)
from boxoffice.stream_settings import StreamSettings
from boxoffice.telemetry_settings import TelemetrySettings
from boxoffice.webhook_settings import WebhookSettings

__all__ = [
    "NO_SETTINGS",
    "SIMULATOR_SECRET",
    "ApiSettings",
    "GatewaySettings",
    "HoldSettings",
    "LimitSettings",
    "Settings",
    "StreamSettings",
    "TelemetrySettings",
    "WebhookSettings",
    "WorkerSettings",
    "load_settings",
    "misspelt",
]

NO_SETTINGS: Final = frozenset({
    "BOXOFFICE_CRASHPOINT", "BOXOFFICE_DEBUG", "BOXOFFICE_ENV", "BOXOFFICE_POSTGRES_ACCOUNT",
    "BOXOFFICE_POSTGRES_ARCHIVE", "BOXOFFICE_POSTGRES_BIN", "BOXOFFICE_REDIS_MAXMEMORY", "BOXOFFICE_REDIS_SERVER",
})  # fmt: skip
"""Names of the tools around the product."""


class Settings(BaseSettings):
    """All settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix="BOXOFFICE_", env_nested_delimiter="__", frozen=True, extra="ignore", populate_by_name=True,
        allow_inf_nan=False,
    )  # fmt: skip

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", validation_alias=AliasChoices("BOXOFFICE_REDIS_URL", "REDIS_URL"), repr=False
    )
    """Redis or Valkey 7 or newer, `appendonly yes`, `appendfsync always`, `maxmemory-policy noeviction`."""

    database_url: str = Field(
        "postgresql://boxoffice@127.0.0.1:5432/boxoffice",
        validation_alias=AliasChoices("BOXOFFICE_DATABASE_URL", "DATABASE_URL"),
        repr=False,
    )
    """PostgreSQL 14 or newer, `fsync`, `full_page_writes` and `synchronous_commit` on."""

    data_dir: Path = Field(Path(".boxoffice"), validation_alias=AliasChoices("BOXOFFICE_DATA_DIR", "DATA_DIR"))
    """Embedded servers and the simulated gateway's ledger live here."""

    port: int = Field(8000, ge=1, le=65_535, validation_alias=AliasChoices("PORT", "BOXOFFICE_PORT"))
    """Port of the API on this machine. The simulated gateway sends customers there for 3-D Secure, unless `gateway.url`
    names another place."""

    shards: int = Field(1, ge=1, le=64)
    """Shards that new events are spread over, and that this process serves. Today one Redis has them all."""

    durability: Literal["always", "everysec", "none"] = "always"
    """The weakest level at which this process may call itself ready. Below `always`, a 202 can be lost to a crash."""

    redis_durability_stated: Literal["", "everysec", "always", "provider"] = ""
    """What you know of a Redis that hides its configuration: the level at which it fsyncs, or `provider` when it keeps each
    write before it answers by other means than an append-only file. Stands only for what cannot be read. Empty: then such
    a server is not ready."""

    postgres_durability_stated: Literal["", "always", "provider"] = ""
    """The same of a PostgreSQL that hides `fsync`, `full_page_writes` and `synchronous_commit`. `provider`: its storage
    keeps commits by other means, so the first two may be off."""

    redis_pool_max: int = Field(32, ge=2, le=1_000)
    """Redis connections of one process."""

    redis_timeout_s: float = Field(2.0, gt=0, le=60)
    """Longest wait for one Redis answer."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below this level are dropped."""

    limits: LimitSettings = LimitSettings()
    rates: RateSettings = RateSettings()
    declines: DeclineSettings = DeclineSettings()
    holds: HoldSettings = HoldSettings()
    api: ApiSettings = ApiSettings()
    worker: WorkerSettings = WorkerSettings()
    gateway: GatewaySettings = GatewaySettings()
    streams: StreamSettings = StreamSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    webhooks: WebhookSettings = WebhookSettings()

    @field_validator("redis_url")
    @classmethod
    def _redis_url_is_understood(cls, url: str) -> str:
        check_redis_files(url)
        return url

    @field_validator("database_url")
    @classmethod
    def _database_url_is_understood(cls, url: str) -> str:
        check_database_files(url)
        return url

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.worker.lease_ms < 2 * self.gateway.cutoff_s * 1_000 and self.gateway.kind != "simulator":
            raise ValueError("worker.lease_ms must outlast two cut-offs of the gateway (gateway.cutoff_s)")
        if self.worker.drain_s * 1_000 < self.worker.linger_ms:
            raise ValueError("worker.drain_s must be longer than worker.linger_ms")
        return self


def load_settings() -> Settings:
    """Read the environment once.

    Raises `CannotRun` naming every setting that is wrong, and every name that looks like a setting and is none.
    """
    secrets = read_secrets(os.environ)
    no_json = dict(_no_json(os.environ))
    wrong = [
        *misspelt(os.environ),
        *secrets.wrong,
        *(f"{name} is no JSON, such as {no_json[name]}" for name in no_json),
    ]
    files = {name for name in os.environ if name.upper() in SECRET_FILES}
    settings, found = _read(secrets.values, {*no_json, *files})
    wrong += [f"Setting {_path(one['loc'])}: {one['msg']}" for one in found if one["type"] != "extra_forbidden"]
    wrong = wrong or [f"{_path(one['loc'])} is no setting" for one in found]
    if wrong or settings is None:
        raise CannotRun("; ".join(wrong) or "The settings cannot be read.")
    return settings


def _read(secrets: dict[str, Any], without: set[str]) -> tuple[Settings | None, list[ErrorDetails]]:
    """The settings of the environment, or all that is wrong with them. What several of them have to agree on is looked at once
    each can be read: those that cannot are left out, one round after another."""
    wrong: list[ErrorDetails] = []
    while True:
        try:
            with _without(without):
                settings = Settings(**secrets)
        except SettingsError:
            return None, wrong
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            wrong += [one for one in found if one not in wrong]
            to_blame = {name for one in found for name in _names_of(one["loc"])}
            if to_blame <= without:
                return None, wrong
            without = without | to_blame
        else:
            return (None if wrong else settings), wrong


def _names_of(where: tuple[int | str, ...]) -> Iterator[str]:
    """The names in the environment by which a setting may have been said that is wrong."""
    path = "__".join(map(str, where)).upper().removeprefix("BOXOFFICE_")
    return (name for name in os.environ if name.upper() in (path, f"BOXOFFICE_{path}"))


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    taken = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(taken)


_LISTS: Final = {
    "BOXOFFICE_API__CORS_ORIGINS": '["https://shop.example"]',
    "BOXOFFICE_WEBHOOKS__ALLOWED_NETWORKS": '["10.1.0.0/16"]',
}
"""The settings of several values, each with what one looks like."""


def _no_json(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The settings of several values that cannot be read, each with what one looks like."""
    parts = {
        f"BOXOFFICE_{name.upper()}": '{"name": 1}' for name, field in Settings.model_fields.items() if _is_part(field)
    }
    for name, example in {**parts, **_LISTS}.items():
        for key in environ:
            if key.upper() == name:
                try:
                    json.loads(environ[key])
                except ValueError:
                    yield key, example


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """A sentence for every name in the environment that begins like ours and is no setting."""
    known = {*_names(Settings, "BOXOFFICE_"), *NO_SETTINGS, *SECRET_FILES}
    complaints = []
    for name in sorted(environ):
        if name.upper().startswith("BOXOFFICE_") and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            complaints.append(f"{name} is no setting{f': did you mean {near[0]}?' if near else ''}")
    return complaints


def _path(where: tuple[int | str, ...]) -> str:
    return ".".join(map(str, where)) or "values"


def _is_part(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name.upper()
        if _is_part(field):
            yield from _names(cast(type[BaseModel], field.annotation), f"{prefix}{name.upper()}__")
