"""What the C library is told; where it is another than glibc, nothing."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from api.transport import memory


@pytest.mark.parametrize("has", [True, False])
def test_what_the_c_library_is_told(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    """mallopt(3): M_MMAP_THRESHOLD is -3 in malloc.h; from 64 KiB on. And malloc_trim(3), which keeps nothing."""
    told: list[tuple[object, ...]] = []
    opened: list[object] = []
    functions = {name: lambda *given, name=name: told.append((name, *given)) for name in ("mallopt", "malloc_trim")}

    def library(name: object) -> SimpleNamespace:
        opened.append(name)
        return SimpleNamespace(**(functions if has else {}))

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(memory.gc, "collect", lambda: told.append(("collect",)))
    memory.map_large()
    memory.trim()
    calls = [("mallopt", -3, 65_536), ("collect",), ("malloc_trim", 0)]
    assert told == [call for call in calls if has or call == ("collect",)]
    assert opened == [None, None]
