"""A person gives one server a folder of this machine, or takes it back.  The lock keeps it, the audit has both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from gateway.errors import LockInvalid
from gateway.lock import LockedServer, read_lock, update_lock
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.settings import Settings
from sandbox import hostpaths
from sandbox.access import Access, HostPath


def change_grants(settings: Settings, name: str, allow: Iterable[str], revoke: Iterable[str]) -> list[str]:
    """Lines that say what changed.  Raises ``HostPathDenied``, ``SpecRefused`` or ``LockInvalid``; then nothing did."""
    given = [_resolved(settings, HostPath.parse(text)) for text in allow]
    taken = {hostpaths.canonical(path) if hostpaths.exists(path) else path for path in revoke}

    def changed(server: LockedServer) -> LockedServer:
        kept = [HostPath.parse(text) for text in server.granted]
        kept = [p for p in kept if p.host not in taken and p.at not in {g.at for g in given}]
        granted = [path.text for path in (*kept, *given)]
        Access.parse(server.run, granted)  # raises where they do not fit beside what the entry asks for
        return dataclasses.replace(server, granted=granted)

    changed(_known(read_lock(settings.lock_file), name))
    _record(settings, name, [path.text for path in given], sorted(taken))

    def change(lock: dict[str, LockedServer]) -> None:
        lock[name] = changed(_known(lock, name))

    update_lock(settings.lock_file, change)
    lines = [f"{name} may {'write to' if p.write else 'read'} {p.host}, which it sees as {p.at}" for p in given]
    return lines + [f"{name} has {path} no longer" for path in sorted(taken)]


def _resolved(settings: Settings, path: HostPath) -> HostPath:
    """Without links, and checked now as at every start."""
    path = dataclasses.replace(path, host=hostpaths.canonical(path.host))
    hostpaths.check(path, home=settings.home, named=True)
    return path


def _known(lock: dict[str, LockedServer], name: str) -> LockedServer:
    if name not in lock:
        raise LockInvalid(f"no such server in the lock: {name}", remedy="see: hm server ls")
    return lock[name]


def _record(settings: Settings, name: str, given: list[str], taken: list[str]) -> None:
    audit = AuditLog(settings.audit_dir)
    try:
        audit.append_durably({"kind": "pin", "event": "paths", "server": name, "allowed": given, "revoked": taken})
    finally:
        audit.close()
