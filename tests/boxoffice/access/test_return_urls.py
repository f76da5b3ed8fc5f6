"""Where a customer may be sent: what is allowed, and nothing that only looks like it."""

from __future__ import annotations

from datetime import datetime

import pytest

from boxoffice.access.api_keys import ApiKeys
from boxoffice.access.return_urls import check_allowed, check_return_url
from boxoffice.errors import CardDataRefused, Malformed, NotFound
from boxoffice.office import BoxOffice
from tests.conftest import CLIENT, KEY, OTHER_KEY

ALLOWED = ["https://shop.example", "https://pay.example:8443/done", "http://localhost:3000", "https://end.example/a/"]


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example", "https://shop.example/", "https://shop.example/a/b?c=d&e=%20f", "https://shop.example:443/x",
        "https://shop.example?order=7", "https://pay.example:8443/done", "https://pay.example:8443/done/7",
        "https://pay.example:8443/done?x=/../y", "http://localhost:3000/back", "https://end.example/a/", "https://end.example/a/b",
        "https://shop.example/@somebody:7", "https://shop.example/a..;b/...;/%20%3b?a=%2e%2F..;",
        "https://shop.example/" + "x" * 479,
    ],
)  # fmt: skip
def test_what_is_allowed(url: str) -> None:
    check_return_url(url, ALLOWED)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        *((url, "not_allowed") for url in (
            "https://shop.example.evil.example/", "https://evil.example/shop.example", "https://sub.shop.example/",
            "https://shop.example:444/", "https://shop.exampl/", "https://xshop.example", "https://pay.example:8443/",
            "https://pay.example:8443/donefor", "https://pay.example:8443/Done", "https://pay.example/done",
            "http://localhost/back", "https://localhost:3000/", "http://127.0.0.1:3000/", "https://end.example/ab",
            "https://end.example/",
        )),
        *((url, "url") for url in (
            "", "shop.example", "//shop.example/", "/back", "https://", "https:///x", "https:shop.example", "https://shop.example#x",
            "https://shop.example/#@evil.example", "https://user@shop.example/", "https://shop.example@evil.example/",
            "https://shop.example:443@evil.example/", "https://a:b@shop.example/", "https://shop.example\\@evil.example/",
            "https://shop.example\\.evil.example", "https:\\\\shop.example/", "http://shop.example/", "ftp://shop.example/",
            "javascript:alert(1)", "HTTPS://shop.example/", "https://SHOP.example/", "https://shop.example /", " https://shop.example",
            "https://shop.example/a b", "https://shop.example/\n", "https://shop.example\n.evil.example", "https://shop.example/\0",
            "https://shop.example/../x", "https://pay.example:8443/done/../../x", "https://pay.example:8443/done/%2e%2E/x",
            "https://pay.example:8443/done/.", "https://pay.example:8443/done/.%2e", "https://pay.example:8443/done%2f..%2fx",
            "https://pay.example:8443/done//x", "https://shop.example/%", "https://shop.example/%zz", "https://shop.example/%5cx",
            "https://shop.example:0/", "https://shop.example:65536/", "https://shop.example:/", "https://shop..example/",
            "https://-shop.example/", "https://shop.example./", "https://sh\u00f6p.example/", "https://shop.example/\u00f6",
            "https://\uff53hop.example/", "http://localhost.evil.example/", "http://128.0.0.1/",
            "https://shop.example/" + "x" * 480,
            "https://pay.example:8443/done/..;/admin", "https://pay.example:8443/done/.;x/admin",
            "https://pay.example:8443/done/%2e.%3B/admin", "https://pay.example:8443/done/..%3b", "https://shop.example/%00",
            "https://shop.example/a%0ab", "https://shop.example/a%0Db", "https://shop.example/%1f", "https://shop.example/%7F",
            "https://shop.example/?a=%zz", "https://shop.example/?a=%2", "https://shop.example/?%0d%0ax:y",
            "https://shop.example?%7f",
        )),
    ],
)  # fmt: skip
def test_what_is_not(url: str, code: str) -> None:
    with pytest.raises(Malformed) as refused:
        check_return_url(url, ALLOWED)
    assert refused.value.details["errors"] == [{"pointer": "/return_url", "code": code}]
    assert "example" not in str(refused.value.detail), "nothing of it is repeated"


