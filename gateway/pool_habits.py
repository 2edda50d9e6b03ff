"""Which servers a client used, by what it promises: they are made ready when such a client comes back.

``HM_HOME/run/pool.json`` keeps it over a restart; a file that cannot be read is no habit.  It holds hashes and names.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import orjson

from harbourmaster.core.files import SECRET_MODE, make_private_dir, write_atomic

log = logging.getLogger("gateway.pool")

CLIENTS: Final = 64  # the latest; a person has a handful
SERVERS: Final = 16  # of each
MAX_BYTES: Final = 1 << 20
VERSION: Final = 1


class Habits:
    def __init__(self, known: dict[str, list[str]] | None = None) -> None:
        self._known = {client: dict.fromkeys(servers) for client, servers in (known or {}).items()}
        self.changed = False

    def note(self, client: str, server: str) -> None:
        """``client``: the key of its promise.  The latest last."""
        servers = self._known.pop(client, {})
        self.changed = self.changed or server not in servers
        servers.pop(server, None)
        self._known[client] = {**servers, server: None}
        _shorten(self._known[client], SERVERS)
        _shorten(self._known, CLIENTS)

    def of(self, client: str) -> list[str]:
        return list(self._known.get(client, ()))

    def dump(self) -> bytes:
        self.changed = False
        return orjson.dumps({"version": VERSION, "clients": {c: list(s) for c, s in self._known.items()}})


def _shorten(table: dict[str, Any], most: int) -> None:
    while len(table) > most:
        del table[next(iter(table))]


def load(path: Path) -> dict[str, list[str]]:
    """Blocking."""
    try:
        with path.open("rb") as f:
            body = orjson.loads(f.read(MAX_BYTES))
        found = body["clients"] if body["version"] == VERSION else {}
        return {str(c): [str(s) for s in servers] for c, servers in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def save(path: Path, body: bytes) -> None:
    """Blocking.  What cannot be kept costs a slower start, and no more."""
    try:
        make_private_dir(path.parent)
        write_atomic(path, body, mode=SECRET_MODE)
    except OSError as e:
        log.warning("the pool's memory of its clients could not be kept in %s: %s", path, e)
