"""The parts of the box office that only show: what is on sale, and what shops are told."""

from __future__ import annotations

from functools import cached_property

from boxoffice.clock import Clock
from boxoffice.notices.reading import Notices
from boxoffice.sales.catalogue import Catalogue
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.shard import Shards
from boxoffice.webhooks.couriers import Couriers
from boxoffice.webhooks.endpoints import Endpoints

__all__ = ["ShowingParts"]


class ShowingParts:
    """Of one process. Each is made when it is asked for first."""

    def __init__(self, settings: Settings, shards: Shards, database: Database, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.shards = shards
        self.database = database

    @cached_property
    def catalogue(self) -> Catalogue:
        """What is on sale, as Redis has it."""
        return Catalogue(self.shards, self.settings)

    @cached_property
    def notices(self) -> Notices:
        """What shops are told of, in their order."""
        return Notices(self.database)

    @cached_property
    def endpoints(self) -> Endpoints:
        """Where shops are told what happens."""
        return Endpoints(self.database, self.notices, self.settings.webhooks)

    @cached_property
    def couriers(self) -> Couriers:
        """They tell them, for workers."""
        return Couriers(self.database, self.notices, self.settings.webhooks, self.clock)
