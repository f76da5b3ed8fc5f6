"""The simulated gateway in another process, and gateways that cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import stripe

from boxoffice.gateway.base import Authorized, CaptureRequest, Done, NotFound, PaymentGateway, Reversals, Unknown
from boxoffice.gateway.calls import within
from boxoffice.gateway.factory import open_gateway, open_simulator
from boxoffice.gateway.simulator.kept_files import gateway_token, webhook_secrets
from boxoffice.gateway.simulator.remote import HttpGateway
from boxoffice.settings import Settings
from ops.bank.server import create_app
from tests.support.asgi import served
from tests.support.gateways import World, bearer, simulated_token, webhook_sink, with_gateway
from tests.support.ports import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[4]

GATEWAY = """
import sys
from pathlib import Path
from typing import Any
from ops.bank.server import serve
from boxoffice.settings import Settings

serve(Settings(data_dir=Path(sys.argv[1])), "127.0.0.1", int(sys.argv[2]))
"""


@asynccontextmanager
async def process(folder: Path, port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A gateway process that answers."""
    gateway = subprocess.Popen([sys.executable, "-c", GATEWAY, str(folder), str(port)], cwd=ROOT)
    try:
        async with httpx2.AsyncClient() as client:

            async def answers() -> bool:
                assert gateway.poll() is None
                with contextlib.suppress(httpx2.ConnectError):
                    return (await client.get(f"http://127.0.0.1:{port}/healthz")).text == "ok\n"
                return False

            await eventually(answers, timeout_s=30)
        yield gateway
    finally:
        gateway.kill()
        gateway.wait()


async def test_a_killed_gateway_process_remembers_what_it_answered(settings: Settings):
    """Meanwhile nobody knows; afterwards the same process's successor goes on from the ledger."""
    port = free_port()
    gateway = open_gateway(with_gateway(settings, kind="http", url=f"http://127.0.0.1:{port}", timeout_s=5))
    world = World(gateway, simulated_token, lambda key: asyncio.sleep(0))
    requests = [world.request("ok") for _ in range(40)]
    async with process(settings.data_dir, port) as first:
        outcomes = await gateway.authorize_batch(requests)
        async with asyncio.timeout(10):
            await asyncio.wait([o for o in outcomes if isinstance(o, asyncio.Future)], return_when="FIRST_COMPLETED")
        first.send_signal(signal.SIGKILL)
        told = [await o if isinstance(o, asyncio.Future) else o for o in outcomes]
    assert isinstance(await gateway.authorize(requests[0]), Unknown)
    async with process(settings.data_dir, port) as second:
        for request, outcome in zip(requests, told, strict=True):
            again = await gateway.authorize(request)
            assert isinstance(again, Authorized)
            assert isinstance(outcome, Unknown) or again == outcome
        assert len([record async for record in gateway.records()]) == 40
        second.terminate()
        assert second.wait(timeout=10) in (0, -signal.SIGTERM)
    await gateway.close()


async def test_a_process_and_a_simulator_inside_another_share_their_payments(settings: Settings):
    """So 3-D Secure that began in a worker ends in a browser."""
    async with served(lambda url: create_app(settings, url)) as url, httpx2.AsyncClient(base_url=url) as customer:
        inside = open_simulator(with_gateway(settings, url=url))
        world = World(inside, simulated_token, inside.complete_action)
        request = world.request("3ds", 1_050)
        outcome = await inside.authorize(request)
        assert not isinstance(outcome, Authorized)
        payment = await inside.lookup(request.payment_key, None)
        address = getattr(payment, "next_action", "")
        assert address == f"{url}/actions/{request.payment_key}"
        page = await customer.get(address)
        assert "10.50 USD" in page.text
        assert "<button>" in page.text
        assert "<button>" not in (await customer.post(address)).text
        assert isinstance(await inside.authorize(request), Authorized)
        await inside.close()


