"""Commands find the servers of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from boxoffice.settings import Settings
from tests.ops.terminal import register_all


@pytest.fixture
def terminal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal whose environment names the servers of the tests: what `run` runs works on those."""
    register_all()
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("BOXOFFICE_DATA_DIR", str(settings.data_dir))
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)
