"""Places where a test may kill or freeze the process, to see that somebody else finishes the work. Nothing in production.

`BOXOFFICE_CRASHPOINT=committed` kills at the place of that name; `committed:STOP` freezes there, once, until SIGCONT.
"""

from __future__ import annotations

import os
import signal

__all__ = ["crashpoint"]

_NAMED, _, _SIGNAL = os.environ.get("BOXOFFICE_CRASHPOINT", "").partition(":")


if _NAMED:
    _left = [_NAMED]

    def crashpoint(name: str) -> None:
        """Die here, as by SIGKILL, when BOXOFFICE_CRASHPOINT names this place."""
        if name in _left:
            _left.clear()
            os.kill(os.getpid(), signal.Signals[f"SIG{_SIGNAL or 'KILL'}"])

else:

    def crashpoint(name: str) -> None:
        """Nothing."""
