"""Processes of the release before run on the schema of the next one: migrations add, and take away only what nobody uses.

Each migration's statements are read as SQL, without a server. One that takes something away, or asks for more than the code
before it gives, names in `contracts` the release from which on no code needs it; that release has to be out.
"""

from __future__ import annotations

import importlib
import io
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Final

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from boxoffice.stores.postgres import revisions
from tests.support.tree import ROOT

BEFORE_THE_FIRST_RELEASE: Final = {
    "0013": "refunds that failed are owed or dropped since, and those that were there were changed",
    "0021": "nothing had a look-up due by then",
    "0023": "keys without scopes got the usual ones, and nobody wrote others",
}
"""Migrations that ask for more, which no release runs beside."""

_TAKES: Final = {
    r"DROP TABLE (?P<table>\w+)": "drops it",
    r"ALTER TABLE (?P<table>\w+) DROP COLUMN (\w+)": "drops a column",
    r"ALTER TABLE (?P<table>\w+) RENAME ": "renames",
    r"ALTER TABLE (?P<table>\w+) ALTER COLUMN \w+ (SET DATA )?TYPE ": "changes a type",
    r"ALTER TABLE (?P<table>\w+) ALTER COLUMN \w+ SET NOT NULL": "asks for a value",
    r"ALTER TABLE (?P<table>\w+) ALTER COLUMN \w+ DROP DEFAULT": "takes a default",
    r"ALTER TABLE (?P<table>\w+) ADD COLUMN (?!.*\b(?:DEFAULT|GENERATED)\b).*\bNOT NULL": "adds a column without a default",
    r"ALTER TABLE (?P<table>\w+) ADD (CONSTRAINT \w+ )?(UNIQUE|FOREIGN KEY|PRIMARY KEY|EXCLUDE)": "adds a constraint",
}


@dataclass
class Schema:
    """As far as it matters here: what checks say, from migration to migration."""

    checks: dict[str, str] = field(default_factory=dict)

    def breaks(self, sql: str) -> list[str]:
        """What these statements take from the code before them, by table; nothing of tables that they make themselves."""
        statements = [" ".join(statement.split()) for statement in sql.split(";") if statement.strip()]
        new = {made[1] for each in statements if (made := re.match(r"CREATE TABLE (\w+)", each))}
        dropped = {gone[1] for each in statements if (gone := re.search(r"DROP (?:CONSTRAINT|INDEX) (\w+)", each))}
        added: dict[str, set[str]] = {}
        for each in statements:
            if column := re.match(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", each):
                added.setdefault(column[1], set()).add(column[2])
        complaints: list[str] = []
        for each in statements:
            for table, what in (*_taken(each), *self._checked(each, added, dropped), *_unique(each, dropped)):
                if table not in new:
                    complaints.append(f"{table}: {what}")
        return complaints

    def _checked(self, statement: str, added: dict[str, set[str]], dropped: set[str]) -> Iterator[tuple[str, str]]:
        """A check is fine in place of a narrower one, or about a column that the code before never writes."""
        for name, text in re.findall(r"CONSTRAINT (\w+) CHECK (\(.+?\))(?=,|$| NOT VALID)", statement):
            before, self.checks[name] = self.checks.get(name, ""), text
            found = re.match(r"ALTER TABLE (\w+) ADD", statement)
            if found is None:
                continue
            columns = set(re.findall(r"\w+", re.sub(r"'[^']*'", "", text)))
            wider = name in dropped and set(re.findall(r"'[^']*'", before)) <= set(re.findall(r"'[^']*'", text))
            if not wider and not columns & added.get(found[1], set()):
                yield found[1], f"checks more ({name})"


def _taken(statement: str) -> Iterator[tuple[str, str]]:
    for pattern, what in _TAKES.items():
        if found := re.match(pattern, statement):
            yield found["table"], what


def _unique(statement: str, dropped: set[str]) -> Iterator[tuple[str, str]]:
    """An index in place of one of the same name asks for the same, in another order."""
    found = re.match(r"CREATE UNIQUE INDEX (?:CONCURRENTLY )?(\w+) ON (\w+)", statement)
    if found and found[1] not in dropped:
        yield found[2], "allows no doubles"


def in_order() -> list[ModuleType]:
    """Every migration, the first one first."""
    before = {previous: revision for revision, previous in revisions().items()}
    names = {path.name[:4]: path.stem for path in (ROOT / "migrations" / "versions").glob("0*.py")}
    found, revision = [], before.get(None)
    while revision is not None:
        found.append(importlib.import_module(f"migrations.versions.{names[revision]}"))
        revision = before.get(revision)
    assert len(found) == len(names)
    return found


def sql_of(migration: ModuleType) -> str:
    """What it sends."""
    said = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": said, "literal_binds": True}
    )
    with Operations.context(context):
        migration.upgrade()
    return said.getvalue()


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_migrations_add_and_take_away_only_what_no_release_uses() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    schema, wrong = Schema(), []
    for migration in in_order():
        complaints = schema.breaks(sql_of(migration))
        since = getattr(migration, "contracts", None)
        allowed = migration.revision in BEFORE_THE_FIRST_RELEASE or (since and version(since) < version(ours))
        if bool(complaints) != bool(since or migration.revision in BEFORE_THE_FIRST_RELEASE) or (since and not allowed):
            wrong.append((migration.revision, complaints, since))
    assert not wrong, (
        "a migration takes something from the code before it. Do it in two releases: docs/operations.md, Upgrade"
    )


