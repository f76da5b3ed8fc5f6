"""Commands find the servers of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from boxoffice.settings import Settings
from tests.ops.terminal import terminal_of


@pytest.fixture
def terminal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal whose environment names the servers of the tests: what `run` runs works on those."""
    with terminal_of(settings, monkeypatch):
        yield
