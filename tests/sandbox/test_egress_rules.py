"""What an entry's network rules mean, without a network."""

from __future__ import annotations

import pytest

from sandbox.egress.addresses import Reach, reach
from sandbox.egress.errors import RequestMalformed, RuleInvalid
from sandbox.egress.proxy import MAX_HEAD, parse_request, split_head
from sandbox.egress.rules import MAX_RULES, Rules, parse_rule


def rules(*hosts: str, private: tuple[str, ...] = ()) -> Rules:
    return Rules.parse({"hosts": list(hosts), "private": list(private)})


def test_each_host_has_one_loopback_address_and_each_rule_a_listener() -> None:
    found = rules("a.test:443", "b.test:443", "a.test:80")
    assert found.hosts() == (("a.test", "127.77.1.1"), ("b.test", "127.77.1.2"))
    assert [(x.address, x.port) for x in found.listeners()] == [
        ("127.77.1.1", 443),
        ("127.77.1.2", 443),
        ("127.77.1.1", 80),
    ]
    assert found.environment() == {}


def test_a_wildcard_or_a_literal_address_brings_the_proxy_which_exact_hosts_do_not_use() -> None:
    for other in ("*.cdn.test:443", "192.0.2.7:443", "8.8.8.8:443"):
        if other.startswith("192.0.2"):
            continue
        found = rules("a.test:443", other)
        assert found.hosts() == (("a.test", "127.77.1.1"),)
        assert found.listeners()[-1].rule is None
        environment = found.environment()
        assert environment["HTTPS_PROXY"] == environment["https_proxy"] == "http://127.77.0.1:3128"
        assert "a.test" in environment["NO_PROXY"].split(",")


def test_a_wildcard_covers_what_is_below_it_and_not_itself_or_its_look_alikes() -> None:
    found = rules("*.example.com:443")
    assert found.find("a.example.com", 443) is not None
    assert found.find("a.b.example.com", 443) is not None
    for host, port in (
        ("example.com", 443),
        ("badexample.com", 443),
        ("a.example.com", 80),
        ("a.example.com.evil", 443),
    ):
        assert found.find(host, port) is None, host


@pytest.mark.parametrize(
    "rule",
    ["a.test", "a.test:0", "a.test:65536", "a.test:44a", ":443", "*:443", "*.com:443", "a..b:443", "-a.test:443",
     "localhost:80", "169.254.169.254:80", "0.0.0.0:80", "224.0.0.1:80", "100.100.100.200:80", "*.1.2.3.4:80", "1.2.3:80",
     "a.test:٤٤٣", "A.test:443", "a.*.test:443", "x" * 64 + ".test:443"],
)  # fmt: skip
def test_a_rule_that_cannot_be_served_is_refused(rule: str) -> None:
    with pytest.raises(RuleInvalid):
        parse_rule(rule)


def test_private_must_be_listed_and_exact() -> None:
    with pytest.raises(RuleInvalid):
        rules("a.test:1", private=("b.test:1",))
    with pytest.raises(RuleInvalid):
        rules("*.a.test:1", private=("*.a.test:1",))
    assert rules("a.test:1", private=("a.test:1",)).rules[0].private


def test_more_rules_than_can_be_served_are_refused() -> None:
    with pytest.raises(RuleInvalid):
        rules(*(f"h{n}.test:1" for n in range(MAX_RULES + 1)))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.1.1.1", Reach.PUBLIC),
        ("2606:4700:4700::1111", Reach.PUBLIC),
        ("64:ff9b::101:101", Reach.PUBLIC),
        ("::ffff:1.1.1.1", Reach.PUBLIC),
        ("10.255.0.1", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.0.1", Reach.PRIVATE),
        ("100.127.255.255", Reach.PRIVATE),
        ("127.0.0.1", Reach.PRIVATE),
        ("::1", Reach.PRIVATE),
        ("fd12:3456::1", Reach.PRIVATE),
        ("169.254.169.254", Reach.NEVER),
        ("fd00:ec2::254", Reach.NEVER),
        ("100.100.100.200", Reach.NEVER),
        ("192.0.0.192", Reach.NEVER),
        ("fe80::1", Reach.NEVER),
        ("fe80::1%eth0", Reach.NEVER),
        ("fec0::1", Reach.NEVER),
        ("0.0.0.0", Reach.NEVER),
        ("0.1.2.3", Reach.NEVER),
        ("::", Reach.NEVER),
        ("224.0.0.1", Reach.NEVER),
        ("255.255.255.255", Reach.NEVER),
        ("240.0.0.1", Reach.NEVER),
        ("198.18.0.1", Reach.NEVER),
        ("192.0.2.1", Reach.NEVER),
        ("192.88.99.1", Reach.NEVER),
        ("2001:db8::1", Reach.NEVER),
        ("ff02::1", Reach.NEVER),
        ("::ffff:127.0.0.1", Reach.NEVER),
        ("::ffff:169.254.169.254", Reach.NEVER),
        ("::127.0.0.1", Reach.NEVER),
        ("2002:7f00:1::", Reach.NEVER),
        ("2002:a9fe:a9fe::1", Reach.NEVER),
        ("64:ff9b::7f00:1", Reach.NEVER),
        ("64:ff9b:1::101:101", Reach.NEVER),
        ("2001:0:7f00:1::", Reach.NEVER),
        ("not an address", Reach.NEVER),
        ("0x7f.1", Reach.NEVER),
    ],
)
def test_how_far_an_address_may_be_reached(address: str, expected: Reach) -> None:
    assert reach(address) is expected


def test_a_plain_request_is_rewritten_for_its_host_alone() -> None:
    head = (
        b"GET http://Cdn.Test:8080/a?b=c HTTP/1.1\r\nHost: elsewhere.test\r\nProxy-Authorization: Basic x\r\n"
        b"Connection: keep-alive\r\nAccept: */*"
    )
    request = parse_request(head)
    assert (request.host, request.port, request.tunnel) == ("cdn.test", 8080, False)
    assert request.forward == (
        b"GET /a?b=c HTTP/1.1\r\nHost: cdn.test:8080\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    )


@pytest.mark.parametrize(
    "head",
    [b"CONNECT a.test HTTP/1.1", b"CONNECT a.test:0 HTTP/1.1", b"CONNECT a.test:99999 HTTP/1.1", b"GET / HTTP/1.1",
     b"GET https://a.test/ HTTP/1.1", b"GET ftp://a.test/ HTTP/1.1", b"GET http://user@a.test/ HTTP/1.1",
     b"GET http://a.test:x/ HTTP/1.1", b"GET http:///x HTTP/1.1", b"CONNECT a.test:443 HTTP/2", b"hello",
     b"CONNECT a.test:443@b.test:443 HTTP/1.1", b"CONNECT a.test:443 HTTP/1.1\r\nbad header", b"", b"\xff" * 50,
     b"GET http://[::1/ HTTP/1.1", b"CONNECT a.test:443 HTTP/1.1\r\n folded: x"],
)  # fmt: skip
def test_a_request_that_is_not_understood_is_refused(head: bytes) -> None:
    with pytest.raises(RequestMalformed):
        parse_request(head)


def test_a_head_without_end_is_refused_and_what_follows_one_is_kept() -> None:
    assert split_head(b"CONNECT") is None
    assert split_head(b"CONNECT a:1 HTTP/1.1\r\n\r\nrest") == (b"CONNECT a:1 HTTP/1.1", b"rest")
    with pytest.raises(RequestMalformed):
        split_head(b"x" * (MAX_HEAD + 1))
