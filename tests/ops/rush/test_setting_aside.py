"""What is set aside, changed and released in a rush, and what of it was told: by an API that answers as given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ops.rush.agreed import Aside, Code
from ops.rush.setting_aside import Allotted, SettingAside

CODE = Code("c1", "LIST-LIST-LIST", "e1", 50)
PATH = "/v1/events/e1/allocations"
THEIRS: dict[str, Any] = {"id": "a1", "shop": "partner", "code_id": None, "tickets": 9, "lacking": 0}
LISTED: dict[str, Any] = {"id": "a2", "shop": None, "code_id": "c1", "tickets": 5, "lacking": 2}
TOLD = [Allotted("a1", "@partner", 9, 0), Allotted("a2", f"k{CODE.digest}", 5, 2)]


class Api:
    """Notes what it is asked. `rows`: what is set aside; None: it does not answer."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows: list[dict[str, Any]] | None = list(rows)
        self.asked: list[tuple[str, str, str, Any]] = []
        self.aside = SettingAside(self.change, self.look, {"e1": Aside("floor", "partner", CODE)})

    async def change(self, method: str, path: str, word: str, body: bytes) -> dict[str, Any] | None:
        self.asked.append((method, path.removeprefix(PATH), word, json.loads(body)))
        return None

    async def look(self, method: str, path: str, word: str, body: bytes) -> dict[str, Any] | None:
        assert (method, path, body) == ("GET", PATH, b"")
        return None if self.rows is None else {"data": self.rows}

    async def make(self, which: int) -> Any:
        """What is asked then."""
        await self.aside.change("e1", 40, 0.3, which)
        return self.asked.pop()


@pytest.mark.parametrize(
    ("which", "named"), [(0, {"shop": "partner"}), (1, {"code_id": "c1"}), (6, {"shop": "partner"})]
)
async def test_who_has_nothing_gets_something(which: int, named: dict[str, str]) -> None:
    assert await Api().make(which) == ("POST", "", "set aside", {"tier_id": "floor", "tickets": 12, **named})


@pytest.mark.parametrize(
    ("which", "asked"),
    [
        (0, ("PATCH", "/a1", "allocation changed", {"tickets": 12})),
        (1, ("PATCH", "/a2", "allocation changed", {"tickets": 12})),
        (2, ("POST", "/a1/release", "released in part", {"tickets": 4})),
        (3, ("POST", "/a2/release", "released in part", {"tickets": 2})),
        (4, ("POST", "/a1/release", "released", {"tickets": None})),
        (5, ("POST", "/a2/release", "released", {"tickets": None})),
        (6, ("PATCH", "/a1", "allocation changed", {"tickets": 12})),
    ],
)
async def test_who_has_something_has_it_changed_or_released(which: int, asked: Any) -> None:
    api = Api(THEIRS, LISTED)
    await api.make(0)
    assert await api.make(which) == asked
    assert api.aside.heard == {"e1": TOLD}


async def test_one_that_is_very_small_is_still_one() -> None:
    api = Api(THEIRS | {"tickets": 1})
    await api.make(0)
    assert (await api.make(2))[3] == {"tickets": 1}
    await api.aside.change("e1", 2, 0.1, 0)
    assert api.asked.pop()[3] == {"tickets": 1}


@pytest.mark.parametrize("rows", [None, [THEIRS | {"lacking": None}]])
async def test_what_nobody_tells_is_looked_for_before_the_next_change(rows: Any) -> None:
    """It may have come, or not: after an answer that was lost a second allocation would be refused."""
    api = Api()
    api.rows = rows
    await api.make(0)
    assert api.aside.heard == {"e1": None}
    api.rows = [THEIRS]
    assert (await api.make(0))[:2] == ("PATCH", "/a1")
    assert api.aside.heard == {"e1": TOLD[:1]}
