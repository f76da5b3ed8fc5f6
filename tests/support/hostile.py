"""Clients that mean no good, in a process of their own: python tests/support/hostile.py PORT KEY CLIENTS.

It is told on standard input: a kind's name begins that many of them (of several, with commas between, each as many), an empty
line ends them. It says so, each time.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
import struct
import sys

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

Kind = tuple[bytes, bytes, float]
"""What a hostile client sends first, then again and again, and the pause between, in seconds."""

SLOW_S = 5.0
"""Between two drops of a slow client. Slowloris, which made them known, has fifteen by default, slowhttptest ten."""

AGAIN_S = 1.0
"""Whoever is thrown out comes again after this."""


def keyed(key: str) -> tuple[bytes, bytes]:
    """A list with a key, and the beginning of a booking with one."""
    who = b"Host: x\r\nAuthorization: Bearer %b\r\n" % key.encode()
    return b"GET /v1/events?limit=100 HTTP/1.1\r\n%b\r\n" % who, b"POST /v1/bookings HTTP/1.1\r\n" + who


def kinds(key: str) -> dict[str, Kind]:
    """All of them."""
    KEYED, POST = keyed(key)  # noqa: N806
    return {
        "silent": (b"", b"", 1),
        "header lines": (b"GET / HTTP/1.1\r\n", b"X-A: " + b"b" * 60 + b"\r\n" + b"C: d\r\n" * 400, 0),
        "one header": (b"GET / HTTP/1.1\r\nX: ", b"y" * 65_536, 0),
        "one target": (b"GET /", b"y" * 65_536, 0),
        "slow heads": (b"GET / HTTP/1.1\r\n", b"X: y\r\n", SLOW_S),
        "slow bodies": (POST + b"Content-Length: 16000\r\n\r\n", b" ", SLOW_S),
        "a slow head": (b"GET / HTTP/1.1\r\n", b"X: y\r\n", 0.05),
        "a byte at a time": (b"", b"G", 0.05),
        "half a body": (POST + b"Content-Length: 16000\r\n\r\n" + b" " * 15_000, b"", 1),
        "a slow body": (POST + b"Content-Length: 16000\r\n\r\n", b" ", 0.05),
        "an endless body": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b" " * 0x4000 + b"\r\n", 0),
        "a long body": (POST + b"Content-Length: 900000000000\r\n\r\n", b" " * 65_536, 0),
        "a body let by": (POST + b"Content-Length: 67000000\r\n\r\n", b" " * 65_536, 0),
        "long chunk lines": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"b" * 65_536, 0),
        "small chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1;abcdefghijklmnop\r\n \r\n" * 2_000, 0),
        "trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: " + b"b" * 4_000 + b"\r\n", 0),
        "unread answers": (b"", HEALTH * 1_000, 0),
        "unread lists": (b"", KEYED * 500, 0),
        "unread refusals": (b"", b"GET /v1/bookings/x HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000, 0),
        "unread books": (b"", (POST + b"Content-Length: 2\r\n\r\n{}") * 500, 0),
        "offers": (b"", HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n") * 500, 0),
        "garbage": (b"\0" * 1_000, b"\0" * 65_536, 0),
    }


HOSTILE = tuple(kinds(""))


async def misbehave(port: int, kind: Kind, there: asyncio.Event) -> None:
    """One hostile client. It reads nothing, and comes again when it is thrown out."""
    while True:
        try:
            await _visit(port, kind, there)
        except OSError:
            there.set()
        await asyncio.sleep(AGAIN_S)


async def _visit(port: int, kind: Kind, there: asyncio.Event) -> None:
    first, again, pause_s = kind
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        # Gone at once when it ends, and not an hour in the system's list of those that were.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, first)
        there.set()
        while True:
            if again:
                await loop.sock_sendall(sock, again)
            await asyncio.sleep(pause_s)


async def main() -> None:
    port, key, clients = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    every = kinds(key)
    busy: list[asyncio.Task[None]] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        if name := line.strip():
            chosen = itertools.cycle(every[each] for each in name.split(","))
            events = [asyncio.Event() for _ in range(clients)]
            busy = [asyncio.create_task(misbehave(port, next(chosen), event)) for event in events]
            await asyncio.gather(*(event.wait() for event in events))
        else:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        print("done", flush=True)


if __name__ == "__main__":
    # What they cost is their affair: the time of this machine belongs to those whom the test is about.
    os.nice(19)
    asyncio.run(main())
