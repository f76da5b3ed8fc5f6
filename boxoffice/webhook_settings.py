"""The settings of webhooks to shops."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from pydantic import Field, field_validator

from boxoffice.rate_settings import Part

__all__ = ["WebhookSettings"]

LEASE_SPARE_S: Final = 15.0
"""What a lease has beside the deliveries themselves: for PostgreSQL, and for a process that is slow for a moment."""


class WebhookSettings(Part):
    """What shops are told at addresses of their own."""

    endpoints_max: int = Field(20, ge=1, le=1_000)
    """Endpoints of one shop. Each has every notice of the shop sent to it."""

    at_once: int = Field(64, ge=2, le=1_000)
    """Endpoints that one worker sends to at a time. Those that failed or were slow last have half of these places at most, so
    that any number of them delays nobody else."""

    in_flight_max: int = Field(8, ge=1, le=100)
    """Notices on their way to one endpoint at a time."""

    rate_max: int = Field(200, ge=1, le=100_000)
    """Deliveries that one worker begins in a second. Each takes about 0.7 ms of its CPU, which its settlement needs, too. Where
    that is too few, start workers more."""

    timeout_s: float = Field(15.0, gt=0, le=60)
    """Longest delivery, from looking its host up to the last byte of the answer's head."""

    slow_s: float = Field(2.0, gt=0, le=60)
    """An endpoint that takes longer than this for an answer is a slow one."""

    retry_s: float = Field(5.0, gt=0, le=3_600)
    """Pause before a delivery that failed is tried again; doubles with each try, less up to half of it by chance."""

    retry_max_s: float = Field(3_600.0, gt=0, le=86_400)
    """Longest such pause, also where an endpoint asks for a longer one by `Retry-After`."""

    give_up_s: float = Field(259_200.0, gt=0, le=2_592_000)
    """So long after its first try, three days, a delivery is tried no more. It stays in the log, and may be sent anew."""

    disable_after_s: float = Field(432_000.0, gt=0, le=2_592_000)
    """An endpoint that has taken nothing for so long, five days, is disabled. Nothing is lost: once it is enabled it hears of
    all since, as far as notices are kept."""

    answer_max_bytes: int = Field(65_536, ge=1_024, le=1_048_576)
    """Bytes of one answer that are read, its head and all that comes before it among them, and thrown away."""

    allow_http: bool = False
    """Let endpoints have `http://` addresses: whoever is on the way reads and changes what they are told.
    Without it nothing is sent to those that have one (`address`)."""

    allowed_networks: tuple[str, ...] = ()
    """Networks that may be connected to though they are private, loopback or otherwise not the internet's, as a JSON list of
    CIDR: `["10.1.0.0/16"]`. Whoever makes endpoints then reaches all that is in them."""

    retention_days: int = Field(14, ge=4, le=3_650)
    """How long the log of deliveries is kept, in days. What was not delivered goes, too: it was given up by then."""

    @property
    def lease_s(self) -> float:
        """How long an endpoint belongs to the worker that claimed it, since that last wrote down what came of it."""
        return 2 * self.timeout_s + LEASE_SPARE_S

    @field_validator("allowed_networks")
    @classmethod
    def _networks_are_understood(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for place, network in enumerate(networks, 1):
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"number {place} is no network such as 10.1.0.0/16") from None
        return networks
