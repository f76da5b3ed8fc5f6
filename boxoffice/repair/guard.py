"""The sequence guard: notices a Redis, or a PostgreSQL, that went back in time, and mends what may be mended.

Each remembers how far the other had come: PostgreSQL the admissions (a lower bound, written about once a second), Redis
every commit that it was told of (`fence.py`). What is read first can only be older, so there is no false alarm: Redis's
memory of PostgreSQL, then PostgreSQL, then Redis.

One file because what was seen, the verdict on it and what is done about it are read against each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from boxoffice import ids
from boxoffice.books import queries
from boxoffice.errors import BoxOfficeError, DriftUnexplained
from boxoffice.repair.rebuild import POSTGRES_WENT_BACK, Rebuilder, shard_lock
from boxoffice.repair.reconcile import Reconciler
from boxoffice.sales.loading import Loader
from boxoffice.stores import fence, keys, postgres
from boxoffice.stores.database import Database
from boxoffice.stores.gate import Gate, open_gate
from boxoffice.stores.lineage import BOTH_CHANGED, server_of
from boxoffice.stores.redis import AWAY, run_of
from boxoffice.stores.shard import Shard

__all__ = ["Guard", "Sight", "judge"]

log = structlog.get_logger()

OTHER_GENERATION: Final = "other_generation"
"""The alert while somebody settles under PostgreSQL's generation and this Redis has another: it is the wrong one."""

QUIET_S: Final = 10.0
"""So long must nobody have settled under PostgreSQL's generation before a Redis that knows another takes over."""

QUIET_EMPTY_S: Final = 2.0
"""As `QUIET_S`, for a Redis that knows nothing: it holds no booking that a rebuild could mix up."""

REMIND_S: Final = 60.0
"""So often a shard that waits for an operator is called closed again."""


SOUND_S: Final = 5.0
"""So often Redis is told that it was seen open and agreeing: the age of a file that was put back is known so well."""


NOTE_AFTER_S: Final = 2.0
"""So long a promoted PostgreSQL has to be found in order before its name is written down: a worker may still be telling Redis
of a commit that was lost."""


class Sight(NamedTuple):
    """What both stores say of a shard."""

    told: tuple[fence.Pair, ...]
    """Commits that Redis was told of; read before the rest."""
    lost: bool
    """PostgreSQL lacks one of them."""
    known: bool
    """PostgreSQL has a row for the shard."""
    generation: str
    sequence: int
    quiet_s: float
    run_id: str
    """The run of the server for which the gate was opened."""
    alert: str | None
    gate: str | None
    """The generation for which it was opened."""
    admitted: int | None
    server_run_id: str
    postgres_ms: int = 0
    """PostgreSQL's clock, before Redis was looked at."""
    server: str = ""
    """Which server PostgreSQL is, and on which line of history; empty when it does not tell."""
    server_before: str = ""
    """The same when a guard last found all in order; empty before the first time."""

    run_before: str = ""
    """The run for which PostgreSQL remembers the gate to have been opened."""

    @property
    def promoted(self) -> bool:
        """Whether PostgreSQL is another than the one that was written down."""
        return bool(self.server and self.server_before) and self.server != self.server_before

    @property
    def redis_lacks_nothing(self) -> bool:
        """Whether Redis is the run that was compared last, and has all that PostgreSQL remembers of it."""
        run = self.run_id if self.gate is not None else self.run_before
        return run == self.server_run_id and (self.admitted or 0) >= self.sequence


def judge(sight: Sight) -> str:
    """What is the matter, gravest first.

    `both_changed`: PostgreSQL was promoted or restored, and Redis is another run or went back, since both were last found in
    order; `postgres_went_back`: it lacks a commit that Redis was told of;
    `alert`: an operator has to decide; `first_start`; `closed`: fill Redis again; `waiting`: it
    is closed, and somebody may still settle elsewhere; `other_generation`; `went_back`: Redis did; `restarted`; `fine`.
    """
    if sight.alert == BOTH_CHANGED:
        return "alert"
    if sight.promoted and not sight.redis_lacks_nothing:
        return BOTH_CHANGED
    if sight.lost:
        return POSTGRES_WENT_BACK
    if sight.alert == POSTGRES_WENT_BACK:
        return "alert"
    if not sight.known:
        return "first_start"
    if sight.gate is None:
        quiet = QUIET_EMPTY_S if sight.admitted is None else QUIET_S
        return "closed" if sight.quiet_s >= quiet else "waiting"
    if sight.gate != sight.generation:
        return OTHER_GENERATION
    if (sight.admitted or 0) < sight.sequence:
        return "went_back"
    return "fine" if sight.run_id == sight.server_run_id else "restarted"


