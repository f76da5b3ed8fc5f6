"""Every interleaving of a small world in which PostgreSQL goes back in time: does the fence (decision 26) hold?

Bookings are admitted, claimed, decided, mirrored and cancelled; workers die; a standby follows and is promoted; the guard
verifies or closes; an operator reconciles; what was lost is written again. Each rule of the design is a field of `Rules`:
switched off, it has to give a counterexample. Redis may go back, too, to a copy of itself: alone it is checked and filled,
together with PostgreSQL it has to be told. Leases are not modelled: two workers may have the same booking at any time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Rules", "World", "explore"]

Pair = tuple[int, int]


class Rules(NamedTuple):
    """What may be switched off."""

    decisions_are_fenced: bool = True
    repairs_are_fenced: bool = True
    repairs_tell_with_a_pair: bool = True
    pairs_have_nonces: bool = True
    every_pair_is_kept: bool = True
    """Not only the highest."""
    a_shut_gate_stops_mirrors: bool = True
    recovery_tells_its_pairs: bool = True
    shops_hear_after_redis: bool = True
    """Of a cancellation."""
    servers_are_noted: bool = True
    """PostgreSQL's rows bear the name of the server that wrote them."""


class World(NamedTuple):
    """How large it is."""

    capacity: int = 1
    bookings: int = 2
    workers: int = 2
    losses: int = 1
    repairs: int = 1
    cancellations: int = 1
    copies: int = 0
    """How often Redis goes back to a copy of itself."""


class Postgres(NamedTuple):
    rows: str
    """Per booking: - unknown, C, F, X."""
    nonces: tuple[int, ...]
    """Of each batch; its place is its number."""
    noted: int = 0
    """The server that a guard has found in order."""

    @property
    def last(self) -> Pair | None:
        return (len(self.nonces), self.nonces[-1]) if self.nonces else None


class State(NamedTuple):
    available: int
    records: str
    """Per booking: - unknown, P, C, F, X."""
    told: frozenset[Pair]
    open: bool
    pg: Postgres
    standby: Postgres
    work: tuple[tuple[str, int, str, frozenset[Pair]] | None, ...]
    """Per worker: what it is at, of which booking, the verdict, and the pairs of its claim, or of its commit."""
    api: tuple[int, Pair] | None
    """A cancellation that is committed, and whose shop waits for the answer."""
    recovering: frozenset[Pair] | None
    """The pairs that were lost, once what went with them is written again; None otherwise."""
    confirmed: frozenset[int]
    """Whose shops read so."""
    cancelled: frozenset[int]
    left: tuple[int, int, int]
    """Losses, repairs and cancellations to come."""
    fresh: int
    server: int = 0
    """Which PostgreSQL it is."""
    copy: tuple[int, str, frozenset[Pair]] | None = None
    """Of Redis."""
    copies: int = 0
    whole: bool = True
    """Redis is the run that was compared last."""
    alarm: bool = False
    """Nothing happens any more until an operator has decided."""


def put(text: str, at: int, letter: str) -> str:
    return text[:at] + letter + text[at + 1 :]


def _start(world: World) -> State:
    empty = Postgres("-" * world.bookings, ())
    return State(
        world.capacity, "-" * world.bookings, frozenset(), True, empty, empty, (None,) * world.workers, None, None,
        frozenset(), frozenset(), (world.losses, world.repairs, world.cancellations), 0,
        copies=world.copies,
    )  # fmt: skip


