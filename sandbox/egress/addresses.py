"""Which addresses the broker may connect to.  Pure.

The test is an allow list turned round: what the IANA special-purpose registries do not call globally reachable is
private, and forms of IPv6 that carry an IPv4 address are judged by that address too.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address


class Reach(Enum):
    PUBLIC = "public"
    PRIVATE = "private"  # a rule may name it: loopback, RFC 1918, RFC 6598, RFC 4193
    NEVER = "never"  # metadata services, link-local, multicast, reserved: nobody's tool server lives there


# Metadata services that are not link-local: AWS over IPv6, Alibaba Cloud, Oracle Cloud's older one
METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
NAMEABLE = (
    IPv4Network("127.0.0.0/8"),
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("100.64.0.0/10"),
    IPv6Network("::1/128"),
    IPv6Network("fc00::/7"),
)
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
LOCAL_NAT64 = IPv6Network(
    "64:ff9b:1::/48"
)  # RFC 8215: where in it the IPv4 address stands is the network's own business
COMPATIBLE = IPv6Network("::/96")  # RFC 4291 2.5.5.1
RELAY_6TO4 = IPv4Network("192.88.99.0/24")  # RFC 7526


def reach(text: str) -> Reach:
    """How far ``text``, a literal address, may be reached; anything that is not one is NEVER."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return Reach.NEVER
    if "%" in text:
        return Reach.NEVER  # a zone names an interface of the host
    inner = embedded(address)
    if inner is not None:
        return Reach.PUBLIC if _plain(inner) is Reach.PUBLIC and not _loses_meaning(address) else Reach.NEVER
    return _plain(address)


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for or tunnels to."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in NAT64 or (address in COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _loses_meaning(address: Address) -> bool:
    """Teredo and IPv4-compatible addresses have no use that is not a detour."""
    return isinstance(address, IPv6Address) and (address.teredo is not None or address in COMPATIBLE)


def _plain(address: Address) -> Reach:
    if address in METADATA:
        return Reach.NEVER
    if any(address.version == net.version and address in net for net in NAMEABLE):
        return Reach.PRIVATE
    if address in (RELAY_6TO4 if address.version == 4 else LOCAL_NAT64):
        return Reach.NEVER
    bad = address.is_multicast or address.is_link_local or address.is_reserved or address.is_unspecified
    old_site_local = isinstance(address, IPv6Address) and address.is_site_local
    return Reach.NEVER if bad or old_site_local or not address.is_global else Reach.PUBLIC
