"""A book kept in a few dozen lines of Python, beside the scripts: what PostgreSQL decided, and what Redis must say.

Here is what customers and workers do; what goes wrong, and who repairs it, is in test_model.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from redis.asyncio import Redis

from boxoffice.errors import GateClosed
from boxoffice.stores import keys
from boxoffice.stores.record import Record, unpack
from boxoffice.stores.scripts import load_scripts
from tests.conftest import SHARD
from tests.support.shop.orders import CLIENT
from tests.support.shop.script import EVENT, Desk, Form, Verdict, counts_of_unpaid, tickets_by_tier

__all__ = ["LIMIT", "RULES", "TIERS", "Model", "tickets_of"]

TIERS = {"box": 3, "floor": 8}
CUSTOMERS = ("ann", "bob")
LIMIT = 6
TIER_LIMITS = {"box": 2, "floor": LIMIT}
RULES = "0:0:0|box:0:0:0:2"
"""As lib/rules.lua reads them: what a customer may have of the box."""


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
        self.desk = Desk(type(self).connect(), load_scripts(real_server=self.real), SHARD)
        self.state: dict[str, str] = {}
        self.claimed: dict[str, bytes] = {}
        """Records as they were claimed last."""
        self.forms: dict[str, Form] = {}
        self.due: set[str] = set()
        self.parked: set[str] = set()
        self.first_use: dict[str, str] = {}
        self.rings = 0
        self.gone: set[str] = set()
        """Bookings without a record."""
        self.decided: dict[str, str] = {}
        """What PostgreSQL has committed, whether or not Redis has heard of it."""
        self.rows: dict[str, Record] = {}
        """Bookings that a worker has seen: it may write them to PostgreSQL whatever becomes of Redis."""
        self.asked = 0
        self.closed = False
        self.drifted = False
        """The counters are not to be believed: somebody else wrote them."""
        self.strays: set[str] = set()
        """Undecided bookings that stand in no set."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(targets=(bookings, leased))
    def open_sale(self) -> Any:
        """Two are in already, and a worker has them, so that trouble finds somebody."""
        self.run(self.desk.redis.flushdb())
        self.run(self.desk.open_gate())
        self.run(self.desk.open_sale(limit=LIMIT, rules=RULES, **TIERS))
        first = [self.form(key="1", customer="ann", floor=2), self.form(key="2", customer="bob", box=1, floor=1)]
        self.run(self.desk.book(*first))
        for form in first:
            self.enter(form)
        return self.claim()

    def form(self, **wanted: Any) -> Form:
        """With an id that is the same when a failure is repeated."""
        self.asked += 1
        form = self.desk.form(**wanted)
        form.id = f"{self.asked:08x}-0000-7000-8000-000000000000"
        return form

    def enter(self, form: Form) -> None:
        self.first_use[form.scope] = form.id
        self.forms[form.id], self.state[form.id] = form, form.letter
        if form.letter == "P":
            self.due.add(form.id)

    def teardown(self) -> None:
        self.run(self.desk.redis.aclose())
        self.runner.close()

    # ------------------------------------------------------------------ the model's arithmetic

    def taken(self, tier: str, states: str) -> int:
        return sum(tickets_of(self.forms[id])[tier] for id, state in self.state.items() if state in states)

    def owned(self, owner: str) -> Counter[str]:
        """By tier."""
        theirs = (
            self.forms[id] for id, state in self.state.items() if state in "HPC" and self.forms[id].owner == owner
        )
        return sum((Counter(tickets_of(form)) for form in theirs), Counter())

    def sold(self, tier: str) -> int:
        """In PostgreSQL."""
        return sum(tickets_of(self.forms[id])[tier] for id, letter in self.decided.items() if letter == "C")

    def decide(self, id: str, letter: str) -> str:
        """PostgreSQL's word, once; it lets nobody have what is sold."""
        if id not in self.decided:
            # Of a booking that Redis lost, nobody tells it that it was sold.
            self.drifted |= id in self.gone
            short = any(self.sold(tier) + n > TIERS[tier] for tier, n in tickets_of(self.forms[id]).items())
            self.decided[id] = "F" if letter == "C" and short else letter
        return self.decided[id]

    def expected(self, form: Form) -> set[str]:
        tickets = tickets_of(form)
        if form.scope in self.first_use:
            return {"created" if self.first_use[form.scope] == form.id else "replayed"}
        if self.drifted:
            return {"created", "sold_out", "customer_limit"}
        if any(TIERS[tier] - self.taken(tier, "HPC") < count for tier, count in tickets.items() if count):
            return {"sold_out"}
        after = self.owned(form.owner) + Counter(tickets)
        if after.total() > LIMIT or any(tickets[tier] and after[tier] > most for tier, most in TIER_LIMITS.items()):
            return {"customer_limit"}
        return {"created"}

    # ------------------------------------------------------------------ moves

    @rule(
        target=bookings, key=st.integers(0, 12), customer=st.sampled_from(CUSTOMERS), box=st.integers(0, 2),
        floor=st.integers(1, 3), hold=st.booleans(),
    )  # fmt: skip
    def admit(self, key: int, customer: str, box: int, floor: int, hold: bool) -> Any:
        """A key says what is asked for, so that its second use is a replay."""
        tickets = {"floor": floor} | ({"box": box} if box else {})
        name = f"{key}-{customer}-{box}-{floor}-{hold}"
        form = self.form(key=name, customer=customer, hold_ms=3_600_000 * hold, **tickets)
        expected = self.expected(form)
        if self.shut(self.desk.admit(form)):
            return multiple()  # neither sold out nor unlimited
        reply = self.run(self.desk.admit(form))
        (result,) = reply.results
        word = self.desk.word(result).decode()
        assert word in expected
        if word == "replayed":
            assert result[1].decode() == self.first_use[form.scope]
        if word != "created":
            return multiple()
        self.enter(form)
        return form.id

    @rule(id=bookings)
    def send_again(self, id: str) -> None:
        """The same booking, whose reply was lost."""
        if not self.closed and self.first_use.get(self.forms[id].scope) == id:
            assert self.run(self.desk.book(self.forms[id]))[0][0] == b"created"

    @precondition(lambda self: not self.closed)
    @rule(target=leased)
    def claim_again(self) -> Any:
        return self.claim()

    def claim(self) -> Any:
        """All that is due: which of them come first is a matter of milliseconds, and a failure has to be repeatable."""
        found = self.run(self.desk.claim(lease_ms=3_600_000))
        self.rows |= {id: unpack(id, raw) for id, _, raw in found}
        self.claimed |= {id: raw for id, _, raw in found}
        claimed = {id for id, _, _ in found}
        assert claimed <= self.due
        assert bool(claimed) == bool(self.due)
        self.due -= claimed
        return multiple(*sorted(claimed))

    @rule(id=bookings)
    def lease_ends(self, id: str) -> None:
        """Its worker died, or hangs and may yet wake up."""
        pending = keys.pending(SHARD)
        score = self.run(self.desk.redis.zscore(pending, id))
        if score is not None and id not in self.due:
            self.run(self.desk.redis.zadd(pending, {id: 1_000 + score % 1}))
            self.due.add(id)

    def shut(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Whether the gate is. Then no script decides anything."""
        if not self.closed:
            work.close()
            return False
        try:
            self.run(work)
        except GateClosed:
            return True
        raise AssertionError("decided under a gate that is shut")

    @rule(id=leased, letter=st.sampled_from("CFEX"))
    def settle(self, id: str, letter: str) -> None:
        """By the worker that has it, or by one that had it long ago."""
        letter = self.decide(id, letter)
        if self.shut(self.desk.settle(Verdict(self.forms[id], letter), ttl_s=3_600)):
            return
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], letter), ttl_s=3_600))
        if id in self.gone:
            assert told == "gone"
        elif self.state[id] == "P":
            assert told == letter
            self.ends(id, letter)
        else:
            assert told == "stale"

    @rule(id=leased)
    def confirm(self, id: str) -> None:
        """In one go with nothing looked at, if its record is still the one that was claimed."""
        if self.decide(id, "C") != "C":
            return
        raw = self.claimed[id]
        if self.shut(self.desk.confirm(self.forms[id], expected=[raw], ttl_s=3_600)):
            return
        same = raw == self.run(self.desk.redis.get(keys.booking(SHARD, id)))
        assert self.run(self.desk.confirm(self.forms[id], expected=[raw], ttl_s=3_600)) == same
        if same:
            assert id not in self.gone and self.state[id] == "P"
            self.ends(id, "C")

    def ends(self, id: str, letter: str) -> None:
        self.state[id] = letter
        for place in (self.due, self.parked, self.strays):
            place.discard(id)

    @precondition(lambda self: not self.closed)
    @rule(id=leased)
    def settle_under_another_payment(self, id: str) -> None:
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], "C", payment_key="0" * 32)))
        assert told == ("gone" if id in self.gone else "stale")

    @precondition(lambda self: not self.closed)
    @rule(id=leased)
    def release(self, id: str) -> None:
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], "R", payload=b"")))
        assert told == ("gone" if id in self.gone else "R" if self.state[id] == "P" else "stale")
        if told == "R" and id not in self.parked | self.strays:
            self.due.add(id)

    @precondition(lambda self: not self.closed)
    @rule(id=leased)
    def park(self, id: str) -> None:
        if self.state[id] == "-":
            return
        (told,) = self.run(self.desk.settle(Verdict(self.forms[id], "D", payload=b"")))
        assert told == ("D" if self.state[id] == "P" or id in self.gone else "stale")
        if told == "D":
            self.parked.add(id)
            self.due.discard(id)
            self.strays.discard(id)

    @rule(id=consumes(bookings))
    def forget(self, id: str) -> None:
        """A final record's life ends. Nothing else may change with it; its key may be used anew."""
        if self.state[id] in "CFEX" and id not in self.gone:
            form = self.forms[id]
            self.run(self.desk.redis.delete(keys.booking(SHARD, id), keys.idempotency(SHARD, form.scope)))
            self.first_use.pop(form.scope, None)
            self.gone.add(id)

    @rule()
    def worker_hears_nothing(self) -> None:
        """The bell expires with the worker that heard it."""
        self.run(self.desk.redis.delete(keys.bell(SHARD)))

    # ------------------------------------------------------------------ always

    @invariant()
    def redis_agrees_with_the_book(self) -> None:
        """Counters, customers' counts, and where every booking stands."""
        sale, owners, by_tier, shops, unpaid, pending, dead, deadlines, rings, jobs = self.run(self.look())
        if not sale or self.closed:
            return
        assert _ids(pending) == {id for id, state in self.state.items() if state == "P"} - self.parked - self.strays
        assert _ids(dead) == self.parked
        assert _ids(deadlines) == {id for id, state in self.state.items() if state == "H"} - self.strays
        assert jobs == int(rings or 0) >= self.rings, "every ring is a job of its own"
        self.rings = jobs
        if self.drifted:
            return
        for tier, total in TIERS.items():
            held, sold = self.taken(tier, "HP"), self.taken(tier, "C")
            counted = tuple(int(sale[f"{letter}:{tier}".encode()]) for letter in "ahct")
            assert counted == (total - held - sold, held, sold, total)
        owned = {form.owner: self.owned(form.owner) for form in self.forms.values()}
        in_all = {owner: tickets.total() for owner, tickets in owned.items() if tickets}
        assert {owner.decode(): int(count) for owner, count in owners.items()} == in_all
        counted_by_tier = {owner.decode(): tickets_by_tier(items) for owner, items in by_tier.items()}
        assert counted_by_tier == {owner: dict(+tickets) for owner, tickets in owned.items() if tickets}
        assert shops == {
            f"{CLIENT}:{tier}".encode(): b"%d" % self.taken(tier, "HPC") for tier in TIERS if self.taken(tier, "HPC")
        }
        holds = [form for id, form in self.forms.items() if form.hold_ms and self.state[id] in "HP"]
        counted_unpaid: Counter[str] = Counter()
        for form in holds:
            for who in (f"o:{form.owner}", f"c:{CLIENT}"):
                counted_unpaid[who] += sum(tickets_of(form).values())
        assert counts_of_unpaid(unpaid) == dict(counted_unpaid)

    async def look(self) -> list[Any]:
        redis = self.desk.redis
        pipe = redis.pipeline(transaction=False)
        pipe.hgetall(keys.event(SHARD, EVENT))
        pipe.hgetall(keys.owners(SHARD, EVENT))
        pipe.hgetall(keys.owned_tiers(SHARD, EVENT))
        pipe.hgetall(keys.shops(SHARD, EVENT))
        pipe.hgetall(keys.unpaid(SHARD, EVENT))
        for key in (keys.pending(SHARD), keys.dead(SHARD), keys.deadlines(SHARD)):
            pipe.zrange(key, 0, -1)
        pipe.get(keys.rings(SHARD))
        pipe.zcard(keys.arq_queue(SHARD))
        return list(await pipe.execute())


def _ids(members: list[bytes]) -> set[str]:
    return {member.decode() for member in members}


def tickets_of(form: Form) -> dict[str, int]:
    counted = dict.fromkeys(TIERS, 0)
    for item in form.items.split(","):
        tier, _, quantity = item.partition(":")
        counted[tier] = int(quantity)
    return counted