class Model:
    """One world under some rules."""

    def __init__(self, world: World, rules: Rules) -> None:
        self.world = world
        self.rules = rules

    def lacks(self, pg: Postgres, pairs: frozenset[Pair]) -> bool:
        """The fence."""
        if not self.rules.every_pair_is_kept and pairs:
            pairs = frozenset([max(pairs)])
        return any(
            number > len(pg.nonces) or (self.rules.pairs_have_nonces and pg.nonces[number - 1] != nonce)
            for number, nonce in pairs
        )

    def tell(self, s: State, b: int, letter: str, pair: Pair | None) -> State:
        """A mirroring script: confirm, settle, move."""
        if not s.open and self.rules.a_shut_gate_stops_mirrors:
            return s
        told = s.told | {pair} if pair else s.told
        before = s.records[b]
        if (before, letter) not in (("P", "C"), ("P", "F"), ("P", "X"), ("C", "X")):
            return s._replace(told=told)
        available = s.available + (letter in "FX")
        s = s._replace(available=available, records=put(s.records, b, letter), told=told)
        return s._replace(confirmed=s.confirmed | {b}) if letter == "C" else s

    def steps(self, s: State) -> Iterator[tuple[str, State]]:
        """Everything that may happen next."""
        if s.alarm:
            return
        yield from self.sales(s)
        for w, work in enumerate(s.work):
            for what, after in self.worker(s, work):
                yield f"worker {w} {what}", after._replace(work=(*s.work[:w], after.work[0], *s.work[w + 1 :]))
        yield from self.shop(s)
        yield from self.trouble(s)
        yield from self.repairs(s)

    def sales(self, s: State) -> Iterator[tuple[str, State]]:
        for b in range(self.world.bookings):
            if s.records[b] == "-" and s.open and s.available > 0:
                yield f"admit {b}", s._replace(available=s.available - 1, records=put(s.records, b, "P"))

    def worker(self, s: State, work: tuple[str, int, str, frozenset[Pair]] | None) -> Iterator[tuple[str, State]]:
        """`work` of the state that comes back has one place: this worker's."""
        if work is None:
            for b in range(self.world.bookings):
                if s.records[b] == "P" and s.open:
                    yield f"claims {b}", s._replace(work=(("claimed", b, "", s.told),))
            return
        idle = s._replace(work=(None,))
        yield "dies", idle
        at, b, verdict, pairs = work
        if at == "decided":
            yield f"mirrors {b}", self.tell(idle, b, verdict, next(iter(pairs), None))
        elif not (self.rules.decisions_are_fenced and self.lacks(s.pg, pairs)):
            if (row := s.pg.rows[b]) != "-":
                # A batch of its own would say no more than the last one, and there would be no end of states.
                found = frozenset([s.pg.last]) if s.pg.last else frozenset()
                yield f"finds {b} {row}", s._replace(work=(("decided", b, row, found),))
                return
            verdict = "C" if s.pg.rows.count("C") < self.world.capacity else "F"
            pg, pair = self.commit(s, put(s.pg.rows, b, verdict))
            decided = ("decided", b, verdict, frozenset([pair]))
            yield f"decides {b} {verdict}", s._replace(pg=pg, fresh=s.fresh + 1, work=(decided,))

    def commit(self, s: State, rows: str) -> tuple[Postgres, Pair]:
        pg = Postgres(rows, (*s.pg.nonces, s.fresh), s.pg.noted)
        return pg, (len(pg.nonces), s.fresh)

    def shop(self, s: State) -> Iterator[tuple[str, State]]:
        """Cancels what it read to be confirmed, and is answered."""
        losses, repairs, cancellations = s.left
        if s.api is None and cancellations and not (self.rules.decisions_are_fenced and self.lacks(s.pg, s.told)):
            for b in s.confirmed - s.cancelled:
                if s.pg.rows[b] == "C":
                    pg, pair = self.commit(s, put(s.pg.rows, b, "X"))
                    yield (
                        f"shop cancels {b}",
                        s._replace(pg=pg, fresh=s.fresh + 1, api=(b, pair), left=(losses, repairs, cancellations - 1)),
                    )
        if s.api is not None:
            b, pair = s.api
            gone = s._replace(api=None)
            yield f"the API dies with {b}", gone
            if not self.rules.shops_hear_after_redis:
                yield f"shop hears that {b} is cancelled", gone._replace(cancelled=s.cancelled | {b})
            elif s.open and s.pg.rows[b] == "X":
                told = self.tell(gone, b, "X", s.pg.last)
                yield f"Redis and shop hear of {b}", told._replace(cancelled=s.cancelled | {b})
        for b in range(self.world.bookings):
            if s.open and s.pg.rows[b] == "X" and s.records[b] == "C":
                yield f"the sweep moves {b}", self.tell(s, b, "X", s.pg.last)

    def trouble(self, s: State) -> Iterator[tuple[str, State]]:
        losses, repairs, cancellations = s.left
        if s.standby != s.pg:
            yield "the standby catches up", s._replace(standby=s.pg)
            if losses:
                left = (losses - 1, repairs, cancellations)
                yield "the standby is promoted", s._replace(pg=s.standby, left=left, server=s.server + 1)
        if s.copies:
            now = (s.available, s.records, s.told)
            if s.open and s.copy != now:
                yield "Redis is copied", s._replace(copy=now)
            if s.copy:
                available, records, told = s.copy
                yield (
                    "the copy is put back",
                    s._replace(available=available, records=records, told=told, copies=s.copies - 1, copy=None,
                               open=False, recovering=None, whole=False),
                )  # fmt: skip

    def repairs(self, s: State) -> Iterator[tuple[str, State]]:
        lacking = self.lacks(s.pg, s.told)
        promoted = self.rules.servers_are_noted and s.pg.noted != s.server
        if promoted and not s.whole:
            yield "both have changed", s._replace(alarm=True)
            return
        if self.world.copies and promoted and s.open and not lacking and not self.is_telling(s):
            yield "the guard notes the server", s._replace(pg=s.pg._replace(noted=s.server))
        if s.open and lacking:
            yield "the guard closes the gate", s._replace(open=False)
        elif s.open and len(s.told) > 1:
            yield "the guard verifies", s._replace(told=frozenset([max(s.told)]))
        losses, repairs, cancellations = s.left
        if s.open and repairs and not (self.rules.repairs_are_fenced and lacking):
            left = (losses, repairs - 1, cancellations)
            yield "reconcile", self.reconciled(s)._replace(left=left)
        if not s.open and s.recovering is None:
            yield "what was lost is written again", self.written_again(s)
        if not s.open and s.recovering is not None:
            after = self.reconciled(s)
            last = frozenset([s.pg.last]) if s.pg.last else frozenset()
            told = (after.told - s.recovering) | last
            yield "the gate opens", after._replace(told=told, open=True, recovering=None, whole=True)

    def is_telling(self, s: State) -> bool:
        """Whether a worker may still tell Redis of a commit that was lost: the guard waits for that."""
        pairs = [work[3] for work in s.work if work and work[0] == "decided"]
        return any(self.lacks(s.pg, lost) for lost in pairs) or (
            s.api is not None and self.lacks(s.pg, frozenset([s.api[1]]))
        )

    def reconciled(self, s: State) -> State:
        """What PostgreSQL calls final is applied, and the counters set to what it says."""
        records, confirmed, told = s.records, s.confirmed, s.told
        for b, row in enumerate(s.pg.rows):
            forgotten = not s.whole and records[b] == "-" and row != "-"
            if forgotten or (records[b], row) in (("P", "C"), ("P", "F"), ("P", "X"), ("C", "X"), ("C", "F")):
                records = put(records, b, row)
                confirmed = confirmed | {b} if row == "C" else confirmed
                if self.rules.repairs_tell_with_a_pair and s.pg.last:
                    told = told | {s.pg.last}
        available = self.world.capacity - s.pg.rows.count("C") - records.count("P")
        return s._replace(available=max(0, available), records=records, confirmed=confirmed, told=told)

    def written_again(self, s: State) -> State:
        rows = s.pg.rows
        # Cancellations first: their tickets may be somebody else's by now.
        for b, letter in enumerate(s.records):
            if letter == "X" and rows[b] in "-C":
                rows = put(rows, b, "X")
        for b, letter in enumerate(s.records):
            if letter in "CF" and rows[b] == "-":
                rows = put(rows, b, "C" if letter == "C" and rows.count("C") < self.world.capacity else "F")
        lost = frozenset(pair for pair in s.told if self.lacks(s.pg, frozenset([pair])))
        pg = s.pg if rows == s.pg.rows else self.commit(s, rows)[0]
        # Also of what was found there: PostgreSQL may go back once more before the gate opens.
        told = s.told | {pg.last} if self.rules.recovery_tells_its_pairs and pg.last else s.told
        return s._replace(pg=pg, fresh=s.fresh + (pg != s.pg), told=told, recovering=lost)

    def wrong(self, s: State) -> str:
        """What must never be."""
        if s.alarm or not s.whole:
            return ""  # nobody reads from a Redis that is not checked
        if sum("X" not in (s.pg.rows[b], s.records[b]) for b in s.confirmed) > self.world.capacity:
            return "more are told confirmed than there are"
        if any(s.pg.rows[b] == "F" or s.records[b] == "F" for b in s.confirmed):
            return "told confirmed, then failed"
        calm = s.work == (None,) * self.world.workers and s.api is None
        if calm and s.open and not self.lacks(s.pg, s.told):
            if any(s.pg.rows[b] == "-" and (s.records[b] != "P" or self.world.copies) for b in s.confirmed):
                return "a booking is lost, and nobody notices"
            if any(s.pg.rows[b] != "X" for b in s.cancelled):
                return "a cancellation is lost, and nobody notices"
        return ""


def explore(world: World, rules: Rules = Rules()) -> tuple[int, str]:
    """Visit every state. How many there are, and what went wrong after which steps; empty when nothing did."""
    model = Model(world, rules)
    start = _start(world)
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for name, after in model.steps(state):
            if after in came_from:
                continue
            came_from[after] = (state, name)
            if why := model.wrong(after):
                return len(came_from), f"{why}: {' | '.join(_path(came_from, after))}"
            queue.append(after)
    return len(came_from), ""


def _path(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    names: list[str] = []
    while (before := came_from[state]) is not None:
        state, name = before
        names.insert(0, name)
    return names
