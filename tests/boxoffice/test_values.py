"""Values do not change once they are made: what is handed from room to room is frozen, unless it is named here."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from types import ModuleType

import msgspec
import pytest

import api
import boxoffice

CHANGED = {
    "read from a request, by one decoder, and handed on": {"wire", "api.headers.Headers", "api.transport.head.Head"},
    "what is told of a rush while it is played": {"api.rushes.RushState", "api.rushes.KilledView"},
    "what a connection or a check fills in as it goes": {
        "api.pipeline.Passage", "api.transport.reader.Request", "api.transport.reply.Reply",
        "api.transport.sent_away.SentAway", "telemetry.traces.Trace",
    },
    "made field by field by the one who answers": {"gateway.simulator.deliveries.Tally"},
    "what a script, a row or a worker changes as it goes": {
        "admission.forms.Form", "money.reversals.Row", "settlement.batch.Batch", "stores.record.Record",
    },
}  # fmt: skip
"""Classes, or whole rooms, that are no values."""

NO_VALUES = set[str]().union(*CHANGED.values())


def modules() -> list[ModuleType]:
    found = [*pkgutil.walk_packages(boxoffice.__path__, "boxoffice."), *pkgutil.walk_packages(api.__path__, "api.")]
    return [importlib.import_module(module.name) for module in found]


def classes() -> dict[str, type]:
    """Dataclasses and structs of boxoffice and the API, by where they stand in it."""
    return {
        f"{module.__name__}.{name}".removeprefix("boxoffice."): found
        for module in modules()
        for name, found in vars(module).items()
        if isinstance(found, type) and found.__module__ == module.__name__ and not name.startswith("_")
        if dataclasses.is_dataclass(found) or issubclass(found, msgspec.Struct)
    }


def is_frozen(found: type) -> bool:
    if issubclass(found, msgspec.Struct):
        return found.__struct_config__.frozen
    return bool(found.__dataclass_params__.frozen)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in classes() if not {name, name.split(".")[0]} & NO_VALUES])
def test_a_value_is_frozen(name: str) -> None:
    assert is_frozen(classes()[name])


def test_only_classes_that_are_there_are_no_values() -> None:
    there = classes()
    assert {name for name in NO_VALUES if "." in name} <= there.keys()
    assert not any(is_frozen(there[name]) for name in NO_VALUES if "." in name)
