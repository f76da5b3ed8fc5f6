"""The settings of streams (server-sent events), and of requests that wait."""

from __future__ import annotations

from pydantic import Field

from boxoffice.rate_settings import Part

__all__ = ["StreamSettings"]


class StreamSettings(Part):
    """Answers that do not end. One takes some 4 KB of its process, and a connection (`api.connections_max`)."""

    max: int = Field(2_048, ge=0, le=1_000_000)
    """Streams of one process; one more is told 503 `streams-full`. 0: there are none."""

    key_max: int = Field(2_048, ge=0, le=1_000_000)
    """Streams of one API key in one process; one more is told 429 `too-many-streams`. A key in a web page is that of all its
    visitors. 0: any number."""

    address_max: int = Field(0, ge=0, le=1_000_000)
    """The same of one address that connects. Behind a load balancer all come from its address, so there is no limit by default.
    0: any number."""

    each_ms: int = Field(250, ge=50, le=60_000)
    """Shortest time between two messages on what is left of an event. With very many readers it is longer, so that writing
    takes a twelfth of the process at most."""

    heartbeat_s: float = Field(15.0, ge=1, le=300)
    """Seconds after which every reader gets a comment, so that it and proxies see that we are there."""

    retry_ms: int = Field(3_000, ge=100, le=600_000)
    """Milliseconds after which a reader that lost its stream comes back; up to twice as long, so that not all come at once."""

    buffer_max_bytes: int = Field(65_536, ge=1_024, le=16_777_216)
    """Bytes that may pile up for a reader that does not read, beside some that its system takes. Then it is cut off."""

    waits_max: int = Field(2_048, ge=0, le=1_000_000)
    """Requests of one process that may wait for their bookings to be final (`Prefer: wait`); one more is answered at once. 0:
    nobody waits."""
