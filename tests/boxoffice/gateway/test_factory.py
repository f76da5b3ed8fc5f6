"""Opening the gateway that the settings name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from boxoffice.errors import CannotRun
from boxoffice.gateway.factory import open_gateway
from boxoffice.gateway.simulator.simulator import Simulator
from boxoffice.settings import Settings
from tests.support.gateways import with_gateway

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["simulator", "http", "stripe"])
async def test_a_gateway_is_named_as_it_is_configured(settings: Settings, kind: str):
    """Its name stands in payment rows and in the path of its webhooks."""
    gateway = open_gateway(with_gateway(settings, kind=kind, url="http://127.0.0.1:1", api_key="sk_test"))
    assert gateway.name == kind
    assert gateway.accepts_cards == (kind != "stripe")
    await gateway.close()


async def test_a_gateway_that_cannot_capture_apart_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """Money would move before a booking is written."""
    monkeypatch.setattr(Simulator, "captures_apart", False)
    with pytest.raises(CannotRun, match="capture apart"):
        open_gateway(settings)


def test_the_simulator_does_not_import_what_it_does_not_need():
    """Stripe's package alone takes a quarter of a second, and every API process starts with this import."""
    code = "import sys, boxoffice.gateway.factory; print({'stripe', 'httpx2', 'starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
