"""How well a Python suits us: `make` asks every one that it finds, old ones too. Stands by itself."""

from __future__ import annotations

import sys
import sysconfig

__all__ = ["is_optimised", "kind"]

OLDEST = (3, 11)


def is_optimised() -> bool:
    """Whether it was built with profile-guided optimisation: ours runs 1.2 to 1.5 times faster then (decision 15).

    Debian and Ubuntu build so, but say how they built the shared library, which their interpreter does not use.
    """
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in options or "/usr/share/python-wheels" in options


def kind() -> str:
    """`old`; `bare`, when it cannot make a virtual environment; `plain`; or `optimised`."""
    if sys.version_info < OLDEST:
        return "old"
    try:
        # Debian keeps these in a package of their own.
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "bare"
    return "optimised" if is_optimised() else "plain"


if __name__ == "__main__":
    print(kind())
