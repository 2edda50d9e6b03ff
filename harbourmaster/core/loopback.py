"""Who is asking on loopback: connections of sandboxes come from an address of their own."""

from __future__ import annotations

SANDBOX_SOURCE = (
    "127.72.77.1"  # any address of 127.0.0.0/8 is this machine's (RFC 1122 section 3.2.1.3); nothing else uses this one
)
