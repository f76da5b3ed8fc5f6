"""A script's header is its signature: it agrees with the script, with its callers, and with a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis as sync_redis

from boxoffice.admission.outcomes import OUTCOMES
from boxoffice.stores.scripts import Script, load_scripts
from ops.stack.servers import Servers
from tests.boxoffice.admission.test_forms import OUTCOMES as ANSWERED
from tests.boxoffice.stores.test_scripts import BY_THE_GATE

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {script.name: script for script in load_scripts()}
SLOT = re.compile(r"^-- (KEYS|ARGV)\[(\d+)(\.\.\.)?\] (\w+)\b", re.M)
WORD = re.compile(r'"(\w+)"')


def source(name: str) -> str:
    return (ROOT / "lua" / f"{name}.lua").read_text()


def header(name: str) -> str:
    return source(name).split("\n\nlocal ", 1)[0]


def code(name: str) -> str:
    """Without comments."""
    return re.sub(r"^\s*--.*$", "", SCRIPTS[name].text, flags=re.M)


every_script = pytest.mark.parametrize("name", sorted(SCRIPTS))


@every_script
def test_the_header_begins_with_the_scripts_name_and_what_it_does(name: str) -> None:
    assert re.match(rf"-- {name}: \w", source(name))


@every_script
def test_slots_are_numbered_without_gaps_and_only_the_last_takes_the_rest(name: str) -> None:
    for kind in ("KEYS", "ARGV"):
        slots = [slot for slot in SLOT.findall(source(name)) if slot[0] == kind]
        assert [int(slot[1]) for slot in slots] == list(range(1, len(slots) + 1))
        assert not any(slot[2] for slot in slots[:-1])
        assert len({slot[3] for slot in slots}) == len(slots)


@every_script
def test_every_slot_is_used_and_no_other(name: str) -> None:
    """By its number; the rest of a last slot by a computed one."""
    script: Script = SCRIPTS[name]
    text = code(name)
    for kind, slots, more in (("KEYS", script.keys, script.more_keys), ("ARGV", script.args, script.more_args)):
        used = {int(number) for number in re.findall(rf"\b{kind}\[(\d+)\]", text)}
        fixed = len(slots) - more
        assert used == set(range(1, fixed + 1)) or used == set(range(1, fixed + 2)), kind
        computed = re.search(rf"\b{kind}\[[^\]\d]*[a-z]|\b{kind}\[\d+ ?[+*]|unpack\({kind}", text)
        assert bool(computed) or not more or used == set(range(1, fixed + 2)), f"{kind}[...] is never read"


@every_script
def test_every_word_it_returns_is_in_its_header(name: str) -> None:
    """And every word of the header is returned: neither drifts."""
    told = outcomes(name)
    text = code(name)
    returned = set(re.findall(r'(?:return|or|(?:result|created) =|results,) \{ "([a-z]\w+)"', text))
    returned |= set(re.findall(r'outcomes\[\w+\] = "(\w{2,})"', text)) | set(re.findall(r'return "([a-z]\w+)"', text))
    quoted = set(re.findall(r'"([a-z]\w+)"', text))
    assert returned <= told, f"{name} returns words that its header does not name"
    assert {word for word in told if len(word) > 1} <= quoted, f"{name}'s header names words that it never returns"


def outcomes(name: str) -> set[str]:
    """The words of its header's `Returns`."""
    return set(WORD.findall(header(name)[header(name).find("-- Returns") :]))


def test_every_outcome_of_an_admission_is_answered_in_a_test() -> None:
    """By feeding it to the code that reads replies: an unknown word would be told the shop as a fault of ours."""
    assert outcomes("admit") == {"open"} | set(BY_THE_GATE) | {word.decode() for word in ANSWERED}


def test_every_outcome_of_an_admission_is_read_in_python() -> None:
    """What a shut gate says is raised for every script."""
    assert {word.decode() for word in OUTCOMES} == outcomes("admit") - {"open"} - set(BY_THE_GATE)


@every_script
def test_a_real_server_compiles_it(name: str, servers: Servers) -> None:
    """And calls it what we call it."""
    with sync_redis.Redis.from_url(servers.redis_url) as redis:
        assert redis.script_load(SCRIPTS[name].text) == SCRIPTS[name].sha


@every_script
def test_it_asks_for_nothing_that_a_script_must_not(name: str) -> None:
    """No scans, no chance, no clock of its own, no blocking; no cmsgpack, which the fake server lacks."""
    # The one command that an older server may lack; what nobody has to hear; and what is counted without being kept may fail.
    text = re.sub(r'redis\.pcall\("(MSETEX"|PUBLISH"|(UNLINK|HSET|PEXPIRE)", key\b)', "", code(name))
    for word in ('"KEYS"', '"SCAN"', "math.random", "os.time", "cmsgpack", "redis.pcall", '"FLUSH'):
        assert word not in text
    assert not source(name).startswith("#!"), "the loader puts the flags in front"


def test_luacheck_finds_nothing(tmp_path: Path) -> None:
    """Debian's lua-check. Scripts are checked as the server gets them, libraries included; not each needs all of one."""
    if shutil.which("luacheck") is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("luacheck is not installed (Debian and Ubuntu: apt install lua-check)")
    for script in load_scripts(real_server=False):
        (tmp_path / f"{script.name}.lua").write_text(script.text)
    done = subprocess.run(
        ["luacheck", "-q", "--std", "lua51", "--globals", "redis", "server", "KEYS", "ARGV", "cjson",
         "--no-max-line-length", "--ignore", "211/now", "211/pack", "--", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
