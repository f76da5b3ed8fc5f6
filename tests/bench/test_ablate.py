"""Switching one shortcut off."""

from __future__ import annotations

import os
from typing import Any

import pytest
from pydantic import BaseModel

from bench import ablate, against
from bench.ablate import SHORTCUTS
from boxoffice.settings import Settings, load_settings


def changed(found: Any, usual: Any, path: str = "") -> set[str]:
    """Names of the settings that differ."""
    names = set()
    for name in type(usual).model_fields:
        one, other = getattr(found, name), getattr(usual, name)
        if isinstance(one, BaseModel):
            names |= changed(one, other, f"{path}{name}.")
        elif one != other:
            names.add(path + name)
    return names


@pytest.mark.parametrize(
    ("shortcut", "off"),
    [
        ("shapes", {"api.shapes"}),
        ("arrays", {"postgres_fast_arrays"}),
        ("turn_away", {"api.turn_away"}),
        ("lane", {"api.lane"}),
        ("fast_path", {"api.lane", "api.fast_path"}),
    ],
)
def test_only_the_shortcut_is_turned_off(monkeypatch: pytest.MonkeyPatch, shortcut: str, off: set[str]) -> None:
    for name in [name for name in os.environ if name.startswith("BOXOFFICE_")]:
        monkeypatch.delenv(name)
    usual = load_settings()
    for name, value in SHORTCUTS[shortcut].items():
        monkeypatch.setenv(name, value)
    assert changed(load_settings(), usual) == off
    assert set(SHORTCUTS) == {"shapes", "arrays", "turn_away", "lane", "fast_path"}


class Side:
    """Takes what `bench.slices` would say from a list."""

    def __init__(self, name: str, _checkout: Any, settings: dict[str, str] | None = None) -> None:
        self.name, self.settings = name, settings
        self.asked: list[tuple[float, float]] = []
        SIDES.append(self)

    def slice(self, seconds: float, rate: float) -> dict[str, Any]:
        self.asked.append((seconds, rate))
        ORDER.append(self.name)
        cpu_us = dict.fromkeys(against.COMPONENTS, 25.0)
        if self.settings:
            cpu_us["api"] += 20.0
        return {"rate": 1_000.0, "cpu_us": cpu_us}

    def audit(self) -> dict[str, list[str]]:
        return {"I1": ["1 ticket too many"]} if BROKEN and self.settings else {}


SIDES: list[Side] = []
ORDER: list[str] = []
BROKEN: list[bool] = []


@pytest.mark.parametrize("broken", [False, True])
def test_slices_alternate_and_neighbours_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    """Without it to with it: above 1 it saves something. A run that breaks an invariant fails."""
    for each in (SIDES, ORDER, BROKEN):
        each.clear()  # type: ignore[attr-defined]
    BROKEN.extend([True] if broken else [])
    monkeypatch.setattr(ablate, "Side", Side)
    monkeypatch.setattr("sys.argv", ["bench.ablate", "shapes", "--pairs", "2", "--seconds", "3", "--rate", "5"])
    if broken:
        with pytest.raises(SystemExit, match="without: I1 1 ticket too many"):
            ablate.main()
    else:
        ablate.main()
    assert [side.settings for side in SIDES] == [{"BOXOFFICE_API__SHAPES": "false"}, None]
    assert ["without", "with", *("without", "with", "with", "without")] == ORDER, "the first of each counts for nothing"
    assert SIDES[0].asked == [(3.0, 5.0)] * 3
    printed = capsys.readouterr().out
    assert "| CPU a booking | 1.200 (1.20 to 1.20) |" in printed
    assert "| CPU a booking, api | 1.800 (1.80 to 1.80) |" in printed
    assert "| bookings a second | 1.000 (1.00 to 1.00) |" in printed


def test_a_side_is_its_checkout_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Process:
        def __init__(self, command: list[str], **more: Any) -> None:
            started.append((command, more))

    monkeypatch.setattr(against.subprocess, "Popen", Process)
    monkeypatch.setattr(against.Side, "answer", lambda _: {})
    against.Side("without", against.ROOT, {"BOXOFFICE_API__SHAPES": "false"})
    ((command, more),) = started
    assert command[0] == str(against.ROOT / ".venv/bin/python") and more["cwd"] == against.ROOT
    assert more["env"]["BOXOFFICE_API__SHAPES"] == "false" and more["env"]["PYTHONPATH"] == str(against.ROOT)
    assert Settings().api.shapes, "nothing of it is left here"
