"""One world per gateway: the same payments, whoever is asked to make them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxoffice.settings import GatewaySettings, Settings
from tests.support.gateways import World, http_world, simulator_world, stripe_world

WORLDS = {"simulator": simulator_world, "http": http_world, "stripe": stripe_world}


@pytest.fixture
def timeout_s() -> float:
    """After how long an answer counts as lost: never on a busy machine. A test that loses one has less."""
    return 30.0


@pytest.fixture
def cutoff_s() -> float:
    """What comes later comes after half as long again. A test that has to see what was before has more."""
    return 0.2


@pytest.fixture
def settings(tmp_path: Path, timeout_s: float, cutoff_s: float) -> Settings:
    """A gateway whose slow cards take a moment."""
    gateway = GatewaySettings(cutoff_s=cutoff_s, timeout_s=timeout_s, webhook_secret="whsec_simulator")
    return Settings(data_dir=tmp_path, gateway=gateway)


@pytest.fixture(params=list(WORLDS))
async def world(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[World]:
    """A gateway of each kind, and what its customers and its webhooks do."""
    async with WORLDS[request.param](settings) as world:
        yield world
