"""`DATABASE_URL` as every process reads it: libpq's connection URI (postgresql.org/docs/current/libpq-connect.html).

Two libraries connect with it, and each knows a part of libpq's parameters under names of its own; a third of them no
library of ours needs. One function makes of the URL what asyncpg takes, with or without SQLAlchemy in between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

__all__ = ["DatabaseURL", "check_database_files", "read_database_url"]

_SCHEME: Final = re.compile(r"postgres(?:ql)?(?:\+[a-z0-9]+)?://", re.IGNORECASE)

_AS_LIBPQ = """
host port user password dbname passfile service servicefile sslmode sslcert sslkey sslrootcert sslcrl sslpassword
sslnegotiation ssl_min_protocol_version ssl_max_protocol_version target_session_attrs krbsrvname gsslib
"""
_PASSED: Final = frozenset(_AS_LIBPQ.split())
"""What asyncpg does as libpq does."""

_SERVER: Final = frozenset({"application_name", "fallback_application_name", "options", "search_path", "timezone"})
"""What the server is told when the connection begins."""

_UNUSED = """
gssdelegation keepalives keepalives_count keepalives_idle keepalives_interval max_protocol_version sslcompression
sslkeylogfile tcp_user_timeout prepared_statement_cache_size prepared_statement_name_func
"""
_NEEDLESS: Final = frozenset(_UNUSED.split())
"""What libpq or SQLAlchemy know and nothing here depends on."""

_FALSE: Final = frozenset({"0", "false", "no", "off"})

_ONLY: Final[dict[str, frozenset[str]]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "load_balance_hosts": frozenset({"disable"}),
    "min_protocol_version": frozenset({"3.0"}),
    "replication": _FALSE,
    "require_auth": frozenset(),
    "requirepeer": frozenset(),
    "sslcertmode": frozenset({"allow"}),
    "sslsni": frozenset({"1"}),
}
"""Values with which a parameter says what asyncpg does anyway, and an empty one is none. The others ask for what it cannot do:
most of them for a check that nobody would make."""

_UNABLE: Final = frozenset({
    "oauth_client_id", "oauth_client_secret", "oauth_issuer", "oauth_scope", "scram_client_key", "scram_server_key",
    "sslcrldir",
})  # fmt: skip
"""What asyncpg does not have: other ways to say who we are, and revoked certificates in a folder."""

_HOSTS: Final = re.compile(r"(?:.*@)?(?:(?:\[[^\[\]@]+\]|[^\[\]@:,]*)(?::[0-9]{0,5})?(?:,|\Z))*", re.DOTALL)
"""Who, and where: any number of hosts, each with a port or without."""

_SSL: Final = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable", "off": "disable"}
_MODES: Final = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


SYSTEM: Final = "system"
"""The value of `sslrootcert` that stands for the authorities which this machine trusts."""


class DatabaseURL(NamedTuple):
    """What asyncpg is told."""

    dsn: str
    server_settings: dict[str, str]
    timeout_s: float | None
    """How long connecting may take; None: as long as we usually allow."""
    trusts_system: bool = False
    """Whether the server's certificate is held against the authorities that this machine trusts, and its name."""

    def arguments(self, *, timeout_s: float, **server_settings: str) -> dict[str, Any]:
        """Keyword arguments of `asyncpg.connect`. What the URL says of the server's settings comes first."""
        return {
            "dsn": self.dsn,
            "timeout": timeout_s if self.timeout_s is None else self.timeout_s or None,
            "server_settings": server_settings | self.server_settings,
            **({"ssl": True} if self.trusts_system else {}),
        }


