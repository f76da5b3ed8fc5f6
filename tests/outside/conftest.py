"""Programs of others that try our API: clients generated from its description, a linter of HTTP, and proxies.

Where they cannot be installed (no network, no npm) the tests are skipped, and say so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import office, settings
from tests.api.transport.test_server import Serving, serving
from tests.outside import tools

__all__ = ["Serving", "office", "serving", "settings"]


@pytest.fixture(scope="session")
def outside_python() -> Path:
    """An interpreter with the packages of `requirements.lock`."""
    try:
        return tools.python()
    except tools.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages of `package.json`."""
    try:
        return tools.node()
    except tools.Missing as reason:
        pytest.skip(str(reason))
