"""Mistakes that people make in Python: the wrong variable, a forgotten argument, a guard left out, off by one.

Each operator has the shape of mutmut's: a type of node, and a function from a node to what it may become. They stand
beside those of mutmut that are plausible; what would fail at the first import, or only changes a text, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libcst as cst
import libcst.matchers as m
from mutmut.mutation import mutators

__all__ = ["Operator", "operators"]

Operator = tuple[type, Callable[[Any], Iterator[cst.CSTNode]], str]

_KIN = (
    ("event_id", "tier_id", "booking_id", "client_id", "customer_id", "payment_key", "refund_key", "idempotency_key"),
    ("client", "customer", "owner", "event", "tier", "booking", "key", "id"),
    ("available", "held", "sold", "total", "capacity"),
    ("amount_cents", "refunded_cents", "price_cents", "unit_price_cents", "total_cents"),
    ("created_at", "updated_at", "expires_at", "starts_at", "due_at", "leased_until"),
)


def _without(items: Sequence[Any]) -> Iterator[list[Any]]:
    for n in range(len(items)):
        yield [*items[:n], *items[n + 1 :]]


def drop_keyword(node: cst.Call) -> Iterator[cst.Call]:
    """`f(a, shard=shard)` → `f(a)`."""
    for n, arg in enumerate(node.args):
        if arg.keyword is not None:
            yield node.with_changes(args=[*node.args[:n], *node.args[n + 1 :]])


def drop_element(node: cst.Tuple | cst.List | cst.Set | cst.Dict) -> Iterator[cst.CSTNode]:
    """`("held", "pending")` → `("held",)`."""
    if len(node.elements) > 1:
        for rest in _without(node.elements):
            if len(rest) == 1 and isinstance(node, cst.Tuple):
                rest = [rest[0].with_changes(comma=cst.Comma())]
            yield node.with_changes(elements=rest)


def drop_statement(node: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """`await shard.ring()` → nothing. Also `x += y`, `del x`, `continue`, `a.b = c` and `a[b] = c`."""
    if len(node.body) != 1:
        return
    small = node.body[0]
    called = m.matches(small, m.Expr(value=m.Call() | m.Await()))
    placed = isinstance(small, cst.Assign) and not isinstance(small.targets[0].target, cst.Name | cst.Tuple)
    if called or placed or isinstance(small, cst.AugAssign | cst.Del | cst.Continue):
        yield node.with_changes(body=[cst.Pass()])


def drop_guard(node: cst.If) -> Iterator[cst.If]:
    """`if gone: return` is never true; and a condition with a normal body always is."""
    last = node.body.body[-1] if isinstance(node.body, cst.IndentedBlock) else node.body
    leaves = m.matches(last, m.SimpleStatementLine(body=[m.OneOf(m.Return(), m.Raise(), m.Continue(), m.Break())]))
    if node.orelse is None or leaves:
        yield node.with_changes(test=cst.Name("False"))
    if not leaves:
        yield node.with_changes(test=cst.Name("True"))


def drop_operand(node: cst.BooleanOperation) -> Iterator[cst.CSTNode]:
    """`a and b` → `a`, and → `b`."""
    yield node.left
    yield node.right


def drop_one(node: cst.BinaryOperation) -> Iterator[cst.CSTNode]:
    """`n + 1` → `n`; also the right side of any other sum or product."""
    if isinstance(node.operator, cst.Add | cst.Subtract | cst.Multiply | cst.FloorDivide):
        yield node.left


def _is_shard(node: cst.BaseExpression) -> bool:
    return m.matches(node, m.Name("shard") | m.Attribute(attr=m.Name("shard")))


def shard_zero(node: cst.Arg) -> Iterator[cst.Arg]:
    """`keys.pending(shard)` → `keys.pending(0)`."""
    if _is_shard(node.value):
        yield node.with_changes(value=cst.Integer("0"))


def swap_arguments(node: cst.Call) -> Iterator[cst.Call]:
    """`f(event, tier)` → `f(tier, event)`."""
    for n in range(len(node.args) - 1):
        one, two = node.args[n], node.args[n + 1]
        plain = all(arg.keyword is None and isinstance(arg.value, cst.Name | cst.Attribute) for arg in (one, two))
        if plain and not one.value.deep_equals(two.value):
            swapped = [one.with_changes(value=two.value), two.with_changes(value=one.value)]
            yield node.with_changes(args=[*node.args[:n], *swapped, *node.args[n + 2 :]])


def only_first(node: cst.For | cst.CompFor) -> Iterator[cst.CSTNode]:
    """`for shard in shards` → `for shard in [*shards][:1]`."""
    if node.asynchronous is None and isinstance(node.iter, cst.Name | cst.Attribute | cst.Call):
        first = cst.Subscript(cst.List([cst.StarredElement(node.iter)]), [cst.SubscriptElement(cst.Slice(
            lower=None, upper=cst.Integer("1")))])  # fmt: skip
        yield node.with_changes(iter=first)


def other_function(node: cst.Call) -> Iterator[cst.Call]:
    """`min` ↔ `max`, `any` ↔ `all`, and `sorted(x)` → `list(x)`."""
    others = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
    name = node.func.value if isinstance(node.func, cst.Name) else ""
    if name in others and (name != "sorted" or len(node.args) == 1):
        yield node.with_changes(func=cst.Name(others[name]))


def other_end(node: cst.Subscript) -> Iterator[cst.Subscript]:
    """`x[0]` ↔ `x[-1]`."""
    if m.matches(node, m.Subscript(slice=[m.SubscriptElement(slice=m.Index(value=m.Integer("0")))])):
        yield node.with_deep_changes(node.slice[0].slice, value=cst.parse_expression("-1"))


def swap_arms(node: cst.IfExp) -> Iterator[cst.IfExp]:
    """`a if c else b` → `b if c else a`."""
    yield node.with_changes(body=node.orelse, orelse=node.body)


class Siblings:
    """`event_id` → `tier_id`: another variable or attribute of the same kind that the same function also names.

    It sees the nodes of a function one by one, and knows what they may become when it has seen them all.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._attributes: set[str] = set()
        self._typed: dict[str, list[str]] = {}
        self._places: list[cst.Arg | cst.Comparison | cst.DictElement] = []

    def see(self, node: cst.CSTNode, *, inner: bool) -> None:
        """`inner`: in this function, and not in one within it."""
        if isinstance(node, cst.Name):
            self._names.add(node.value)
        elif isinstance(node, cst.Attribute):
            self._attributes.add(node.attr.value)
        elif isinstance(node, cst.Param) and node.annotation and inner:
            annotation = cst.Module([]).code_for_node(node.annotation.annotation)
            self._typed.setdefault(annotation, []).append(node.name.value)
        elif isinstance(node, cst.Arg | cst.Comparison | cst.DictElement) and inner:
            self._places.append(node)

    def _of(self, name: str, among: set[str]) -> Iterator[str]:
        for kin in (*self._typed.values(), *_KIN):
            if name in kin:
                yield from sorted({other for other in kin if other != name and other in among})

    def found(self) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """Nodes, and what they may become: at an argument, left of a comparison, or as a value of a dictionary."""
        for node in self._places:
            field = "left" if isinstance(node, cst.Comparison) else "value"
            value = getattr(node, field)
            if isinstance(value, cst.Name):
                for other in self._of(value.value, self._names):
                    yield node, node.with_changes(**{field: cst.Name(other)})
            elif isinstance(value, cst.Attribute):
                for other in self._of(value.attr.value, self._attributes):
                    yield node, node.with_changes(**{field: value.with_changes(attr=cst.Name(other))})