async def test_a_customer_goes_back_to_the_page_that_the_payment_said_first(settings: Settings):
    """And to where all go, when it said none."""
    async with served(lambda url: create_app(settings, url)) as url, httpx2.AsyncClient(base_url=url) as customer:
        gateway = open_gateway(with_gateway(settings, kind="http", url=url))
        world = World(gateway, simulated_token, lambda key: asyncio.sleep(0))
        usual = settings.gateway.return_url
        for pages, page in ((["https://a.example/x", "https://b.example"], "https://a.example/x"), ([None], usual)):
            request = world.request("3ds")
            for each in pages:
                await gateway.authorize(msgspec.structs.replace(request, return_url=each))
            went = (await customer.post(f"/actions/{request.payment_key}")).headers["location"]
            assert went.startswith(page) and "redirect_status=succeeded" in went
        await gateway.close()


async def test_the_gateway_says_how_its_webhooks_go(settings: Settings):
    """So that whoever waits for the last of them knows when it has come, and how many came twice."""
    webhooks: list[tuple[dict[str, str], bytes]] = []
    async with (
        webhook_sink(webhooks) as sink,
        served(lambda base: create_app(settings, base, sink)) as url,
        httpx2.AsyncClient(base_url=url, headers=bearer(settings)) as client,
    ):
        gateway = open_gateway(with_gateway(settings, kind="http", url=url))
        world = World(gateway, simulated_token, lambda key: asyncio.sleep(0), webhooks)
        assert isinstance(await gateway.authorize(world.request("twice")), Authorized)

        async def delivered() -> Any:
            tally = (await client.get("/v1/deliveries")).json()
            return None if tally["waiting"] else tally

        tally = await eventually(delivered)
        await gateway.close()

    assert tally == {"events": 1, "heard": 1, "repeats": 1, "given_up": 0, "waiting": 0}
    assert len(webhooks) == 2


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/actions/nobody", b"", 404),
        ("POST", "/actions/nobody", b"", 404),
        ("POST", "/v1/payments", b"{", 400),
        ("POST", "/v1/payments", b'{"payment_key": 1}', 400),
        ("POST", "/v1/payments/x/capture", b'{"amount_cents": "1"}', 400),
        ("GET", "/v1/payments/nobody", b"", 404),
    ],
)
async def test_nonsense_is_refused(settings: Settings, method: str, path: str, content: bytes, status: int):
    """With a status that says whose fault it is."""
    async with (
        served(lambda url: create_app(settings, url)) as url,
        httpx2.AsyncClient(base_url=url, headers=bearer(settings)) as client,
    ):
        assert (await client.request(method, path, content=content)).status_code == status


async def test_each_answer_says_what_it_is(settings: Settings):
    """Also those that only people and probes ask for; and whoever has no token is told that it needs one."""
    kinds = {
        "/healthz": (200, "text/plain; charset=utf-8"), "/v1/deliveries": (200, "application/json"),
        "/v1/books": (200, "application/json"), "/v1/records": (200, "application/x-ndjson"),
        "/v1/payments/nobody": (404, "application/json"), "/v1/payments/nobody/reversals": (404, "application/json"),
        "/actions/nobody": (404, "text/html; charset=utf-8"),
    }  # fmt: skip
    async with served(lambda url: create_app(settings, url)) as url, httpx2.AsyncClient(base_url=url) as client:
        for path, (status, kind) in kinds.items():
            answer = await client.get(path, headers=bearer(settings))
            assert (answer.status_code, answer.headers["content-type"]) == (status, kind), path
            asked = await client.get(path)
            if path.startswith("/v1/"):
                assert (asked.status_code, asked.headers["www-authenticate"]) == (401, "Bearer"), path
                assert asked.headers["content-type"] == "text/plain; charset=utf-8"
            else:
                assert asked.status_code == status


