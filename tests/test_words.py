"""One word, one meaning: the glossary's words stand in the code, and those that once meant several things mean one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from boxoffice import states
from tests.test_docs import PACKAGES, read, sources


def glossary() -> dict[str, str]:
    return dict(re.findall(r"^\| \*\*(.+?)\*\* \| .*? \| (.*?) \|", read("docs/glossary.md"), re.M))


WORDS = """event, tier, inventory, available, held, sold, total, hold, booking, booking item, client, customer, shard,
doorbell, lease, claim, settle, gate, reconcile, drift""".replace("\n", " ").split(", ")


def test_the_glossary_has_the_words_we_agreed_on() -> None:
    defined = {word for entry in glossary() for word in re.split(r", | / ", entry)}
    assert not [word for word in [*WORDS, *states.BOOKING_STATES] if word not in defined]


def names_in_code() -> set[str]:
    """What is defined, assigned, passed or reached in Python, the modules, and the scripts: no comment, no text."""
    found = {Path(path).stem for path, _ in sources("lua", ending="lua")}
    for path, text in sources():
        found |= {Path(path).stem, Path(path).parent.name, *names_of(ast.parse(text))}
    return found


def names_of(tree: ast.AST) -> set[str]:
    """What a module defines, assigns, passes or reaches."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                found.add(name)
    return found


def words_in_code() -> set[str]:
    """Texts of Python that are a word and nothing else, as a state or an outcome is; no docstring is."""
    trees = (ast.parse(text) for _, text in sources())
    texts = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and text.isidentifier()}


def test_every_word_of_the_glossary_stands_in_the_code_as_a_name() -> None:
    """In its third column, `name` or `"word"`: that a sentence somewhere has the word proves nothing, it is plain English."""
    names, words = names_in_code(), words_in_code()
    lost = []
    for word, column in glossary().items():
        said = re.findall(r"`([^`]+)`", column)
        assert said, f"{word}: where is it in the code?"
        for each in said:
            quoted = re.fullmatch(r'"(\w+)"', each)
            if not (quoted[1] in words if quoted else each.removesuffix("()").rpartition(".")[2] in names):
                lost.append((word, each))
    assert not lost


def test_no_word_of_the_glossary_has_two_rows() -> None:
    """One word, one meaning. What two rooms mean by it is said in one row, or one of them takes another word."""
    words = re.findall(r"^\| \*\*(.+?)\*\*", read("docs/glossary.md"), re.M)
    assert len(words) > 80
    assert sorted(words) == sorted(set(words))


HOMES = {
    "shape": ("api/transport/", "api/server.py", "boxoffice/setting_parts.py"),
    "lane": (
        "api/transport/",
        "api/server.py",
        "boxoffice/setting_parts.py",
        "bench/",
    ),
    "verdict": (
        "boxoffice/books/decisions.py",
        "boxoffice/settlement/",
        "boxoffice/repair/failing.py",
        "ops/rush/report.py",
    ),
    "ledger": ("boxoffice/gateway/", "ops/bank/", "ops/rush/", "bench/forge.py"),
    "together": (),
    "kin": (),
    "blank": (
        "boxoffice/texts.py",
        "boxoffice/wire/requests.py",
        "boxoffice/telemetry/redaction.py",
        "boxoffice/database_url.py",
        "boxoffice/redis_url.py",
    ),
    "kept": ("ops/stack/", "ops/rush/run.py"),
    "whole": ("api/transport/", "ops/stack/processes.py", "bench/"),
    "late": (
        "boxoffice/money/",
        "boxoffice/books/",
        "boxoffice/office.py",
        "boxoffice/repair/payments_audit.py",
        "ops/commands/_events_control.py",
        "ops/commands/events.py",
        "bench/",
    ),
    "tell": (
        "boxoffice/stores/",
        "boxoffice/books/",
        "boxoffice/money/",
        "boxoffice/settlement/",
        "boxoffice/repair/",
        "boxoffice/sales/capacity.py",
    ),
    "told": (
        "boxoffice/stores/",
        "boxoffice/books/",
        "boxoffice/money/refunds.py",
        "boxoffice/settlement/",
        "boxoffice/repair/",
        "ops/rush/sampler.py",
    ),
    "said": ("boxoffice/telemetry/outages.py", "boxoffice/telemetry/seldom.py", "boxoffice/repair/guard.py"),
    "asked": (
        "api/event_schemas.py",
        "api/routes/sales.py",
        "boxoffice/sales/capacity.py",
        "ops/commands/_events_control.py",
    ),
}
"""Words that once meant several things, and where names may have them. `late_cancel` is a word of the API; a load generator is
`late` in bench/ when it sends after its time. A `blank` is a character that shows nothing. Redis is told; what was
said stands in the log."""


@pytest.mark.parametrize("word", HOMES)
def test_a_word_names_one_thing(word: str) -> None:
    elsewhere = {
        (path, name)
        for path, text in sources(*PACKAGES, "bench")
        if not path.startswith(HOMES[word] or ("nowhere",))
        for name in names_of(ast.parse(text))
        if word in {part.lower().removesuffix("s") for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    }
    assert elsewhere == set()
