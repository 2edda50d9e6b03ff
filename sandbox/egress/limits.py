"""Every bound of the broker, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    connect_s: float = 10.0  # to resolve and connect, all addresses together: most clients give up after as long
    hello_s: float = 10.0  # to say who is wanted: a ClientHello or a request head
    idle_s: float = 300.0  # no byte either way; database pools ping more often
    connections: int = 256  # of one sandbox at a time
    burst: int = 512  # connections it may begin at once ...
    starts_per_s: float = 50.0  # ... and then each second: more is an attack on the audit, not a tool
    questions_burst: int = 2048  # to its name server: most clients ask twice before each connection ...
    questions_per_s: float = 500.0  # ... and then each second; an answer costs some 30 microseconds
    unknown_names: int = 32  # names that no rule allows, recorded one by one; the rest together
    total_bytes: int = 16 << 30  # of one sandbox, both ways together: a person who needs more restarts the session
    sweep_s: float = 1.0  # how often idle connections are looked for and rates are taken


LIMITS = Limits()
CHUNK = 256 * 1024  # one read: large enough for 2 Gbit/s, small enough that a tool call never waits for it