async def test_nothing_went_back_of_what_met_an_error(settings: Settings):
    """It was asked for once, and nothing has happened: it is not found, as nothing was made."""
    async with served(lambda url: create_app(settings, url)) as url:
        gateway = open_gateway(with_gateway(settings, kind="http", url=url))
        world = World(gateway, simulated_token, lambda key: asyncio.sleep(0))
        request = world.request("error")
        assert isinstance(await gateway.authorize(request), Unknown)
        assert isinstance(await gateway.reversals(request.payment_key, ""), NotFound)
        assert isinstance(await gateway.authorize(request), Authorized)
        assert await gateway.reversals(request.payment_key, "") == Reversals()
        await gateway.close()


@pytest.mark.parametrize("timeout_s", [0.05, 5.0])
async def test_an_answer_is_waited_for_so_long_and_no_longer(timeout_s: float):
    """Then nobody knows; what breaks the call is named by its kind."""

    async def answers() -> str:
        if timeout_s < 1:
            await asyncio.Event().wait()
        return "answer"

    async def breaks() -> str:
        raise ConnectionRefusedError("hunter2")

    assert await within(timeout_s, answers()) == (Unknown("timeout") if timeout_s < 1 else "answer")
    assert await within(timeout_s, breaks()) == Unknown("unreachable: ConnectionRefusedError")


async def test_a_key_that_would_break_the_ledger_is_refused(settings: Settings):
    """The ledger stays as it was."""
    async with (
        served(lambda url: create_app(settings, url)) as url,
        httpx2.AsyncClient(base_url=url, headers=bearer(settings)) as client,
    ):
        body = {"booking_id": "b", "amount_cents": 1, "currency": "USD", "method": "card", "token": "tok_ok_4242"}
        assert (await client.post("/v1/payments", json=body | {"payment_key": "no good"})).status_code == 400
        assert (
            await client.post("/v1/payments", json=body | {"payment_key": "x", "booking_id": "b c"})
        ).status_code == 400
        assert (await client.get("/v1/records")).text == ""


