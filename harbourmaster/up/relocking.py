"""``hm lock diff``, ``update`` and ``approve``: what the lock would say, shown before it says it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from gateway.errors import LockMoved, LockUnknown, NotAgreed, NothingHeld
from gateway.held import HeldFiles, approved
from gateway.lock import LockedServer, read_lock, update_lock
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from harbourmaster.up.host import ask
from harbourmaster.up.locking import changes, permissions, proved_line, write
from harbourmaster.up.remote import relisted
from policies.evidence import Evidence
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.oci.layout import OciLayout
from registry.places import find_entry
from registry.target import Target, asked
from registry.toolset import targets_of
from registry.verify import Verifier
from sandbox.engine import Engine
from sandbox.profile import Profile

Lock = dict[str, LockedServer]
Say = Callable[[str], None]


def diff(settings: Settings, name: str, say: Say) -> bool:
    """Say how ``name`` (empty: each server) differs from its lock, as it was found running and as it lies built.

    Whether anything does.  Needs no engine.  Raises ``LockUnknown``.
    """
    lock = read_lock(settings.lock_file)
    found = False
    for server in [_locked(lock, name)] if name else [lock[n] for n in sorted(lock)]:
        running = held_lines(settings, server, lock)
        built = _built_lines(settings, server, lock)
        if running:
            _show(
                say, f"{server.name}, as it was found running; accept it with: hm lock approve {server.name}", running
            )
        if built:
            _show(say, f"{server.name}, as it lies built; accept it with: hm lock update {server.name}", built)
        if not running and not built:
            say(f"{server.name}: as it was locked")
        found = found or bool(running or built)
    return found


def held_lines(settings: Settings, server: LockedServer, lock: Lock) -> list[str]:
    parts = HeldFiles(settings.held_dir).read(server)
    return changes(server, approved(server, parts), lock) if parts else []


def _built_lines(settings: Settings, server: LockedServer, lock: Lock) -> list[str]:
    if server.remote:  # nothing of it lies here; what it lists now is seen when it is used
        return []
    try:
        return changes(server, proved(settings, None, server.name, lock), lock)
    except HarbourError as e:
        return [f"! its image cannot be verified [{e.code}]: {e.message}"]


def proved(settings: Settings, engine: Engine | None, name: str, lock: Lock) -> LockedServer:
    """The lock's line for ``name`` from evidence gathered now; every byte is read.  Raises what verification raises."""
    entry = find_entry(settings, name)
    verifier = Verifier(OciLayout(settings.oci_dir), engine, TrustPolicy.load(settings), PolicySet.load(settings))
    # Whoever agrees to the lock sees each relaxation in it, with its reason
    targets = targets_of(settings, name, approved=asked(entry))
    enabled = lock[name].enabled if name in lock else not entry.needs_configuration

    def check(target: Target) -> Evidence:
        return verifier.check(target, load=engine is not None).evidence

    line = proved_line(entry, targets, check, profile_digest=Profile.load().digest, enabled=enabled)
    return replace(line, granted=lock[name].granted) if name in lock else line


def update(settings: Settings, names: tuple[str, ...], say: Say, *, yes: bool) -> None:
    """Verify ``names`` (none: all that are locked) anew, show what changes, and after a yes write it.  ``NotAgreed``."""
    lock = read_lock(settings.lock_file)
    elsewhere = {name for name in names or lock if name in lock and lock[name].remote}
    lines = [relisted(settings, name) for name in sorted(elsewhere)]
    images = [name for name in names or sorted(lock) if name not in elsewhere]
    with _engine(settings) if images else contextlib.nullcontext() as engine:
        lines += [proved(settings, engine, name, lock) for name in images]
    changed = [line for line in lines if lock.get(line.name) != line]
    for line in changed:
        new = [] if line.name in lock else permissions(find_entry(settings, line.name))
        same = ["~ its papers are others; it offers the same"]
        _show(say, line.name, [*new, *changes(lock.get(line.name), line, lock)] or same)
    if not changed:
        say("the lock is what can be proved; nothing to do")
        return
    _agree(f"lock {', '.join(line.name for line in changed)} like this?", yes=yes)
    _record(settings, "update", changed)
    write(settings, changed)
    for line in changed:
        HeldFiles(settings.held_dir).forget(line.name)
    say(f"locked: {', '.join(line.name for line in changed)}")


def approve(settings: Settings, name: str, say: Say, *, yes: bool) -> None:
    """Accept what ``name`` was found to list while it ran.  Raises ``NothingHeld``, ``NotAgreed``, ``LockMoved``."""
    lock = read_lock(settings.lock_file)
    before, held = _locked(lock, name), HeldFiles(settings.held_dir)
    parts = held.read(before)
    if not parts:
        raise NothingHeld(f"{name} was not found to differ from its lock", remedy=f"see: hm lock diff {name}")
    after = approved(before, parts)
    _show(say, name, changes(before, after, lock))
    _agree(f"serve {name} like this from now on?", yes=yes)
    _record(settings, "approve", [after])

    def change(current: Lock) -> None:
        now = current.get(name)
        if now is None or (now.pin, now.image) != (before.pin, before.image):
            raise LockMoved(f"{name} was locked anew meanwhile", remedy=f"look again: hm lock diff {name}")
        current[name] = replace(now, listing=after.listing, pin=after.pin)

    update_lock(settings.lock_file, change)
    held.forget(name)
    say(f"{name} is served as it is now; a running gateway follows at once")


def _show(say: Say, title: str, lines: list[str]) -> None:
    say(title)
    for line in lines:
        say(f"  {line}")


def _agree(question: str, *, yes: bool) -> None:
    if not ask(question, yes=yes):
        raise NotAgreed("nothing was changed: nobody said yes", remedy="say y at the prompt, or give --yes")


def _record(settings: Settings, event: str, servers: list[LockedServer]) -> None:
    """On record before it is done: what people accept is never unrecorded."""
    audit = AuditLog(settings.audit_dir)
    try:
        for server in servers:
            audit.append_durably(
                {"kind": "pin", "event": event, "server": server.name, "image": server.image, "pin": server.pin}
            )
    finally:
        audit.close()


def _locked(lock: Lock, name: str) -> LockedServer:
    if name not in lock:
        raise LockUnknown(f"{name} is not in the lock", remedy="see: hm lock show")
    return lock[name]


@contextlib.contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    engine = Engine.connect(settings)
    try:
        yield engine
    finally:
        engine.close()
