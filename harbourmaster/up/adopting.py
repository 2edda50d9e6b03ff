"""``hm catalog add``: a server of another catalog, pulled, verified by the trust given here, and put into the lock.

Nothing is kept before everything stands: the entry's file, then the lock, are written last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import col, select

from catalog.entries import find_entry
from catalog.evidence import record_evidence
from catalog.models import EntryVersion, Image, Source
from catalog.sources import docker_catalog, ours, serverfile
from catalog.sources.documents import parse_json, parse_yaml
from catalog.sources.tiles import submission_of
from catalog.store import Store
from gateway.errors import NotAgreed
from gateway.lock import LockedServer, read_lock
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.files import write_atomic
from harbourmaster.core.settings import Settings
from harbourmaster.up.errors import NameTaken
from harbourmaster.up.host import ask
from harbourmaster.up.locking import changes, permissions, proved_line, write
from policies.evidence import Evidence
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.build.bases import Progress, silent
from registry.build.errors import EntryUnbuildable
from registry.entry import ENTRY_FILE, Entry
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote
from registry.pipeline import build_all
from registry.places import adopted_dir
from registry.schema import parse_entry
from registry.target import Target, asked, target_of_entry
from registry.toolset import is_toolset, targets
from registry.verify import Verifier
from sandbox.engine import Engine
from sandbox.profile import Profile

Say = Callable[[str], None]


@dataclass(frozen=True)
class Offer:
    """What the catalog says of a server; ``image``: where its papers lie with it, empty where it has none yet."""

    entry: Entry
    document: bytes
    image: str


def offer(store: Store, name: str, source: str = "") -> Offer:
    """Raises ``EntryUnknown``, ``EntryInvalid`` or ``EntryUnbuildable`` for what cannot be taken from the catalog."""
    with store.reading() as session:
        found = find_entry(session, name, source=source)
        where = (EntryVersion.entry_id == found.id, col(EntryVersion.is_latest))
        version = session.exec(select(EntryVersion).where(*where)).one()
        images = session.exec(select(Image).where(Image.version_id == version.id)).all()
        kind = session.get_one(Source, found.source_id).kind
    document = _document(name, version.media_type, version.document)
    entry = parse_entry(Path(name) / ENTRY_FILE, document)
    published = next((image.reference for image in images if "@" in image.reference), "")
    if entry.tier == "built" and not published:
        raise EntryUnbuildable(
            f"{name} has no image to pull (type {entry.type}, tier {entry.tier})",
            remedy="what lies in a folder is built: hm registry build --root",
        )
    papered = kind == "oci" and version.media_type == ours.MEDIA_TYPE
    return Offer(entry, document, published if papered and not is_toolset(entry) else "")


def _document(name: str, media_type: str, document: bytes) -> bytes:
    if media_type == docker_catalog.MEDIA_TYPE:
        import yaml

        return yaml.safe_dump(submission_of(name, parse_json(document)), sort_keys=False, allow_unicode=True).encode()
    if media_type == serverfile.MEDIA_TYPE:
        parse_yaml(document)
    return document


def adopt(
    settings: Settings,
    store: Store,
    name: str,
    say: Say,
    *,
    source: str = "",
    yes: bool = False,
    progress: Progress = silent,
) -> LockedServer:
    """Pull, verify, show, ask, lock.  Raises what verification raises, ``NameTaken`` and ``NotAgreed``."""
    taken = offer(store, name, source)
    if taken.entry.remote is not None:
        raise EntryUnbuildable(f"{name} runs elsewhere", remedy=f"connect to it: hm server add {taken.entry.name}")
    _require_free(settings, taken.entry)
    engine = Engine.connect(settings)
    try:
        line, proved = _proved(settings, engine, taken, progress)
    finally:
        engine.close()
    lock = read_lock(settings.lock_file)
    for each in (*permissions(taken.entry), *changes(lock.get(line.name), line, lock)):
        say(each)
    if not ask(f"add {line.name} like this?", yes=yes):
        raise NotAgreed("nothing was changed: nobody said yes", remedy="say y at the prompt, or give --yes")
    _keep(settings, taken, line)
    for evidence in proved:
        record_evidence(store, evidence)
    return line


def adopt_remote(settings: Settings, taken: Offer, say: Say, *, yes: bool = False) -> None:
    """Keep the entry of a server that runs elsewhere; ``hm server add`` connects to it.  ``NameTaken``, ``NotAgreed``."""
    entry = taken.entry
    assert entry.remote is not None  # the caller looked
    _require_free(settings, entry)
    for each in (*permissions(entry), f"  it is reached at: {entry.remote.url} ({entry.remote.transport})"):
        say(each)
    if not ask(f"keep {entry.name} like this?", yes=yes):
        raise NotAgreed("nothing was changed: nobody said yes", remedy="say y at the prompt, or give --yes")
    write_atomic(adopted_dir(settings) / entry.name / ENTRY_FILE, taken.document)


def require_no_starter(settings: Settings, name: str) -> None:
    """Raises ``NameTaken``: a starter server's name is never taken."""
    if "/" not in name and (settings.servers_dir / name / ENTRY_FILE).is_file():
        raise NameTaken(
            f"{name} is a server of the starter catalog, which nothing may take the place of",
            remedy=f"use that one: hm server enable {name} (hm up --servers {name} builds it)",
        )


