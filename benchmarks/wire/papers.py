"""Papers for the echo image, by the key of this HM_HOME: what a build leaves behind, so that admission is the real one."""

from __future__ import annotations

from typing import Any

from harbourmaster.core.settings import Settings
from policies.bundles import sign_statement
from policies.keys import SigningKey
from policies.policy_set import PolicySet
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from policies.trust import TrustPolicy
from registry.oci import OciLayout, media
from registry.oci.importer import import_engine_image
from registry.sbom import sbom_of
from registry.target import Target
from registry.verify import Verifier
from sandbox.engine import Engine

REF = "echo:1"


def papered(settings: Settings, engine: Engine, image_id: str, listing: dict[str, Any]) -> str:
    """Put the image into the layout and sign it; its manifest digest."""
    layout, key = OciLayout(settings.oci_dir), SigningKey.load_or_create(settings.keys_dir)
    digest = import_engine_image(engine.client, image_id, layout)
    layout.tag(REF, digest)
    said = {SIGNATURE: {}, SBOM: sbom_of(layout, digest), PROVENANCE: {"buildDefinition": {}}, LISTING: listing}
    for kind, predicate in said.items():
        bundle = sign_statement(statement("echo", digest, kind, predicate), key)
        layout.add_referrer(digest, bundle, annotations={media.PREDICATE_TYPE_ANNOTATION: kind})
    return digest


def verifier(settings: Settings, engine: Engine) -> Verifier:
    return Verifier(OciLayout(settings.oci_dir), engine, TrustPolicy.load(settings), PolicySet.load(settings))


def target(name: str) -> Target:
    return Target("echo", "built", REF)