@pytest.fixture(params=["http", "stripe"])
async def unreachable(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[PaymentGateway]:
    """A gateway at whose address nobody listens."""
    url = f"http://127.0.0.1:{free_port()}"
    gateway = open_gateway(with_gateway(settings, kind=request.param, url=url, api_key="sk_test"))
    yield gateway
    await gateway.close()


async def test_what_cannot_be_reached_is_unknown(unreachable: PaymentGateway):
    """Never an exception, and never a failure."""
    world = World(unreachable, lambda behaviour: f"pm_{behaviour}", lambda key: asyncio.sleep(0))
    request = world.request("ok")
    assert isinstance(await unreachable.authorize(request), Unknown)
    (slow,) = await unreachable.authorize_batch([request])
    assert isinstance(slow, asyncio.Future)
    assert isinstance(await slow, Unknown)
    assert isinstance(await unreachable.capture("key", "ref", 1), Unknown)
    (captured,) = await unreachable.capture_batch([CaptureRequest("key", "ref", 1)])
    assert isinstance(captured, Unknown)
    assert not isinstance(captured, Done)
    assert isinstance(await unreachable.void("key", "ref"), Unknown)
    assert isinstance(await unreachable.void("key", None), Unknown)
    assert isinstance(await unreachable.refund("r", "key", "ref", 1), Unknown)
    assert isinstance(await unreachable.lookup("key", None), Unknown)


async def test_half_an_audit_is_none(unreachable: PaymentGateway):
    """Records that cannot be read raise."""
    with pytest.raises((httpx2.ConnectError, stripe.APIConnectionError)):
        await anext(unreachable.records())


PATHS = [
    ("POST", "/v1/payments"), ("GET", "/v1/payments/key"), ("POST", "/v1/payments/key/capture"),
    ("POST", "/v1/payments/key/void"), ("POST", "/v1/payments/key/refunds"), ("GET", "/v1/payments/key/reversals"),
    ("POST", "/v1/payments/key/dashboard"), ("GET", "/v1/records"), ("GET", "/v1/books"), ("GET", "/v1/deliveries"),
]  # fmt: skip


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic eDp4", "Bearer \u00e9"])
async def test_nobody_moves_money_without_the_token(settings: Settings, authorization: str | None):
    """Also on loopback: a page in a browser on the same machine reaches it."""
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    async with served(lambda url: create_app(settings, url)) as url, httpx2.AsyncClient(base_url=url) as client:
        for method, path in PATHS:
            answer = await client.request(method, path, headers=headers, content=b"{}")
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/healthz")).status_code == 200, "customers and probes need none"
        assert (await client.get("/actions/nobody")).status_code == 404


def test_every_route_of_the_gateway_wants_the_token(settings: Settings):
    paths = {route.path for route in create_app(settings, "").routes}  # type: ignore[attr-defined]
    assert {path.replace("{key}", "key") for path in paths if path.startswith("/v1")} == {path for _, path in PATHS}


async def test_a_wrong_token_is_our_trouble_and_no_decline(settings: Settings):
    async with served(lambda url: create_app(settings, url)) as url:
        wrong = open_gateway(with_gateway(settings, kind="http", url=url, api_key="another"))
        right = open_gateway(with_gateway(settings, kind="http", url=url))
        request = World(right, simulated_token, lambda key: asyncio.sleep(0)).request("ok")
        outcome = await wrong.authorize(request)
        assert isinstance(outcome, Unknown)
        assert outcome.misconfigured == await wrong.trouble() == "wrong_gateway_token"
        assert isinstance(await right.authorize(request), Authorized)
        assert await right.trouble() == ""
        await wrong.close()
        await right.close()


def test_the_token_is_shared_by_a_data_directory_and_private(settings: Settings):
    first = gateway_token(settings)
    assert first == gateway_token(settings)
    assert len(first) > 30
    assert (settings.data_dir / "gateway.token").stat().st_mode & 0o077 == 0
    assert gateway_token(with_gateway(settings, api_key="chosen")) == "chosen"
    assert gateway_token(with_gateway(settings, kind="stripe", api_key="sk_test_1")) == first, (
        "Stripe's key stays Stripe's"
    )


def test_webhooks_are_signed_with_what_is_configured_or_with_what_a_data_directory_shares(
    settings: Settings, tmp_path: Path
) -> None:
    """What everybody knows is believed by nobody."""
    chosen = with_gateway(settings, webhook_secret="now", webhook_secret_before="before")
    assert webhook_secrets(chosen) == ("now", "before")
    assert not (settings.data_dir / "gateway.webhook").exists()
    bare = with_gateway(settings, webhook_secret="")
    (first,) = webhook_secrets(bare)
    assert webhook_secrets(bare) == (first,) and len(first) > 40
    assert (settings.data_dir / "gateway.webhook").stat().st_mode & 0o077 == 0
    assert webhook_secrets(with_gateway(bare, webhook_secret_before="before")) == (first, "before")
    elsewhere = bare.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    assert webhook_secrets(elsewhere) != (first,)


def test_where_no_secret_can_be_kept_nobody_is_believed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = with_gateway(settings, webhook_secret="").model_copy(update={"data_dir": tmp_path / "file"})
    assert webhook_secrets(nowhere) == ()
    assert webhook_secrets(with_gateway(nowhere, webhook_secret_before="before")) == ("before",)


@pytest.mark.parametrize(("key", "headers"), [("", None), ("capture:0", {"idempotency-key": "capture:0"})])
async def test_a_call_is_told_its_key(settings: Settings, key: str, headers: dict[str, str] | None) -> None:
    """And a look-up none: what was said once is not to be repeated to who asks."""
    gateway = HttpGateway(with_gateway(settings, kind="http", url="http://127.0.0.1:1").gateway, "token")
    asked: list[object] = []

    async def request(method: str, path: str, **told: object) -> httpx2.Response:
        asked.append((method, path, told))
        return httpx2.Response(200, content=b'"heard"')

    gateway.client.request = request  # type: ignore[method-assign,assignment]
    answer = await gateway.ask("POST", "/v1/x", msgspec.json.Decoder(str), b"body", key)
    assert (answer, asked) == ("heard", [("POST", "/v1/x", {"content": b"body", "headers": headers})])
