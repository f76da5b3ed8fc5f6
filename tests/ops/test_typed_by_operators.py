"""Whose URL each line of docs/operations.md needs under the least rights: the operator's wherever that is enough."""

from __future__ import annotations

import re
import shlex

import pytest
import redis as sync_redis

from boxoffice.stores.redis_rights import acl_rule
from ops.stack.servers import Servers
from tests.support.least import set_user
from tests.support.tree import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()

TYPED = re.findall(r'redis-cli -u "\$(\w+)" ([^`\n#]+)', PAGE)

USER = "typist"


def asked_for(words: str) -> list[str]:
    """The command behind a line of redis-cli's; a copy is taken as a replica takes it."""
    first, *others = shlex.split(words)
    return ["SYNC"] if first == "--rdb" else [first, *others]


def test_the_lines_are_found() -> None:
    assert len(TYPED) == PAGE.count("redis-cli -u") and {"REDIS_URL", "REDIS_ADMIN_URL"} == {url for url, _ in TYPED}


@pytest.mark.parametrize(("url", "words"), TYPED)
def test_redis_lets_whoever_is_named_and_no_lesser_user(servers: Servers, url: str, words: str) -> None:
    set_user(servers, USER, *acl_rule("operator").split())
    with sync_redis.Redis.from_url(servers.redis_url) as client:
        try:
            answer = client.execute_command("ACL", "DRYRUN", USER, *asked_for(words))
        finally:
            client.execute_command("ACL", "DELUSER", USER)
    assert (answer in (b"OK", "OK", True)) is (url == "REDIS_URL"), answer


def test_migrations_are_the_owners() -> None:
    """Nobody else may alter a table."""
    typed = re.findall(r"^ *(\S.*)?boxoffice migrate$|`([^`\n]*)boxoffice migrate`, with the new version", PAGE, re.M)
    assert len(typed) == 3
    assert {before or inline for before, inline in typed} == {'DATABASE_URL="$OWNER_URL" '}


def test_each_name_is_explained() -> None:
    text = PAGE.partition("\n## Commands\n")[2].partition("\n## ")[0]
    for name in ("OWNER_URL", "REDIS_ADMIN_URL"):
        assert f"`${name}`" in text and f"{name}=" in text
