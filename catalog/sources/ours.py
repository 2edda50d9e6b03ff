"""This project's own ``registry/servers``: strict entries, built from source; their image is the one in the local layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from catalog.categories import category_of
from catalog.errors import SourceUnreadable
from catalog.records import EntryRecord, ImageRecord, Permissions, ToolRecord, UnreadRecord
from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import HarbourError
from registry import addresses
from registry.schema import ENTRY_FILE, Entry, parse_entry
from registry.toolset import part_ref, parts

READER = 4
MEDIA_TYPE = "application/vnd.harbourmaster.server+yaml"
DigestOf = Callable[[str], str]
"""``time:1.0`` -> the digest of its image, or nothing when it was not built here."""


def read_servers(root: Path, digest_of: DigestOf) -> Iterator[EntryRecord | UnreadRecord]:
    """Every entry below ``root``: a record, or why there is none."""
    files = sorted(root.glob(f"*/{ENTRY_FILE}"))
    if not files:
        raise SourceUnreadable(f"{root} holds no <name>/{ENTRY_FILE}", remedy="name the folder registry/servers")
    for path in files:
        try:
            raw = path.read_bytes()
            yield record_of(parse_entry(path, raw), raw, digest_of)
        except HarbourError as e:
            yield UnreadRecord(path.parent.name, e.code, e.message, e.remedy)
        except OSError as e:
            yield UnreadRecord(
                path.parent.name, "entry.unreadable", f"cannot be read: {e.strerror}", "check its permissions"
            )


def record_of(entry: Entry, document: bytes, digest_of: DigestOf) -> EntryRecord:
    digest = digest_of(entry.ref)
    images = _images(entry, digest, digest_of)
    hosts = tuple(entry.run.network.hosts)
    return EntryRecord(
        name=entry.name,
        title=entry.about.title,
        description=entry.about.description,
        kind=entry.type,
        category=category_of(entry.meta.category),
        tags=tuple(entry.meta.tags),
        tier=entry.tier,
        version=entry.version,
        document=document,
        media_type=MEDIA_TYPE,
        digest=sha256(f"{READER}\0{digest}\0{images}\0".encode() + document),
        publisher=addresses.publisher_of(entry.homepage),
        licence=entry.licence,
        repository=entry.homepage,
        icon=entry.about.icon or "",
        keywords=entry.origin,
        homepage=entry.remote.url if entry.remote else "",
        tools=tuple(ToolRecord(t.name, t.description or "") for t in entry.tools),
        images=images,
        permissions=Permissions(
            network="remote" if entry.remote else "hosts" if hosts else "none",
            hosts=hosts,
            secrets=tuple(s.name for s in entry.config.secrets),
            command=tuple(entry.run.command),
            parameters=tuple(entry.config.parameters),
            user=entry.run.user or "",
            oauth=tuple(o.provider for o in entry.oauth),
            long_lived=entry.run.long_lived,
        ),
    )


def _images(entry: Entry, digest: str, digest_of: DigestOf) -> tuple[ImageRecord, ...]:
    """A publisher's image as the entry pins it, known by the manifest that lies here where it was looked into; else what
    was built here; of tool images each, in the same way."""
    if entry.image:
        return (ImageRecord(entry.image, digest or entry.pinned),)
    own = (ImageRecord(entry.ref, digest),) if digest else ()
    tools = (
        ImageRecord(str(part.image), digest_of(part_ref(entry, name)) or part.pinned)
        for name, part in parts(entry).items()
    )
    return own + tuple(tools)
