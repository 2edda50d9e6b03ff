"""Images with papers, and a place to verify them in; what a build leaves behind, without the build."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyimages import Layer, put_image

from harbourmaster.core.settings import Settings
from policies.bundles import sign_statement
from policies.keys import SigningKey
from policies.policy_set import PolicySet
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from policies.trust import TrustPolicy
from registry.oci import Descriptor, OciLayout, media
from registry.sbom import sbom_of
from registry.target import Target
from registry.verify import EngineImages, Verifier

ALL = (SIGNATURE, SBOM, PROVENANCE, LISTING)


def predicate(layout: OciLayout, digest: str, predicate_type: str) -> dict[str, Any]:
    if predicate_type == SBOM:
        return sbom_of(layout, digest)
    if predicate_type == LISTING:
        return {"protocolVersion": "2025-11-25", "serverInfo": {"name": "tiny", "version": "1"}, "tools": []}
    return {"buildDefinition": {}} if predicate_type == PROVENANCE else {}


def attach(layout: OciLayout, digest: str, predicate_type: str, bundle: bytes) -> Descriptor:
    return layout.add_referrer(digest, bundle, annotations={media.PREDICATE_TYPE_ANNOTATION: predicate_type})


def sign(layout: OciLayout, digest: str, key: SigningKey, types: tuple[str, ...] = ALL, *, about: str = "") -> None:
    """Attach papers to ``digest``; with ``about``, papers that speak of another image."""
    for predicate_type in types:
        body = statement("tiny", about or digest, predicate_type, predicate(layout, digest, predicate_type))
        attach(layout, digest, predicate_type, sign_statement(body, key))


@dataclass
class Harbour:
    """One HM_HOME with a layout, a key and the default trust policy."""

    settings: Settings
    layout: OciLayout
    key: SigningKey
    trust: TrustPolicy
    engine: EngineImages | None = None

    def image(self, *layers: Layer | bytes, tag: str = "tiny:1", unique: bool = True) -> str:
        content = [Layer([("unique", uuid.uuid4().bytes)])] if unique else []
        return put_image(self.layout, *(layers or (Layer([("hello", b"hi" * 900)]),)), *content, tag=tag)

    def papered(self, **more: Any) -> str:
        digest = self.image(**more)
        sign(self.layout, digest, self.key)
        return digest

    def target(self, **more: Any) -> Target:
        return dataclasses.replace(Target("tiny", "built", "tiny:1"), **more)

    def verifier(self, **more: Any) -> Verifier:
        return Verifier(self.layout, self.engine, self.trust, PolicySet.builtin(), **more)

    def layer_path(self, digest: str) -> Path:
        return self.layout.blob_path(self.layout.read_manifest(digest).layers[0].digest)


def harbour(home: Path) -> Harbour:
    settings = Settings.load(home=home)
    key = SigningKey.load_or_create(settings.keys_dir)
    return Harbour(settings, OciLayout(settings.oci_dir), key, TrustPolicy.load(settings))
