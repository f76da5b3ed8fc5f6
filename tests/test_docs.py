"""The documentation agrees with the code. What can be written from the code is: `python tests/test_docs.py` does it."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from pydantic import AliasChoices, BaseModel
from pydantic_core import PydanticUndefined

from boxoffice import states
from boxoffice.gateway.simulator.cards import CARDS
from boxoffice.notices.types import TYPES
from boxoffice.settings import Settings
from boxoffice.stores import keys, models, postgres_rights
from boxoffice.telemetry import series
from boxoffice.telemetry.outages import OUTAGES
from boxoffice.webhooks.sending import FAILURES as FAILURES_OF_DELIVERIES
from boxoffice.wire.render import FAILURES
from ops import cli
from tests.support import chart, sizing
from worker.rounds import ROUNDS, Round

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("api", "boxoffice", "worker", "ops")
FOLDERS = (*PACKAGES, "lua", "tests", "bench", "migrations")
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("bench/*.md")])


def read(name: str) -> str:
    return (ROOT / name).read_text()


def sources(*packages: str, ending: str = "py") -> Iterator[tuple[str, str]]:
    """Path and text of every source file."""
    for package in packages or PACKAGES:
        for path in sorted((ROOT / package).rglob(f"*.{ending}")):
            yield str(path.relative_to(ROOT)), path.read_text()


CODE = "\n".join(text for _, text in [*sources(), *sources("lua", ending="lua")])


# ---------------------------------------------------------------- parts of pages that are written from the code


def table(*rows: tuple[str, ...]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def sentence(text: str | None) -> str:
    """A docstring's first paragraph, on one line."""
    return " ".join((text or "").split("\n\n")[0].split())


def field_docs(module: ModuleType) -> dict[tuple[str, str], str]:
    """(class, field) to the docstring under the field."""
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            for statement, after in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(statement, ast.AnnAssign)
                    and isinstance(statement.target, ast.Name)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                ):
                    found[node.name, statement.target.id] = " ".join(str(after.value.value).split())
    return found


def settings_of(model: type[BaseModel], prefix: str = "BOXOFFICE_") -> Iterator[tuple[str, str, str]]:
    """Name in the environment, default, and reason of every setting."""
    docs = field_docs(sys.modules[model.__module__])
    parts = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append((field.annotation, f"{prefix}{name.upper()}__"))
            continue
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [prefix + name.upper()]
        default = "" if field.default is PydanticUndefined else field.default
        shown = {"()": "[]", "": "empty", "True": "true", "False": "false"}.get(str(default), str(default))
        yield ", ".join(f"`{each}`" for each in names), f"`{shown}`", docs[model.__name__, name]
    for part, longer in parts:
        yield from settings_of(part, longer)


def settings_table() -> str:
    return table(("setting", "default", "what for"), *settings_of(Settings))


def rounds_table() -> str:
    return table(
        ("round", "what it does", "how often", "one for each"),
        *((f"`{each.name}`", each.does, interval_of(each), each.scope) for each in ROUNDS),
    )


def interval_of(each: Round) -> str:
    every = f"{each.every:g} s" if not isinstance(each.every, str) else f"`BOXOFFICE_WORKER__{each.every.upper()}`"
    factor = {1: "", 2: "twice "}[each.times]
    first = f", first after {each.after_s:g} s" if each.after_s else ""
    return f"{factor}{every}{', or when asked' if each.on_demand else ''}{first}"


def cards_table() -> str:
    return table(
        ("number", "token", "what happens"),
        *((f"`{card.number}`", f"`tok_{card.behaviour}`", card.meaning) for card in CARDS),
    )


def states_drawing() -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    for move in states.TRANSITIONS:
        source, target = (states.WORDS.get(letter, "[*]") for letter in (move.source, move.target))
        lines.append(f"    {source} --> {target}: {move.verb} ({move.decided_by})")
    return "\n".join([*lines, "```"])


def key_functions() -> dict[str, Callable[..., str]]:
    return {name: getattr(keys, name) for name in keys.__all__ if name != "shard_tag"}


def example(function: Callable[..., str]) -> str:
    """The key as it looks in shard 0."""
    arguments = inspect.signature(function).parameters
    return function(*(0 if name == "shard" else f"<{name}>" for name in arguments))


def keys_table() -> str:
    rows = ((f"`{example(each)}`", sentence(each.__doc__)) for each in key_functions().values())
    return table(("key", "what it is"), *rows)


def tables_table() -> str:
    found = sorted(
        models.Base.__subclasses__(), key=lambda each: list(models.Base.metadata.tables).index(each.__tablename__)
    )
    return table(("table", "a row is"), *((f"`{each.__tablename__}`", sentence(each.__doc__)) for each in found))


