"""This host's addresses, and listeners on them that tell what arrived."""

from __future__ import annotations

import ipaddress
import re
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def host_addresses() -> list[str]:
    """Every address of every interface: IPv4 from the local routing table, IPv6 from the interface list (proc(5))."""
    trie = Path("/proc/net/fib_trie").read_text()
    four = set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", trie))
    six_file = Path("/proc/net/if_inet6")
    six = six_file.read_text().split("\n") if six_file.exists() else []
    link_local = "fe80"  # needs an interface's name to be reached at all
    return sorted(four) + [
        str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in six if line and not line.startswith(link_local)
    ]


@dataclass
class Listener:
    """TCP and UDP on every address of the host, one port for all."""

    tcp: list[socket.socket]
    udp: list[socket.socket]
    port: int

    def arrived(self) -> int:
        """Connections and datagrams since the last time; takes them."""
        count = 0
        while ready := select.select(self.tcp + self.udp, [], [], 0)[0]:
            for sock in ready:
                count += 1
                sock.accept()[0].close() if sock in self.tcp else sock.recv(100)
        return count


@contextmanager
def listening() -> Iterator[Listener]:
    six = bool([a for a in host_addresses() if ":" in a])
    tcp = socket.create_server(
        ("::" if six else "", 0), family=socket.AF_INET6 if six else socket.AF_INET, dualstack_ipv6=six
    )
    port = tcp.getsockname()[1]
    udp = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    if six:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("::" if six else "", port))
    try:
        yield Listener([tcp], [udp], port)
    finally:
        tcp.close()
        udp.close()
