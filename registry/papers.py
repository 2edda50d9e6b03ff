"""An image's papers: SBOM, provenance, listing and signature, each signed and attached to its manifest as a referrer."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import harbourmaster
from policies.bundles import sign_statement
from policies.keys import SigningKey
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from registry.build.builder import BUILDER_VERSION, BuildContext
from registry.build.image import Built, architecture
from registry.build.records import BuildRecord
from registry.listing import listing_of
from registry.oci import media
from registry.oci.layout import OciLayout
from registry.provenance import provenance
from registry.sbom import sbom_of
from registry.schema import Entry
from sandbox.engine import Engine
from sandbox.profile import Profile

PAPERS_VERSION = 3  # raise it when the same image gets other papers
KINDS = (SIGNATURE, SBOM, PROVENANCE, LISTING)


def papers_mark(key: SigningKey, manifest: str) -> str:
    """What ``BuildRecord.papers`` says when the papers of ``manifest`` are up to date."""
    return f"{PAPERS_VERSION}:{key.key_id}:{manifest}"


def are_attached(layout: OciLayout, record: BuildRecord, key: SigningKey) -> bool:
    return record.papers == papers_mark(key, record.manifest) and has_papers(layout, record.manifest, KINDS)


def has_papers(layout: OciLayout, manifest: str, kinds: tuple[str, ...]) -> bool:
    return set(kinds) <= {_kind(d.annotations) for d in layout.referrers(manifest, media.SIGSTORE_BUNDLE)}


def paper(
    entry: Entry,
    built: Built,
    record: BuildRecord,
    context: BuildContext,
    engine: Engine,
    profile: Profile,
    key: SigningKey,
) -> BuildRecord:
    """Make, sign and attach all four papers, in place of older ones of ours; returns the record that says so.

    Raises ``ListingFailed`` when the server does not start: an image without a listing gets no papers at all.
    """
    context.progress(entry.name, "list tools", 0.85)
    listing = listing_of(engine, profile, entry, built, context.settings)
    context.progress(entry.name, "read SBOM", 0.9)
    sbom = sbom_of(context.layout, built.manifest)
    versions = {"harbourmaster": harbourmaster.__version__, "builder": str(BUILDER_VERSION)}
    made = provenance(
        entry, record, versions=versions, invocation=f"urn:uuid:{uuid.uuid4()}", architecture=architecture()
    )
    context.progress(entry.name, "sign", 0.95)
    predicates = {SIGNATURE: {}, SBOM: sbom, PROVENANCE: made, LISTING: listing}
    attach(context.layout, entry, built.manifest, predicates, key)
    done = replace(record, papers=papers_mark(key, built.manifest))
    context.records.put(entry.name, done)
    return done


def attach(
    layout: OciLayout, entry: Entry, manifest: str, predicates: dict[str, dict[str, Any]], key: SigningKey
) -> None:
    """Sign each predicate and attach it; older papers of the same kinds by the same key go, others' stay."""
    older = layout.referrers(manifest, media.SIGSTORE_BUNDLE)
    for kind, predicate in predicates.items():
        bundle = sign_statement(statement(entry.ref, manifest, kind, predicate), key)
        annotations = {
            media.PREDICATE_TYPE_ANNOTATION: kind,
            media.KEY_ANNOTATION: key.key_id,
        }
        fresh = layout.add_referrer(manifest, bundle, annotations=annotations)
        for old in older:
            same = _kind(old.annotations) == kind and old.annotations.get(media.KEY_ANNOTATION) == key.key_id
            if same and old.digest != fresh.digest:
                layout.remove_referrer(old.digest)


def _kind(annotations: dict[str, str]) -> str:
    return annotations.get(media.PREDICATE_TYPE_ANNOTATION, "")
