"""Files of a folder as browsers get them. Which there are is looked up once: a path in a request finds a name or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from api.headers import Headers
from api.transport.reply import Header, Reply
from boxoffice.errors import NotFound

__all__ = ["Files", "folder_of"]

TYPES: Final[Mapping[str, bytes]] = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".txt": b"text/plain; charset=utf-8",
}
"""By the ending of the name. A file with another one is not served."""

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Nothing but our own files and our own API: no script or style in a page, nothing of another host."""

ASK_AGAIN: Final = b"no-cache"
"""A browser keeps a file, and asks each time whether it is still the one: its name says nothing of its version."""


class Files:
    """The files of a folder, read when this is made."""

    def __init__(self, paths: Iterable[Path], cache_control: bytes = ASK_AGAIN) -> None:
        self._answers = {
            path.name: _answers(path.read_bytes(), TYPES[path.suffix], cache_control)
            for path in paths
            if path.suffix in TYPES and path.is_file()
        }

    @property
    def names(self) -> frozenset[str]:
        """Which there are."""
        return frozenset(self._answers)

    def answer(self, name: str, headers: Headers) -> Reply:
        """200 with the file, or 304 to whoever has it. Raises `NotFound`."""
        found = self._answers.get(name)
        if found is None:
            raise NotFound("There is nothing at this path.")
        tag, file, unchanged = found
        return unchanged if headers.has(tag) else file


def folder_of(package: str) -> list[Path]:
    """The files beside the modules of a package."""
    return [Path(str(file)) for file in files(package).iterdir()]


def _answers(body: bytes, kind: bytes, cache_control: bytes) -> tuple[bytes, Reply, Reply]:
    """Its ETag, the answer with it, and the one to who has it."""
    tag = b'"%b"' % hashlib.sha256(body).hexdigest()[:24].encode()
    common: list[Header] = [(b"cache-control", cache_control), (b"etag", tag), (b"content-security-policy", POLICY)]
    return tag, Reply(200, body, [(b"content-type", kind), *common]), Reply(304, b"", common)
