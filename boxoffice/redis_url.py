"""`REDIS_URL` as every process reads it: what redis-py makes of it, without what would surprise.

redis-py passes every parameter on, to where nobody knows it or where it changes what all answers look like, and takes a
database that is no number for the first one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

__all__ = ["check_redis_files", "check_redis_url"]

_Fits: TypeAlias = Callable[[str], Any]

_NUMBER: Final[_Fits] = re.compile(r"[0-9]{1,9}").fullmatch
_SECONDS: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]+)?").fullmatch
_WORD: Final = re.compile(r"(?:1|0|true|false|yes|no|y|n|on|off)", re.IGNORECASE).fullmatch
_TEXT: Final = re.compile(r".+", re.DOTALL).fullmatch

_PLAIN: Final[Mapping[str, _Fits]] = {
    "db": _NUMBER, "username": _TEXT, "password": _TEXT, "client_name": _TEXT, "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS, "socket_keepalive": _WORD, "max_connections": _NUMBER,
    "health_check_interval": _NUMBER,
}  # fmt: skip
_TLS: Final[Mapping[str, _Fits]] = {
    "ssl_cert_reqs": re.compile(r"none|optional|required").fullmatch, "ssl_check_hostname": _WORD, "ssl_ca_certs": _TEXT,
    "ssl_ca_data": _TEXT, "ssl_certfile": _TEXT, "ssl_keyfile": _TEXT, "ssl_ciphers": _TEXT,
}  # fmt: skip


def check_redis_url(url: str) -> None:
    """Raises `ValueError` with a sentence that names what cannot be understood, and repeats no value."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        _ = parts.port
    except ValueError:
        raise ValueError("REDIS_URL is no URL such as redis://user:password@host:6379/0") from None
    if parts.scheme not in ("redis", "rediss", "unix") or "://" not in url:
        raise ValueError("REDIS_URL begins with redis://, rediss:// (TLS) or unix://")
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("REDIS_URL: unix:// goes on with the path of a socket, unix:///run/redis.sock?db=0")
    elif not re.fullmatch(r"/?[0-9]{0,9}", parts.path):
        raise ValueError("REDIS_URL: behind the host stands the number of a database, or nothing")
    _check_parameters(pairs, {**_PLAIN, **(_TLS if parts.scheme == "rediss" else {})})


def check_redis_files(url: str) -> None:
    """Raises `ValueError` as `check_redis_url` does, and for a file that is needed to connect and cannot be read: whoever only
    met it when connecting would take Redis for away, and wait."""
    check_redis_url(url)
    for name, value in parse_qsl(urlsplit(url).query):
        if name in _FILES and not os.access(value, os.R_OK):
            raise ValueError(f"REDIS_URL: {name} names a file that cannot be read")


_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _check_parameters(pairs: list[tuple[str, str]], known: Mapping[str, _Fits]) -> None:
    for name, value in pairs:
        fits = known.get(name)
        if fits is None:
            shown = name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "(not shown)"
            where = " without rediss://" if name in _TLS or name == "ssl" else ""
            raise ValueError(f"REDIS_URL has a parameter that we do not know{where}: {shown}")
        if not fits(value):
            raise ValueError(f"REDIS_URL: {name} has a value that cannot be")