_UNLIKELY = ("operator_string", "operator_assignment", "operator_lambda", "operator_dict_arguments")

_OURS: tuple[tuple[type, Callable[[Any], Iterator[cst.CSTNode]]], ...] = (
    (cst.Call, drop_keyword),
    (cst.Tuple, drop_element),
    (cst.List, drop_element),
    (cst.Set, drop_element),
    (cst.Dict, drop_element),
    (cst.SimpleStatementLine, drop_statement),
    (cst.If, drop_guard),
    (cst.BooleanOperation, drop_operand),
    (cst.BinaryOperation, drop_one),
    (cst.Arg, shard_zero),
    (cst.Call, swap_arguments),
    (cst.For, only_first),
    (cst.CompFor, only_first),
    (cst.Call, other_function),
    (cst.Subscript, other_end),
    (cst.IfExp, swap_arms),
)


_METHODS = {
    name
    for pair in (*mutators.supported_symmetric_str_methods_swap, *mutators.supported_unsymmetrical_str_methods_swap)
    for name in pair
}


def _on_methods(operator: Any) -> Any:
    """mutmut's, which builds a dozen matchers for each call, asked of calls of such methods only."""

    def quick(node: cst.Call) -> Iterator[cst.CSTNode]:
        if isinstance(node.func, cst.Attribute) and node.func.attr.value in _METHODS:
            yield from operator(node)

    quick.__name__ = operator.__name__
    return quick


def _theirs() -> Iterator[tuple[type, Any]]:
    for kind, operator in mutators.mutation_operators:
        if operator.__name__.endswith("string_methods_swap"):
            yield kind, _on_methods(operator)
        elif operator.__name__ == "operator_swap_op":
            for each in (
                cst.BinaryOperation,
                cst.UnaryOperation,
                cst.BooleanOperation,
                cst.ComparisonTarget,
                cst.AugAssign,
            ):
                yield each, operator
        elif operator.__name__ not in _UNLIKELY:
            yield kind, operator


def operators() -> list[Operator]:
    """Ours, and those of mutmut that imitate a mistake."""
    ours = [(kind, operator, operator.__name__.replace("_", " ")) for kind, operator in _OURS]
    return [*ours, *((kind, operator, f"mutmut {operator.__name__[9:]}") for kind, operator in _theirs())]
