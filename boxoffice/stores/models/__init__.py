"""The tables. PostgreSQL decides what became of a booking; these rows are that decision.

Money is in minor units (cents) beside an ISO 4217 currency; times carry their zone.
"""

from boxoffice.stores.models.access import ApiKey, Client, KeyChange
from boxoffice.stores.models.base import Base
from boxoffice.stores.models.bookings import (
    Booking,
    BookingItem,
    BookingTrace,
    DeadLetter,
    Intervention,
    Inventory,
    StockMove,
)
from boxoffice.stores.models.catalogue import AccessCode, CallOff, Event, EventChange, EventShare, Tier
from boxoffice.stores.models.money import Captures, Dispute, Look, Payment, Refund, WebhookEvent
from boxoffice.stores.models.notices import Notice, NoticeHead
from boxoffice.stores.models.servers import Batch, Installation, Shard
from boxoffice.stores.models.webhooks import WebhookDelivery, WebhookEndpoint, WebhookSecret

__all__ = [
    "AccessCode",
    "ApiKey",
    "Base",
    "Batch",
    "Booking",
    "BookingItem",
    "BookingTrace",
    "CallOff",
    "Captures",
    "Client",
    "DeadLetter",
    "Dispute",
    "Event",
    "EventChange",
    "EventShare",
    "Installation",
    "Intervention",
    "Inventory",
    "KeyChange",
    "Look",
    "Notice",
    "NoticeHead",
    "Payment",
    "Refund",
    "Shard",
    "StockMove",
    "Tier",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookSecret",
]
