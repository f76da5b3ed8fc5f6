"""How a script's header is read, what its server is sent, and what its answer means."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, NoScriptError, OutOfMemoryError, ResponseError
from structlog.testing import capture_logs

from boxoffice.errors import GateClosed, RunUnchecked
from boxoffice.office import BoxOffice
from boxoffice.stores.scripts import Call, Script, load_scripts, parse, send_all

SOURCE = """-- Does something.
-- KEYS[1] gate  The gate.
-- KEYS[2] bell
-- ARGV[1] limit
-- ARGV[2...] ids
-- Flags: allow-oom, no-writes
-- include: gate
return 1
"""


def test_a_header_is_a_signature() -> None:
    """Names in their order; a last slot may take the rest, of keys and of arguments each for itself."""
    script = parse("some", SOURCE, True)
    assert (script.name, script.keys, script.args) == ("some", ("gate", "bell"), ("limit", "ids"))
    assert (script.more_keys, script.more_args) == (False, True)
    swapped = parse("some", SOURCE.replace("KEYS[2]", "KEYS[2...]").replace("ARGV[2...]", "ARGV[2]"), True)
    assert (swapped.more_keys, swapped.more_args) == (True, False)


@pytest.mark.parametrize("real_server", [True, False])
def test_a_text_has_its_flags_and_what_it_includes(real_server: bool) -> None:
    """fakeredis does not know the line of flags."""
    text = parse("some", SOURCE, real_server).text
    library = (files("lua") / "lib" / "gate.lua").read_text("utf-8")
    assert text.startswith("#!lua flags=allow-oom,no-writes\n-- Does" if real_server else "-- Does")
    assert library in text
    assert "-- include: gate" not in text
    assert not parse("some", SOURCE.replace("-- Flags", "-- flags"), real_server).text.startswith("#!")


def test_who_decides_has_the_gate_first() -> None:
    assert parse("some", SOURCE, True).decides
    assert not parse("some", SOURCE.replace("KEYS[1] gate", "KEYS[1] other"), True).decides
    assert not parse(
        "some", SOURCE.replace("KEYS[1] gate", "KEYS[1] bell").replace("KEYS[2] bell", "KEYS[2] gate"), True
    ).decides
    assert not parse("some", "return 1", True).decides


def test_every_script_is_there_by_its_name() -> None:
    names = sorted(path.name.removesuffix(".lua") for path in files("lua").iterdir() if path.name.endswith(".lua"))
    for real_server in (True, False):
        scripts = load_scripts(real_server=real_server)
        assert [script.name for script in scripts] == names
        assert any(script.text.startswith("#!lua") for script in scripts) == real_server
    scripts = load_scripts()
    assert any(script.text.startswith("#!lua") for script in scripts), "a real server unless it is said"
    assert scripts.admit.name == "admit"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = scripts.nonsense


class Server:
    """One that answers so, after it was sent the text if it has forgotten it."""

    def __init__(self, answer: Any, forgot: bool = False) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._answer, self._forgot = answer, forgot

    async def execute_command(self, *args: Any) -> Any:
        self.calls.append(args)
        if self._forgot and args[0] == "EVALSHA":
            raise NoScriptError
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


SCRIPT = Script("some", "return 1", ("bell",), ("limit",), False, False)
DECIDES = Script("some", "return 1", ("gate",), ("limit",), False, False)


@pytest.mark.parametrize("forgot", [False, True])
async def test_a_script_is_called_by_its_digest_and_sent_once_when_forgotten(forgot: bool) -> None:
    server = Server([b"held"], forgot)
    assert await SCRIPT(server, ["k1", "k2"], ["a"]) == [b"held"]
    sha = hashlib.sha1(b"return 1").hexdigest()
    assert server.calls == [
        ("EVALSHA", sha, 2, "k1", "k2", "a"),
        *([("EVAL", "return 1", 2, "k1", "k2", "a")] if forgot else []),
    ]


async def test_another_error_is_no_reason_to_send_it_again() -> None:
    server = Server(ResponseError("OOM"))
    with pytest.raises(ResponseError):
        await SCRIPT(server, ["k1"], [])
    assert len(server.calls) == 1


BY_THE_GATE = {"closed": GateClosed, "unchecked": RunUnchecked}
"""What any script says that decides, while the gate is shut."""


@pytest.mark.parametrize("word", BY_THE_GATE)
async def test_every_word_of_a_shut_gate_is_raised(word: str) -> None:
    with pytest.raises(BY_THE_GATE[word]) as caught:
        await DECIDES(Server([word.encode()]), ["gate"], [])
    assert type(caught.value) is BY_THE_GATE[word]


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (b"unchecked", RunUnchecked), ([b"unchecked"], RunUnchecked), (b"closed", GateClosed), ([b"closed", 1], GateClosed),
        ([], None), (None, None), (0, None), ([b"held", b"closed"], None), (b"held", None),
    ],
)  # fmt: skip
async def test_what_a_shut_gate_answers_is_raised_of_a_script_that_decides(
    answer: Any, raised: type[Exception] | None
) -> None:
    if raised is None:
        assert await DECIDES(Server(answer), ["gate"], []) == answer
    else:
        with pytest.raises(raised) as caught:
            await DECIDES(Server(answer), ["gate"], [])
        assert type(caught.value) is raised
    assert await SCRIPT(Server(answer), ["bell"], []) == answer, "of others it is an answer like any"


async def test_calls_that_are_sent_together_are_answered_each_for_itself(office: BoxOffice) -> None:
    """In their order, by a server that has heard of none of these scripts: an answer, an error, a shut gate, an answer."""
    says = Script("says", f"-- {uuid4()}\nreturn {{KEYS[1], ARGV[1]}}", ("bell",), ("limit",), False, False)
    fails = Script("fails", f"-- {uuid4()}\nreturn redis.call('INCR', KEYS[1], 'x')", ("bell",), (), False, False)
    shut = Script("shut", f"-- {uuid4()}\nreturn {{'unchecked'}}", ("gate",), (), False, False)
    calls = [Call(says, ["k"], ["1"]), Call(fails, ["k"], []), Call(shut, ["k"], []), Call(says, ["l"], ["2"])]
    for _ in range(2):
        first, error, gate, last = await send_all(office.redis, calls)
        assert (first, last) == ([b"k", b"1"], [b"l", b"2"])
        assert (type(error), type(gate)) == (ResponseError, RunUnchecked)
    assert await send_all(office.redis, []) == []


async def test_what_nobody_answers_is_raised_and_not_put_in_its_place() -> None:
    """Then any of the calls may be done."""
    nobody = Redis(host="127.0.0.1", port=1)
    with pytest.raises(ConnectionError):
        await send_all(nobody, [Call(SCRIPT, ["k"], [])])
    await nobody.aclose()


class Refusing:
    """A Redis that answers, or refuses, as the test says."""

    def __init__(self) -> None:
        self.says: Any = [b"ok"]

    async def execute_command(self, *_: Any) -> Any:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


async def test_a_refusal_and_a_shut_gate_are_said_with_their_end() -> None:
    """Each script's and each gate's by itself. What is wrong with one call alone is no outage."""
    server, scripts = Refusing(), load_scripts()
    keys = {name: [f"{{s0{n}}}:gate"] * 20 for n, name in enumerate(("one", "other"))}
    with capture_logs() as lines:
        for says in (
            ResponseError("WRONGTYPE x"), OutOfMemoryError(), ResponseError("MISCONF x"), [b"closed"], [b"unchecked"],
        ):  # fmt: skip
            server.says = says
            with pytest.raises((ResponseError, GateClosed, RunUnchecked)):
                await scripts.admit(server, keys["one"], [])
        server.says = [b"ok"]
        await scripts.claim(server, keys["other"], [])
        assert [line["event"] for line in lines] == ["redis.refused", "redis.refused", "gate.shut", "gate.shut"]
        await scripts.load(server, keys["one"], [])
        await scripts.admit(server, keys["one"], [])
    assert [(line["event"], line.get("error"), line["which"]) for line in lines] == [
        ("redis.refused", "OOM", "admit"), ("redis.refused", "MISCONF", "admit"),
        ("gate.shut", "GateClosed", "{s00}:gate"), ("gate.shut", "RunUnchecked", "{s00}:gate"),
        ("redis.accepted", None, "admit"), ("gate.recovered", None, "{s00}:gate"),
    ]  # fmt: skip
