"""Tier ``community``: a publisher's image by digest, pulled as it is, and what we find in it.

Nothing is built.  The SBOM is read from the image's own files and the tools are asked of it in a sandbox without a network;
both are signed by this installation and the SBOM says so (``sbom.marks``): they vouch for what is in the image, not for who
published it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.digests import sha256
from policies.keys import SigningKey
from policies.statements import LISTING, SBOM
from registry.build import image
from registry.build.builder import BuildContext, engine_ref
from registry.build.errors import EntryUnbuildable
from registry.build.image import Built
from registry.build.records import BuildRecord
from registry.entry import ENTRY_FILE, Entry
from registry.errors import PinDiffers
from registry.listing import listing_of
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote
from registry.papers import attach, has_papers, papers_mark
from registry.sbom import sbom_of
from registry.sbom.marks import marked
from registry.toolset import part_ref
from sandbox.engine import Engine
from sandbox.profile import Profile

SURVEY_VERSION = 1  # raise it when the same image is looked into in another way
KINDS = (SBOM, LISTING)


def is_surveyed(entry: Entry) -> bool:
    return entry.tier == "community" and entry.type == "server"


def current(
    entry: Entry, root: Path, context: BuildContext, records: dict[str, BuildRecord], part: str = ""
) -> BuildRecord | None:
    """The record of an earlier survey of the same entry whose image is still in the layout.

    ``part``: of an entry with several images, which one (``registry.toolset``); ``entry`` is then that part alone.
    """
    record = records.get(part or entry.name)
    if record is None or record.inputs != _inputs(entry, root) or not context.layout.blobs.has(record.manifest):
        return None
    return record


def is_papered(layout: OciLayout, record: BuildRecord, key: SigningKey, part: str = "") -> bool:
    kinds = (SBOM,) if part else KINDS
    return record.papers == papers_mark(key, record.manifest) and has_papers(layout, record.manifest, kinds)


def fetch(entry: Entry, root: Path, context: BuildContext, part: str = "") -> tuple[Built, BuildRecord]:
    """Pull the pinned image with its publisher's papers and load it; raises what the registry is refused for."""
    if not is_surveyed(entry) or entry.image is None:
        raise EntryUnbuildable(
            f"{entry.name}: a {entry.type} entry has no one image of its own to look into",
            remedy="remote servers are connected to: hm server add",
            server=entry.name,
        )
    record = current(entry, root, context, context.records.all(), part) or _pull(entry, root, context, part)
    name = f"harbourmaster/{part_ref(entry, part)}" if part else engine_ref(entry)
    image_id = image.load(context.client, context.layout, record.manifest, name)
    return Built(record.manifest, record.config, image_id), record


def _pull(entry: Entry, root: Path, context: BuildContext, part: str) -> BuildRecord:
    context.progress(entry.name, "pull", 0.1)
    started, reference = _now(), str(entry.image)
    manifest = Remote().pull(reference, context.layout, tag=part_ref(entry, part) if part else entry.ref)
    if entry.pinned not in (manifest, *_indexes_of(context.layout, entry.pinned, manifest)):
        raise PinDiffers(
            f"{reference} gave {manifest}, which its digest does not name", remedy="do not use this registry"
        )
    record = BuildRecord(
        inputs=_inputs(entry, root),
        manifest=manifest,
        config=context.layout.read_manifest(manifest).config.digest,
        install="",
        layer="",
        base="",
        builder="",
        base_origin=reference,
        materials=(),
        started=started,
        finished=_now(),
    )
    context.records.put(part or entry.name, record)
    return record


def _indexes_of(layout: OciLayout, pinned: str, manifest: str) -> tuple[str, ...]:
    return (pinned,) if manifest in layout.listed_in(pinned) else ()


def survey(
    entry: Entry,
    built: Built,
    record: BuildRecord,
    context: BuildContext,
    engine: Engine,
    profile: Profile,
    key: SigningKey,
) -> BuildRecord:
    """Make, sign and attach SBOM and listing; the publisher's own papers stay beside them.  Raises ``ListingFailed``."""
    context.progress(entry.name, "list tools", 0.6)
    listing = listing_of(engine, profile, entry, built, context.settings)
    return _papered(entry, built, record, context, key, {LISTING: listing})


def survey_part(
    entry: Entry, built: Built, record: BuildRecord, context: BuildContext, key: SigningKey, part: str
) -> BuildRecord:
    """As much for one of several tool images, of which nobody can ask what it offers: the entry says it."""
    return _papered(entry, built, record, context, key, {}, part)


def _papered(
    entry: Entry,
    built: Built,
    record: BuildRecord,
    context: BuildContext,
    key: SigningKey,
    more: dict[str, dict[str, Any]],
    part: str = "",
) -> BuildRecord:
    context.progress(entry.name, "read SBOM", 0.8)
    sbom = marked(sbom_of(context.layout, built.manifest))
    attach(context.layout, entry, built.manifest, {SBOM: sbom, **more}, key)
    done = replace(record, papers=papers_mark(key, built.manifest))
    context.records.put(part or entry.name, done)
    return done


def _inputs(entry: Entry, root: Path) -> str:
    document = (root / entry.name / ENTRY_FILE).read_bytes()
    parts = {"survey": SURVEY_VERSION, "entry": sha256(document), "architecture": image.architecture()}
    return canonical_digest(parts)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
