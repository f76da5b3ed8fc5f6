"""The scripts and the repairs against the book of model.py, in any order, on a fake server and on the real one."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, precondition, rule
from redis.asyncio import Redis

from boxoffice.repair.strays import Strays
from boxoffice.stores import keys
from boxoffice.stores.gate import Gate
from boxoffice.stores.record import Payload
from boxoffice.stores.shard import Shard
from ops.stack.servers import Servers
from tests.conftest import CLIENT, SHARD
from tests.invariants.model import LIMIT, RULES, TIERS, Model, tickets_of
from tests.lua.test_reconcile import Final, reconcile
from tests.lua.test_restore import restore
from tests.support.fake_info import fake_redis
from tests.support.shop.script import EVENT

SHOP = f"@{CLIENT}"

SELLING = precondition(lambda self: not self.closed)


class Troubled(Model):
    """Workers that die between the stores, somebody at a terminal, a Redis of yesterday; and everything that repairs."""

    moments = Bundle("moments")
    """Redis as it once was, and the book's account of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[str] = set()

    @initialize(target=moments)
    def nothing_yet(self) -> Any:
        """An empty Redis: one that lost everything goes back to it."""
        return {}, {"state": {}, "due": set(), "parked": set(), "strays": set(), "first_use": {}, "gone": set()}

    # ------------------------------------------------------------------ trouble

    @rule(id=Model.leased, letter=st.sampled_from("CFEX"))
    def commit(self, id: str, letter: str) -> None:
        """Its worker dies before Redis hears of it; perhaps Redis lost the booking meanwhile."""
        self.decide(id, letter)

    @rule(id=Model.leased)
    def write(self, id: str) -> None:
        """Its payment waits for its customer: PostgreSQL has it as pending."""
        self.written.add(id)

    @SELLING
    @rule(tier=st.sampled_from(sorted(TIERS)), letter=st.sampled_from("ahct"), by=st.sampled_from([-2, -1, 1, 2]))
    def drift(self, tier: str, letter: str, by: int) -> None:
        if not self.drifted:
            self.drifted = True
            self.run(self.desk.redis.hincrby(keys.event(SHARD, EVENT), f"{letter}:{tier}", by))  # type: ignore[arg-type]

    @SELLING
    @rule(id=Model.bookings)
    def vanish(self, id: str) -> None:
        """From its set, while its record is still there."""
        if self.state[id] in "HP" and id not in self.parked:
            self.run(self.desk.redis.zrem(keys.pending(SHARD) if self.state[id] == "P" else keys.deadlines(SHARD), id))
            self.due.discard(id)
            self.strays.add(id)

    @SELLING
    @rule(target=moments)
    def remember(self) -> Any:
        """A backup, or a replica that falls behind from now on."""
        book = {name: copy.copy(getattr(self, name)) for name in self.nothing_yet()[1]}
        return self.run(self._dump()), book

    async def _dump(self) -> dict[bytes, bytes]:
        redis = self.desk.redis
        return {key: await redis.dump(key) for key in await redis.keys("*")}

    @rule(moment=consumes(moments), rebuilt_at_once=st.booleans())
    def redis_goes_back(self, moment: Any, rebuilt_at_once: bool) -> None:
        """Its gate was opened for the run before, or there is none. Who is in no store is lost: the honest limit."""
        dump, book = moment
        self.run(self._go_back(dump))
        for name, value in book.items():
            setattr(self, name, copy.copy(value))
        self.closed, self.rings = True, 0
        for id in sorted(self.forms.keys() - self.state.keys()):
            self.state[id] = "-"
            self.gone.add(id)
        if rebuilt_at_once:
            self.rebuild()

    async def _go_back(self, dump: dict[bytes, bytes]) -> None:
        redis = self.desk.redis
        await redis.flushdb()
        for key, value in dump.items():
            await redis.restore(key, 0, value)
        if await redis.exists(keys.gate(SHARD)):
            await redis.set(keys.gate(SHARD), Gate("first", "the run before").pack())

    # ------------------------------------------------------------------ repair

    @SELLING
    @rule()
    def reconcile(self) -> None:
        """As `boxoffice reconcile --fix`."""
        self.run(self.gather())
        self.run(self.settle_the_counters(owned=False))

    async def gather(self) -> None:
        assert await Strays(Shard(self.desk.redis, self.desk.scripts, SHARD)).gather() == len(self.strays)
        self.due |= {id for id in self.strays if self.state[id] == "P"}
        self.strays.clear()

    async def settle_the_counters(self, *, owned: bool) -> None:
        """The product's script, as reconcile.py calls it."""
        unheard = [id for id, state in sorted(self.state.items()) if state == "P" and id in self.decided]
        stock = {tier: (total, self.sold(tier)) for tier, total in TIERS.items()}
        finals = [Final(self.forms[id], self.decided[id]) for id in unheard]
        word, settled, *_ = await reconcile(self.desk, stock, *finals, deep=True)
        assert settled == len(unheard)
        assert self.drifted or word == b"same", "there is no drift where nobody made any"
        for id in unheard + [id for id in self.decided if self.state[id] == "-"]:
            self.ends(id, self.decided[id])
        if owned or word == b"fixed":
            bought = {
                whose: self.bought(form.owner, whose) for form in self.forms.values() for whose in (form.owner, SHOP)
            }
            if bought:
                await reconcile(self.desk, stock, deep=True, bought=bought)
        assert (await reconcile(self.desk, stock, fix=False, deep=True))[0] == b"same"
        self.drifted = False

    def bought(self, owner: str, whose: str) -> str:
        """By a customer, or at the shop, in PostgreSQL, by tier."""
        sold = [self.forms[id] for id, letter in self.decided.items() if letter == "C"]
        tickets = sum(
            (Counter(tickets_of(form)) for form in sold if whose == SHOP or form.owner == owner), Counter[str]()
        )  # fmt: skip
        return ",".join(f"{tier}:{count}" for tier, count in tickets.items() if count)

    @precondition(lambda self: self.closed)
    @rule()
    def rebuild_at_last(self) -> None:
        self.rebuild()

    def rebuild(self) -> None:
        """As rebuild.py: nothing that survived is deleted, what PostgreSQL decided comes back, the gate opens last."""
        self.run(self._rebuild())
        self.closed = False

    async def _rebuild(self) -> None:
        await self.gather()
        tiers = [f"{tier}|{self.desk.prices[tier]}|{total}|{self.sold(tier)}" for tier, total in TIERS.items()]
        await self.desk.load(*tiers, customer_max=LIMIT, rules=RULES)
        self.drifted = True
        for id in sorted(self.written | self.decided.keys()):
            letter = self.decided.get(id, "P")
            if self.state[id] == "-":
                row = msgspec.structs.replace(self.rows[id], state=letter, payload=Payload())
                assert await restore(self.desk, row, life_s=0 if letter == "P" else 3_600) == 1
                self.state[id] = letter
                self.gone.discard(id)
                self.due |= {id} if letter == "P" else set()
                # Its key may have been used anew, while nobody knew of it.
                self.first_use.setdefault(self.forms[id].scope, id)
        await self.settle_the_counters(owned=True)
        await self.desk.open_gate()


def _check(machine: type[Model], examples: int, steps: int) -> None:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )  # fmt: skip
    case("runTest").runTest()  # type: ignore[no-untyped-call]


@pytest.mark.timeout(240)
def test_any_sequence_of_moves_on_a_fake_server() -> None:
    """Quick to start, so that many sequences are tried."""

    class Fake(Troubled):
        real = False
        connect = staticmethod(fake_redis)

    _check(Fake, 8, 15)


@pytest.mark.timeout(240)
def test_any_sequence_of_moves_on_the_real_server(servers: Servers) -> None:
    """The one that counts."""

    class Real(Troubled):
        real = True
        # A database of its own: no worker of another test, late to end, hears its rings.
        connect = staticmethod(lambda: Redis.from_url(servers.redis_url.removesuffix("/0") + "/1"))

    _check(Real, 30, 30)
