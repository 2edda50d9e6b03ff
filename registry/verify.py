"""The chain from a name to an image that may run (DESIGN 4.4), every byte read.

Invariants, in this order; the first that fails raises its typed error and nothing after it is looked at:

1. the name stands for a manifest whose bytes hash to its digest, and the lock (where there is one) names the same digest;
2. config and layers hash to what the manifest says, and the config's diff IDs are the layers';
3. a signature over the manifest digest stands under the trust rule for this server and tier;
4. SBOM, provenance and listing are signed statements whose subject is this manifest; ``deep`` recomputes the SBOM;
5. the engine holds an image whose ID is the config digest (or the manifest digest, under the containerd store);
6. Cedar permits it, with all of this as context.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from harbourmaster.core.digests import expect, sha256_of_chunks
from policies.admission import Verdict, admit
from policies.evidence import AttestationFact, Evidence, Link, Signature
from policies.policy_set import PolicySet
from policies.statements import LISTING, PROVENANCE, SBOM
from policies.trust import Requirement, TrustPolicy
from registry.attached import PAPERS, REQUIRED, Attached, missing, unsigned
from registry.errors import ImageMoved, ImageNotInEngine, ManifestInvalid, PinDiffers, SbomDiffers
from registry.oci import media
from registry.oci.compression import NotReadable, uncompressed, within
from registry.oci.descriptor import Descriptor, Manifest
from registry.oci.importer import diff_ids
from registry.oci.layout import OciLayout
from registry.sbom import sbom_bytes, sbom_of
from registry.sbom.marks import is_marked, marked
from registry.target import Target, target_of_ref

OnLink = Callable[[Link], None]


class EngineImages(Protocol):
    """What is asked of an engine (``sandbox.engine.Engine``)."""

    def image_id(self, ref: str) -> str | None: ...
    def load(self, archive: BinaryIO) -> list[str]: ...


@dataclass(frozen=True)
class Checked:
    """``blobs``: everything that was read, and the file's state (``BlobStore.state``) before it was; for the verdict cache."""

    evidence: Evidence
    verdict: Verdict
    blobs: dict[str, list[int]]


