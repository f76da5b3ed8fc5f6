"""What a test leaves running: tasks that would go on in the midst of other tests, which count lines, calls and sessions."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Collection
from pathlib import Path
from types import CodeType

__all__ = ["GoesOn", "end_all", "running"]

ROOT = Path(__file__).parents[2]
PRODUCT = ("api", "boxoffice", "ops", "worker")

LAST_STEPS_S = 0.2
"""What a task may still take that is about to end: a connection whose client has gone, an answer that nobody waits for."""

END_S = 5.0


class GoesOn(UserWarning):
    """A task of the product went on after its test. `-W error::tests.support.unfinished.GoesOn` fails the test."""


def running(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[object]]:
    """The tasks of a loop that have not ended."""
    return set(asyncio.all_tasks(loop))


def end_all(loop: asyncio.AbstractEventLoop, tasks: Collection[asyncio.Task[object]]) -> None:
    """Have them end, by cancelling those that do not by themselves; the loop must not run. Those that run code of the
    product are named in a warning. Raises `AssertionError` when one does not end though it is cancelled."""

    async def wait(seconds: float) -> None:
        await asyncio.wait(tasks, timeout=seconds)

    loop.run_until_complete(wait(LAST_STEPS_S))
    left = [task for task in tasks if not task.done()]
    if not left:
        return
    products = sorted(_name(task) for task in left if _is_products(task))
    names = sorted(map(_name, left))
    for task in left:
        task.cancel()
    loop.run_until_complete(wait(END_S))
    assert all(task.done() for task in tasks), f"of these, some go on after their test though cancelled: {names}"
    if products:
        warnings.warn(f"went on after their test: {', '.join(products)}", GoesOn, stacklevel=2)


def _is_products(task: asyncio.Task[object]) -> bool:
    path = Path(_code(task).co_filename)
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PRODUCT


def _name(task: asyncio.Task[object]) -> str:
    code = _code(task)
    return f"{getattr(code, 'co_qualname', code.co_name)} ({Path(code.co_filename).name}:{code.co_firstlineno})"


def _code(task: asyncio.Task[object]) -> CodeType:
    coro = task.get_coro()
    return coro.cr_code if inspect.iscoroutine(coro) else asyncio.wait.__code__
