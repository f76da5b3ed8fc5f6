"""Places where a test may kill or freeze the process, to see that somebody else finishes the work. Nothing in production.

`BOXOFFICE_CRASHPOINT=committed` kills at the place of that name; `committed:STOP` freezes there, once, until SIGCONT.
"""

from __future__ import annotations

import os
import signal

__all__ = ["arm", "crashpoint"]

_NAMED = os.environ.get("BOXOFFICE_CRASHPOINT", "")
_armed: list[str] = []


def arm(where: str) -> None:
    """From now on this place is the one; of use only in a process that was started with BOXOFFICE_CRASHPOINT."""
    _armed[:] = where.split(":")


if _NAMED:
    arm(_NAMED)

    def crashpoint(name: str) -> None:
        """Die here, as by SIGKILL, when BOXOFFICE_CRASHPOINT names this place; whoever reads stderr sees that it was here."""
        if name in _armed[:1]:
            how = signal.Signals[f"SIG{[*_armed, 'KILL'][1]}"]
            _armed.clear()
            os.write(2, f"crashpoint reached: {name}\n".encode())
            os.kill(os.getpid(), how)

else:

    def crashpoint(name: str) -> None:
        """Nothing."""
