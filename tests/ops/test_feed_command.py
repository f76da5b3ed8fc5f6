"""`boxoffice feed`: an operator reads what a shop is told."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from boxoffice.notices.writing import write
from boxoffice.office import BoxOffice
from tests.ops.terminal import run
from tests.support.shop.orders import CLIENT, OTHER
from tests.support.waiting import LONGEST_S

pytestmark = pytest.mark.usefixtures("terminal")

TYPE = "webhook_endpoint.disabled"


async def tell(office: BoxOffice, client: str = CLIENT, name: str = "e1", kind: str = TYPE) -> None:
    async with office.database.begin() as connection:
        await write(connection, client, kind, {"endpoint_id": name, "reason": "failing"})


async def test_a_shop_is_read_in_its_order_and_no_other(office: BoxOffice) -> None:
    for client, name in ((CLIENT, "first"), (OTHER, "theirs"), (CLIENT, "second")):
        await tell(office, client, name)
    code, said = await run("feed", "--client", CLIENT)
    assert code == 0
    assert said.index("endpoint_id=first") < said.index("endpoint_id=second") and "theirs" not in said
    cursor = said.rpartition("cursor: ")[2].strip()
    await tell(office, name="third")
    _, said = await run("feed", "--client", CLIENT, "--after", cursor, "--json")
    (line,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (line["type"], line["data"]["endpoint_id"]) == (TYPE, "third") and line["cursor"] in said.rpartition(
        "cursor: "
    )[2]


async def test_some_of_it(office: BoxOffice) -> None:
    """So many, and of these types."""
    for n in range(3):
        await tell(office, name=f"e{n}")
    await tell(office, kind="event.changed", name="other")
    _, said = await run("feed", "--client", CLIENT, "--limit", "2", "--json")
    assert [json.loads(line)["data"]["endpoint_id"] for line in said.splitlines() if line.startswith("{")] == [
        "e0",
        "e1",
    ]
    _, said = await run("feed", "--client", CLIENT, "--types", "event.changed")
    assert "other" in said and "e0" not in said
    _, said = await run("feed", "--client", CLIENT, "--after", "now")
    assert "endpoint_id" not in said and "cursor: " in said


@pytest.mark.parametrize(
    "wrong", [("--client", "nobody"), ("--client", CLIENT, "--after", "x"), ("--client", CLIENT, "--types", "booking")]
)
async def test_what_is_wrong_is_said(office: BoxOffice, wrong: tuple[str, ...]) -> None:
    with pytest.raises(Exception, match=r"no such client|no cursor|no such type"):
        await run("feed", *wrong)


async def test_it_follows(office: BoxOffice) -> None:
    """Until it is ended: each notice comes as it happens."""
    program = "from ops.cli import main; main()"
    command = [sys.executable, "-c", program, "feed", "--client", CLIENT, "--follow", "--json"]
    await tell(office, name="before")
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(LONGEST_S):
            assert json.loads(await child.stdout.readline())["data"]["endpoint_id"] == "before"
            await tell(office, name="later")
            assert json.loads(await child.stdout.readline())["data"]["endpoint_id"] == "later"
    finally:
        child.terminate()
        await child.wait()
