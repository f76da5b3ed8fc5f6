"""Ports for tests: no other test is given the same one, in whatever process, before this one ends."""

from __future__ import annotations

from ops.stack.ports import Ports

__all__ = ["free_port"]

_OURS = Ports()


def free_port() -> int:
    """A port that nobody listens on, and that nobody else will be told to listen on."""
    return _OURS.draw()
