"""What a shell offers in the place of a name: read from files, silent where they cannot be read."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.cli_lookup import tools_of
from gateway.cli_output import one_line
from gateway.lock import LockedServer, read_lock
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings

Offered = list[tuple[str, str]]  # word and what it is
_HELP = 60  # characters of a description beside a name


def servers(incomplete: str) -> Offered:
    return [(name, "" if server.enabled else "disabled") for name, server in sorted(_lock().items())]


def tools(incomplete: str) -> Offered:
    return [(t.dotted, one_line(str(t.body.get("description") or ""), _HELP)) for t in tools_of(_lock())]


def clients(incomplete: str) -> Offered:
    from gateway.clients.table import CLIENTS

    return [(client.name, client.title) for client in CLIENTS]


def _lock() -> Mapping[str, LockedServer]:
    try:
        return read_lock(Settings.load().lock_file)
    except (HarbourError, OSError):
        return {}
