"""Is what an entry pins what its publisher serves?"""

from __future__ import annotations

from dataclasses import dataclass

from registry.build.gitsource import tree
from registry.entry import Entry
from registry.lookup import npm, pypi, remote
from registry.lookup.errors import LookupUnusable
from registry.oci.remote import Remote


@dataclass(frozen=True)
class Confirmed:
    what: str
    notes: tuple[str, ...] = ()


def confirm(entry: Entry) -> Confirmed:
    """Raises ``LookupUnusable`` where it differs, and what a look-up raises."""
    if entry.remote is not None:
        found = remote.look_up(entry.remote.url, transport=entry.remote.transport, private=bool(entry.remote.private))
        return Confirmed(f"{entry.remote.url} answers", found.notes)
    if entry.tier == "built":
        return _package(entry)
    images = [entry.image] if entry.image else [t.container.image for t in entry.tools if t.container]
    for image in dict.fromkeys(images):
        digest, _ = Remote().describe(image)
        _same(entry, f"the digest of {image.partition('@')[0]}", image.partition("@")[2], digest)
    return Confirmed(f"its registry serves {', '.join(dict.fromkeys(images))}")


def _package(entry: Entry) -> Confirmed:
    source, _ = entry.recipe()
    if source.kind == "git":
        size = len(tree(str(source.repository), str(source.commit), source.directory or ""))
        return Confirmed(f"{source.repository} has commit {source.commit} ({size} bytes)")
    found = (pypi if source.kind == "pypi" else npm).look_up(source.package, source.version)
    key = "sha256" if source.kind == "pypi" else "integrity"
    _same(entry, f"source.{key}", str(getattr(source, key)), str(found.source[key]))
    licence = found.licence
    differs = licence and licence.lower().replace(" ", "-") not in (
        entry.licence.lower(),
        f"{entry.licence.lower()}-license",
    )
    notes = (f"the package says its licence is {licence}, the entry says {entry.licence}",) if differs else ()
    return Confirmed(f"{source.words}: the index serves the pinned file", notes)


def _same(entry: Entry, what: str, pinned: str, served: str) -> None:
    if pinned != served:
        raise LookupUnusable(
            f"{entry.name}: {what} is {pinned}, but {served} is served",
            remedy="find out who changed it; to accept it: hm registry update",
        )
