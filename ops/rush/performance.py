"""The part of a rush that talks: customers, samples, the wait for rest, the last look, the audit. A thread of its own,
so that the main thread can look after the components.

One file because what happens one after the other in a rush is read from top to bottom.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import uvloop

from boxoffice.gateway.simulator.deliveries import Tally
from boxoffice.gateway.simulator.kept_files import gateway_token
from boxoffice.office import BoxOffice, open_box_office
from boxoffice.settings import Settings
from ops.rush.agreed import invite
from ops.rush.asking import Asking, is_final
from ops.rush.audit import Witness, audit
from ops.rush.bank import in_their_place, press_the_button, wait_for_deliveries
from ops.rush.capabilities import knows_holds
from ops.rush.customers import Customers
from ops.rush.findings import Findings
from ops.rush.history import History
from ops.rush.http_client import HttpClient
from ops.rush.operating import Change, Changes, Operator
from ops.rush.plan import Workload, draw
from ops.rush.rest import wait_for_customers, wait_for_rest
from ops.rush.sale import Sale, open_sale
from ops.rush.sampler import Sampler
from ops.rush.subscribers import Subscribers

__all__ = ["Performance"]

READ_MAX: Final = 30_000
"""Accepted bookings that are read once more through the API at the end; of more, so many are drawn."""

READERS: Final = 48

_COMMITTED: Final = """
SELECT extract(epoch FROM updated_at)::float8 AS at, extract(epoch FROM updated_at - created_at)::float8 AS took
FROM bookings WHERE client_id = $1 AND status IN ('confirmed', 'failed') AND expires_at IS NULL ORDER BY updated_at
"""


@dataclass(slots=True)
class Performance:
    """One rush, seen from outside the stack."""

    settings: Settings
    ports: list[int]
    workload: Workload
    patience_s: float = 30.0
    """How long a customer asks again when nobody answers."""
    gateway_port: int = 0
    """Of a gateway that sends webhooks; 0 without one."""
    shop_ports: Sequence[int] = ()
    """On which the servers of shops listen, to be told what happens; without any nobody is."""
    rest_s: float = 60.0
    """How long the box office may take to come to rest afterwards."""
    telling_s: float = 90.0
    """How long after that shops may lack what they are to be told. A worker that was killed leaves its lease behind."""
    others_buy: bool = False
    """Besides these customers: what others hold and have time left for is no unrest."""
    phase: str = "opening the sale"
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    """The last customer has arrived: no more blows."""
    calm: threading.Event = field(default_factory=threading.Event)
    """Everything runs again: settle down, then audit."""
    history: History | None = None
    sampler: Sampler | None = None
    to_change: Sequence[Change] = ()
    """What an operator will change while it sells."""
    changes: Changes | None = None
    """What it was told."""
    sale: Sale | None = None
    subscribers: Subscribers | None = None
    findings: Findings | None = None
    committed: list[tuple[float, float]] = field(default_factory=list)
    """When each booking was committed (epoch), and how long after its admission."""
    tally: Tally | None = None
    """How the gateway's webhooks went."""
    commits_lost: int | None = 0
    """By promotions of a standby that lagged; None when nobody can count them. Known once it is calm."""
    found_by_audit: int = 0
    """Payments whose refunds or disputes no webhook announced: the gateway was killed before it could."""
    took_s: float = 0.0
    rested_s: float = 0.0
    failure: BaseException | None = None
    _stop: bool = False

    def start(self) -> threading.Thread:
        """Begin."""
        thread = threading.Thread(target=self._run, name="rush", daemon=True)
        thread.start()
        return thread

    def forget(self, holds: set[str]) -> None:
        """These will be lost with a Redis that goes back in time."""
        if self.history is not None:
            self.history.forgotten |= holds
            self.history.redis_went_back = True

    def give_up(self) -> None:
        """Let the customers go home."""
        self._stop = True
        self.calm.set()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._play())
        except BaseException as error:
            self.failure = error
        finally:
            self.began.set()
            self.ended.set()

    async def _play(self) -> None:
        async with open_box_office(self.settings, redis_retries=5) as office:
            sale = self.sale = await open_sale(office, self.workload)
            apis = [HttpClient(port) for port in self.ports]
            try:
                self.workload = replace(self.workload, holds=await knows_holds(apis[0], sale))
                hearing = self.subscribers = Subscribers(
                    sale.api_keys, apis, self.shop_ports, self.workload.seconds, self.workload.seed
                )
                await hearing.subscribe()
                await self._sell(office, apis, sale, hearing)
            finally:
                if self.subscribers:
                    self.subscribers.close()
                for api in apis:
                    await api.close()

    async def _sell(self, office: BoxOffice, apis: list[HttpClient], sale: Sale, hearing: Subscribers) -> None:
        clock = asyncio.get_running_loop().time
        history = self.history = History(sale.client)
        sampler = self.sampler = Sampler(
            office.shards, self.settings.database_url, sale.events, sale.agreed.codes, sale.agreed.aside
        )  # fmt: skip
        start = clock() + 0.2
        shops = {
            client: Asking(apis, api_key, history, patience_s=self.patience_s, seed=self.workload.seed)
            for client, api_key in sale.api_keys.items()
        }
        shop = shops[sale.client]
        bank = HttpClient(self.gateway_port) if self.gateway_port else None
        action = press_the_button(bank) if bank else in_their_place(office.gateway)
        ours, theirs = (
            Customers(asking, history, start=start, complete_action=action, seed=self.workload.seed, client=client)
            for client, asking in shops.items()
        )
        operator = Operator(shop, sale.events, codes=sale.agreed.shared, aside=sale.agreed.aside)
        self.changes = operator.changes
        operating = asyncio.create_task(operator.work(self.to_change, start))
        stop_sampling = asyncio.Event()
        sampling = asyncio.create_task(sampler.run(stop_sampling))
        self.phase = "selling"
        hearing.begin(start)
        self.began.set()
        visits = await self._let_in(ours, theirs, sale, start)
        self.took_s = clock() - start
        self.ended.set()
        self.phase = "waiting for the last customers"
        await asyncio.wait([operating, *visits], timeout=self.patience_s + 60)
        operating.cancel()
        if operating.done() and not operating.cancelled():
            operating.result()
        await asyncio.to_thread(self.calm.wait)
        if self._stop:
            return
        self.phase = "coming to rest"
        rest_began = clock()
        unrest = await self._come_to_rest(office, bank)
        self.rested_s = clock() - rest_began
        stop_sampling.set()
        await sampling
        self.phase = "reading every booking once more"
        await self._last_look(shops, history)
        for client, asking in shops.items():
            for event in sale.events:
                history.left[client, event.id] = await asking.left(event.id)
        for visit in visits:
            visit.cancel()
        self.found_by_audit = await office.payments_audit.read_reversals()
        self.phase = "telling shops"
        unrest += await hearing.come_to_rest(start, self.telling_s)
        self.phase = "auditing"
        pool = await office.pool()
        self.committed = [(row["at"], row["took"]) for row in await pool.fetch(_COMMITTED, sale.client)]
        secrets = [*(key.partition(".")[2] for key in sale.api_keys.values()), f"rush-{self.workload.seed}-"]
        witness = Witness(
            history, sampler, secrets, unrest, self.tally, self.commits_lost, self.changes, sale.agreed,
            hearing.all, others_buy=self.others_buy, parked_is_broken=not self.others_buy,
        )  # fmt: skip
        self.findings = await audit(office, witness)

    async def _come_to_rest(self, office: BoxOffice, bank: HttpClient | None) -> list[str]:
        """Wait until nothing moves: here, and on its way from the gateway. What still does after the timeout."""
        while True:
            if self.others_buy and self.sale and self.sampler:
                await wait_for_customers(office, [self.sale.client, self.sale.partner], self.sampler.tiers, self.rest_s)
            unrest = await wait_for_rest(office, self.rest_s, holds_too=not self.others_buy)
            if bank is None:
                return unrest
            events = self.tally.events if self.tally else -1
            self.tally, undelivered = await wait_for_deliveries(bank, gateway_token(self.settings), self.rest_s)
            if unrest or undelivered or (self.tally and self.tally.events == events):
                await bank.close()
                return unrest + undelivered

    async def _let_in(
        self, ours: Customers, theirs: Customers, sale: Sale, start: float
    ) -> set[asyncio.Task[None]]:  # fmt: skip
        """Let every customer in at the intended time, whether the others were served or not: an open loop."""
        clock = asyncio.get_running_loop().time
        under_way: set[asyncio.Task[None]] = set()

        def gone(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.failure = self.failure or error

        for visit in invite(draw(self.workload, sale.events), sale.agreed, self.workload.seed):
            wait_s = start + visit.at_s - clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if self._stop:
                break
            task = asyncio.create_task((theirs if visit.at_partner else ours).come(visit))
            under_way.add(task)
            task.add_done_callback(gone)
        return under_way

    async def _last_look(self, shops: Mapping[str, Asking], history: History) -> None:
        """Every customer reads its booking once more, through the API."""
        accepted = [entry for entry in history.entries if entry.ids]
        undecided = [entry for entry in accepted if not is_final(entry.status)]
        if len(undecided) < READ_MAX:
            decided = [entry for entry in accepted if is_final(entry.status)]
            drawn = random.Random(self.workload.seed).sample(decided, min(len(decided), READ_MAX - len(undecided)))
            undecided += drawn
        waiting = iter(undecided)

        async def read() -> None:
            for entry in waiting:
                await shops[entry.client].look_again(entry)

        await asyncio.gather(*(read() for _ in range(READERS)))
