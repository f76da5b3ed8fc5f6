"""What makes no difference whatever is mistaken there. A mutant that differs from the sound file in nothing else is not
drawn: it would tell of the sample, not of the tests.

- The order of what `min` and `max` are given.
- `zip(..., strict=True)`: both lists come from one query or one loop; strictness only tells a programmer of a bug sooner.
- A number of 1,000 or more changed by one: a lock's number, a limit, a size, a unit's factor. Nobody could tell.
- The text of an error that only a programmer sees (`RuntimeError`, `TimeoutError`, ...), and of an assertion.
- The type of a column that SQLAlchemy reads from the annotation: `Uuid` of a `UUID`, `Boolean` of a `bool`.
- `transaction=False` of a pipeline, left out: what need not be done at once is done at once. Not the other way round.
- `slots=` and `gc=` of a class, and what is told to the garbage collector: memory and speed, which the benchmarks watch.
"""

from __future__ import annotations

import ast
from functools import lru_cache

__all__ = ["BIG", "alike"]

BIG = 1_000
"""Numbers from here on are as good as their neighbours."""

_OF_MEMORY = ("slots", "gc")
_INFERRED = ("Uuid", "Boolean")
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
        if name in ("min", "max") and len(node.args) > 1:
            node.args = sorted(node.args, key=ast.dump)
        if name == "dataclass":
            node.keywords = [word for word in node.keywords if word.arg not in _OF_MEMORY]
        if name == "mapped_column":
            node.args = [arg for arg in node.args if not (isinstance(arg, ast.Name) and arg.id in _INFERRED)]
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


class _AtOnce(ast.NodeTransformer):
    """The program with every pipeline a transaction; counts those that said they are none."""

    def __init__(self) -> None:
        self.loose = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "pipeline":
            said = [word for word in node.keywords if word.arg == "transaction"]
            self.loose += sum(isinstance(word.value, ast.Constant) and word.value.value is False for word in said)
            node.keywords = [word for word in node.keywords if word not in said]
        return self.generic_visit(node)


@lru_cache(maxsize=256)
def _plain(source: str) -> tuple[str, str, int]:
    """The program, the same with every pipeline a transaction, and how many were none."""
    program = _Plain().visit(ast.parse(source))
    plain, at_once = ast.dump(program), _AtOnce()
    return plain, ast.dump(at_once.visit(program)), at_once.loose


def alike(source: str, mutated: str) -> bool:
    """Whether a mutated file differs from the sound one in nothing that matters."""
    (sound, sound_at_once, loose), (other, other_at_once, looser) = _plain(source), _plain(mutated)
    return sound == other or (sound_at_once == other_at_once and looser < loose)
