"""An image with all its referrers, and theirs: what belongs together when it is copied, pushed or exported."""

from __future__ import annotations

from collections.abc import Iterator

from harbourmaster.core.digests import hex_of
from registry.errors import ImageNotFound, TooLarge
from registry.oci.descriptor import Manifest
from registry.oci.layout import OciLayout

MAX_PAPERS = 1024  # of one image, all levels; an image has four from us


def with_referrers(layout: OciLayout, digest: str) -> Iterator[Manifest]:
    """The image's manifest, then what refers to it, then what refers to that: a subject always before its referrers."""
    waiting, seen = [digest], {digest}
    while waiting:
        current = waiting.pop(0)
        yield layout.read_manifest(current)
        for referrer in layout.referrers(current):
            if referrer.digest not in seen:
                seen.add(referrer.digest)
                waiting.append(referrer.digest)
        if len(seen) > MAX_PAPERS:
            raise TooLarge(
                f"more than {MAX_PAPERS} papers are attached to {digest}", remedy="remove what is not needed"
            )


def copy_image(source: OciLayout, target: OciLayout, digest: str, *, tag: str = "") -> None:
    """Copy an image with its referrers (and cosign's older signatures) between layouts; every byte is hashed again."""
    for manifest in with_referrers(source, digest):
        copy_manifest(source, target, manifest)
    if tag:
        target.tag(tag, digest)
    try:
        name = cosign_tag(digest)
        signatures = source.resolve(name)
    except ImageNotFound:
        return
    copy_manifest(source, target, source.read_manifest(signatures))
    target.tag(name, signatures)


def copy_manifest(source: OciLayout, target: OciLayout, manifest: Manifest) -> None:
    for blob in manifest.blobs:
        target.put_blob(source.blobs.chunks(blob.digest), blob.media_type, digest=blob.digest)
    target.put_manifest(source.read_manifest_bytes(manifest.digest))


def cosign_tag(digest: str) -> str:
    """Where cosign's older layout keeps an image's signatures."""
    return f"sha256-{hex_of(digest)}.sig"
