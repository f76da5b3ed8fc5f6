"""The scripts against a book kept in a few dozen lines of Python, in any order, on a fake server and on the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from redis.asyncio import Redis

from boxoffice import keys
from boxoffice.scripts import load_scripts
from ops.servers import Servers
from tests.support.desk import EVENT, Desk, Form, Verdict

TIERS = {"box": 3, "floor": 8}
CUSTOMERS = ("ann", "bob")
LIMIT = 6


class Model(RuleBasedStateMachine):
    """What must be true after any sequence of admissions, claims, verdicts, lapses, releases and parkings."""

    connect: ClassVar[Callable[[], Redis]]
    real: ClassVar[bool]

    bookings = Bundle("bookings")
    """Every booking that was let in, in whatever state."""
    leased = Bundle("leased")
    """Claims that workers hold or once held: a worker may wake up late with any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.desk = Desk(type(self).connect(), load_scripts(real_server=self.real), 0)
        self.state: dict[str, str] = {}
        self.forms: dict[str, Form] = {}
        self.due: set[str] = set()
        self.parked: set[str] = set()
        self.first_use: dict[str, str] = {}
        self.rings = 0
        self.gone: set[str] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def open_sale(self) -> None:
        self.run(self.desk.redis.flushall())
        self.run(self.desk.open_gate())
        self.run(self.desk.open_sale(limit=LIMIT, **TIERS))

    def teardown(self) -> None:
        self.run(self.desk.redis.aclose())
        self.runner.close()

    # ------------------------------------------------------------------ the model's arithmetic

    def taken(self, tier: str, states: str) -> int:
        return sum(_tickets(self.forms[id])[tier] for id, state in self.state.items() if state in states)

    def owned(self, owner: str) -> int:
        return sum(
            sum(_tickets(self.forms[id]).values())
            for id, state in self.state.items()
            if state in "HPC" and self.forms[id].owner == owner
        )

    def expected(self, form: Form) -> str:
        tickets = _tickets(form)
        if form.scope in self.first_use:
            return "created" if self.first_use[form.scope] == form.id else "replayed"
        if any(TIERS[tier] - self.taken(tier, "HPC") < count for tier, count in tickets.items() if count):
            return "sold_out"
        if self.owned(form.owner) + sum(tickets.values()) > LIMIT:
            return "customer_limit"
        return "created"

    # ------------------------------------------------------------------ moves

    @rule(
        target=bookings, key=st.integers(0, 12), customer=st.sampled_from(CUSTOMERS), box=st.integers(0, 2),
        floor=st.integers(1, 3), hold=st.booleans(),
    )  # fmt: skip
    def admit(self, key: int, customer: str, box: int, floor: int, hold: bool) -> Any:
        """A key says what is asked for, so that its second use is a replay."""
        tickets = {"floor": floor} | ({"box": box} if box else {})
        name = f"{key}-{customer}-{box}-{floor}-{hold}"
        form = self.desk.form(key=name, customer=customer, hold_ms=3_600_000 * hold, **tickets)  # type: ignore[arg-type]
        expected = self.expected(form)
        (result,) = self.run(self.desk.book(form))
        assert result[0].decode() == expected
        if expected == "replayed":
            assert result[1].decode() == self.first_use[form.scope]
            return multiple()
        if expected != "created":
            return multiple()
        self.first_use[form.scope] = form.id
        self.forms[form.id], self.state[form.id] = form, form.letter
        if form.letter == "P":
            self.due.add(form.id)
        return form.id

    @rule(id=bookings)
    def send_again(self, id: str) -> None:
        """The same booking, whose reply was lost."""
        assert self.run(self.desk.book(self.forms[id]))[0][0] == b"created"

    @rule(target=leased, limit=st.integers(1, 4))
    def claim(self, limit: int) -> Any:
        claimed = {id for id, _, _ in self.run(self.desk.claim(limit=limit, lease_ms=3_600_000))}
        assert claimed <= self.due
        assert bool(claimed) == bool(self.due)
        self.due -= claimed
        return multiple(*claimed)

    @rule(id=bookings)
    def lease_ends(self, id: str) -> None:
        """Its worker died, or hangs and may yet wake up."""
        pending = keys.pending(0)
        score = self.run(self.desk.redis.zscore(pending, id))
        if score is not None and id not in self.due:
            self.run(self.desk.redis.zadd(pending, {id: 1_000 + score % 1}))
            self.due.add(id)

    @rule(id=leased, letter=st.sampled_from("CFEX"))
    def settle(self, id: str, letter: str) -> None:
        """By the worker that has it, or by one that had it long ago."""
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], letter), ttl_s=3_600))
        if id in self.gone:
            assert told == "gone"
        elif self.state[id] == "P":
            assert told == letter
            self.state[id] = letter
            self.due.discard(id)
            self.parked.discard(id)
        else:
            assert told == "stale"

    @rule(id=leased)
    def settle_under_another_payment(self, id: str) -> None:
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], "C", payment_key="0" * 32)))
        assert told == ("gone" if id in self.gone else "stale")

    @rule(id=leased)
    def release(self, id: str) -> None:
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], "R", payload=b"")))
        assert told == ("gone" if id in self.gone else "R" if self.state[id] == "P" else "stale")
        if told == "R" and id not in self.parked:
            self.due.add(id)

    @rule(id=leased)
    def park(self, id: str) -> None:
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], "D", payload=b"")))
        assert told == ("D" if self.state[id] == "P" or id in self.gone else "stale")
        if told == "D":
            self.parked.add(id)
            self.due.discard(id)

    @rule(id=consumes(bookings))
    def forget(self, id: str) -> None:
        """A final record's life ends. Nothing else may change with it; its key may be used anew."""
        if self.state[id] in "CFEX":
            form = self.forms[id]
            self.run(self.desk.redis.delete(keys.booking(0, id), keys.idempotency(0, form.scope)))
            self.first_use.pop(form.scope, None)
            self.gone.add(id)

    @rule()
    def worker_hears_nothing(self) -> None:
        """The bell expires with the worker that heard it."""
        self.run(self.desk.redis.delete(keys.bell(0)))

    # ------------------------------------------------------------------ always

    @invariant()
    def redis_agrees_with_the_book(self) -> None:
        """Counters, customers' counts, and where every booking stands."""
        sale, owners, pending, dead, deadlines, rings, jobs = self.run(self.look())
        if not sale:
            return
        for tier, total in TIERS.items():
            held, sold = self.taken(tier, "HP"), self.taken(tier, "C")
            counted = tuple(int(sale[f"{letter}:{tier}".encode()]) for letter in "ahct")
            assert counted == (total - held - sold, held, sold, total)
        owned = {form.owner: self.owned(form.owner) for form in self.forms.values()}
        assert {owner.decode(): int(count) for owner, count in owners.items()} == {o: n for o, n in owned.items() if n}
        assert _ids(pending) == {id for id, state in self.state.items() if state == "P"} - self.parked
        assert _ids(dead) == self.parked
        assert _ids(deadlines) == {id for id, state in self.state.items() if state == "H"}
        assert jobs == int(rings or 0) >= self.rings, "every ring is a job of its own"
        self.rings = jobs

    async def look(self) -> list[Any]:
        redis = self.desk.redis
        pipe = redis.pipeline(transaction=False)
        pipe.hgetall(keys.event(0, EVENT))
        pipe.hgetall(keys.owners(0, EVENT))
        for key in (keys.pending(0), keys.dead(0), keys.deadlines(0)):
            pipe.zrange(key, 0, -1)
        pipe.get(keys.rings(0))
        pipe.zcard(keys.arq_queue(0))
        return list(await pipe.execute())


def _ids(members: list[bytes]) -> set[str]:
    return {member.decode() for member in members}


def _tickets(form: Form) -> dict[str, int]:
    counted = dict.fromkeys(TIERS, 0)
    for item in form.items.split(","):
        tier, _, quantity = item.partition(":")
        counted[tier] = int(quantity)
    return counted


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

    class Fake(Model):
        real = False
        connect = staticmethod(lambda: fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer()))

    _check(Fake, 8, 15)


@pytest.mark.timeout(240)
def test_any_sequence_of_moves_on_the_real_server(servers: Servers) -> None:
    """The one that counts."""

    class Real(Model):
        real = True
        connect = staticmethod(lambda: Redis.from_url(servers.redis_url))

    _check(Real, 40, 30)
