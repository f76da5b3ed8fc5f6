"""Every mutant of a Python file, with the operators of `mistakes.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import libcst as cst
import libcst.matchers as m

from tests.mutation.alike import alike
from tests.mutation.mistakes import Siblings, operators
from tests.mutation.mutant import Mutant

__all__ = ["python_mutants"]

_LOG_WORDS = ("log", "_log", "logger", "_logger", "LOG", "_LOG", "seldom")
_LOG_METHODS = ("debug", "info", "warning", "error", "exception", "critical")

Draft = tuple[str, cst.CSTNode, Callable[[], cst.CSTNode]]


class _Visitor(cst.CSTVisitor):
    """Collects what may change. Annotations, texts, log lines and `__all__` are left alone."""

    def __init__(self) -> None:
        self.found: list[tuple[str, cst.CSTNode, cst.CSTNode]] = []
        self._operators = operators()
        self._siblings: list[Siblings] = []

    def _skip(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Import | cst.ImportFrom | cst.FormattedString):
            return True
        if isinstance(node, cst.FunctionDef) and node.name.value in ("__repr__", "__str__"):
            return True
        if isinstance(node, cst.If) and m.matches(node.test, m.Name("TYPE_CHECKING")):
            return True
        if isinstance(node, cst.Assign):
            return m.matches(node.targets[0].target, m.Name("__all__") | m.Name("__slots__"))
        if isinstance(node, cst.Call):
            func = node.func
            if isinstance(func, cst.Attribute) and func.attr.value in _LOG_METHODS:
                return isinstance(func.value, cst.Name) and func.value.value in _LOG_WORDS
            return isinstance(func, cst.Name) and func.value in ("crashpoint", "cast", "TypeVar")
        return False

    def _is_log(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.SimpleStatementLine) and any(
            isinstance(part, cst.Expr) and isinstance(part.value, cst.Call) and self._skip(part.value)
            for part in node.body
        )

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._skip(node) or self._is_log(node):
            return False
        if isinstance(node, cst.FunctionDef):
            self._siblings.append(Siblings())
        for function in self._siblings:
            function.see(node, inner=function is self._siblings[-1])
        for kind, operator, name in self._operators:
            if isinstance(node, kind):
                self.found += [(name, node, mutated) for mutated in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef) and not self._skip(original_node):
            self.found += [("sibling", node, mutated) for node, mutated in self._siblings.pop().found()]


class Drafts:
    """The mutants of one file before they are written out, which takes longer than finding them."""

    def __init__(self, path: str, source: str) -> None:
        self.path, self.source = path, source
        self._module = cst.parse_module(source)
        visitor = _Visitor()
        self._module.visit(visitor)
        self.found = visitor.found

    def mutant(self, at: int) -> Mutant | None:
        """One of them; None when it is no program, or makes no difference (`alike.py`)."""
        kind, old, new = self.found[at]
        try:
            code = self._module.deep_replace(old, new).code
            compile(code, self.path, "exec")
        except (SyntaxError, cst.CSTValidationError):
            return None
        return None if alike(self.source, code) else Mutant(self.path, kind, self.source, code)


def python_mutants(path: str, source: str) -> Iterator[Mutant]:
    """All of them, in the order of the file."""
    drafts = Drafts(path, source)
    for at in range(len(drafts.found)):
        if mutant := drafts.mutant(at):
            yield mutant