def scripts_table() -> str:
    rows = []
    for path, text in sources("lua", ending="lua"):
        if "/lib/" not in path:
            paragraph = re.match(r"((?:-- .*\n)+)", text)
            assert paragraph, path
            said = " ".join(paragraph[1].replace("-- ", " ").split()).partition(": ")[2]
            rows.append((f"[{Path(path).stem}](../{path})", said))
    return table(("script", "what it does"), *rows)


def commands() -> dict[str, Any]:
    """Every command by its full name."""
    if not getattr(cli, "registered_for_docs", False):
        for module in cli.commands():
            module.register(cli.app)
        cli.registered_for_docs = True  # type: ignore[attr-defined]
    found: dict[str, Any] = {}

    def walk(prefix: str, command: Any) -> None:
        if children := getattr(command, "commands", None):
            for name, child in children.items():
                walk(f"{prefix} {name}".strip(), child)
        else:
            found[prefix] = command

    walk("", typer.main.get_command(cli.app))
    return found


def commands_table() -> str:
    rows = []
    for name, command in commands().items():
        options = []
        for parameter in command.params:
            if parameter.name not in ("help", "data_dir"):
                is_option = parameter.param_type_name == "option"
                options.append(f"`{parameter.opts[0] if is_option else parameter.metavar or parameter.name.upper()}`")
        rows.append((f"`{name}`", sentence(command.help), " ".join(options)))
    return table(("command", "what it does", "options"), *rows)


def rooms() -> list[str]:
    """The layers of the box office, from the top, as the contract in pyproject.toml has them."""
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == ["boxoffice"])
    return [layer for layer in layers if (ROOT / "boxoffice" / layer).is_dir()]


def rooms_table() -> str:
    rows = []
    for room in rooms():
        said = ast.get_docstring(ast.parse(read(f"boxoffice/{room}/__init__.py")))
        found = sorted(path.stem for path in (ROOT / "boxoffice" / room).glob("*.py") if path.stem != "__init__")
        parts = sorted(f"{path.parent.name}/" for path in (ROOT / "boxoffice" / room).glob("*/__init__.py"))
        rows.append((f"`{room}`", sentence(said), ", ".join(f"`{name}`" for name in [*found, *parts])))
    return table(("room", "what lives there", "modules"), *rows)


def imported_by(room: str) -> set[str]:
    """Rooms that modules of this one import from."""
    found: set[str] = set()
    for path in (ROOT / "boxoffice" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "boxoffice":
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("boxoffice."):
                found.add((node.module or "").split(".")[1])
            elif isinstance(node, ast.Import):
                found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("boxoffice.")}
    return (found & {*rooms()}) - {room}


def rooms_picture() -> str:
    """Each room in one line, and a mark in the column of each room that it imports."""
    order, wide = rooms(), max(len(room) for room in rooms())
    heads = [f"{'':{wide + 3}}" + " ".join(f"{at:>2}" for at in range(1, len(order) + 1))]
    for at, room in enumerate(order, 1):
        marks = ("·" if each == room else "x" if each in imported_by(room) else " " for each in order)
        heads.append(f"{at:>2} {room:{wide}}" + " ".join(f"{mark:>2}" for mark in marks))
    return "```text\n" + "\n".join(line.rstrip() for line in heads) + "\n```"


def export_table() -> str:
    """As the last `make soak` measured it."""
    rows = json.loads(read("bench/export.json"))
    assert all(row["peak_mb"] < 200 for row in rows if row["rows"] >= 1_000_000)
    cells = (
        (f"{row['what']}, {row['format']}", f"{row['rows']:,}", f"{row['peak_mb']} MB", f"{row['seconds']} s")
        for row in rows
    )
    return table(("export", "rows", "peak memory", "time"), *cells)


def sizes_table() -> str:
    """As the last `make bench` and `python -m bench.sizes` measured it."""
    results, sizes = json.loads(read("bench/results.json")), json.loads(read("bench/sizes.json"))
    assert not results["quick"] and sizes["bookings"] >= 20_000
    return table(*sizing.rows(results, sizes, Settings()))


def metrics_table() -> str:
    """Every metric, with its labels and the values that are known beforehand."""
    return table(
        ("metric", "kind", "labels", "what it says"),
        *(
            (f"`{each.name}`", each.kind, " ".join(f"`{label}`" for label in each.labels), each.help)
            for each in series.REGISTRY.metrics.values()
        ),
    )


def failures_table() -> str:
    """Why deliveries fail."""
    return table(("failure", "means"), *((f"`{name}`", said) for name, said in FAILURES_OF_DELIVERIES.items()))


def rights_table() -> str:
    """What each role of PostgreSQL may do to each table."""
    rows = ((f"`{name}`", *each.values()) for name, each in postgres_rights.RIGHTS.items())
    return table(("table", *postgres_rights.ROLES.values()), *rows)