CODES = "CREATE TABLE codes (id TEXT NOT NULL, state TEXT, CONSTRAINT ck_codes_state CHECK (state IN ('a', 'b')))"


@pytest.mark.parametrize(
    ("sql", "complaints"),
    [
        ("ALTER TABLE codes ADD COLUMN n INTEGER", []),
        ("ALTER TABLE codes ADD COLUMN n INTEGER DEFAULT 0 NOT NULL", []),
        ("ALTER TABLE codes ADD COLUMN n BIGINT GENERATED ALWAYS AS (1) STORED NOT NULL", []),
        ("ALTER TABLE codes ADD COLUMN n INTEGER NOT NULL", ["codes: adds a column without a default"]),
        ("ALTER TABLE codes DROP COLUMN state", ["codes: drops a column"]),
        ("DROP TABLE codes", ["codes: drops it"]),
        ("ALTER TABLE codes RENAME TO access_codes", ["codes: renames"]),
        ("ALTER TABLE codes RENAME state TO status", ["codes: renames"]),
        ("ALTER TABLE codes ALTER COLUMN id TYPE UUID", ["codes: changes a type"]),
        ("ALTER TABLE codes ALTER COLUMN state SET NOT NULL", ["codes: asks for a value"]),
        ("ALTER TABLE codes ALTER COLUMN state DROP NOT NULL", []),
        ("ALTER TABLE codes ALTER COLUMN state DROP DEFAULT", ["codes: takes a default"]),
        ("ALTER TABLE codes ALTER COLUMN state SET DEFAULT 'a'", []),
        ("ALTER TABLE codes ADD CONSTRAINT u UNIQUE (state)", ["codes: adds a constraint"]),
        ("ALTER TABLE codes ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES x (id)", ["codes: adds a constraint"]),
        ("ALTER TABLE codes DROP CONSTRAINT ck_codes_state", []),
        ("CREATE INDEX i ON codes (state)", []),
        ("CREATE UNIQUE INDEX i ON codes (state)", ["codes: allows no doubles"]),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON codes (state)", ["codes: allows no doubles"]),
        ("DROP INDEX i; CREATE UNIQUE INDEX i ON codes (state, id)", []),
        ("ALTER TABLE codes ADD CONSTRAINT c CHECK (state <> '')", ["codes: checks more (c)"]),
        ("ALTER TABLE codes ADD CONSTRAINT c CHECK (state <> 'n') NOT VALID", ["codes: checks more (c)"]),
        ("ALTER TABLE codes ADD COLUMN n INTEGER; ALTER TABLE codes ADD CONSTRAINT c CHECK (n > 0)", []),
        (
            "ALTER TABLE codes DROP CONSTRAINT ck_codes_state; "
            "ALTER TABLE codes ADD CONSTRAINT ck_codes_state CHECK (state IN ('a', 'b', 'c'))",
            [],
        ),
        (
            "ALTER TABLE codes DROP CONSTRAINT ck_codes_state; "
            "ALTER TABLE codes ADD CONSTRAINT ck_codes_state CHECK (state IN ('a', 'c'))",
            ["codes: checks more (ck_codes_state)"],
        ),
        ("CREATE TABLE t (id TEXT); ALTER TABLE t ADD COLUMN n INTEGER NOT NULL; CREATE UNIQUE INDEX i ON t (n)", []),
    ],
)  # fmt: skip
def test_what_takes_something_away_is_seen(sql: str, complaints: list[str]) -> None:
    schema = Schema()
    assert schema.breaks(CODES) == []
    assert schema.breaks(sql) == complaints
