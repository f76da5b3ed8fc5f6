"""docs/architecture.md says of rooms, folders, orders and times what the code does."""

from __future__ import annotations

import re

from boxoffice.bookings import reading
from boxoffice.setting_parts import WorkerSettings
from tests.test_docs import ROOT, imported_by, read, rooms


def test_rooms_import_rooms_below_them_alone() -> None:
    """As the picture shows it: every mark stands to the right of the room's own place."""
    order = rooms()
    up = {(room, other) for room in order for other in imported_by(room) if order.index(other) < order.index(room)}
    assert up == set()
    assert {"books", "gateway", "stores"} <= imported_by("money"), "some are found"


def test_admission_writes_in_the_order_that_is_told() -> None:
    """By the page, and by the script after all that may refuse: what can fail of a full server comes first."""
    page = " ".join(read("docs/architecture.md").split())
    told = ("counters, customers' counts, sequence, records and idempotency keys, deadlines, pending set, doorbell",)
    assert f"Then it writes: {told[0]}." in page
    script = read("lua/admit.lua")
    places = [
        script.index(text)
        for text in (
            'redis.call("HSET", sale.key', 'redis.call("HSET", sale.owners_key', 'redis.call("INCRBY", sequence',
            'redis.call("MSET"', 'redis.call("ZADD", deadlines', 'redis.call("ZADD", pending', "ring(bell",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    writes = re.findall(
        r'redis\.call\("(?:[HM]?SET|INCR\w*|HINCRBY|[ZSH]ADD|DEL|HDEL|P?EXPIRE\w*)"', script[: places[0]]
    )
    assert writes == [], "nothing is written before"


def test_every_module_stands_in_a_room_or_is_a_word() -> None:
    section = read("docs/architecture.md").partition("### Inside the box office")[2].partition("\n## ")[0]
    words = {path.stem for path in (ROOT / "boxoffice").glob("*.py")} - {"__init__", "office"}
    (listed,) = re.findall(r"^Below all rooms are the words: (.*?)\.$", section, re.M | re.S)
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(words)
    folders = {path.parent.name for path in (ROOT / "boxoffice").glob("*/__init__.py")}
    assert folders == set(rooms())


def test_the_layout_names_every_folder() -> None:
    section = read("docs/architecture.md").partition("## Layout")[2].partition("\n### ")[0]
    folders = {path.parent.name for path in ROOT.glob("*/*") if path.suffix in (".py", ".lua", ".md")}
    assert set(re.findall(r"^\| `(\w+)/` \|", section, re.M)) == {name for name in folders if not name.startswith(".")}


def test_the_times_on_a_bookings_path_are_those_of_the_code() -> None:
    page = " ".join(read("docs/architecture.md").split())
    assert f"looks every {WorkerSettings().sweep_ms:,} ms (`BOXOFFICE_WORKER__SWEEP_MS`)" in page
    assert (
        f"admitted {reading.FRESH_MS // 1_000} s ago, or is pending and was admitted {reading.UNSETTLED_MS // 1_000} s ago,"
        in page
    )
