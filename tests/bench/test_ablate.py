"""Switching one shortcut off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bench import ablate, against
from bench.ablate import BESIDE, SHORTCUTS, row
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
    assert set(SHORTCUTS) == {"shapes", "lane", "fast_path"}


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
    assert ("| `shapes` | 1.200 | 1.20 to 1.20 | 16.7% | keep |" in printed) is not broken
    assert "| CPU a booking | 1.200 (1.20 to 1.20) |" in printed
    assert "| CPU a booking, api | 1.800 (1.80 to 1.80) |" in printed
    assert "| bookings a second | 1.000 (1.00 to 1.00) |" in printed


def test_all_are_measured_one_after_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each against what differs from it in nothing else, and the table is there."""
    for each in (SIDES, ORDER, BROKEN):
        each.clear()  # type: ignore[attr-defined]
    record = tmp_path / "results" / "ablation.md"
    monkeypatch.setattr(ablate, "Side", Side)
    monkeypatch.setattr("sys.argv", ["bench.ablate", "all", "--pairs", "1", "--record", str(record)])
    ablate.main()
    assert [(off.settings, on.settings) for off, on in zip(SIDES[::2], SIDES[1::2], strict=True)] == [
        (SHORTCUTS[name], BESIDE.get(name)) for name in SHORTCUTS
    ]
    lines = record.read_text().splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines[-len(SHORTCUTS) :]] == list(SHORTCUTS)
    assert "1 pairs each: `python -m bench.ablate all --pairs 1 --seconds 4`" in record.read_text()


def test_both_sides_differ_in_one_setting() -> None:
    """The fast path is measured without the lane, which would hide it."""
    for name, off in SHORTCUTS.items():
        assert len(off.items() - BESIDE.get(name, {}).items()) == 1 and BESIDE.get(name, {}).items() <= off.items()


@pytest.mark.parametrize(
    ("without", "line"),
    [
        (111.2, "| `x` | 1.112 | 1.11 to 1.11 | 10.1% | keep |\n"), (111.0, "| `x` | 1.110 | 1.11 to 1.11 | 9.9% | delete |\n"),
        (90.0, "| `x` | 0.900 | 0.90 to 0.90 | -11.1% | delete |\n"),
    ],
)  # fmt: skip
def test_what_saves_a_tenth_is_kept(without: float, line: str) -> None:
    assert row("x", [without], [100.0]) == line


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
