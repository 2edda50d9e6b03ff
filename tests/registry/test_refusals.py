"""Every refusal: its own code, an audit record, and no container.  Against a real engine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from papered import ALL, Harbour, attach, harbour, predicate, sign
from tinyfulcio import ISSUER, LIFE, TinyFulcio
from tinyimages import flip_byte

from harbourmaster.core import audit as audits
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.errors import HarbourError
from policies.bundles import sign_statement
from policies.keys import SigningKey
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from policies.trust import Requirement, TrustedIdentity, TrustPolicy, TrustRule
from registry.admit import AdmittedImage, Admitter
from sandbox.engine import Engine

pytestmark = pytest.mark.engine


class Dock:
    """Admits, and on a yes creates a container, as the gateway would."""

    def __init__(self, place: Harbour, engine: Engine, audit: AuditLog) -> None:
        self.place, self.engine, self.audit = place, engine, audit
        self.label = f"harbourmaster.test={uuid.uuid4().hex}"
        place.engine = engine
        self.locked = ""

    def admitter(self) -> Admitter:
        target = self.place.target(locked=self.locked)
        return Admitter(self.place.settings, self.place.verifier(), self.audit, lambda name: target)

    def run(self) -> AdmittedImage:
        admitted = self.admitter().admit("tiny")
        name, value = self.label.split("=")
        self.engine.client.containers.create(admitted.image_id, labels={name: value})
        return admitted

    def containers(self) -> int:
        return len(self.engine.client.containers.list(all=True, filters={"label": self.label}))

    def refuses(self, code: str) -> HarbourError:
        """Assert the refusal, its audit record and that no container came of it; returns the error."""
        with pytest.raises(HarbourError) as refused:
            self.run()
        assert refused.value.code == code
        assert refused.value.remedy
        assert self.containers() == 0
        (record,) = audits.tail(self.place.settings.audit_dir, 1)
        wanted = {"kind": "admission", "server": "tiny", "verdict": "refused", "code": code}
        assert {key: record[key] for key in wanted} == wanted
        audits.verify(self.place.settings.audit_dir)
        return refused.value

    def clear(self) -> None:
        for container in self.engine.client.containers.list(all=True, filters={"label": self.label}):
            container.remove(force=True)
        for image in self.engine.client.images.list(filters={"reference": "harbourmaster/tiny"}):
            self.engine.client.images.remove(image.id, force=True)


@pytest.fixture
def dock(home: Path) -> Iterator[Dock]:
    place = harbour(home)
    engine = Engine.connect(place.settings)
    audit = AuditLog(place.settings.audit_dir)
    dock = Dock(place, engine, audit)
    yield dock
    dock.clear()
    audit.close()
    engine.close()


def drop(place: Harbour, digest: str, predicate_type: str) -> None:
    for referrer in place.layout.referrers(digest):
        if referrer.annotations["dev.sigstore.bundle.predicateType"] == predicate_type:
            place.layout.remove_referrer(referrer.digest)


def test_an_image_whose_chain_holds_is_admitted_recorded_and_created_from_its_id(dock: Dock) -> None:
    digest = dock.place.papered()
    admitted = dock.run()
    assert (admitted.image, admitted.cached) == (digest, False)
    assert admitted.image_id == dock.place.layout.read_manifest(digest).config.digest
    assert dock.containers() == 1
    (record,) = audits.tail(dock.place.settings.audit_dir, 1)
    assert (record["verdict"], record["policies"]) == ("admitted", ["built.admit"])


def test_a_flipped_byte_in_a_layer(dock: Dock) -> None:
    digest = dock.place.papered()
    flip_byte(dock.place.layer_path(digest))
    dock.refuses("digest.mismatch")


def test_a_byte_flipped_after_an_admission_with_the_time_stamps_put_back(dock: Dock) -> None:
    digest = dock.place.papered()
    dock.admitter().admit("tiny")
    assert dock.admitter().admit("tiny").cached
    flip_byte(dock.place.layer_path(digest))
    dock.refuses("digest.mismatch")


def test_a_flipped_byte_in_the_config(dock: Dock) -> None:
    digest = dock.place.papered()
    flip_byte(dock.place.layout.blob_path(dock.place.layout.read_manifest(digest).config.digest), 30)
    dock.refuses("digest.mismatch")


def test_another_keys_signature(dock: Dock) -> None:
    digest = dock.place.image()
    sign(dock.place.layout, digest, SigningKey.generate())
    dock.refuses("signature.untrusted_key")


def test_another_keys_signature_that_claims_to_be_ours(dock: Dock) -> None:
    digest = dock.place.image()
    body = statement("tiny", digest, SIGNATURE, {})
    bundle = json.loads(sign_statement(body, SigningKey.generate()))
    bundle["verificationMaterial"]["publicKey"]["hint"] = dock.place.key.verifying.hint
    attach(dock.place.layout, digest, SIGNATURE, json.dumps(bundle).encode())
    dock.refuses("signature.invalid")


def test_a_valid_signature_moved_from_another_image(dock: Dock) -> None:
    other = dock.place.image(tag="other:1")
    digest = dock.place.image()
    sign(dock.place.layout, digest, dock.place.key, (SIGNATURE,), about=other)
    sign(dock.place.layout, digest, dock.place.key, (SBOM, PROVENANCE, LISTING))
    error = dock.refuses("attestation.wrong_subject")
    assert error.details["found"] == [other]


def test_an_sbom_attestation_whose_subject_is_another_image(dock: Dock) -> None:
    digest = dock.place.image()
    sign(dock.place.layout, digest, dock.place.key, (SIGNATURE, PROVENANCE, LISTING))
    sign(dock.place.layout, digest, dock.place.key, (SBOM,), about=dock.place.image(tag="other:1"))
    error = dock.refuses("attestation.wrong_subject")
    assert SBOM in error.message


def test_an_sbom_signed_as_something_else(dock: Dock) -> None:
    digest = dock.place.image()
    sign(dock.place.layout, digest, dock.place.key, (SIGNATURE, PROVENANCE, LISTING))
    body = statement("tiny", digest, PROVENANCE, {})
    attach(dock.place.layout, digest, SBOM, sign_statement(body, dock.place.key))
    dock.refuses("attestation.wrong_predicate")


@pytest.mark.parametrize("paper", [SBOM, PROVENANCE, LISTING])
def test_a_missing_paper(dock: Dock, paper: str) -> None:
    digest = dock.place.papered()
    drop(dock.place, digest, paper)
    error = dock.refuses("attestation.missing")
    assert error.details["predicate_type"] == paper


def test_a_paper_that_goes_missing_after_an_admission(dock: Dock) -> None:
    digest = dock.place.papered()
    dock.admitter().admit("tiny")
    drop(dock.place, digest, SBOM)
    dock.refuses("attestation.missing")


def test_an_image_that_nobody_signed(dock: Dock) -> None:
    digest = dock.place.papered()
    drop(dock.place, digest, SIGNATURE)
    dock.refuses("signature.missing")


def test_a_tag_moved_after_verification(dock: Dock) -> None:
    dock.locked = dock.place.papered()
    assert dock.admitter().admit("tiny").image == dock.locked
    dock.place.papered()  # takes the name, and its papers are in order
    error = dock.refuses("image.moved")
    assert error.details["locked"] == dock.locked


def test_a_trust_policy_that_is_empty(dock: Dock) -> None:
    dock.place.papered()
    dock.place.settings.trust_file.write_text("version: 1\nrules: []\n")
    dock.place.trust = TrustPolicy.load(dock.place.settings)
    dock.refuses("trust.empty")


def test_a_trust_policy_emptied_after_an_admission(dock: Dock) -> None:
    dock.place.papered()
    dock.admitter().admit("tiny")
    dock.place.trust = TrustPolicy.of((), "a test")
    dock.refuses("trust.empty")


IDENTITY = "https://example.org/servers/.github/workflows/release.yml@refs/heads/main"
LAST_YEAR = datetime(2025, 6, 1, 12, tzinfo=UTC)


class Keyless:
    """An image whose four papers are signed with certificates, in a world of its own."""

    def __init__(self, dock: Dock, *, trusted: str = IDENTITY, issuer: str = ISSUER) -> None:
        self.dock, self.world = dock, TinyFulcio()
        self.digest = dock.place.image()
        root = self.world.root(dock.place.settings.home / "trusted_root.json")
        who = Requirement("keyless", identities=(TrustedIdentity(issuer, identity=trusted),), trusted_root=root)
        dock.place.trust = TrustPolicy.of((TrustRule("built", ("*",), who),), "a test")

    def paper(self, **more: Any) -> None:
        layout = self.dock.place.layout
        for kind in ALL:
            body = statement("tiny", self.digest, kind, predicate(layout, self.digest, kind))
            attach(layout, self.digest, kind, self.world.sign(body, identity=IDENTITY, at=LAST_YEAR, **more))


def test_a_keyless_image_is_admitted_long_after_its_certificate_ended(dock: Dock) -> None:
    Keyless(dock).paper()
    dock.run()
    assert dock.containers() == 1
    signature = dock.place.verifier().verify(dock.place.target()).signature
    assert signature
    assert (signature.kind, signature.identity, signature.issuer) == ("keyless", IDENTITY, ISSUER)


def test_a_signature_made_after_its_certificate_expired(dock: Dock) -> None:
    Keyless(dock).paper(logged=LAST_YEAR + LIFE + timedelta(seconds=1))
    dock.refuses("signature.expired")


@pytest.mark.parametrize(
    "trusted",
    [{"trusted": IDENTITY.replace("main", "evil")}, {"issuer": "https://other.example.org"}],
    ids=["identity", "issuer"],
)
def test_a_sound_certificate_of_somebody_else(dock: Dock, trusted: dict[str, str]) -> None:
    Keyless(dock, **trusted).paper()
    dock.refuses("signature.identity")


def test_a_certificate_of_an_authority_that_is_not_trusted(dock: Dock) -> None:
    keyless = Keyless(dock)
    keyless.world = TinyFulcio()
    keyless.paper()
    dock.refuses("signature.invalid")


def test_a_certificate_where_only_keys_are_trusted(dock: Dock) -> None:
    keyless, local = Keyless(dock), dock.place.key.verifying
    keyless.paper()
    dock.place.trust = TrustPolicy.default(local)
    dock.refuses("signature.identity")


def test_an_image_that_the_engine_cannot_be_given(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    dock.place.papered()
    monkeypatch.setattr(dock.engine, "load", lambda archive: [])
    dock.refuses("image.not_in_engine")


def test_a_server_whose_name_nobody_knows_is_refused_on_record_too(dock: Dock) -> None:
    dock.refuses("image.not_found")
