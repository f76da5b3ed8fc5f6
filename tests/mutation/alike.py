"""What makes no difference whatever is mistaken there. A mutant that differs from the sound file in nothing else is not
drawn: it would tell of the sample, not of the tests.

- `zip(..., strict=True)`: both lists come from one query or one loop; strictness only tells a programmer of a bug sooner.
- A number of 1,000 or more changed by one: a lock's number, a limit, a size, a unit's factor. Nobody could tell.
- The text of an error that only a programmer sees (`RuntimeError`, `TimeoutError`, ...), and of an assertion.
- `slots=` and `gc=` of a class, and what is told to the garbage collector: memory and speed, which the benchmarks watch.
"""

from __future__ import annotations

import ast
from functools import lru_cache

__all__ = ["BIG", "alike"]

BIG = 1_000
"""Numbers from here on are as good as their neighbours."""

_OF_MEMORY = ("slots", "gc")
_PROGRAMMERS = (
    "AssertionError",
    "AttributeError",
    "LookupError",
    "NotImplementedError",
    "RuntimeError",
    "TimeoutError",
    "TypeError",
)


class _Plain(ast.NodeTransformer):
    """The program without what makes no difference."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "zip":
            node.keywords = [word for word in node.keywords if word.arg != "strict"]
        if name == "dataclass":
            node.keywords = [word for word in node.keywords if word.arg not in _OF_MEMORY]
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.keywords = [word for word in node.keywords if word.arg not in _OF_MEMORY]
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        big = isinstance(node.value, int | float) and node.value >= BIG
        return ast.Constant(BIG) if big else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        error = node.exc
        if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in _PROGRAMMERS:
            node.exc = error.func
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "gc":
            return ast.Pass()
        return self.generic_visit(node)


@lru_cache(maxsize=256)
def _plain(source: str) -> str:
    return ast.dump(_Plain().visit(ast.parse(source)))


def alike(source: str, mutated: str) -> bool:
    """Whether two versions of a file differ in nothing that matters."""
    return _plain(source) == _plain(mutated)
