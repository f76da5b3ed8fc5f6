"""`make mutate` takes half an hour; that it makes the mistakes that it should, and knows its own lists, is seen at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutation.__main__ import EQUIVALENT, NOTICED, SURVIVED, TIMEOUT, Verdict, report
from tests.mutation.alike import alike
from tests.mutation.bench import Bench
from tests.mutation.coverage_map import _in_a_body, mapped_files, near_files
from tests.mutation.mutant import Known, Mutant, known, place_at, places_of
from tests.mutation.python_mutants import python_mutants
from tests.mutation.rooms import ROOMS, ROOT, also_tests, files_of, room_of, slow_tests
from tests.mutation.sample import _shares, sample
from tests.mutation.text_mutants import lua_mutants, sql_mutants
from tests.support.tree import copy_tree

PYTHON = [
    ("drop keyword", "f(a, key=key)", "f(a, )"),
    ("drop element", "x = (a, b)", "x = (a,)"),
    ("drop element", "x = {a, b}", "x = {b}"),
    ("drop statement", "await shard.ring()", "pass"),
    ("drop statement", "self.left = 3", "pass"),
    ("drop guard", "if gone: return", "if False: return"),
    ("drop operand", "x = a and b", "x = b"),
    ("drop one", "x = n + 1", "x = n"),
    ("shard zero", "keys.pending(shard)", "keys.pending(0)"),
    ("shard zero", "keys.pending(event.shard)", "keys.pending(0)"),
    ("swap arguments", "f(event, tier)", "f(tier, event)"),
    ("only first", "for s in shards: f()", "for s in [*shards][:1]: f()"),
    ("other function", "x = min(a)", "x = max(a)"),
    ("other end", "x = a[0]", "x = a[-1]"),
    ("swap arms", "x = a if c else b", "x = b if c else a"),
    ("sibling", "f(event_id); g(tier_id)", "f(tier_id); g(tier_id)"),
    ("mutmut swap_op", "x = a < b", "x = a <= b"),
    ("mutmut number", "x = 7", "x = 8"),
]
SQL = [
    ("sql condition", "SELECT a FROM t WHERE id = $1 AND client = $2", "SELECT a FROM t WHERE id = $1 "),
    ("sql condition", "SELECT a FROM t WHERE id = $1 AND client = $2", "SELECT a FROM t WHERE client = $2"),
    ("sql condition", "UPDATE t SET a = 1 WHERE id = $1", "UPDATE t SET a = 1 WHERE true"),
    ("sql condition", "SELECT a FROM t WHERE (a = 1 OR b = 2) AND c", "SELECT a FROM t WHERE (a = 1 ) AND c"),
    ("sql element", "UPDATE t SET a = 1, b = f(2, 3), c = 4 WHERE x", "UPDATE t SET a = 1, c = 4 WHERE x"),
    ("sql element", "SELECT a FROM t WHERE s IN ('held', 'due')", "SELECT a FROM t WHERE s IN ('held')"),
    ("sql operator", "SELECT a FROM t WHERE a < b", "SELECT a FROM t WHERE a <= b"),
    ("sql operator", "SELECT a + b FROM t", "SELECT a - b FROM t"),
    ("sql number", "SELECT a FROM t LIMIT 1", "SELECT a FROM t LIMIT 2"),
    ("sql lock", "SELECT a FROM t FOR UPDATE SKIP LOCKED", "SELECT a FROM t "),
    ("sql null", "SELECT a FROM t WHERE a IS NULL", "SELECT a FROM t WHERE a IS NOT NULL"),
    ("sql slot", "SELECT a FROM t WHERE a = $1 OR b = $2", "SELECT a FROM t WHERE a = $2 OR b = $2"),
]
LUA = [
    ("lua line", 'redis.call("ZREM", pending, id)\n', ""),
    ("lua line", 'record.state = "X"\n', ""),
    ("lua guard", "if closed then\n", "if false then\n"),
    ("lua operand", "if a and b > 1 then\n", "if a  then\n"),
    ("lua operator", "local x = a + b\n", "local x = a - b\n"),
    ("lua operator", "if a <= b then\n", "if a < b then\n"),
    ("lua number", "local gate = KEYS[1]\n", "local gate = KEYS[2]\n"),
    ("lua letter", 'x = "P"\ny = "H"\n', 'x = "H"\ny = "H"\n'),
    ("lua sibling", "local bell, rings = 1, 2\nf(bell)\n", "local bell, rings = 1, 2\nf(rings)\n"),
]


@pytest.mark.parametrize(("kind", "before", "after"), PYTHON)
def test_mistakes_in_python(kind: str, before: str, after: str) -> None:
    source = f"async def work(event_id, tier_id):\n    {before}\n"
    mutated = [mutant.mutated for mutant in python_mutants("boxoffice/x.py", source) if mutant.kind == kind]
    assert f"async def work(event_id, tier_id):\n    {after}\n" in mutated


@pytest.mark.parametrize(("kind", "before", "after"), SQL)
def test_mistakes_in_statements(kind: str, before: str, after: str) -> None:
    mutants = list(sql_mutants("boxoffice/x.py", f'_FIND = """{before}"""\n'))
    assert f'_FIND = """{after}"""\n' in [mutant.mutated for mutant in mutants if mutant.kind == kind]
    assert {mutant.where for mutant in mutants} == {"_FIND"}
    assert {mutant.room for mutant in mutants} == {"sql"}


@pytest.mark.parametrize(("kind", "before", "after"), LUA)
def test_mistakes_in_scripts(kind: str, before: str, after: str) -> None:
    assert after in [mutant.mutated for mutant in lua_mutants("lua/x.lua", before) if mutant.kind == kind]


def test_texts_annotations_and_log_lines_are_left_alone() -> None:
    source = 'def f(a: int | None = None) -> "x":\n    """Doc."""\n    log.info("told", n=a + 1)\n'
    source += '    seldom.warning("told", n=a + 1)\n'
    assert [mutant.diff for mutant in python_mutants("boxoffice/x.py", source)] == []


@pytest.mark.parametrize(
    ("source", "mutated", "same"),
    [
        ("f(zip(a, b, strict=True))", "f(zip(a, b))", True),
        ("f(zip(a, b, strict=True))", "f(zip(b, a, strict=True))", False),
        ("N = 1_000", "N = 1001", True),
        ("N = 999", "N = 1_000", False),
        ("N = n * 1_000", "N = n", False),
        ('raise RuntimeError("why")', "raise RuntimeError(None)", True),
        ('raise RuntimeError("why")', 'raise TypeError("why")', False),
        ('raise SoldOut("why")', "raise SoldOut(None)", False),
        ('assert a, "why"', "assert a", True),
        ('assert a, "why"', 'assert b, "why"', False),
        ("@dataclass(frozen=True, slots=True)\nclass A: pass", "@dataclass(frozen=True)\nclass A: pass", True),
        ("@dataclass(frozen=True, slots=True)\nclass A: pass", "@dataclass(slots=True)\nclass A: pass", False),
        ("class A(Struct, gc=False): pass", "class A(Struct): pass", True),
        ("gc.freeze()", "pass", True),
        ("min(a, b)", "min(b, a)", True),
        ("min(a, b)", "max(b, a)", False),
        ("mapped_column(Uuid, index=True)", "mapped_column(index=True)", True),
        ("mapped_column(BigInteger)", "mapped_column()", False),
        ("r.pipeline(transaction=False)", "r.pipeline()", True),
        ("r.pipeline(transaction=False)", "r.pipeline(transaction=True)", True),
        ("r.pipeline(transaction=True)", "r.pipeline(transaction=False)", False),
        ("r.pipeline(transaction=True)", "r.pipeline(transaction=None)", False),
        (
            "r.pipeline(transaction=False); s.pipeline(transaction=True)",
            "r.pipeline(); s.pipeline(transaction=True)",
            True,
        ),
        ("r.pipeline(transaction=False); a", "r.pipeline(); b", False),
    ],
)
def test_what_makes_no_difference_is_not_drawn(source: str, mutated: str, same: bool) -> None:
    assert alike(source, mutated) is same


@pytest.mark.parametrize("source", ["if TYPE_CHECKING:\n    import a\n", "N = 0x626F786F\n"])
def test_where_nothing_matters_no_mistake_is_made(source: str) -> None:
    assert list(python_mutants("boxoffice/x.py", source)) == []


@pytest.mark.parametrize(
    ("line", "within"), [("a = 1", False), ("@f(2)", False), ("b: int = 4", False), ("    return 3", True)]
)
def test_what_is_said_outside_of_functions_runs_in_no_test(line: str, within: bool) -> None:
    source = "a = 1\n\n\n@f(2)\ndef g():\n    return 3\n\n\nclass C:\n    b: int = 4\n"
    assert _in_a_body(Mutant("boxoffice/x.py", "", source, source.replace(line, line + " or 7"))) is within


def test_every_file_has_a_room_and_tests() -> None:
    for path in files_of():
        if path.count("/") > 1 and path.startswith("boxoffice/"):
            assert room_of(path) in ROOMS, f"{path} stands in no room of tests/mutation/rooms.py"
        assert near_files(path) or slow_tests(path), f"no test is known for {path}"
        for test in [*also_tests(path), *slow_tests(path)]:
            assert (ROOT / test).exists(), test
    assert "tests/boxoffice/money/test_refunds.py" in mapped_files()


def test_a_sample_has_some_of_every_room() -> None:
    shares = _shares(Counter(lua=900, api=3_000, access=20), 100)
    assert sum(shares.values()) == 100
    assert min(shares.values()) >= 8


def test_a_seed_draws_the_same_sample_again() -> None:
    one, again, other = (sample(6, seed, ["boxoffice/money/terms.py"]) for seed in (1, 1, 2))
    assert len(one) == 6
    assert one == again != other


def test_a_place_is_the_innermost_function_or_the_name_of_a_value() -> None:
    source = (
        "_A = 1\n\n\nclass C:\n    b: int = 2\n\n    def f(self):\n        def g():\n            1\n        return g\n"
    )
    places = places_of("boxoffice/x.py", source)
    found = [place_at(places, line) for line in (1, 5, 9, 10)]
    assert [place.name if place else "" for place in found] == ["_A", "C.b", "C.f.g", "C.f"]


@pytest.mark.parametrize("entry", known(), ids=lambda entry: f"{entry.file}::{entry.where}")
def test_what_is_listed_finds_its_place_and_has_a_reason(entry: Known) -> None:
    assert entry.what in ("equivalent", "survivor")
    assert len(entry.reason) > 10
    assert entry.finds_its_place(), "the function does not say this any more: look at the mutant again"


def test_an_entry_knows_its_mutant_wherever_the_line_went() -> None:
    sound, broken = "def f(a):\n    return a + 1\n", "def f(a):\n    return a\n"
    entry = Known("survivor", "boxoffice/x.py", "f", "return a + 1", "return a", "because of this")
    assert entry.is_of(Mutant("boxoffice/x.py", "drop one", sound, broken))
    assert entry.is_of(Mutant("boxoffice/x.py", "drop one", "\n\n" + sound, "\n\n" + broken))
    assert not entry.is_of(Mutant("boxoffice/y.py", "drop one", sound, broken))
    assert not entry.finds_its_place(Path("/nowhere"))


SOUND, BROKEN = "\n\ndef f(a):\n    return a + 1\n", "\n\ndef f(a):\n    return a\n"


def verdicts(room: str, **words: int) -> list[Verdict]:
    """So many of each word, of a room."""
    mutant = Mutant(f"boxoffice/{room}/x.py", "drop one", SOUND, BROKEN)
    return [
        Verdict(mutant, word, tests=["t.py::a", "t.py::b", "u.py::c"]) for word, n in words.items() for _ in range(n)
    ]


def test_what_no_test_notices_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it stands, what changed, and which tests ran; of what was noticed nothing but how many."""
    report([*verdicts("sales", survived=1), *verdicts("money", noticed=1)], 2)
    said = capsys.readouterr().out
    assert "SURVIVED boxoffice/sales/x.py:4 in f (drop one)" in said
    assert "-     return a + 1" in said and "+     return a\n" in said
    assert "ran: 2 of t.py, 1 of u.py" in said
    assert "money/x.py" not in said


