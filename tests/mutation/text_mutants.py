"""Small mistakes in Lua scripts and in SQL statements. Both are cut into tokens; a mistake replaces a span of the text."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.mutation.alike import BIG
from tests.mutation.mutant import Mutant

__all__ = ["lua_mutants", "sql_mutants"]


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int
    end: int
    depth: int


Edit = tuple[str, int, int, str]
"""The kind of a mistake, and the span that becomes another text."""

_LUA = re.compile(
    r"(?P<comment>--[^\n]*)|(?P<string>\"(?:\\.|[^\"\\])*\")|(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<op>\.\.\.?|[=~<>]=|[-+*/%^#<>=(){}\[\],;.:])|(?P<space>\s+)|(?P<other>.)"
)
_SQL = re.compile(
    r"(?P<comment>--[^\n]*)|(?P<string>'(?:''|[^'])*')|(?P<slot>\$\d+)|(?P<gap>\{[^}]*\})|(?P<number>\d+)"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<op>::|<=|>=|<>|!=|\|\||[-+*/%<>=(),.;\[\]])|(?P<space>\s+)|(?P<other>.)"
)
_SWAPS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "~=", "~=": "==", "+": "-", "-": "+", "<>": "=", "!=": "="}


def _tokens(pattern: re.Pattern[str], text: str) -> list[Token]:
    tokens, depth = [], 0
    for found in pattern.finditer(text):
        kind = found.lastgroup or "other"
        depth -= kind == "op" and found[0] in ")}]"
        if kind not in ("space", "comment"):
            tokens.append(Token(kind, found[0], found.start(), found.end(), depth))
        depth += kind == "op" and found[0] in "({["
    return tokens


def _operators(tokens: list[Token]) -> Iterator[Edit]:
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.kind == "op" and token.text in _SWAPS:
            binary = before is not None and (before.kind in ("word", "number", "slot", "string") or before.text in ")]")
            if token.text not in "+-" or binary:
                yield "operator", token.start, token.end, _SWAPS[token.text]
        if token.kind == "number" and float(token.text) < BIG:
            yield "number", token.start, token.end, str(int(float(token.text)) + 1)


def _items(tokens: list[Token], first: int, last: int) -> Iterator[Edit]:
    """Each element of a list separated by commas, without it. Indices of its first token, and of that after the last."""
    depth = min(token.depth for token in tokens[first:last])
    commas = [n for n in range(first, last) if tokens[n].text == "," and tokens[n].depth == depth]
    bounds = [first - 1, *commas, last]
    if commas:
        for left, right in pairwise(bounds):
            if left == first - 1:
                yield "element", tokens[first].start, tokens[right + 1].start, ""
            else:
                yield "element", tokens[left].start, tokens[right - 1].end, ""


# --- SQL

_ENDS = set(
    re.split(
        " ",
        "group order limit for returning union having where when then else end or and set on left join inner cross window "
        "offset do values select from",
    )
)
_WORDS = {"asc": "DESC", "desc": "ASC", "least": "greatest", "greatest": "least", "true": "false", "false": "true",
          "min": "max", "max": "min", "first": "last", "last": "first", "distinct": "", "not": ""}  # fmt: skip
_STATES = ("held", "pending", "confirmed", "failed", "expired", "cancelled", "authorized", "captured", "voided", "due",
           "succeeded", "dropped", "owed", "void", "capture", "unpaid", "open", "closed")  # fmt: skip


def _operand_end(tokens: list[Token], at: int) -> int:
    depth, between = tokens[at].depth, False
    for n in range(at, len(tokens)):
        token = tokens[n]
        if token.depth < depth:
            return n
        if token.depth == depth and n > at and token.kind == "word" and token.text.lower() in _ENDS:
            if token.text.lower() == "and" and between:
                between = False
                continue
            if token.text.lower() == "from" and tokens[n - 1].text.lower() == "distinct":
                continue
            return n
        between = between or token.text.lower() == "between"
    return len(tokens)


def _conditions(tokens: list[Token]) -> Iterator[Edit]:
    for n, token in enumerate(tokens[:-1]):
        word = token.text.lower()
        if token.kind != "word" or word not in ("and", "or", "where", "on", "when"):
            continue
        if word in ("and", "or") and any(t.text.lower() == "between" for t in tokens[max(0, n - 4) : n]):
            continue
        end = _operand_end(tokens, n + 1)
        after = tokens[end].text.lower() if end < len(tokens) and tokens[end].depth == token.depth else ""
        if word in ("and", "or"):
            yield "condition", token.start, tokens[end - 1].end, ""
            yield "and or", token.start, token.end, "OR" if word == "and" else "AND"
        elif after == "and":
            yield "condition", tokens[n + 1].start, tokens[end + 1].start, ""
        elif word == "where":
            yield "condition", tokens[n + 1].start, tokens[end - 1].end, "true"


def _list_end(tokens: list[Token], at: int) -> int:
    depth = tokens[at].depth
    for n in range(at, len(tokens)):
        over = tokens[n].depth == depth and tokens[n].text.lower() in ("from", "where", "returning")
        if over or tokens[n].depth < depth:
            return n
    return len(tokens)


def _columns(tokens: list[Token]) -> Iterator[Edit]:
    for n, token in enumerate(tokens):
        word = token.text.lower()
        if word == "set" and token.kind == "word" and n + 1 < len(tokens):
            yield from _items(tokens, n + 1, _list_end(tokens, n + 1))
        if word == "in" and n + 2 < len(tokens) and tokens[n + 1].text == "(" and tokens[n + 2].kind != "word":
            close = next(
                m for m in range(n + 2, len(tokens)) if tokens[m].text == ")" and tokens[m].depth == token.depth
            )
            yield from _items(tokens, n + 2, close)


def _sql_edits(text: str) -> Iterator[Edit]:
    tokens = _tokens(_SQL, text)
    yield from _operators(tokens)
    yield from _conditions(tokens)
    yield from _columns(tokens)
    slots = sorted({token.text for token in tokens if token.kind == "slot"})
    for n, token in enumerate(tokens):
        word = token.text.lower()
        if token.kind == "word" and word in _WORDS:
            yield "word", token.start, token.end, _WORDS[word]
        if word == "null" and tokens[n - 1].text.lower() == "is":
            yield "null", token.start, token.end, "NOT NULL"
        if word == "for" and n + 1 < len(tokens) and tokens[n + 1].text.lower() in ("update", "share"):
            last = n + 3 if tokens[n + 2 : n + 3] and tokens[n + 2].text.lower() == "skip" else n + 1
            yield "lock", token.start, tokens[last].end, ""
        if token.kind == "string" and token.text.strip("'") in _STATES:
            at = _STATES.index(token.text.strip("'"))
            yield "state", token.start, token.end, f"'{_STATES[(at + 1) % len(_STATES)]}'"
        if token.kind == "slot" and len(slots) > 1:
            yield "slot", token.start, token.end, slots[(slots.index(token.text) + 1) % len(slots)]


def sql_mutants(path: str, source: str) -> Iterator[Mutant]:
    """Every mistake in the strings of a Python file that are statements."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        inner = token.string.strip("frbFRB").strip("\"'")
        statement = re.match(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b", inner)
        if token.type != tokenize.STRING or not statement or " " not in inner.strip():
            continue
        offset = starts[token.start[0] - 1] + token.start[1] + token.string.index(inner)
        for kind, start, end, text in _sql_edits(inner):
            mutated = source[: offset + start] + text + source[offset + end :]
            yield Mutant(path, f"sql {kind}", source, mutated, sql=True)


# --- Lua


def _lua_operands(tokens: list[Token]) -> Iterator[Edit]:
    stops = {"then", "do", "and", "or", "end", "return", "local", "else", "elseif", ","}
    for n, token in enumerate(tokens):
        if token.kind == "word" and token.text in ("and", "or"):
            yield "and or", token.start, token.end, "or" if token.text == "and" else "and"
            end = n + 1
            while end < len(tokens) and tokens[end].depth >= token.depth:
                if tokens[end].depth == token.depth and tokens[end].text in stops:
                    break
                end += 1
            if end < len(tokens) and tokens[end].text in ("then", "and", "or", "do"):
                yield "operand", token.start, tokens[end - 1].end, ""
        if token.kind == "word" and token.text == "not":
            yield "not", token.start, token.end, ""
        if token.kind == "word" and token.text in ("if", "elseif"):
            end = next(m for m in range(n, len(tokens)) if tokens[m].text == "then")
            for word in ("false", "true"):
                yield "guard", tokens[n + 1].start, tokens[end - 1].end, word


def _lua_lines(text: str) -> Iterator[Edit]:
    at = 0
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        call = re.match(r"(redis\.call|[a-z_.]+)\(.*\)$", bare)
        setting = re.match(r"[a-z_.\[\]\"]+ = .*[^{(,]$", bare)
        if (call or setting) and bare.count("(") == bare.count(")") and bare.count("{") == bare.count("}"):
            yield "line", at, at + len(line), ""
        at += len(line)


def _lua_siblings(text: str, tokens: list[Token]) -> Iterator[Edit]:
    kin: dict[str, str] = {}
    for found in re.finditer(r"^\s*local (\w+(?:, \w+)+) =", text, re.M):
        names = found[1].split(", ")
        kin |= dict(zip(names, [*names[1:], names[0]], strict=True))
    strings = sorted({t.text for t in tokens if t.kind == "string" and re.fullmatch(r'"[A-Za-z]"', t.text)})
    declared = [range(*found.span()) for found in re.finditer(r"^\s*local [^=\n]*=", text, re.M)]
    for token in tokens:
        if any(token.start in span for span in declared):
            continue
        if token.kind == "word" and token.text in kin:
            yield "sibling", token.start, token.end, kin[token.text]
        if token.text in strings and len(strings) > 1:
            yield "letter", token.start, token.end, strings[(strings.index(token.text) + 1) % len(strings)]


def lua_mutants(path: str, source: str) -> Iterator[Mutant]:
    """Every mistake in a script or in a library."""
    tokens = _tokens(_LUA, source)
    edits = [*_operators(tokens), *_lua_operands(tokens), *_lua_lines(source), *_lua_siblings(source, tokens)]
    for n, token in enumerate(tokens):
        if token.text in ("min", "max") and tokens[n - 1].text == ".":
            edits.append(("word", token.start, token.end, "max" if token.text == "min" else "min"))
    for kind, start, end, text in edits:
        yield Mutant(path, f"lua {kind}", source, source[:start] + text + source[end:])
