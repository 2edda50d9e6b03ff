"""What an entry lists under ``run.network``, and what follows from it inside the sandbox.  Pure.

An exact rule (``host:port``) gets a loopback address of its own per host, a line in the hosts file and a listener, so that
a client needs to know nothing.  A literal address or ``*.suffix:port`` has no name to put there: those go through the
proxy, which serves every rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

from sandbox.egress.addresses import Reach, reach
from sandbox.egress.errors import RuleInvalid

MAX_RULES = 100  # registry/schema.py, Network.hosts
FIRST_ADDRESS = IPv4Address("127.77.1.1")  # ours: within 127/8, away from what programs use themselves
PROXY = ("127.77.0.1", 3128)  # squid's customary port
# Ports on which TLS begins with the first byte (IANA service names: https, smtps, ldaps, domain-s, ftps, imaps, pop3s,
# secure-mqtt, amqps, and the customary second https)
TLS_PORTS = frozenset({443, 465, 636, 853, 990, 993, 995, 5671, 8443, 8883})

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_OWN = frozenset({"localhost", "ip6-localhost", "ip6-loopback", "sandbox"})


@dataclass(frozen=True)
class Rule:
    """``host``: a lower-case name, ``*.suffix``, or a literal IPv4 address; ``private``: may resolve to a private address."""

    host: str
    port: int
    private: bool = False

    @property
    def text(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def exact(self) -> bool:
        """Served by a hosts line and a listener."""
        return not self.host.startswith("*.") and not is_address(self.host)

    @property
    def tls(self) -> bool:
        return self.port in TLS_PORTS

    def covers(self, host: str, port: int) -> bool:
        if port != self.port:
            return False
        # *.example.com is every name below example.com, at any depth, and not example.com itself
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host


@dataclass(frozen=True)
class Listener:
    """``rule``: None for the proxy.  ``name``: the very host, where the rule says only ``*.suffix``."""

    address: str
    port: int
    rule: Rule | None
    name: str = ""

    @property
    def host(self) -> str:
        return self.name or (self.rule.host if self.rule else "")


@dataclass(frozen=True)
class Rules:
    """All rules of one sandbox.  ``Rules.parse({"hosts": ["api.example.com:443"], "private": []})``."""

    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, network: Mapping[str, Any]) -> Rules:
        """Raises ``RuleInvalid``.  ``private``: those of ``hosts`` that may resolve to a private address."""
        private = frozenset(_list(network, "private"))
        hosts = _list(network, "hosts")
        if unknown := sorted(private - set(hosts)):
            raise RuleInvalid(f"private names {unknown[0]}, which hosts does not list", remedy="list it in both")
        if len(hosts) > MAX_RULES:
            raise RuleInvalid(f"there are {len(hosts)} rules; at most {MAX_RULES} are served")
        return cls(tuple(parse_rule(text, private=text in private) for text in dict.fromkeys(hosts)))

    def __bool__(self) -> bool:
        return bool(self.rules)

    def listeners(self) -> tuple[Listener, ...]:
        """In the order in which the relay numbers them."""
        addresses = self._addresses()
        exact = [Listener(addresses[r.host], r.port, r) for r in self.rules if r.exact]
        return (*exact, Listener(*PROXY, None)) if self.needs_proxy else tuple(exact)

    def hosts(self) -> tuple[tuple[str, str], ...]:
        """(name, loopback address) for the hosts file."""
        return tuple(self._addresses().items())

    @property
    def needs_proxy(self) -> bool:
        return any(not rule.exact for rule in self.rules)

    def environment(self) -> dict[str, str]:
        """Proxy variables in both spellings (curl reads only the lower-case http_proxy), where a rule needs them."""
        if not self.needs_proxy:
            return {}
        url = f"http://{PROXY[0]}:{PROXY[1]}"
        direct = ",".join(["localhost", "127.0.0.1", "::1", *self._addresses()])
        both = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "ALL_PROXY": url, "NO_PROXY": direct}
        # Node's fetch follows the variables only when told to (22.21 and 24 on)
        return both | {name.lower(): value for name, value in both.items()} | {"NODE_USE_ENV_PROXY": "1"}

    def find(self, host: str, port: int) -> Rule | None:
        """The first rule that covers it, exact ones before wildcards."""
        ordered = sorted(self.rules, key=lambda rule: rule.host.startswith("*."))
        return next((rule for rule in ordered if rule.covers(host, port)), None)

    def _addresses(self) -> dict[str, str]:
        names = dict.fromkeys(rule.host for rule in self.rules if rule.exact)
        return {name: str(FIRST_ADDRESS + i) for i, name in enumerate(names)}


def parse_rule(text: str, *, private: bool = False) -> Rule:
    host, _, port = text.rpartition(":")
    name = host.removeprefix("*.")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise RuleInvalid(f"rule {text!r} has no port from 1 to 65535", remedy="write it as host:port")
    if is_address(name):
        if host != name or reach(name) is Reach.NEVER:
            raise RuleInvalid(f"rule {text!r} names an address that no rule can allow", remedy="remove it")
        return Rule(name, int(port), private=True)  # a literal address says itself what it is
    if not _NAME.fullmatch(name) or len(name) > 253 or name in _OWN or name.rpartition(".")[2].isdigit():
        raise RuleInvalid(
            f"rule {text!r} does not name a host", remedy="write api.example.com:443 or *.example.com:443"
        )
    if host != name and ("." not in name or private):
        why = "spans a whole top-level domain" if "." not in name else "cannot be private: name each host"
        raise RuleInvalid(f"rule {text!r} {why}", remedy="name the hosts")
    return Rule(host, int(port), private)


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_name(text: str) -> bool:
    """Whether ``text`` is a lower-case host name, and none of the sandbox's own."""
    return bool(_NAME.fullmatch(text)) and len(text) <= 253 and text not in _OWN


def canonical_host(text: str) -> str:
    """A host as people and programs write it, in the form that rules have: lower case, no final dot."""
    return text.lower().removesuffix(".")


def _list(network: Mapping[str, Any], key: str) -> list[str]:
    value: Iterable[Any] = network.get(key, ())
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise RuleInvalid(f"network.{key} is not a list of host:port", remedy="write the lock anew: hm lock update")
    return list(value)
