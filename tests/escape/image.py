"""The hostile server's image: its program, and what it would need to get further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox.engine import Engine
from tests.fixtures.images import Files, build_image

NAME = "hm-test-hostile"
SOURCE = Path(__file__).parent / "hostile" / "hostile.c"

# What lies ready for each attempt, so that only the setting under test can stop it.
LOOT: Files = {
    "open/": (b"", 0o777),  # anyone may write here, were the root writable
    "private": (b"for root alone\n", 0o600),
    "setuid": (None, 0o4755),  # root's, and so for whoever starts them
    "setgid": (None, 0o2755),
}
SECOND_S = 1_000_000_000  # nanoseconds


def build_hostile_image(engine: Engine, *, hosts: bool = True, **config: Any) -> str:
    """Its image ID.  The image also asks for what an image can ask for: a health check and a stop signal."""
    asked = {
        "Healthcheck": {"Test": ["CMD", "/server"], "Interval": SECOND_S},
        "StopSignal": "SIGWINCH",
    }
    return build_image(engine, NAME, SOURCE, hosts=hosts, files=LOOT, **(asked | config))
