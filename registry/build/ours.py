"""What the images that are ours alone are called: after what they are made of, so that a changed source is another image.

Apart from the building (``relay.py``, ``coderunner.py``), because whoever admits them needs the names and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import sandbox.egress
from harbourmaster.core.digests import hex_of, sha256
from registry.target import Target

RELAY = "egress-relay"  # no server of this name is ever looked for
SOURCE = Path(sandbox.egress.__file__).parent / "relay.c"
FLAGS = "-D_GNU_SOURCE -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -fstack-protector-strong -D_FORTIFY_SOURCE=2"

CODE_RUNNER = "code-runner"  # nor of this one


def relay_target() -> Target:
    """What to verify before a relay may run."""
    digest = sha256(SOURCE.read_bytes() + FLAGS.encode())
    return Target(RELAY, "built", f"{RELAY}:{hex_of(digest)[:12]}")


def code_target(program: bytes) -> Target:
    """What to verify before a script may run."""
    return Target(CODE_RUNNER, "built", f"{CODE_RUNNER}:{hex_of(sha256(program))[:12]}")