def notices_table() -> str:
    """Every kind of notice."""
    rows = (
        (f"`{kind.name}`", f"`{kind.status}`" if kind.status else "", " ".join(f"`{member}`" for member in kind.body),
         kind.when)
        for kind in TYPES
    )  # fmt: skip
    return table(("type", "status", "members of `data`", "when"), *rows)


GENERATED: dict[str, tuple[str, Callable[[], str]]] = {
    "rooms": ("docs/architecture.md", rooms_table),
    "imports": ("docs/architecture.md", rooms_picture),
    "settings": ("docs/operations.md", settings_table),
    "commands": ("docs/operations.md", commands_table),
    "rounds": ("docs/operations.md", rounds_table),
    "export": ("docs/operations.md", export_table),
    "sizes": ("docs/deploying.md", sizes_table),
    "metrics": ("docs/metrics.md", metrics_table),
    "rights": ("docs/servers.md", rights_table),
    "notices": ("docs/notices.md", notices_table),
    "failures of deliveries": ("docs/notices.md", failures_table),
    "keys": ("docs/architecture.md", keys_table),
    "tables": ("docs/architecture.md", tables_table),
    "scripts": ("docs/architecture.md", scripts_table),
    "cards": ("docs/payments.md", cards_table),
    "states": ("docs/payments.md", states_drawing),
}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- from the code: {name} -->\n).*?(<!-- end -->)", re.S)


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_written_from_the_code_is_up_to_date(name: str) -> None:
    """When it is not: `python tests/test_docs.py` writes it again."""
    page, write = GENERATED[name]
    found = block(name).search(read(page))
    assert found, f"{page} has no part {name}"
    assert found[0] == f"{found[1]}{write()}\n{found[2]}"


def test_the_chart_takes_every_setting_within_its_bounds() -> None:
    """`python tests/test_docs.py` writes this, too."""
    assert chart.SCHEMA.read_text() == chart.schema_text()


# ---------------------------------------------------------------- names in code and names in pages
# Problems and their codes: tests/api/test_problems.py.


def test_every_failure_code_is_explained() -> None:
    section = read("docs/errors.md").partition("## Why a booking failed")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == set(FAILURES)


def test_every_crash_point_is_in_the_promises_and_no_other() -> None:
    named = {name for _, text in sources() for name in re.findall(r"\bcrashpoint\(\"(\w+)\"\)", text)}
    told = set(re.findall(r"crashpoint\s+`(\w+)`", read("docs/promises.md")))
    assert told == named


def test_every_crash_has_its_row() -> None:
    """Rows of one letter are numbered in their order, and guards name rows that there are."""
    crashes, _, guards = read("docs/promises.md").partition("## Every crash")[2].partition("| rows | guarded by |")
    found = re.findall(r"^\| ([AWPGRC])(\d+) \|", crashes, re.M)
    for letter in "AWPGRC":
        numbers = [int(number) for each, number in found if each == letter]
        assert numbers == list(range(1, len(numbers) + 1)), letter
    rows = " ".join(re.findall(r"^\| ([^|]+) \| `tests", guards.partition("\n## ")[0], re.M))
    assert set(re.findall(r"\b[AWPGRC]\d+\b", rows)) <= {letter + number for letter, number in found}


def test_every_log_event_is_listed_and_no_other() -> None:
    """Events are `noun.past_participle`; the supervised tasks of a worker name theirs `<what>.failed`."""
    said = re.compile(
        r"(?:(?:\blog|\bseldom)\.(?:debug|info|warning|error|exception)|getattr\(log, \w+\)|\bquiet\.say)"
        r"\(\s*\"([a-z_]+\.[a-z_]+)\""
    )
    named = {event for _, text in sources() for event in said.findall(text)}
    named |= set(re.findall(r"_rendered\(\"\w+\", \"([a-z_.]+)\"", read("boxoffice/telemetry/log.py")))
    named |= {f"{each.name}.failed" for each in ROUNDS} | {event for pair in OUTAGES.values() for event in pair}
    section = read("docs/operations.md").partition("## Log events")[2].partition("\n## ")[0]
    listed = {event for row in re.findall(r"^\| (`.*?) \|", section, re.M) for event in re.findall(r"`([\w.]+)`", row)}
    assert listed == named


def test_every_variable_of_the_environment_is_documented() -> None:
    named = set(re.findall(r"\"(BOXOFFICE_[A-Z][A-Z_]*[A-Z])\"", CODE)) - {"BOXOFFICE_CRASHPOINT"}
    operations = read("docs/operations.md")
    assert not [name for name in named if f"`{name}`" not in operations]