def read_database_url(url: str) -> DatabaseURL:
    """Raises `ValueError` with a sentence that names what cannot be understood, and repeats no value."""
    url = url.strip()
    if "#" in url or "%00" in url:
        raise ValueError("DATABASE_URL has a # in it, which is written %23, or a %00")
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("DATABASE_URL is no URL such as postgresql://user:password@host:5432/database") from None
    if not _SCHEME.match(url):
        raise ValueError("DATABASE_URL begins with postgresql://")
    if not _HOSTS.fullmatch(parts.netloc):
        raise ValueError("DATABASE_URL: behind a host stands :port, a number, and hosts are parted by commas")
    passed: dict[str, str] = {}
    settings: dict[str, str] = {}
    timeout_s: float | None = None
    require = False
    address = ""
    for name, value in pairs:
        match name.lower():
            case "ssl" | "sslmode" as mode:
                # sslmode is libpq's own: it wins over the other's word for it.
                if mode == "sslmode" or "sslmode" not in dict(pairs):
                    passed["sslmode"] = _mode(name, value)
            case "connect_timeout" | "timeout":
                timeout_s = _seconds(name, value)
            case "database":
                passed["dbname"] = value
            case "hostaddr":
                address = value
            case "port" if not re.fullmatch(r"[0-9]{0,5}(?:,[0-9]{0,5})*", value):
                raise ValueError("DATABASE_URL: port is a number, or one for each host")
            case known if known in _PASSED:
                passed[known] = value
            case known if known in _SERVER:
                settings[known] = value
            case known if known in _NEEDLESS:
                pass
            case known if known in _ONLY:
                if value and value.lower() not in _ONLY[known]:
                    allowed = " or ".join(sorted(_ONLY[known]))
                    instead = f", or say {allowed}" if allowed else ""
                    raise ValueError(f"DATABASE_URL: {known} asks for what cannot be done here: leave it out{instead}")
            case "requiressl":
                require = bool(value) and value.lower() not in _FALSE
            case known if known in _UNABLE:
                raise ValueError(f"DATABASE_URL has a parameter that cannot be used here: {known}")
            case _:
                raise ValueError(f"DATABASE_URL has a parameter that is none of libpq's: {_harmless(name)}")
    if require:
        passed.setdefault("sslmode", "require")
    trusts_system = passed.get("sslrootcert") == SYSTEM
    if trusts_system:
        _drop_what_system_says(passed)
    name = settings.pop("fallback_application_name", "")
    if name:
        settings.setdefault("application_name", name)
    if address and "host" not in passed and not parts.netloc.rpartition("@")[2]:
        passed["host"] = address
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in passed.items())
    # urlunsplit would make a host of what begins the path.
    dsn = f"postgresql://{parts.netloc}{parts.path}{'?' if query else ''}{query}"
    return DatabaseURL(dsn, settings, timeout_s, trusts_system)


_OF_A_FILE: Final = frozenset(
    {"sslcert", "sslkey", "sslpassword", "sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version"}
)
"""What asyncpg hears only beside a file of authorities."""


def _drop_what_system_says(passed: dict[str, str]) -> None:
    """As libpq has it, these authorities are good for nothing without the host's name: they vouch for everybody."""
    if passed.get("sslmode", "verify-full") != "verify-full":
        raise ValueError("DATABASE_URL: sslrootcert=system needs sslmode=verify-full")
    others = passed.keys() & _OF_A_FILE
    if others:
        raise ValueError(f"DATABASE_URL: {min(others)} cannot be used here with sslrootcert=system")
    for name in ("sslmode", "sslrootcert"):
        passed.pop(name, None)


_FILES: Final = ("sslrootcert", "sslcrl", "sslcert", "sslkey", "servicefile")


def check_database_files(url: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raises `ValueError` as `read_database_url` does, and for a file that is needed to connect and cannot be read: whoever
    only met it when connecting would take PostgreSQL for away, and wait."""
    given = dict(parse_qsl(urlsplit(read_database_url(url).dsn).query, keep_blank_values=True))
    for name in _FILES:
        if given.get(name) and not os.access(given[name], os.R_OK):
            raise ValueError(f"DATABASE_URL: {name} names a file that cannot be read")
    mode = given.get("sslmode", "")
    named = given.get("sslrootcert") or environ.get("PGSSLROOTCERT") or given.get("service")
    if mode.startswith("verify-") and not named and not _ROOTS.expanduser().exists():
        raise ValueError(f"DATABASE_URL: sslmode={mode} needs sslrootcert: a file, or {SYSTEM}")


_ROOTS: Final = Path("~/.postgresql/root.crt")


def _mode(name: str, value: str) -> str:
    mode = _SSL.get(value.lower(), value.lower())
    if mode not in _MODES:
        raise ValueError(f"DATABASE_URL: {name} is one of {', '.join(sorted(_MODES))}")
    return mode


def _seconds(name: str, value: str) -> float:
    """0: as long as it takes, as libpq has it."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", value):
        raise ValueError(f"DATABASE_URL: {name} is a number of seconds")
    return float(value)


def _harmless(name: str) -> str:
    """A name that was found where one should be, unless it may be something else: a part of a password."""
    name = unquote(name)
    return name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "(not shown)"