def test_it_has_no_card_number_and_nothing_is_allowed_unless_it_is_said() -> None:
    with pytest.raises(CardDataRefused) as refused:
        check_return_url("https://shop.example/4242424242424242", ALLOWED)
    assert refused.value.pointer == "/return_url"
    with pytest.raises(Malformed):
        check_return_url("https://shop.example", [])


@pytest.mark.parametrize("bad", ["https://SHOP.example", "", "https://shop.example/4242424242424242", "*"])
def test_what_an_earlier_version_allowed_and_nobody_can_read_allows_nothing(bad: str) -> None:
    """And keeps no customer of the shop from where its others lead."""
    check_return_url("https://shop.example/x", [bad, "https://shop.example"])
    with pytest.raises(Malformed) as refused:
        check_return_url("https://shop.example/x", [bad])
    assert refused.value.details["errors"] == [{"pointer": "/return_url", "code": "not_allowed"}]


def test_what_is_allowed_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many bookings are compared with it."""
    read: list[str] = []

    def look(url: str) -> bool:
        read.append(url)
        return False

    monkeypatch.setattr("boxoffice.access.return_urls.has_card_number", look)
    for _ in range(3):
        check_return_url("https://once.example/x", ["https://once.example"])
    assert (read.count("https://once.example"), read.count("https://once.example/x")) == (1, 3)


@pytest.mark.parametrize(
    ("urls", "pointer", "code"),
    [
        (["https://a.example", "https://a.example?x"], "/allow/1", "url"), (["*"], "/allow/0", "url"),
        (["http://a.example"], "/allow/0", "url"), (["https://a.example"] * 21, "/allow", "too_many"),
    ],
)  # fmt: skip
def test_what_cannot_be_allowed(urls: list[str], pointer: str, code: str) -> None:
    check_allowed(["https://a.example"] * 20)
    with pytest.raises(Malformed) as refused:
        check_allowed(urls)
    assert refused.value.details["errors"] == [{"pointer": pointer, "code": code}]


async def test_a_shops_urls_are_known_with_each_of_its_keys(office: BoxOffice) -> None:
    """In both stores, by a process that reads them anew; another shop's stay its own, and a key that is made later has them."""
    with pytest.raises(NotFound):
        await office.access.set_return_urls("nobody", [])
    with pytest.raises(Malformed) as refused:
        await office.access.set_return_urls(CLIENT, ALLOWED, "https://other.example")
    assert refused.value.code == "not_allowed"
    await office.access.set_return_urls(CLIENT, ALLOWED, "https://shop.example/paid", actor="eve")
    later = await office.access.create_api_key(CLIENT)

    async def known(key: str) -> tuple[str | None, tuple[str, ...]]:
        caller = await ApiKeys(office.shards, 60).caller_of(key)
        return caller.return_url, caller.return_urls

    for key in (KEY, later):
        assert await known(key) == ("https://shop.example/paid", tuple(ALLOWED))
    assert await known(OTHER_KEY) == (None, ())
    await office.redis.flushdb()
    await office.loader.load(0)
    assert await known(KEY) == ("https://shop.example/paid", tuple(ALLOWED))
    (told,) = [each for each in await office.access.history(client_id=CLIENT) if each["change"] == "return_urls"]
    assert (told["by"], told["return_url"], told["return_urls"]) == ("eve", "https://shop.example/paid", ALLOWED)
    assert isinstance(told["at"], str) and datetime.fromisoformat(told["at"])
    (shop,) = [each for each in await office.access.clients() if each["id"] == CLIENT]
    assert (shop["return_url"], shop["return_urls"]) == ("https://shop.example/paid", ALLOWED)
    await office.access.set_return_urls(CLIENT, [])
    assert await known(KEY) == (None, ())


async def test_of_a_shop_without_keys_it_is_written_down_too(office: BoxOffice) -> None:
    shop = await office.access.create_client("keyless")
    await office.access.set_return_urls(shop, ALLOWED, "https://shop.example/paid", actor="eve")
    (told,) = await office.access.history(client_id=shop)
    assert isinstance(told.pop("at"), str)
    assert told == {
        "by": "eve", "change": "return_urls", "prefix": "", "client": shop, "scopes": [], "expires_at": None, "origins": [],
        "rate": None, "return_url": "https://shop.example/paid", "return_urls": ALLOWED,
    }  # fmt: skip