class Guard:
    """Guards one shard. Every worker has one; they agree through PostgreSQL's advisory lock who acts."""

    def __init__(
        self,
        here: Shard,
        database: Database,
        loader: Loader,
        reconciler: Reconciler,
        rebuilder: Rebuilder,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shard = here.number
        self.reconciler = reconciler
        self.rebuilder = rebuilder
        self._here = here
        self._redis = here.redis
        self._database = database
        self._loader = loader
        self._now_s = now_s
        self._said = ""
        self._remind_at = 0.0
        self._sound_at = 0.0
        self._promoted = "", 0.0

    async def tick(self) -> str:
        """Look once, and act when it is our turn. Returns the judgement, `busy` while another process acts, `away` when one
        of the stores does not answer: then nothing is closed; or `refused` when Redis takes no writes.
        """
        try:
            sight = await self.look()
            if (judgement := judge(sight)) == "fine":
                await self.remember(sight)
            elif judgement not in ("waiting", "alert") or sight.gate is not None:
                judgement = await self.act()
            self._log(judgement)
            return judgement
        except (*AWAY, *postgres.TRANSIENT) as error:
            self._log("away", error=type(error).__name__)
            return "away"
        except RedisError as error:
            # Full, or without a disk to write to: it says so to whoever asks.
            self._log("refused", error=type(error).__name__)
            return "refused"
        except BoxOfficeError as error:
            self._log("failed", error=error.detail)
            return "failed"

    async def load(self) -> int:
        """Load what PostgreSQL has and Redis lacks. An event that lost its counters is reconciled at once, and one whose
        totals differ: somebody changed PostgreSQL by hand, or died while a capacity was lowered.

        Returns how many events were new or had changed.
        """
        loaded = await self._loader.load(self.shard)
        if loaded.lost:
            await self.reconciler.strays.gather()
        for event in loaded.lost:
            await self.reconciler.event(event, fix=True, deep=True, owned=True, strays=False)
        for event in loaded.apart:
            await self.reconciler.event(event, fix=True)
        return len(loaded.events)

    async def look(self) -> Sight:
        """What both stores say of the shard now."""
        told = await fence.told(self._here)
        lost = await fence.lost(self._database, self.shard, told)
        server = await server_of(self._database)
        row = await self._database.fetchrow(
            "SELECT generation, sequence, alert, server, run_id, (1000 * extract(epoch FROM now()))::bigint AS now_ms, "
            "extract(epoch FROM now() - settled_at)::float AS quiet_s "
            "FROM shards WHERE shard = $1",
            self.shard,
        )
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.gate(self.shard))
            pipe.get(keys.sequence(self.shard))
            pipe.info("server")
            raw, admitted, info = await pipe.execute()
        gate = Gate.parse(raw)
        return Sight(
            tuple(told),
            bool(lost),
            row is not None,
            row["generation"] if row else "",
            row["sequence"] if row else 0,
            row["quiet_s"] if row else 0.0,
            gate.run if gate else "",
            row["alert"] if row else None,
            gate.generation if gate else None,
            int(admitted) if admitted is not None else None,
            run_of(info),
            row["now_ms"] if row else 0,
            server,
            row["server"] if row else "",
            row["run_id"] if row else "",
        )

    async def remember(self, sight: Sight) -> None:
        """How far Redis has come; and that PostgreSQL has what Redis was told of."""
        if (sight.admitted or 0) > sight.sequence:
            await self._database.execute(
                "UPDATE shards SET sequence = greatest(sequence, $2) WHERE shard = $1 AND generation = $3",
                self.shard, sight.admitted, sight.generation,
            )  # fmt: skip
        if sight.server and sight.server != sight.server_before and self._is_settled(sight):
            await self._database.execute("UPDATE shards SET server = $2 WHERE shard = $1", self.shard, sight.server)
        await fence.verified(self._database, self._here, sight.told)
        if (now_s := self._now_s()) >= self._sound_at:
            self._sound_at = now_s + SOUND_S
            await self._redis.set(keys.sound(self.shard), sight.postgres_ms)

    def _is_settled(self, sight: Sight) -> bool:
        """Whether this server has been found in order for a while; one that follows nobody is at once."""
        if not sight.promoted:
            return True
        if self._promoted[0] != sight.server:
            self._promoted = sight.server, self._now_s()
            log.warning("postgres.promoted", shard=self.shard, before=sight.server_before, now=sight.server)
        return self._now_s() >= self._promoted[1] + NOTE_AFTER_S

    async def act(self) -> str:
        """Do what the judgement asks for, as the only one in this shard: what was done, or `busy`."""
        async with shard_lock(self._database, self.shard) as alone:
            if not alone:
                return "busy"
            # Whoever had the lock may have opened the gate since we looked.
            sight = await self.look()
            match judgement := judge(sight):
                case "first_start":
                    await self._start(sight)
                case "postgres_went_back":
                    return await self.recover(sight)
                case "both_changed":
                    await self._close(sight, BOTH_CHANGED)
                case "alert":
                    await self._redis.delete(keys.gate(self.shard))
                case "other_generation":
                    await self._close(sight, OTHER_GENERATION)
                case "closed" | "went_back":
                    return await self._rebuild(judgement)
                case "restarted":
                    return await self.after_restart(sight)
            return judgement

    async def _start(self, sight: Sight) -> None:
        """The shard's first start with this PostgreSQL. A gate that is open stays so."""
        await self._loader.load(self.shard)
        generation = sight.gate or ids.short_id()
        await self._database.execute(
            "INSERT INTO shards (shard, generation, sequence, run_id) VALUES ($1, $2, $3, $4)",
            self.shard, generation, sight.admitted or 0, sight.server_run_id,
        )  # fmt: skip
        await self._redis.setnx(keys.sequence(self.shard), 0)
        await open_gate(self._here, Gate(generation, sight.server_run_id))
        log.info("shard.opened", shard=self.shard, generation=generation)

    async def _close(self, sight: Sight, alert: str) -> None:
        """For an operator to open. Done again at every look, as somebody may have opened it; said when it is new."""
        await self._redis.delete(keys.gate(self.shard))
        await self._database.execute(
            "INSERT INTO shards (shard, generation, alert) VALUES ($1, $2, $3) "
            "ON CONFLICT (shard) DO UPDATE SET alert = $3",
            self.shard, ids.short_id(), alert,
        )  # fmt: skip
        now_s = self._now_s()
        if sight.gate is not None or sight.alert != alert or now_s >= self._remind_at:
            self._remind_at = now_s + REMIND_S
            log.error("shard.closed", shard=self.shard, reason=alert)

    async def recover(self, sight: Sight) -> str:
        """Write again what PostgreSQL forgot. Where that is not safe, an operator has to decide."""
        if sight.alert == POSTGRES_WENT_BACK:
            await self._close(sight, POSTGRES_WENT_BACK)
            return POSTGRES_WENT_BACK
        shut = sight
        if sight.gate is not None:
            self._remind_at = self._now_s() + REMIND_S
            log.error("shard.closed", shard=self.shard, reason=POSTGRES_WENT_BACK)
            shut = sight._replace(gate=None, alert=POSTGRES_WENT_BACK)
        redis_lacks_nothing = sight.run_id == sight.server_run_id and (sight.admitted or 0) >= sight.sequence
        try:
            report = await self.rebuilder.rebuild_locked(fill=not redis_lacks_nothing)
        except DriftUnexplained as error:
            log.error("shard.lost", shard=self.shard, error=error.detail)
            await self._close(shut, POSTGRES_WENT_BACK)
            return POSTGRES_WENT_BACK
        log.error("shard.recovered", shard=self.shard, generation=report.generation, **report.recovered._asdict())
        return "recovered"

    async def _rebuild(self, reason: str) -> str:
        log.warning("shard.closed", shard=self.shard, reason=reason)
        report = await self.rebuilder.rebuild_locked()
        log.warning(
            "shard.rebuilt", shard=self.shard, generation=report.generation, undecided=report.undecided,
            final=report.final, drift=sum(event.word == "fixed" for event in report.reports),
        )  # fmt: skip
        return "rebuilt"

    async def after_restart(self, sight: Sight) -> str:
        """Another run of the server: it may lack the last second, or be an hour old, which the sequences cannot show. Nothing
        is decided on it before this is done."""
        async with self._database.writer() as connection:
            highest = await queries.highest_sequence(connection, self.shard)
        if (sight.admitted or 0) < highest:
            return await self._rebuild("went_back")
        reports = await self.rebuilder.check()
        await self._database.execute("UPDATE shards SET run_id = $2 WHERE shard = $1", self.shard, sight.server_run_id)
        await open_gate(self._here, Gate(sight.generation, sight.server_run_id))
        log.info("shard.checked", shard=self.shard, drift=sum(report.word == "fixed" for report in reports))
        return "restarted"

    def _log(self, judgement: str, **details: Any) -> None:
        """One line when something changes, not one a second."""
        if judgement != self._said and judgement not in ("fine", "restarted", "rebuilt", "recovered", "first_start"):
            log.warning("guard.judged", shard=self.shard, judgement=judgement, **details)
        self._said = judgement
