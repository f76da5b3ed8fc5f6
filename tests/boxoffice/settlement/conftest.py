"""A settlement without stores."""

from __future__ import annotations

import pytest

from tests.support.settling import Room


@pytest.fixture
def room() -> Room:
    """One shard's, whose clock only the test moves."""
    return Room()