def test_every_file_that_code_or_a_page_names_is_there() -> None:
    """In a docstring, a comment or a page: a module that moved takes its name along."""
    files = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}
    texts = [*sources(), *sources("lua", ending="lua"), *((str(page), page.read_text()) for page in PAGES)]
    lost = [
        (where, name)
        for where, text in texts
        for name in re.findall(r"`([a-z_][\w/]*\.(?:py|lua))`", text)
        if not any(file == name or file.endswith(f"/{name}") for file in files) and name != "lua/lib/name.lua"
    ]
    assert not lost


def defined_in(path: str) -> set[str]:
    """Functions and classes of a file, methods as `Class.method`."""
    text = read(path)
    if path.endswith(".lua"):
        return set(re.findall(r"^local function (\w+)", text, re.M))
    found: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name")}
    return found


def test_every_stop_of_the_tour_is_a_function_that_is_there() -> None:
    """Each stop begins with a file and a function; whatever else is named behind a file stands in it."""
    tour = read("docs/tour.md")
    stops = re.findall(r"^## (\d+)\. .*\n\n\[`(.+?)`\]\(\.\./.+?\) · `([\w.]+)`$", tour, re.M)
    assert [int(number) for number, *_ in stops] == list(range(1, 11))
    named = re.findall(r"\[`(.+?)`\]\(\.\./(.+?)\)(?:\s·\s`([\w.]+)`)?", tour)
    assert len(named) > 15
    for label, path, function in named:
        assert label == path
        assert not function or function in defined_in(path), f"{path} has no {function}"
    there = set().union(*(defined_in(path) for _, path, _ in named if path.endswith((".py", ".lua"))))
    assert {each for each in re.findall(r"`(_?[A-Z]\w+\._?[a-z]\w+)`", tour) if each not in there} == set()


MEASURED = re.compile(r"\d[\d.,]* ?(?:µs|us)\b|\d[\d.,]* (?:bookings a second|bookings/s)|\bp99 \d|\bp50 \d")


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda page: page.stem)
def test_a_decision_gives_its_reason_and_no_measurement(page: Path) -> None:
    """What was measured is in `bench/results.md`, where the next run writes it anew. A decision says what is dearer, and
    by about how much."""
    assert MEASURED.findall(page.read_text()) == []


@pytest.mark.parametrize(
    "text", ["takes 24.0 to 18.0 µs", "about 0.1 us a booking", "4,740 bookings a second", "p99 212"]
)
def test_a_measurement_is_seen(text: str) -> None:
    assert MEASURED.search(text)


# ---------------------------------------------------------------- what pages point to


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", prose(page)):
        link = target[0] or target[1]
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_test_that_is_named_exists(page: Path) -> None:
    """A test is named `tests/…/test_x.py::test_y`; the name may be the beginning of several, ending in `…`."""
    broken = []
    for path, name in re.findall(
        r"`((?:api|boxoffice|worker|ops|lua|tests|bench|migrations|docs)/[\w./-]*)(?:::(\w+…?))?`", page.read_text()
    ):
        there = ROOT / path
        if not there.exists():
            broken.append(path)
        elif name:
            ending = "" if name.endswith("…") else r"\b"
            if not re.search(rf"def {name.removesuffix('…')}{ending}", there.read_text()):
                broken.append(f"{path}::{name}")
    assert not broken


def code(page: Path) -> list[str]:
    """Every line of code in a page: in a block, or between backticks."""
    text = page.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    return [*"\n".join(blocks).splitlines(), *re.findall(r"`([^`\n]+)`", prose(page))]


def invocations(page: Path) -> Iterator[list[str]]:
    """The words after each `boxoffice` that is a command."""
    for line in code(page):
        for words in re.findall(r"(?:^|bin/|\$\()boxoffice ([a-z][^|;)#]*)", line):
            yield words.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    known = commands()
    targets = set(re.findall(r"^(\w+):", read("Makefile"), re.M))
    broken = [line for line in code(page) if (made := re.match(r"make ([a-z]+)", line)) and made[1] not in targets]
    for words in invocations(page):
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
        options = {option for each in known[name].params for option in each.opts} | {"--help"} if name else set()
        if not name or not {word for word in words if word.startswith("--")} <= options:
            broken.append(" ".join(words))
    assert not broken


def test_the_readme_fits_on_a_screen() -> None:
    assert len(read("README.md").splitlines()) <= 90


def write() -> None:
    """Write what is written from the code."""
    for name, (page, make) in GENERATED.items():
        path = ROOT / page
        text, count = block(name).subn(lambda found, made=make(): f"{found[1]}{made}\n{found[2]}", path.read_text())
        if not count:
            sys.exit(f"{page} has no part {name}")
        path.write_text(text)
    chart.SCHEMA.write_text(chart.schema_text())


if __name__ == "__main__":
    write()
