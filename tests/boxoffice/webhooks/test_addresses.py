"""Which URLs an endpoint may have, and which addresses may be connected to."""

from __future__ import annotations

import pytest

from boxoffice.errors import Malformed
from boxoffice.webhooks.addresses import URL_MAX, Addresses

INTERNET = ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e", "2001:200::1"]

REFUSED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1", "fec0::1"],
    "link-local": ["169.254.0.1", "fe80::1", "fe80::1%eth0"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"],
    "shared by a provider's customers": ["100.64.0.1", "100.127.255.254"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1"],
    "nobody's, or everybody's": ["0.0.0.0", "0.1.2.3", "255.255.255.255", "240.0.0.1", "::"],
    "documentation and tests": ["192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "2001:db8::1", "3fff::1"],
    "IPv4 inside IPv6": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::808:808",
                         "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:808:808::1", "2001:0:4136:e378::1", "::ffff:0:7f00:1"],
    "none at all": ["", "localhost", "127.1", "0x7f000001", "2130706433", "8.8.8.8 ", "1.2.3.4.5"],
}  # fmt: skip


@pytest.mark.parametrize("address", INTERNET)
def test_the_internet_may_be_connected_to(address: str) -> None:
    assert Addresses().may_connect(address)


@pytest.mark.parametrize("address", [each for some in REFUSED.values() for each in some])
def test_what_is_not_the_internet_may_not(address: str) -> None:
    assert not Addresses().may_connect(address)


def test_an_operator_may_allow_networks() -> None:
    addresses = Addresses(["10.1.0.0/16", "::1/128"])
    assert [addresses.may_connect(each) for each in ("10.1.2.3", "10.2.0.1", "::1", "127.0.0.1", "8.8.8.8")] == [
        True, False, True, False, True,
    ]  # fmt: skip


def test_what_is_allowed_as_ipv4_is_not_by_way_of_ipv6() -> None:
    assert not Addresses(["127.0.0.0/8"]).may_connect("::ffff:127.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example", "https://shop.example/hooks?a=b&c=%20", "https://shop.example:8443/", "HTTPS://Shop.Example/",
        "https://xn--bcher-kva.example/", "https://8.8.8.8/", "https://[2606:4700:4700::1111]/x", "https://shop.example./",
        "https://0x7f.1/",  # a name like any other: what it leads to is looked at when it is connected to
    ],
)  # fmt: skip
def test_a_url_that_an_endpoint_may_have(url: str) -> None:
    Addresses().check_url(url)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://shop.example/", "scheme"),
        ("ftp://shop.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("//shop.example/", "scheme"),
        ("shop.example", "scheme"),
        ("", "not_a_url"),
        ("https://", "not_a_url"),
        ("https:///path", "not_a_url"),
        ("https://shop.example:0/", "not_a_url"),
        ("https://shop.example:/", "not_a_url"),
        ("https://shop.example:99999/", "not_a_url"),
        ("https://user@shop.example/", "not_a_url"),
        ("https://user:word@shop.example/", "not_a_url"),
        ("https://shop.example/#there", "not_a_url"),
        ("https://shop.example/#", "not_a_url"),
        ("https://shop.example/a b", "not_a_url"),
        ("https://shop.example/\r\nX: y", "not_a_url"),
        ("https://shop.example\\@10.0.0.1/", "not_a_url"),
        ("https://bücher.example/", "not_a_url"),
        ("https://-shop.example/", "not_a_url"),
        ("https://shop..example/", "not_a_url"),
        ("https://[::1/", "not_a_url"),
        ("https://" + "a" * URL_MAX, "too_long"),
        ("https://127.0.0.1/", "address"),
        ("https://[::ffff:127.0.0.1]/", "address"),
        ("https://169.254.169.254/latest/meta-data", "address"),
    ],
)
def test_a_url_that_none_may_have(url: str, code: str) -> None:
    """Nothing of it is repeated."""
    with pytest.raises(Malformed) as refused:
        Addresses().check_url(url)
    assert refused.value.details["errors"] == [{"pointer": "/url", "code": code}]
    assert not url or url not in (refused.value.detail or "")


def test_http_where_an_operator_allows_it() -> None:
    Addresses(["127.0.0.0/8"], allow_http=True).check_url("http://127.0.0.1:9000/hooks")
    with pytest.raises(Malformed):
        Addresses(["127.0.0.0/8"], allow_http=True).check_url("gopher://127.0.0.1/")
