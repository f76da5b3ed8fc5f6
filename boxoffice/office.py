"""The box office: every part, built once and closed once, for every door.

One file because it is one list: each part, with what it is made of.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property

from redis.asyncio import Redis

from boxoffice.access.store import AccessStore
from boxoffice.admission.admission import Admission
from boxoffice.admission.changes import HoldChanges
from boxoffice.backoffice.desk import Desk
from boxoffice.backoffice.figures import Figures
from boxoffice.backoffice.finding import Finder
from boxoffice.backoffice.forgetting import Forgetting
from boxoffice.backoffice.operating import Operating
from boxoffice.backoffice.overview import Overview
from boxoffice.backoffice.readiness import Readiness
from boxoffice.backoffice.readings import Readings
from boxoffice.bookings.calling_off import CallingOff
from boxoffice.bookings.cancellations import Cancellations
from boxoffice.bookings.held_rows import HeldRows
from boxoffice.bookings.hold_payments import HoldPayments
from boxoffice.bookings.holds import Holds
from boxoffice.bookings.reading import Bookings
from boxoffice.books.moves import apply_moves
from boxoffice.clock import CLOCK, Clock
from boxoffice.gateway.base import PaymentGateway
from boxoffice.gateway.counted import counted
from boxoffice.gateway.factory import open_gateway
from boxoffice.money.late import LateMoney, Webhooks
from boxoffice.money.owed import OwedMoney
from boxoffice.money.pump import MoneyPump
from boxoffice.money.refunds import Refunds
from boxoffice.office_parts import ShowingParts
from boxoffice.repair.dossier import Dossiers
from boxoffice.repair.guard import Guard
from boxoffice.repair.mend import Mender
from boxoffice.repair.parked import Parked
from boxoffice.repair.payments_audit import PaymentsAudit
from boxoffice.repair.rebuild import Rebuilder
from boxoffice.repair.reconcile import Reconciler
from boxoffice.repair.recovery import Recovery
from boxoffice.repair.tools import Repair
from boxoffice.sales.allocations import Allocations
from boxoffice.sales.codes import AccessCodes
from boxoffice.sales.control import Control
from boxoffice.sales.loading import Loader
from boxoffice.sales.sharing import Sharing
from boxoffice.sales.shop_counts import ShopCounts
from boxoffice.sales.store import CatalogueStore
from boxoffice.settings import Settings
from boxoffice.settlement.draining import Settlement
from boxoffice.stores.database import Database, Pool
from boxoffice.stores.installation import installation
from boxoffice.stores.postgres import TRANSIENT, PostgresError
from boxoffice.stores.scripts import Scripts, load_scripts
from boxoffice.stores.shard import Shard, Shards, open_shards

__all__ = ["BoxOffice", "open_box_office"]


class BoxOffice(ShowingParts):
    """All parts of one process. Nothing connects before it is used: a door can open while a store is away."""

    def __init__(
        self, settings: Settings, shards: Shards, database: Database, gateway: PaymentGateway, clock: Clock = CLOCK
    ) -> None:
        super().__init__(settings, shards, database, clock)
        self.gateway = gateway
        database.at_first = self._sign

    async def _sign(self, pool: Pool) -> None:
        """Whatever authorises has looked into PostgreSQL first."""
        if self.gateway.signs:
            # Without the table, or without the right to it, nobody starts: see `postgres.check_schema`.
            with contextlib.suppress(*TRANSIENT, PostgresError):
                self.gateway.sign_as(await installation(pool))

    # Of audits and tests, which look into the stores themselves.

    async def pool(self) -> Pool:
        """PostgreSQL's pool. Raises as `Database.pool`."""
        return await self.database.pool()

    @property
    def redis(self) -> Redis:
        """The Redis of the first shard."""
        return self.shards[0].redis

    @property
    def scripts(self) -> Scripts:
        """All scripts."""
        return self.shards.scripts

    @cached_property
    def access(self) -> AccessStore:
        """Who may call, as it is written."""
        return AccessStore(self.database, self.shards, self.settings, self.clock)

    @cached_property
    def store(self) -> CatalogueStore:
        """What is on sale, as it is written."""
        return CatalogueStore(self.database, self.shards, self.settings, self.clock)

    @cached_property
    def sharing(self) -> Sharing:
        """Which shops sell an event."""
        return Sharing(self.control)

    @cached_property
    def codes(self) -> AccessCodes:
        """Access codes of events."""
        return AccessCodes(self.database, self.shards, self.control)

    @cached_property
    def allocations(self) -> Allocations:
        """Tickets that are set aside for a shop or a code."""
        counts = ShopCounts([one.count_shops for one in self.reconcilers], self.clock)
        return Allocations(self.database, self.shards, self.control, counts)

    @cached_property
    def control(self) -> Control:
        """Changes what is on sale, while it is."""
        return Control(
            self.database, self.shards, self.settings, lambda here: apply_moves(here, self.database), self.catalogue.saw
        )  # fmt: skip

    @cached_property
    def loader(self) -> Loader:
        """Brings into Redis what PostgreSQL has."""
        return Loader(self.database, self.shards)

    @cached_property
    def admission(self) -> Admission:
        """Takes bookings in."""
        return Admission(self.shards, self.catalogue, self.settings, self.clock)

    @cached_property
    def bookings(self) -> Bookings:
        """Tells what became of bookings."""
        return Bookings(self.shards, self.database, self.catalogue, self.settings, self.clock)

    @cached_property
    def holds(self) -> Holds:
        """What shops and time do with holds."""
        return Holds(self.shards, self.database, self.settings)

    @cached_property
    def hold_payments(self) -> HoldPayments:
        """Pays holds, once for each key."""
        return HoldPayments(self.holds, self.bookings)

    @cached_property
    def held_rows(self) -> HeldRows:
        """What PostgreSQL says of holds."""
        return HeldRows(self.shards, self.database)

    @cached_property
    def hold_changes(self) -> HoldChanges:
        """Changes the items of holds, once for each key."""
        return HoldChanges(self.admission, self.holds, self.held_rows, self.bookings, self.settings)

    @cached_property
    def cancellations(self) -> Cancellations:
        """Cancels bookings, whatever has become of them."""
        return Cancellations(self.holds, self.refunds, self.bookings, self.clock)

    @cached_property
    def calling_off(self) -> CallingOff:
        """Calls events off."""
        return CallingOff(self.shards, self.database, self.control, self.loader, self.holds)

    @cached_property
    def counted_gateway(self) -> PaymentGateway:
        """The gateway, for workers: what it answers them is counted."""
        return counted(self.gateway, self.clock)

    @cached_property
    def pump(self) -> MoneyPump:
        """Captures, voids, refunds."""
        return MoneyPump(self.database, self.counted_gateway, self.refunds, self.late, self.settings, self.clock)

    @cached_property
    def refunds(self) -> Refunds:
        """Gives money and tickets back."""
        return Refunds(self.shards, self.database, self.settings)

    @cached_property
    def owed(self) -> OwedMoney:
        """Refunds that the gateway refused."""
        return OwedMoney(self.database)

    @cached_property
    def late(self) -> LateMoney:
        """Money that arrives after its hold has ended."""
        return LateMoney(self.shards, self.settings)

    @cached_property
    def webhooks(self) -> Webhooks:
        """What gateways tell us."""
        return Webhooks(self.shards, self.database, self.gateway)

    @cached_property
    def settlements(self) -> list[Settlement]:
        """One for each shard."""
        return [
            Settlement(shard, self.database, self.counted_gateway, self.pump, self.holds, self.settings, self.clock)
            for shard in self.shards
        ]

    @cached_property
    def reconcilers(self) -> list[Reconciler]:
        """One for each shard; whoever repairs the shard has this one."""
        return [Reconciler(shard, self.database, self.settings) for shard in self.shards]

    @cached_property
    def rebuilders(self) -> list[Rebuilder]:
        """One for each shard."""

        def made(shard: Shard) -> Rebuilder:
            recovery = Recovery(shard, self.database, self.refunds, self.settings, lambda: self.gateway.books)
            return Rebuilder(
                shard, self.database, self.loader, self.reconcilers[shard.number], recovery, self.settings
            )  # fmt: skip

        return [made(shard) for shard in self.shards]

    @cached_property
    def guards(self) -> list[Guard]:
        """One for each shard."""
        tools = zip(self.shards, self.reconcilers, self.rebuilders, strict=True)
        return [
            Guard(shard, self.database, self.loader, reconciler, rebuilder) for shard, reconciler, rebuilder in tools
        ]

    @cached_property
    def repair(self) -> Repair:
        """Reconciles for operators."""
        return Repair(self.shards, self.database, self.loader, self.reconcilers, self.rebuilders)

    @cached_property
    def parked(self) -> Parked:
        """Bookings that wait for an operator."""
        return Parked(self.shards, self.database, self.gateway, self.reconcilers, self.settings)

    @cached_property
    def operating(self) -> Operating:
        """What operators do at their page."""
        return Operating(self.database, self.parked, self.repair)

    @cached_property
    def finder(self) -> Finder:
        """Finds bookings of any shop."""
        return Finder(self.shards, self.bookings, self.settings)

    @cached_property
    def figures(self) -> Figures:
        """How sales stand."""
        return Figures(self.shards, self.settings)

    @cached_property
    def forgetting(self) -> Forgetting:
        """Erases customers."""
        return Forgetting(self.shards, self.database)

    @cached_property
    def overview(self) -> Overview:
        """How it is going."""
        return Overview(self.shards, self.settings)

    @cached_property
    def readings(self) -> Readings:
        """What `/metrics` tells that nobody counts."""
        return Readings(self.shards, self.database, self.settings, self.clock)

    @cached_property
    def readiness(self) -> Readiness:
        """Whether this process can keep its promises now."""
        return Readiness(self.shards, self.database, self.catalogue, self.gateway, self.settings, self.clock)

    @cached_property
    def desk(self) -> Desk:
        """Cancels and refunds for operators."""
        return Desk(self.database, self.finder, self.bookings, self.cancellations, self.refunds, self.settings)

    @cached_property
    def dossiers(self) -> Dossiers:
        """All that is known of one booking."""
        return Dossiers(self.shards, self.database, self.gateway)

    @cached_property
    def payments_audit(self) -> PaymentsAudit:
        """The gateway's books against ours."""
        return PaymentsAudit(self.shards, self.database, self.gateway, self.refunds, self.clock)

    @cached_property
    def menders(self) -> list[Mender]:
        """One for each shard."""
        tools = zip(self.shards, self.reconcilers, self.rebuilders, strict=True)
        return [
            Mender(shard, self.database, reconciler, rebuilder, self.held_rows, self.settings)
            for shard, reconciler, rebuilder in tools
        ]

    async def close(self) -> None:
        """Let every admission in flight end, then let go of everything."""
        if "admission" in self.__dict__:
            await self.admission.close()
        if "readings" in self.__dict__:
            await self.readings.close()
        if "watching" in self.__dict__:
            await self.watching.close()
        if "couriers" in self.__dict__:
            await self.couriers.close()
        await self.gateway.close()
        await self.database.close()
        await self.shards.aclose()


@asynccontextmanager
async def open_box_office(
    settings: Settings, *, redis_retries: int = 0, gateway: PaymentGateway | None = None, clock: Clock = CLOCK
) -> AsyncIterator[BoxOffice]:
    """Open the box office for one process. `redis_retries` re-sends Redis commands: for workers and operators, whose
    every script may be sent twice.

    Raises `CannotRun` for settings that cannot work.
    """
    office = BoxOffice(
        settings,
        open_shards(settings, load_scripts(), retries=redis_retries),
        Database(settings),
        gateway or open_gateway(settings),
        clock,
    )
    try:
        yield office
    finally:
        await office.close()
