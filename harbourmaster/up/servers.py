"""Starter servers: build and paper what is missing, verify every byte, put what was proved into the lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.dynamic.code import LISTING, SOURCE
from gateway.lock import LockedServer, read_lock
from gateway.profiles.files import ProfileFiles
from gateway.profiles.schema import Profile as ClientProfile
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from harbourmaster.up.admitting import Desk
from harbourmaster.up.bases import ensure_bases
from harbourmaster.up.errors import ListingChanged
from harbourmaster.up.host import ask
from harbourmaster.up.locking import asks_for_more, changes, write
from registry.admit import AdmittedImage
from registry.build import coderunner
from registry.build.builder import BuildContext
from registry.build.network import detect
from registry.build.relay import build_relay, is_built
from registry.cli_progress import progress_view
from registry.pipeline import BuildResult, build_all
from registry.schema import Entry, load_entries
from registry.target import Target, target_of
from registry.toolset import target_of_part
from sandbox.engine import Engine

Say = Callable[[str], None]


@dataclass
class Prepared:
    """What became of the starter servers: ``ready`` may run, ``failed`` says why not, ``fresh`` were built just now."""

    ready: dict[str, AdmittedImage] = field(default_factory=dict)
    failed: dict[str, HarbourError] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)


def prepare(settings: Settings, engine: Engine, only: tuple[str, ...], *, yes: bool, say: Say) -> Prepared:
    """Raises for what concerns all of them (an unknown name, a broken entry file); single failures are in the result."""
    entries = load_entries(settings.servers_dir, only)
    results = _build(settings, engine, entries, yes=yes, say=say)
    prepared = Prepared(
        failed={name: r.error for name, r in results.items() if r.error is not None},
        fresh=[name for name, r in results.items() if r.fresh],
    )
    _prepare_relay(settings, engine, entries, prepared)
    _prepare_code_runner(settings, engine, entries, say)
    built = [entry for entry in entries if entry.name not in prepared.failed]
    lines = _admit_all(settings, engine, built, results, prepared)
    lock = read_lock(settings.lock_file)
    accepted = [line for line in lines if accept(line, lock, prepared, yes=yes, say=say)]
    if accepted:
        write(settings, accepted)
    return prepared


def _build(settings: Settings, engine: Engine, entries: list[Entry], *, yes: bool, say: Say) -> dict[str, BuildResult]:
    ensure_bases(settings, engine, entries, yes=yes, say=say)
    with progress_view() as progress:
        return build_all(settings, engine, entries, progress)


def _prepare_relay(settings: Settings, engine: Engine, entries: list[Entry], prepared: Prepared) -> None:
    """Servers with network rules need the relay; where it cannot be built, they are left out and say why."""
    connected = [e.name for e in entries if e.run.network.hosts and e.name not in prepared.failed]
    if not connected or is_built(settings):
        return
    try:
        with progress_view() as progress:
            build_relay(BuildContext.create(settings, engine.client, detect(os.environ), progress))
    except HarbourError as e:
        prepared.failed |= dict.fromkeys(connected, e)


def _prepare_code_runner(settings: Settings, engine: Engine, entries: list[Entry], say: Say) -> None:
    """Where scripts of dynamic profiles run; nothing else needs it, so that a failure is only told.

    Made where the Python base is there for a server anyway, or a profile has a use for it.
    """
    program = SOURCE.read_bytes()
    has_base = any(e.build is not None and e.build.runtime == "python" for e in entries)
    if not (has_base or _runs_scripts(settings)) or coderunner.is_built(settings, program):
        return
    try:
        with progress_view() as progress:
            context = BuildContext.create(settings, engine.client, detect(os.environ), progress)
            coderunner.build_code_runner(context, program, LISTING)
    except HarbourError as e:
        say(f"code mode is left out: {e.message} [{e.code}]")


def _runs_scripts(settings: Settings) -> bool:
    profiles = ProfileFiles(settings.profiles_dir).load_all().values()
    return any(isinstance(p, ClientProfile) and p.dynamics is not None and p.dynamics.code for p in profiles)


def accept(line: LockedServer, lock: dict[str, LockedServer], prepared: Prepared, *, yes: bool, say: Say) -> bool:
    """Whether ``line`` may go into the lock.  What a server that was locked before offers, and what it may touch beyond
    what it did, changes only when a person agrees."""
    before = lock.get(line.name)
    if before is None:
        return True
    wider = before.pin == line.pin
    if wider and not asks_for_more(before, line):
        return True
    say(f"{line.name} {'wants' if wider else 'was built anew and offers'} something else than was locked:")
    for each in changes(before, line, lock):
        say(f"  {each}")
    if ask(f"serve {line.name} as it is now?", yes=yes):
        return True
    prepared.ready.pop(line.name, None)
    prepared.failed[line.name] = ListingChanged(
        f"{line.name} {'wants' if wider else 'offers'} something else than was locked, and nobody agreed to it",
        remedy=f"look at it, then accept it: hm lock diff {line.name}, hm lock update {line.name}",
    )
    return False


def _admit_all(
    settings: Settings, engine: Engine, entries: list[Entry], results: dict[str, BuildResult], prepared: Prepared
) -> list[LockedServer]:
    """Admit each server; the new lines for the lock."""
    lock = read_lock(settings.lock_file)
    audit = AuditLog(settings.audit_dir)
    lines = []
    try:
        desk = Desk(settings, engine, lock, audit, lambda name: _target(settings, name, lock, _of(results, name)))
        for entry in entries:
            try:
                admitted, line = desk.admit(entry, fresh=entry.name in prepared.fresh)
            except HarbourError as e:
                prepared.failed[entry.name] = e
                continue
            prepared.ready[entry.name] = admitted
            lines += [line] if line is not None else []
    finally:
        audit.close()
    return lines


def _of(results: dict[str, BuildResult], name: str) -> BuildResult:
    return results[name.partition("/")[0]]


def _target(settings: Settings, name: str, lock: dict[str, LockedServer], result: BuildResult) -> Target:
    """What this very run built may replace what the lock names; anything else must still be what was locked."""
    server = name.partition("/")[0]
    if server != name:
        return target_of_part(settings, name, locked=not result.fresh)
    locked = lock[name].image if name in lock and not result.fresh else ""
    return target_of(settings, name, locked=locked)
