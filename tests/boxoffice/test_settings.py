"""Settings that cannot work are refused when they are read, with the name of the setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from boxoffice.errors import CannotRun
from boxoffice.settings import Settings, load_settings


def numbers() -> Iterator[tuple[str, str, list[Any]]]:
    """Part, name and bounds of every setting that is a number."""
    for part, field in Settings.model_fields.items():
        parts = field.annotation.model_fields if _is_part(field.annotation) else {"": field}
        for name, setting in parts.items():
            if setting.annotation in (int, float):
                yield part, name, list(setting.metadata)


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def with_number(part: str, name: str, value: Any) -> Settings:
    return Settings.model_validate({part: {name: value} if name else value})


@pytest.mark.parametrize(
    ("part", "name", "bounds"), list(numbers()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_number_is_finite_and_within_its_bounds(part: str, name: str, bounds: list[Any]) -> None:
    """`inf` and `nan` are neither a second nor a percent: a deadline of `inf` would stop every settlement."""
    assert bounds, f"{part}.{name} has a bound"
    for bad in ("inf", "-inf", "nan", float("inf"), float("nan"), "", "x"):
        with pytest.raises(ValidationError):
            with_number(part, name, bad)
    for bound in bounds:
        for sign, open_, limit in (
            (-1, False, getattr(bound, "ge", None)), (-1, True, getattr(bound, "gt", None)),
            (1, False, getattr(bound, "le", None)), (1, True, getattr(bound, "lt", None)),
        ):  # fmt: skip
            if limit is None:
                continue
            with pytest.raises(ValidationError):
                with_number(part, name, limit if open_ else limit + sign)
            assert open_ or with_number(part, name, limit)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BOXOFFICE_API__CORS_ORIGINS", "https://hunter2.example", 'BOXOFFICE_API__CORS_ORIGINS is no JSON, such as ["https'),
        ("BOXOFFICE_API__CORS_ORIGINS", '"hunter2"', "Setting api.cors_origins"),
        ("BOXOFFICE_API", '{"hunter2', 'BOXOFFICE_API is no JSON, such as {"name": 1}'),
        ("boxoffice_gateway", "hunter2", "boxoffice_gateway is no JSON"),
        ("BOXOFFICE_API", '{"heads": 1}', "api.heads is no setting"),
        ("BOXOFFICE_API_LANE", "false", "did you mean BOXOFFICE_API__LANE?"),
        ("BOXOFFICE__API__LANE", "hunter2", "BOXOFFICE__API__LANE is no setting"),
        ("BOXOFFICE_LIMIT__TEXT_MAX", "5", "did you mean BOXOFFICE_LIMITS__TEXT_MAX?"),
        ("PORT", "hunter2", "Setting PORT"), ("BOXOFFICE_PORT", "hunter2", "Setting PORT"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CannotRun) as refused:
        load_settings()
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_port_has_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short one is what `boxoffice up` tells its children."""
    monkeypatch.delenv("PORT", raising=False)
    monkeypatch.setenv("BOXOFFICE_PORT", "8005")
    assert load_settings().port == 8005
    monkeypatch.setenv("PORT", "8006")
    assert load_settings().port == 8006