class Verifier:
    """Everything it knows is handed in.

    ``engine`` None leaves link 5 out (``hm verify`` on a machine without one); nothing may run on such evidence.
    ``offline``: a trust rule that wants its root refreshed uses the one that is here.
    """

    def __init__(
        self,
        layout: OciLayout,
        engine: EngineImages | None,
        trust: TrustPolicy,
        policies: PolicySet,
        *,
        trusted_root: Path | None = None,
        offline: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.layout, self.engine, self.trust, self.policies = layout, engine, trust, policies
        self._trusted_root, self._offline, self._now = trusted_root, offline, now

    def verify(self, target: Target | str, *, deep: bool = False) -> Evidence:
        """All links; raises the first one's error.  A name without more is a ref of tier ``built``."""
        return self.check(target_of_ref(target) if isinstance(target, str) else target, deep=deep).evidence

    def check(
        self, target: Target, *, deep: bool = False, load: bool = False, on_link: OnLink | None = None
    ) -> Checked:
        """``load``: put the verified image into an engine that lacks it.  ``on_link`` sees each link as it holds."""
        run = _Run(self, target, on_link)
        manifest = run.manifest()
        run.content(manifest)
        signature = run.signature()
        papers = run.papers()
        if deep:
            run.deep(papers.get(SBOM))
        image_id = run.engine(manifest, load=load) if self.engine is not None else ""
        evidence = Evidence(
            name=target.name,
            tier=target.tier,
            image=manifest.digest,
            image_id=image_id,
            config_digest=manifest.config.digest,
            links=tuple(run.links),
            signature=signature,
            sbom=papers.get(SBOM),
            provenance=papers.get(PROVENANCE),
            listing=papers.get(LISTING),
            verified_at=self._now(),
        )
        verdict = admit(evidence, dataclasses.replace(target.facts, now=self._now()), self.policies)
        run.link("admission", target.name, verdict.summary, self.policies.digest, ", ".join(verdict.policies))
        evidence = dataclasses.replace(evidence, links=tuple(run.links))
        return Checked(evidence, verdict, run.blobs)

    def resolve(self, target: Target) -> str:
        """The manifest digest that the name stands for now; raises ``ImageMoved`` when the lock names another."""
        digest = self.layout.resolve(target.ref)
        if target.locked and digest != target.locked:
            raise ImageMoved(
                f"{target.ref} is {digest} now, but the lock names {target.locked}",
                remedy="find out who moved it; to accept the new one: hm lock update",
                server=target.name,
                locked=target.locked,
                found=digest,
            )
        return digest

    def engine_image(self, manifest_digest: str, config_digest: str) -> str:
        """The engine's ID of this very image, or empty."""
        assert self.engine is not None
        for wanted in (config_digest, manifest_digest):
            if self.engine.image_id(wanted) == wanted:
                return wanted
        return ""

    def load(self, manifest_digest: str, name: str) -> None:
        """Give the engine the image from the layout; its bytes are hashed on the way."""
        assert self.engine is not None
        ref = f"harbourmaster/{name}:{manifest_digest[7:19]}"
        self.engine.load(cast(BinaryIO, self.layout.archive(manifest_digest, ref)))

    def requirement(self, target: Target) -> Requirement:
        requirement = self.trust.for_server(target.name, target.tier)
        return dataclasses.replace(requirement, refresh=False) if self._offline else requirement

    @property
    def trusted_root(self) -> Path | None:
        return self._trusted_root


class _Run:
    """One walk along the chain; ``links`` grows as it goes."""

    def __init__(self, verifier: Verifier, target: Target, on_link: OnLink | None) -> None:
        self._v, self._target, self._on_link = verifier, target, on_link
        self._layout = verifier.layout
        self._image = ""
        self._attached: Attached | None = None
        self.links: list[Link] = []
        self.blobs: dict[str, list[int]] = {}

    def manifest(self) -> Manifest:
        self._image = self._v.resolve(self._target)
        self.blobs[self._image] = self._layout.blobs.state(self._image)
        manifest = self._layout.read_manifest(self._image)
        self.link("manifest", self._target.ref, "the name stands for it; its bytes were hashed", self._image, "sha256")
        if self._target.pinned:
            self._pin(self._target.pinned)
        if self._target.locked:
            self.link(
                "lock", self._target.name, "the lock names the same manifest", self._target.locked, "harbour.lock"
            )
        return manifest

    def _pin(self, pinned: str) -> None:
        """The entry's digest is the manifest's, or that of an index (kept as it was pulled) which lists it."""
        if pinned != self._image and self._image not in self._layout.listed_in(pinned):
            raise PinDiffers(
                f"{self._target.ref} is {self._image}, which is not the image that the entry pins ({pinned})",
                remedy=f"pull the pinned one: hm registry build {self._target.name}",
                server=self._target.name,
                pinned=pinned,
                found=self._image,
            )
        if pinned != self._image:
            self.blobs[pinned] = self._layout.blobs.state(pinned)
        self.link("pin", self._target.name, "the entry names this image by digest", pinned, "server.yaml")

    def content(self, manifest: Manifest) -> None:
        manifest.require_known_layers()
        self.blobs |= {b.digest: self._layout.blobs.state(b.digest) for b in manifest.blobs}
        config = self._layout.read_blob(manifest.config.digest, media.MAX_CONFIG_BYTES)
        self._sized(manifest.config, len(config))
        self.link("config", self._image, f"all {len(config)} bytes read and hashed", manifest.config.digest, "sha256")
        wanted = diff_ids(config, len(manifest.layers))
        for number, (layer, diff_id) in enumerate(zip(manifest.layers, wanted, strict=True), 1):
            self._layer(f"layer {number}", layer, diff_id)

    def _layer(self, name: str, layer: Descriptor, diff_id: str) -> None:
        self._sized(layer, self._layout.blobs.size(layer.digest))
        if layer.media_type in media.PLAIN_LAYERS:
            self._layout.verify_blob(layer.digest)
            unpacked = layer.digest
        else:
            try:
                unpacked = sha256_of_chunks(within(uncompressed(self._layout.blobs.chunks(layer.digest))))
            except NotReadable as e:
                raise ManifestInvalid(f"{layer.digest}: {e}", remedy="pull the image again") from e
        expect(diff_id, unpacked, f"{name} as the config names it")
        self.link(
            name, self._image, f"all {layer.size} bytes read and hashed; the config names it", layer.digest, "sha256"
        )

    def signature(self) -> Signature | None:
        requirement = self._v.requirement(self._target)
        self._attached = Attached(self._layout, self._image, requirement, self._v.trusted_root)
        found = self._attached.signature() if requirement.publisher else None
        if found is None:
            if self._target.tier in REQUIRED:
                raise unsigned(self._image)
            return None
        signature, digest = found
        self.blobs |= self._attached.read
        self.link("signature", self._image, f"signed by {signature.signer}", digest, self._rule(requirement))
        return signature

    def papers(self) -> dict[str, AttestationFact]:
        assert self._attached is not None  # signature() comes first
        papers = {}
        for predicate_type, name in PAPERS.items():
            paper = self._attached.paper(predicate_type)
            if paper is None:
                if predicate_type in REQUIRED.get(self._target.tier, ()):
                    raise missing(predicate_type, self._image)
                continue
            papers[predicate_type] = paper
            checked = f"signed by {paper.signature.signer}; its subject is this manifest"
            self.link(name, predicate_type, checked, paper.digest, self._rule(self._attached.requirement))
        self.blobs |= self._attached.read
        return papers

    def deep(self, sbom: AttestationFact | None) -> None:
        if sbom is None:
            raise missing(SBOM, self._image)
        found = sbom_of(self._layout, self._image)
        computed = sbom_bytes(_timeless(marked(found) if is_marked(sbom.predicate) else found))
        if computed != sbom_bytes(_timeless(sbom.predicate)):
            raise SbomDiffers(
                f"the signed SBOM of {self._image} is not what its file system says",
                remedy="it was made by another tool, another version of it, or for other bytes: build the image again",
                image=self._image,
            )
        self.link("SBOM, deep", self._image, "read again from the layers: the same", sbom.digest, "comparison")

    def engine(self, manifest: Manifest, *, load: bool) -> str:
        image_id = self._v.engine_image(manifest.digest, manifest.config.digest)
        if not image_id and load:
            self._v.load(manifest.digest, self._target.name)
            image_id = self._v.engine_image(manifest.digest, manifest.config.digest)
        if not image_id:
            raise ImageNotInEngine(
                f"the engine has no image {manifest.config.digest}, which is what {self._target.name} was verified as",
                remedy=f"load it: hm up, or hm call {self._target.name}",
                image=manifest.digest,
                image_id=manifest.config.digest,
            )
        which = "config" if image_id == manifest.config.digest else "manifest"
        self.link("engine", self._image, f"the engine's image ID is the {which} digest", image_id, "engine")
        return image_id

    def _sized(self, descriptor: Descriptor, size: int) -> None:
        if descriptor.size != size:
            raise ManifestInvalid(
                f"{descriptor.digest} has {size} bytes, not the {descriptor.size} that the manifest says",
                remedy="build or pull the image again",
            )

    def _rule(self, requirement: Requirement) -> str:
        return f"trust rule {requirement.rule!r}"

    def link(self, name: str, subject: str, checked: str, digest: str, by: str) -> None:
        self.links.append(Link(name, subject, checked, digest, by))
        if self._on_link:
            self._on_link(self.links[-1])


def _timeless(sbom: dict[str, object]) -> dict[str, object]:
    """Without ``metadata.timestamp``: when it was made is not what the file system says."""
    metadata = sbom.get("metadata")
    kept = {k: v for k, v in metadata.items() if k != "timestamp"} if isinstance(metadata, dict) else metadata
    return {**sbom, "metadata": kept}
