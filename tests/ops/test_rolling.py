"""A rolling restart under load: API processes and workers are replaced one by one, and no customer notices."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from boxoffice.office import BoxOffice
from boxoffice.settings import Settings
from ops.stack.servers import Servers
from ops.stack.stack import Stack
from tests.conftest import KEY, SaleMaker, counters, eventually
from tests.invariants.conftest import at_rest, ends
from tests.support.checks import check_at_rest
from tests.support.crowd import Crowd, serves

CUSTOMERS = 16

DRAIN_S = 1.0
"""Longer than any customer thinks: each connection in use carries a last answer that says so."""


@pytest.fixture
def stack(servers: Servers, settings: Settings) -> Iterator[Stack]:
    """Processes on the test servers."""
    with Stack(settings.data_dir, redis_url=servers.redis_url, database_url=servers.database_url) as stack:
        yield stack


async def test_no_request_fails_in_a_rolling_restart(office: BoxOffice, open_sale: SaleMaker, stack: Stack) -> None:
    """No reset, no 5xx, no half answer; and every booking ends, for the worker is replaced as well."""
    event = await open_sale(GA=100_000)
    drain = {"BOXOFFICE_API__DRAIN_S": str(DRAIN_S)}
    apis = {port: stack.spawn_api(port, env=drain) for port in (stack.spare_port(), stack.spare_port())}
    first, _ = apis
    worker = stack.spawn_worker()

    async def all_serve() -> None:
        for port in apis:
            await eventually(lambda port=port: serves(port), timeout_s=30)

    await all_serve()
    crowd = Crowd(apis, event.tiers[0].id, CUSTOMERS, KEY)
    await crowd.book_again()
    for port, api in apis.items():
        await all_serve()
        # The worst moment: requests have arrived that the process has not read when it is told to stop.
        api.pause()
        await eventually(lambda port=port: crowd.several_ask(port), timeout_s=30)
        api.send(signal.SIGTERM)
        api.resume()
        if port == first:
            worker.ask_to_stop()
        await crowd.book_again()
        assert await ends(api) == "exit 0"
        if port == first:
            assert await ends(worker) == "exit 0"
            worker.start()
            api.start()
    await crowd.go_home()

    refused = sum(customer.refused > 0 for customer in crowd.customers)
    assert refused >= CUSTOMERS // 2, "many met a process that was away"
    await at_rest(office)
    assert (await counters(office, event, "GA")).sold == len(crowd.booked)
    await check_at_rest(office, crowd.booked)
