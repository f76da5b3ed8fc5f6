import pytest

from bench.profile import find_spy, own_shares
from boxoffice.errors import CannotRun


def test_a_function_is_charged_for_the_looks_at_which_it_ran_itself():
    stacks = "main (a.py:1);parse (b.py:7) 3\nmain (a.py:1) 4\nmain (a.py:2);parse (b.py:9) 1\n"
    assert dict(own_shares(stacks)) == {"parse (b.py)": 0.5, "main (a.py)": 0.5}


def test_nothing_seen_is_nothing_told():
    assert own_shares("") == []


def test_without_py_spy_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(CannotRun, match="pip install py-spy"):
        find_spy()
