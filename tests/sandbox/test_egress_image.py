"""The relay's image as an installation makes it: compiled in a container, papered, signed, admitted."""

from __future__ import annotations

import os

import pytest

from harbourmaster.compose import target, verifier
from harbourmaster.core.settings import Settings
from policies.errors import AdmissionDenied, AttestationMissing
from policies.statements import PROVENANCE, SIGNATURE
from registry.build.builder import BuildContext
from registry.build.network import detect
from registry.build.ours import RELAY, relay_target
from registry.build.relay import build_relay, is_built
from registry.errors import SignatureMissing
from registry.oci import media
from registry.oci.layout import OciLayout
from tests.registry.conftest import Starters, engine, seeded, starters

pytestmark = [pytest.mark.engine, pytest.mark.slow]

__all__ = ["engine", "seeded", "starters"]  # fixtures


def test_it_is_compiled_from_our_source_the_same_each_time_and_admitted_like_any_server(
    seeded: Settings, starters: Starters
) -> None:
    assert not is_built(seeded)
    context = BuildContext.create(seeded, starters.engine.client, detect(os.environ))
    first = build_relay(context)
    assert is_built(seeded)
    checked = verifier(seeded, starters.engine).check(target(seeded, RELAY), deep=True, load=True)
    assert checked.evidence.image == first
    assert checked.evidence.image_id == starters.engine.image_id(checked.evidence.image_id)
    provenance = checked.evidence.provenance
    assert provenance is not None
    uris = [d["uri"] for d in provenance.predicate["buildDefinition"]["resolvedDependencies"]]
    assert any(uri.startswith("pkg:deb/debian/libc6-dev@") for uri in uris)  # what is linked in
    facts = starters.engine.api.inspect_image(checked.evidence.image_id)["Config"]
    assert (facts["Entrypoint"], facts["User"]) == (["/relay"], "65532:65532")
    assert build_relay(context) == first


def test_without_its_signature_or_its_provenance_it_may_not_run(seeded: Settings, starters: Starters) -> None:
    context = BuildContext.create(seeded, starters.engine.client, detect(os.environ))
    manifest = build_relay(context)
    layout = OciLayout(seeded.oci_dir)
    for kind in (PROVENANCE, SIGNATURE):
        for paper in layout.referrers(manifest, media.SIGSTORE_BUNDLE):
            if paper.annotations.get(media.PREDICATE_TYPE_ANNOTATION) == kind:
                layout.remove_referrer(paper.digest)
        with pytest.raises((SignatureMissing, AttestationMissing, AdmissionDenied)):
            verifier(seeded, starters.engine).check(relay_target(), load=True)
        assert not is_built(seeded)
