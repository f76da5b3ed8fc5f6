"""The settings against callers who ask too often, or for too much; and what every part of the settings is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DeclineSettings", "Part", "RateSettings"]


class Part(BaseModel):
    """Settings of one concern: nothing changes them, and a name that there is not is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RateSettings(Part):
    """How often one caller may ask. No honest shop meets these; whoever does is told 429 with `Retry-After`. 0: any number."""

    window_s: int = Field(10, ge=1, le=3_600)
    """Seconds of the windows in which attempts are counted, by Redis's clock. A limit that is reached ends with its window."""

    key_max: int = Field(200_000, ge=0, le=100_000_000)
    """Bookings that one API key may ask for in a window and shard, unless `boxoffice keys rate` says otherwise of it. Repeats
    of a booking that is in are not counted, and never refused."""

    customer_max: int = Field(300, ge=0, le=100_000_000)
    """Bookings that one customer may ask for in a window and shard: a person is not that fast, a script is."""

    changes_max: int = Field(200_000, ge=0, le=100_000_000)
    """Other requests of one API key in a window that change something: pay, extend, cancel, refund, manage events."""

    reads_max: int = Field(200_000, ge=0, le=100_000_000)
    """Requests of one API key in a window that read. Each process counts its own."""


class DeclineSettings(Part):
    """Card testing: whoever has too many payments declined may try no more for a while, and the gateway is not asked."""

    window_s: int = Field(600, ge=1, le=86_400)
    """Seconds of the windows in which declined payments are counted, by Redis's clock. A refusal ends with its window."""

    customer_max: int = Field(10, ge=0, le=1_000_000)
    """Declined payments of one customer in a window and shard, after which no other is let in; less one for each
    good payment since. 0: any number."""

    card_max: int = Field(10, ge=0, le=1_000_000)
    """Declined payments of one card in a window and shard, whoever pays with it, where the gateway names cards (Stripe does);
    after which it is not charged. 0: any number."""

    least: int = Field(500, ge=0, le=100_000_000)
    """The same of all customers of a client together, and of an event, when they are such a share of its payments as the next
    says. Of an event only for clients with a tenth of so many, and the same share, of their own. 0: any number."""

    share: int = Field(50, ge=1, le=100)
    """Declined of 100 payments: in an honest sale 5 to 20 are."""