@pytest.mark.parametrize(
    ("money", "sales", "enough"),
    [
        ({NOTICED: 17, SURVIVED: 3}, {}, True),
        ({NOTICED: 16, SURVIVED: 3}, {}, False),
        ({NOTICED: 10, TIMEOUT: 7, SURVIVED: 3}, {}, True),
        ({NOTICED: 16, SURVIVED: 3, EQUIVALENT: 9}, {}, False),
        ({NOTICED: 40}, {NOTICED: 3, SURVIVED: 1}, True),
        ({NOTICED: 40}, {NOTICED: 5, SURVIVED: 2}, False),
        ({EQUIVALENT: 2}, {}, True),
    ],
)
def test_so_many_must_be_noticed(money: dict[str, int], sales: dict[str, int], enough: bool) -> None:
    """85 of 100 in all, 75 of 100 in each room; what changes nothing that matters is not counted."""
    assert report([*verdicts("money", **money), *verdicts("sales", **sales)], 0) is enough


def test_a_mistake_stands_in_a_copy_as_long_as_it_is_tried(tmp_path: Path) -> None:
    bench = Bench()
    bench.tree = copy_tree(tmp_path)
    name = "boxoffice/ids.py"
    sound = (ROOT / name).read_text()
    with bench.mutated(name, "broken"):
        assert ((tmp_path / name).read_text(), (ROOT / name).read_text()) == ("broken", sound)
    assert (tmp_path / name).read_text() == sound
