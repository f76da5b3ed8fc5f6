"""The parts of the box office that only show: what is on sale, what shops are told, how it goes; and who calls."""

from __future__ import annotations

from functools import cached_property

from boxoffice.access.sessions import Sessions
from boxoffice.access.throttle import Throttle
from boxoffice.backoffice.alerts import Alerts
from boxoffice.backoffice.sums import Sums
from boxoffice.backoffice.watching import Watching
from boxoffice.clock import Clock
from boxoffice.notices.reading import Notices
from boxoffice.notices.watch import Watch
from boxoffice.sales.catalogue import Catalogue
from boxoffice.settings import Settings
from boxoffice.stores.database import Database
from boxoffice.stores.shard import Shards
from boxoffice.webhooks.couriers import Couriers
from boxoffice.webhooks.endpoints import Endpoints
from boxoffice.wire.event_copies import EventCopies
from boxoffice.wire.feed import Feed

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
    def throttle(self) -> Throttle:
        """How often an API key may ask for anything else than a booking."""
        return Throttle(self.shards, self.clock)

    @cached_property
    def sessions(self) -> Sessions:
        """Operators who are signed in."""
        return Sessions(self.shards, self.catalogue.api_keys, self.settings.api.session_s)

    @cached_property
    def sums(self) -> Sums:
        """What all processes have counted."""
        return Sums(self.shards)

    @cached_property
    def watching(self) -> Watching:
        """How it goes, for who watches."""
        return Watching(self.shards, self.database, self.sums, self.clock)

    @cached_property
    def alerts(self) -> Alerts:
        """The alert rules, by what this process has seen."""
        return Alerts()

    @cached_property
    def event_copies(self) -> EventCopies:
        """Events as shops read them."""
        return EventCopies(self.catalogue, self.settings, self.clock.now_s)

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

    @cached_property
    def feed(self) -> Feed:
        """The same, as shops read it."""
        watch = Watch(self.database, self.notices.number_shared, self.clock)
        return Feed(self.notices, watch, self.database, self.settings, self.clock.now_s)

    def end_waits(self) -> None:
        """The process stops: nobody waits for something to happen any more."""
        if "feed" in self.__dict__:
            self.feed.end()
