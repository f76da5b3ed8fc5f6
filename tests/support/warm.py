"""Servers that outlive a run of pytest: `WARM_SERVERS` names them, for runs that start by the hundred."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Self

from ops.stack.servers import Servers

__all__ = ["WarmServers"]


@dataclass(frozen=True)
class WarmServers:
    """What tests may know of them. Nobody may stop or kill them: a test that does fails here."""

    redis_url: str
    database_url: str
    admin_url: str
    redis_pid: int
    postgres_pid: int

    @classmethod
    def of(cls, servers: Servers) -> Self:
        """Those that somebody has started."""
        return cls(
            servers.redis_url, servers.database_url, servers.admin_url, servers.redis_pid, servers.postgres_pid
        )  # fmt: skip

    @classmethod
    def named(cls) -> Self | None:
        """Those of the environment."""
        text = os.environ.get("WARM_SERVERS")
        return cls(**json.loads(text)) if text else None

    def env(self) -> dict[str, str]:
        """How another process finds them."""
        return {"WARM_SERVERS": json.dumps(asdict(self))}
