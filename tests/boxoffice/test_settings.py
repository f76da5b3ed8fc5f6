"""Settings that cannot work are refused when they are read, with the name of the setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from boxoffice.settings import Settings


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
