"""What README and `docs/payments.md` tell people to type, typed."""

from __future__ import annotations

import asyncio
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from boxoffice.office import BoxOffice
from boxoffice.sales.store import NewTier
from ops.seed import DEMO_CLIENT, DEMO_KEY
from ops.stack.supervisor import invite
from tests.api.conftest import office, settings
from tests.api.transport.test_server import ROOT, Serving, connect, serving
from tests.support.programs import a_worker

__all__ = ["office", "serving", "settings"]

pytestmark = pytest.mark.parametrize("settings", ["lane"], indirect=True)


def blocks(page: str, begin: str, end: str) -> str:
    """The lines to type between two headings."""
    text = (ROOT / page).read_text().partition(begin)[2].partition(end)[0]
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S))


@pytest.fixture
async def shop(office: BoxOffice) -> str:
    """Events that cannot be booked stand first: one that has begun, one that is sold out. Returns the tier that can."""
    await office.access.create_client("Demo", client_id=DEMO_CLIENT)
    await office.access.add_api_key(DEMO_CLIENT, DEMO_KEY)
    now = datetime.now(UTC)
    for name, starts_at, tiers in (
        ("begun", now - timedelta(hours=1), [NewTier("GA", 1_000, 9)]),
        ("sold out", now + timedelta(days=1), [NewTier("VIP", 1_000, 0), NewTier("GA", 1_000, 0)]),
    ):
        await office.store.create_event(DEMO_CLIENT, name, starts_at, "USD", tiers, allow=["past"])
    tiers = [NewTier("VIP", 5_000, 0), NewTier("GA", 1_000, 50)]
    event = await office.store.create_event(DEMO_CLIENT, "good", now + timedelta(days=2), "USD", tiers)
    return event.tiers[1].id


async def typed(lines: str, office: BoxOffice, tmp_path: Path) -> str:
    """Everything that a shell says to these lines, while a worker works."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here, so no recipe was tried.")

    async with a_worker(office):
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", lines, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    return said.decode()


async def on_port(lines: str, serving: Serving) -> str:
    _, writer = await connect(serving)
    writer.close()
    return lines.replace("127.0.0.1:8000", f"127.0.0.1:{serving.port}")


async def test_the_readme_books_what_can_be_sold(
    serving: Serving, shop: str, office: BoxOffice, tmp_path: Path
) -> None:
    """Its last line answers "confirmed", as it says, whatever stands first in the list."""
    lines = blocks("README.md", "## Book", "In PostgreSQL:")
    said = await typed(await on_port(lines, serving), office, tmp_path)
    assert '"status":"confirmed"' in said and f'"tier_id":"{shop}"' in said, said


async def test_ten_minutes_of_payments(serving: Serving, shop: str, office: BoxOffice, tmp_path: Path) -> None:
    """Held, declined, paid; another hold is changed; the first is cancelled."""
    lines = blocks("docs/payments.md", "## In ten minutes", "## States")
    said = await typed(await on_port(lines, serving), office, tmp_path)
    states = re.findall(r'"status":"(\w+)","event_id"', said)
    assert states == ["pending", "held", "pending", "confirmed", "cancelled"], said


async def test_a_hold_is_changed_as_the_page_says(
    serving: Serving, shop: str, office: BoxOffice, tmp_path: Path
) -> None:
    """One more, and not at another price."""
    lines = blocks("docs/api.md", "## Changing a hold", "## Idempotency")
    names = f"api=http://127.0.0.1:8000/v1 auth='Authorization: Bearer {DEMO_KEY}' tier={shop}\n"
    said = await typed(await on_port(names + lines, serving), office, tmp_path)
    assert re.findall(r'"status":"(\w+)","event_id"', said) == ["held"], said
    assert '"quantity":3' in said and '"type":"/problems/price-changed"' in said and '"amount_cents":4000' in said, said


@pytest.mark.parametrize("gateway", ["simulator", "stripe"])
async def test_the_invitation_of_make_run_names_what_the_gateway_takes(
    serving: Serving, shop: str, office: BoxOffice, gateway: str
) -> None:
    await on_port("", serving)
    said = await asyncio.to_thread(invite, serving.port, gateway)
    assert shop in said
    assert ("4242424242424242" in said) == (gateway == "simulator")
    assert ("pm_card_visa" in said) == (gateway == "stripe")


async def test_what_has_begun_is_left_out_of_what_is_on_sale(serving: Serving, shop: str) -> None:
    await on_port("", serving)
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {DEMO_KEY}"}) as client:
        answer = await client.get(f"http://127.0.0.1:{serving.port}/v1/events", params={"on_sale": "true"})
    assert [event["name"] for event in answer.json()["data"]] == ["sold out", "good"]
