"""What stands around a stack whose telemetry is on: a collector that takes traces, and somebody who reads `/metrics`."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

__all__ = ["Watchers", "watching"]

SCRAPE_S: Final = 5.0
"""How often metrics are read: three times as often as Prometheus does when nobody tells it."""


class Watchers:
    """What came so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        self.bodies = 0
        """Requests with spans."""
        self.scrapes = 0
        """Answers of `/metrics`."""


@contextmanager
def watching(ports: Sequence[int]) -> Iterator[Watchers]:
    """Take spans, and read metrics at these ports, in threads of this process."""
    watchers, over = Watchers(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(watchers))
    watchers.endpoint = f"http://127.0.0.1:{server.server_port}"
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True),
        threading.Thread(target=_scrape, args=(ports, watchers, over), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield watchers
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def _handler(watchers: Watchers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            watchers.bodies += 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    return Handler


def _scrape(ports: Sequence[int], watchers: Watchers, over: threading.Event) -> None:
    while not over.wait(SCRAPE_S):
        for port in ports:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    answer.read()
                watchers.scrapes += 1
            except OSError:  # it is starting, or has ended
                continue