def _require_free(settings: Settings, entry: Entry) -> None:
    """Nor is what runs here replaced by what runs elsewhere, or the reverse."""
    require_no_starter(settings, entry.name)
    locked = read_lock(settings.lock_file).get(entry.name)
    if locked is not None and bool(locked.remote) != (entry.remote is not None):
        raise NameTaken(
            f"{entry.name} is a server here that runs {'elsewhere' if locked.remote else 'in a sandbox'}",
            remedy=f"keep that one, or take it away first (HM_HOME/servers/{entry.name})",
        )


def _starts(entry: Entry) -> bool:
    return not entry.needs_configuration


def _proved(
    settings: Settings, engine: Engine, taken: Offer, progress: Progress
) -> tuple[LockedServer, list[Evidence]]:
    layout, entry = OciLayout(settings.oci_dir), taken.entry
    if taken.image:
        progress(entry.name, f"pull {taken.image}", 0.2)
        Remote().pull(taken.image, layout, tag=entry.ref)
    else:
        _survey(settings, engine, taken, progress)
    verifier = Verifier(layout, engine, TrustPolicy.load(settings), PolicySet.load(settings))
    proved: list[Evidence] = []

    def check(target: Target) -> Evidence:
        proved.append(verifier.check(target, load=True).evidence)
        return proved[-1]

    # The person who is asked below sees each relaxation with its reason; no answer, no lock.
    agreed = asked(entry)
    several = targets(entry, approved=agreed) if is_toolset(entry) else None
    profile, wanted = Profile.load().digest, several or [target_of_entry(entry, approved=agreed)]
    return proved_line(entry, wanted, check, profile_digest=profile, enabled=_starts(entry)), proved


def _survey(settings: Settings, engine: Engine, taken: Offer, progress: Progress) -> None:
    """A publisher's image that nobody looked into before: we do."""
    with tempfile.TemporaryDirectory(prefix="hm-adopt-") as place:
        write_atomic(Path(place) / taken.entry.name / ENTRY_FILE, taken.document)
        result = build_all(settings, engine, [taken.entry], progress, root=Path(place))[taken.entry.name]
    if result.error:
        raise result.error


def _keep(settings: Settings, taken: Offer, line: LockedServer) -> None:
    audit = AuditLog(settings.audit_dir)
    try:
        record = {"kind": "pin", "event": "add", "server": line.name, "image": line.image, "pin": line.pin}
        audit.append_durably(record)
    finally:
        audit.close()
    write_atomic(adopted_dir(settings) / line.name / ENTRY_FILE, taken.document)
    write(settings, [line])
