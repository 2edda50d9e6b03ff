"""The papers attached to an image: referrers, read and verified one by one against the trust rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harbourmaster.core.digests import hex_of
from harbourmaster.core.errors import HarbourError
from policies.bundles import Verified, verify_bundle, verify_cosign
from policies.errors import AttestationMissing
from policies.evidence import AttestationFact, Signature
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, predicate_is
from policies.trust import Requirement
from registry.errors import ImageNotFound, SignatureMissing, TooLarge
from registry.oci import media
from registry.oci.descriptor import Manifest
from registry.oci.layout import OciLayout

MAX_REFERRERS = 256  # anyone may attach papers in a registry; a handful is usual

PAPERS = {SBOM: "SBOM", PROVENANCE: "provenance", LISTING: "tool listing"}
REQUIRED = {
    "built": (SBOM, PROVENANCE, LISTING)
}  # other tiers: what is there must verify, Cedar decides about the rest


@dataclass
class Attached:
    """Reads and verifies the papers of one image.  ``read``: each blob that was looked at -> its state before that."""

    layout: OciLayout
    image: str  # manifest digest
    requirement: Requirement
    trusted_root: Path | None
    read: dict[str, list[int]] = field(default_factory=dict)

    def signature(self) -> tuple[Signature, str] | None:
        """Who signed the image, and the bundle's digest; None when nobody did.  Raises when nobody trusted did."""
        candidates = self._candidates(SIGNATURE)
        if candidates:
            verified, digest = self._first(candidates, lambda m: self._bundle(m, SIGNATURE))
            return verified.signature, digest
        return self._cosign()

    def paper(self, predicate_type: str) -> AttestationFact | None:
        """A verified attestation of this type; None when none is attached.  Raises when none that is attached stands."""
        candidates = self._candidates(predicate_type)
        if not candidates:
            return None
        verified, digest = self._first(candidates, lambda m: self._bundle(m, predicate_type))
        predicate: dict[str, Any] = (verified.statement or {}).get("predicate") or {}
        return AttestationFact(predicate_type, digest, verified.signature, predicate)

    def _candidates(self, predicate_type: str) -> list[Manifest]:
        """Referrers that say they are of this type (a claim; the signed statement must say so too)."""
        found = []
        for descriptor in self.layout.referrers(self.image, media.SIGSTORE_BUNDLE)[:MAX_REFERRERS]:
            manifest = self._manifest(descriptor.digest)
            if manifest.annotations.get(media.PREDICATE_TYPE_ANNOTATION, SIGNATURE) == predicate_type:
                found.append(manifest)
        return found

    def _first(self, candidates: list[Manifest], verify: Callable[[Manifest], Verified]) -> tuple[Verified, str]:
        """The first that stands; when none does, the first one's error: others may have attached theirs beside it."""
        failures: list[HarbourError] = []
        for manifest in candidates:
            try:
                verified = verify(manifest)
            except HarbourError as e:
                failures.append(e)
            else:
                return verified, manifest.layers[0].digest
        raise failures[0]

    def _bundle(self, manifest: Manifest, predicate_type: str) -> Verified:
        layer = manifest.layers[0] if manifest.layers else None
        if layer is None or layer.size > media.MAX_BUNDLE_BYTES:
            raise TooLarge("a bundle is empty or too large to be read", remedy="publish the papers again")
        bundle = self._blob(layer.digest, media.MAX_BUNDLE_BYTES)
        root = self.trusted_root
        verified = verify_bundle(bundle, self.requirement, trusted_root=root, artifact=self.image)
        if verified.statement is not None:
            predicate_is(verified.statement, predicate_type)
        elif predicate_type != SIGNATURE:
            raise missing(predicate_type, self.image)
        return verified

    def _cosign(self) -> tuple[Signature, str] | None:
        """Cosign's older layout: a manifest tagged ``sha256-<hex>.sig``, each layer a payload, its signature beside it."""
        try:
            digest = self.layout.resolve(f"sha256-{hex_of(self.image)}.sig")
        except ImageNotFound:
            return None
        manifest = self._manifest(digest)
        failure: HarbourError | None = None
        for layer in manifest.layers[:MAX_REFERRERS]:
            signature = layer.annotations.get(media.COSIGN_SIGNATURE_ANNOTATION, "")
            payload = self._blob(layer.digest, media.MAX_MANIFEST_BYTES)
            try:
                verified = verify_cosign(payload, signature, self.requirement, image=self.image)
            except HarbourError as e:
                failure = failure or e
            else:
                return verified.signature, layer.digest
        if failure:
            raise failure
        return None

    def _manifest(self, digest: str) -> Manifest:
        self.read[digest] = self.layout.blobs.state(digest)
        return self.layout.read_manifest(digest)

    def _blob(self, digest: str, limit: int) -> bytes:
        self.read[digest] = self.layout.blobs.state(digest)
        return self.layout.read_blob(digest, limit)


def missing(predicate_type: str, image: str) -> AttestationMissing:
    return AttestationMissing(
        f"{image} has no {PAPERS.get(predicate_type, predicate_type)} attestation",
        remedy="build it again (hm registry build), or ask its publisher to attach one",
        predicate_type=predicate_type,
        image=image,
    )


def unsigned(image: str) -> SignatureMissing:
    return SignatureMissing(
        f"nobody has signed {image}",
        remedy="build it again (hm registry build), or pull it with its signature",
        image=image,
    )
