"""Below ASGI: what a connection is answered, however long the disk of a busy machine takes to keep a booking."""

from __future__ import annotations

import pytest

from boxoffice.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """An admission waits for a store as long as it may."""
    return settings.model_copy(update={"api": settings.api.model_copy(update={"retry_s": 20.0})})
