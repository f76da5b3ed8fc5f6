"""What the scripts include, by itself: items that are added up, and the access code of a record."""

from __future__ import annotations

from importlib.resources import files

import pytest

from tests.support.shop.script import Desk


async def run(desk: Desk, piece: str, call: str, *args: str) -> str:
    text = files("lua").joinpath(f"lib/{piece}.lua").read_text()
    found = await desk.redis.eval(f"{text}\nreturn {call}", 0, *args)  # type: ignore[misc]
    return found.decode() if found is not None else ""


@pytest.mark.parametrize(
    ("have", "items", "times", "then"),
    [
        ("", "a:2", 1, "a:2"),
        ("a:2", "a:3", 1, "a:5"),
        ("a:2", "a:2", -1, ""),
        ("a:2", "a:3", -1, ""),
        ("a:5", "a:3", -1, "a:2"),
        ("a:9", "a:1", 1, "a:10"),
        ("a:1", "a:3", 4, "a:13"),
        ("a:5", "a:-2", 1, "a:3"),
        ("a:5", "a:-5", 1, ""),
        ("a:5", "a:-2", -1, "a:7"),
        ("a:2", "b:1", 1, "a:2,b:1"),
        ("b:2", "a:1", 1, "a:1,b:2"),
        ("a:2", "b:1", -1, "a:2"),
        ("aa:2", "a:1", 1, "a:1,aa:2"),
        ("a:2,b:3", "b:3", -1, "a:2"),
        ("a:2", "a:1,b:4", 1, "a:3,b:4"),
        ("", "a:-1", 1, ""),
        ("", "b:2,a:-1", 1, "b:2"),
        ("", "a:2", -1, ""),
    ],
)
async def test_items_add_up_by_tier(desk: Desk, have: str, items: str, times: int, then: str) -> None:
    """In the order of their tiers; nothing below zero, and nothing of what is zero."""
    assert (
        await run(desk, "with_items", "with_items(ARGV[1], ARGV[2], tonumber(ARGV[3]))", have, items, str(times))
        == then
    )


CODE = "6aae21cb47869541ac5dd868c7d2c3af"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f'["c","ada","USD",[2500],null,null,null,["{CODE}"]]', CODE),
        (f'["c","ada","USD",[2500],"ref",{{"a":"b"}},"https://shop/back",["{CODE}"]]', CODE),
        ('["c","ada","USD",[2500],null,null,null,["0f"]]', "0f"),
        ('["c","ada","USD",[2500]]', ""),
        ('["c","ada","USD",[2500],"ref",null,"https://shop/back"]', ""),
        (f'["c",",[\\"{CODE}\\"]]","USD",[2500]]', ""),
        (f'["c","ada","USD",[2500],null,{{"a":",[\\"{CODE}\\"]]"}}]', ""),
        (f'["c","ada","USD",[2500],",[\\"{CODE}\\"]]",null,null,["0f"]]', "0f"),
    ],
)
async def test_the_access_code_of_a_record(desk: Desk, body: str, code: str) -> None:
    """Whatever else a shop has written into it."""
    record = f'H|1|2|3|=|4|5|e|6|t:1|1\n{body}\n{{"p":{{"n":",[\\"{CODE}\\"]]"}}}}'
    assert await run(desk, "access_code", "code_of(ARGV[1])", record) == code
