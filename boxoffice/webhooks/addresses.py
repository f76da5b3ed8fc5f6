"""Where a notice may be sent: which URLs an endpoint may have, and which addresses may be connected to.

A shop names the host, so whoever has its key could let us ask servers that only we can reach (server-side request forgery).
What counts is the address at the moment of connecting: a name may be given another one after it was looked at.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from boxoffice.errors import Malformed

__all__ = ["URL_MAX", "Addresses"]

URL_MAX: Final = 2_000
"""Characters of an endpoint's URL."""

_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_PLAIN: Final = re.compile(r"[!-~]+")

_REFUSED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
        # IPv4 in IPv6: compatible, mapped, translated (NAT64), 6to4, Teredo. What is behind one is not looked at.
        "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/23",
        "100::/64", "100:0:0:1::/64", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
        "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
"""What is not the internet's (IANA's registries of special-purpose addresses), and an address of Azure's metadata server that
is. Other metadata servers are at link-local or unique local addresses."""

_Address: TypeAlias = IPv4Address | IPv6Address


class Addresses:
    """The rule, with what an operator allows beside the internet: networks as CIDR, and `http://`."""

    def __init__(self, allowed: Sequence[str] = (), *, allow_http: bool = False) -> None:
        self._allowed = tuple(ipaddress.ip_network(network) for network in allowed)
        self._schemes = ("https", "http") if allow_http else ("https",)

    def may_connect(self, address: str) -> bool:
        """Whether this address, as a resolver wrote it, may be connected to. What is none may not."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return self._is_allowed(found) or _is_the_internets(found)

    def may_ask(self, url: str) -> bool:
        """Whether its scheme is allowed: it may have been allowed when the endpoint was made, and no more."""
        return url.partition("://")[0].lower() in self._schemes

    def check_url(self, url: str, pointer: str = "/url") -> None:
        """Raises `Malformed` for a URL that no endpoint may have. Its host is not looked up: the address that it has later is
        what counts."""

        def refuse(what: str, code: str) -> Malformed:
            return Malformed(f"The URL of an endpoint {what}.", pointer=pointer, code=code)

        if len(url) > URL_MAX:
            raise refuse(f"has up to {URL_MAX:,} characters", "too_long")
        parts, port = _split(url)
        if parts is None or port is None:
            raise refuse("is a whole one in ASCII, such as https://shop.example/hooks", "not_a_url")
        if parts.scheme not in self._schemes:
            raise refuse(f"begins with {' or '.join(f'{each}://' for each in self._schemes)}", "scheme")
        if parts.username is not None or parts.password is not None or "#" in url:
            raise refuse("has no user, password or fragment", "not_a_url")
        host = parts.hostname or ""
        literal = _literal(host)
        if literal is None and not _HOST.fullmatch(host):
            raise refuse("names its host in ASCII (as xn--… where it is none)", "not_a_url")
        if literal is not None and not self.may_connect(host):
            raise refuse("leads into the internet, and to no private, local or otherwise special address", "address")

    def _is_allowed(self, address: _Address) -> bool:
        return any(address in network for network in self._allowed if network.version == address.version)


def _split(url: str) -> tuple[SplitResult | None, int | None]:
    """The parts, and the port (0 when it says none); None for what is no URL."""
    if not _PLAIN.fullmatch(url) or "\\" in url:
        return None, None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None, None
    if port == 0 or parts.netloc.endswith(":"):
        return None, None
    return parts, port or 0


def _literal(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_the_internets(address: _Address) -> bool:
    """Of our list and of Python's, which differ by version, the stricter."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address in network for network in _REFUSED if network.version == address.version)
