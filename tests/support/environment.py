"""The environment of this process, which every program that a test starts inherits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_environment"]

_OF_PYTEST = "PYTEST_CURRENT_TEST"
"""Pytest's own, which it changes while a test runs and takes away after it."""


@contextmanager
def kept_environment() -> Iterator[None]:
    """Afterwards the environment is what it was before."""
    before = {name: value for name, value in os.environ.items() if name != _OF_PYTEST}
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys() - {_OF_PYTEST}:
            del os.environ[name]
        os.environ.update(before)
