"""One reader of a stream, on its connection: what the connection is busy with until either of them ends it."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from api.streams.frames import END
from boxoffice.telemetry.series import STREAM_MESSAGES, STREAMS_ENDED

if TYPE_CHECKING:
    from api.streams.readers import Holder, Readers

__all__ = ["Stream"]

SEND_BUFFER: Final = 16_384
"""Bytes that the system takes for a reader that does not read, about twice; it would take megabytes."""

UNREAD_MS: Final = 60_000
"""After so long without a word from its system a reader is gone (TCP_USER_TIMEOUT, where there is such a thing)."""

_messages = STREAM_MESSAGES.cell()


class Stream:
    """Written to by whoever has news for it. As a connection sees it, it is a request that is being answered."""

    __slots__ = ("address", "begun", "disconnected", "holder", "keep_alive", "readers", "seen", "transport")

    response_complete = False

    def __init__(self, readers: Readers, holder: Holder, address: str, seen: bytes) -> None:
        self.readers = readers
        self.holder = holder
        self.address = address
        self.seen = seen
        """Id of the last message that it was sent, or came with."""
        self.transport: Any = None
        """None before it has begun, and once it is over."""
        self.begun = False
        self.disconnected = False
        self.keep_alive = False

    # What its connection tells

    @property
    def message_event(self) -> Stream:
        """Whom a connection tells that its client has gone."""
        return self

    def set(self) -> None:
        """Its client has gone."""
        self._over("gone")

    def begin(self, transport: Any, head: bytes) -> None:
        """Take over this connection, whose answer begins with this head. Whatever goes wrong, it makes room again."""
        self.begun, self.transport = True, transport
        try:
            own: socket.socket | None = transport.get_extra_info("socket")
            if own is not None:
                with suppress(OSError):  # its client may have gone
                    _spare(own)
            transport.write(head + self.first())
            self.readers.began(self)
            if self.transport is not None:  # unless the process stops
                self.follow()
        except BaseException:
            transport.abort()
            self._over("failed")
            raise

    # What a kind of stream does otherwise

    def first(self) -> bytes:
        """What a reader gets at once."""
        raise NotImplementedError

    def follow(self) -> None:
        """From now on, be told of what is new."""
        raise NotImplementedError

    def leave(self) -> None:
        """Be told no more."""
        raise NotImplementedError

    # What it does

    def send(self, name: bytes, message: bytes) -> None:
        """A message, unless it has it. A reader that lets messages pile up is cut off."""
        if self.transport is None or self.seen == name:
            return
        self.seen = name
        _messages.value += 1
        self.write(message)

    def write(self, data: bytes) -> None:
        """These bytes."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > self.readers.settings.buffer_max_bytes:
            transport.abort()
            self._over("unread")

    def end(self, why: str) -> None:
        """Say so, and close."""
        transport = self.transport
        if transport is not None:
            if not transport.is_closing():
                transport.write(END)
                transport.close()
            self._over(why)

    def _over(self, why: str) -> None:
        if self.transport is not None:
            self.transport = None
            STREAMS_ENDED.cell(why).add()
            self.leave()
            self.readers.left(self)

    def abandon(self) -> None:
        """It was let in, and no connection took it."""
        if not self.begun:
            self.begun = True
            self.readers.left(self)


def _spare(own: socket.socket) -> None:
    """Keep little for a reader, and not for long. Raises OSError."""
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if timeout and own.family in (socket.AF_INET, socket.AF_INET6):
        own.setsockopt(socket.IPPROTO_TCP, timeout, UNREAD_MS)
