"""A keyless bundle made by another implementation (@sigstore/sign) verifies, and each thing wrong with it is refused."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harbourmaster.core.errors import HarbourError
from policies import statements
from policies.bundles import sign_statement, verify_bundle
from policies.keys import SigningKey
from policies.trust import Requirement, TrustedIdentity

TOOL = Path(__file__).with_name("keyless")
DIGEST = "sha256:" + "5a" * 32
IDENTITY = "https://github.com/acme/servers/.github/workflows/release.yml@refs/heads/main"
ISSUER = "https://token.actions.example"
STATEMENT = statements.statement("acme/time", DIGEST, statements.SIGNATURE, {})

pytestmark = [
    pytest.mark.npm,
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="needs node and npm"),
]

Sign = Callable[..., tuple[bytes, Path]]


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keyless") / "tool"
    shutil.copytree(TOOL, place, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(["npm", "ci"], cwd=place, capture_output=True, text=True, timeout=240)
    if "EBADENGINE" in done.stderr and done.returncode:
        pytest.skip("needs Node.js 20.17 or 22.9")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="session")
def sign(tool: Path, tmp_path_factory: pytest.TempPathFactory) -> Sign:
    """Each call has its own authorities: (bundle, trusted root file)."""

    def run(**request: Any) -> tuple[bytes, Path]:
        out = tmp_path_factory.mktemp("signed")
        body = {"statement": STATEMENT, "identity": IDENTITY, "issuer": ISSUER, "entryType": "dsse", **request}
        # A proxy in the environment must not stand between the signer and the stand-ins on loopback.
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        command = ["node", "sign.mjs", str(out)]
        done = subprocess.run(command, cwd=tool, input=json.dumps(body), capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        return (out / "bundle.json").read_bytes(), out / "trusted_root.json"

    return run


def test_another_implementation_verifies_what_we_sign(tool: Path, tmp_path: Path) -> None:
    key = SigningKey.generate()
    bundle, public = tmp_path / "bundle.json", tmp_path / "key.pub"
    public.write_text(key.verifying.pem)

    def verdict(data: bytes) -> subprocess.CompletedProcess[str]:
        bundle.write_bytes(data)
        command = ["node", "verify.mjs", str(bundle), str(public)]
        return subprocess.run(command, cwd=tool, capture_output=True, text=True)

    accepted = verdict(sign_statement(STATEMENT, key))
    assert accepted.returncode == 0, accepted.stderr
    assert json.loads(accepted.stdout) == STATEMENT
    assert "signature verification failed" in verdict(sign_statement(STATEMENT, SigningKey.generate())).stderr


@pytest.fixture(scope="session")
def signed(sign: Sign) -> tuple[bytes, Path]:
    return sign(timestamp=True)


def requirement(**identity: str) -> Requirement:
    return Requirement("acme", identities=(TrustedIdentity(**{"issuer": ISSUER, "identity": IDENTITY, **identity}),))


def refusal(bundle: bytes, root: Path, need: Requirement | None = None, artifact: str = DIGEST) -> HarbourError:
    with pytest.raises(HarbourError) as caught:
        verify_bundle(bundle, need or requirement(), trusted_root=root, artifact=artifact)
    return caught.value


@pytest.mark.parametrize("entry", ["dsse", "intoto"])
@pytest.mark.parametrize("timestamp", [True, False])
def test_a_bundle_of_another_implementation_verifies_offline(sign: Sign, entry: str, timestamp: bool) -> None:
    bundle, root = sign(entryType=entry, timestamp=timestamp)
    verified = verify_bundle(bundle, requirement(), trusted_root=root, artifact=DIGEST)
    assert verified.statement == STATEMENT
    assert verified.logged
    who = verified.signature
    assert (who.kind, who.identity, who.issuer) == ("keyless", IDENTITY, ISSUER)
    assert who.integrated_time is not None


def test_an_identity_may_be_given_as_a_pattern_of_the_whole_of_it(signed: tuple[bytes, Path]) -> None:
    def pattern(regex: str) -> Requirement:
        return Requirement("acme", identities=(TrustedIdentity(ISSUER, identity_regex=regex),))

    bundle, root = signed
    need = pattern(r"https://github\.com/acme/servers/.*")
    assert verify_bundle(bundle, need, trusted_root=root).signature.identity == IDENTITY
    assert refusal(bundle, root, pattern(r"https://github\.com/acme/servers")).code == "signature.identity"


@pytest.mark.parametrize(
    "wrong", [{"identity": IDENTITY + "x"}, {"identity": "release.yml"}, {"issuer": ISSUER + "/"}, {"issuer": ""}]
)
def test_a_signer_the_policy_does_not_name_is_refused(signed: tuple[bytes, Path], wrong: dict[str, str]) -> None:
    error = refusal(*signed, requirement(**wrong))
    assert error.code == "signature.identity"
    assert error.details["identity"] == [IDENTITY]


def test_issuer_and_identity_of_two_different_rules_are_not_mixed(signed: tuple[bytes, Path]) -> None:
    need = Requirement("acme", identities=(TrustedIdentity(ISSUER, "a@acme"), TrustedIdentity("https://x", IDENTITY)))
    assert refusal(*signed, need).code == "signature.identity"


def test_a_rule_that_names_only_keys_accepts_no_certificate(signed: tuple[bytes, Path]) -> None:
    assert refusal(*signed, Requirement("keys only")).code == "signature.identity"


@pytest.mark.parametrize("minutes", [60, -60], ids=["expired", "not yet valid"])
def test_a_signature_made_outside_its_certificates_validity_is_refused(sign: Sign, minutes: int) -> None:
    assert refusal(*sign(certificateMinutesAgo=minutes)).code == "signature.expired"


def test_a_bundle_for_another_image_is_refused(signed: tuple[bytes, Path]) -> None:
    error = refusal(*signed, artifact="sha256:" + "00" * 32)
    assert error.code == "attestation.wrong_subject"


def test_another_instances_trusted_root_refuses_it(signed: tuple[bytes, Path], sign: Sign) -> None:
    _, other = sign()
    assert refusal(signed[0], other).code == "signature.invalid"


@pytest.mark.parametrize("authority", ["certificateAuthorities", "tlogs"])
def test_an_authority_that_was_no_longer_trusted_at_signing_does_not_count(
    signed: tuple[bytes, Path], tmp_path: Path, authority: str
) -> None:
    bundle, root = signed
    body = json.loads(root.read_text())
    holder = body[authority][0]
    (holder if authority != "tlogs" else holder["publicKey"])["validFor"] = {
        "start": "2020-01-01T00:00:00Z",
        "end": "2021-01-01T00:00:00Z",
    }
    changed = tmp_path / "root.json"
    changed.write_text(json.dumps(body))
    assert refusal(bundle, changed).code == "signature.expired"


def tampered(bundle: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    body = json.loads(bundle)
    change(body)
    return json.dumps(body).encode()


def other_payload(body: dict[str, Any]) -> None:
    envelope = body["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"]).replace(b"acme", b"evil")
    envelope["payload"] = base64.b64encode(payload).decode()


def two_signatures(body: dict[str, Any]) -> None:
    body["dsseEnvelope"]["signatures"] *= 2


def no_log_entry(body: dict[str, Any]) -> None:
    body["verificationMaterial"]["tlogEntries"] = []


def other_entry_body(body: dict[str, Any]) -> None:
    entry = body["verificationMaterial"]["tlogEntries"][0]
    entry["canonicalizedBody"] = base64.b64encode(b"{}").decode()


def no_promise(body: dict[str, Any]) -> None:
    del body["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]
    body["verificationMaterial"].pop("timestampVerificationData", None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_payload, "signature.invalid"),
        (two_signatures, "signature.malformed"),
        (no_log_entry, "signature.malformed"),
        (other_entry_body, "signature.invalid"),
        (no_promise, "signature.malformed"),
    ],
)
def test_a_tampered_bundle_is_refused(signed: tuple[bytes, Path], change: Any, code: str) -> None:
    bundle, root = signed
    assert refusal(tampered(bundle, change), root).code == code


def test_a_bundle_that_brings_a_root_certificate_is_refused(signed: tuple[bytes, Path]) -> None:
    bundle, root = signed
    certificate = json.loads(root.read_text())["certificateAuthorities"][0]["certChain"]["certificates"][0]

    def with_root(body: dict[str, Any]) -> None:
        body["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
        material = body["verificationMaterial"]
        material["x509CertificateChain"] = {"certificates": [material.pop("certificate"), certificate]}

    assert refusal(tampered(bundle, with_root), root).code == "signature.malformed"


@pytest.mark.parametrize("entry", ["dsse", "intoto"])
def test_a_signature_logged_for_another_statement_does_not_carry_over(sign: Sign, entry: str) -> None:
    """The log entry of one good bundle under the envelope of another by the same signer (CVE-2022-36056)."""
    bundle, root = sign(entryType=entry)
    other, _ = sign(entryType=entry)
    entries = json.loads(other)["verificationMaterial"]["tlogEntries"]
    mixed = tampered(bundle, lambda body: body["verificationMaterial"].update(tlogEntries=entries))
    assert refusal(mixed, root).code == "signature.invalid"


def test_a_payload_that_is_no_statement_is_refused_though_its_signature_is_good(sign: Sign) -> None:
    bundle, root = sign(payloadType="application/json")
    assert refusal(bundle, root).code == "signature.malformed"
    bundle, root = sign(statement={"_type": "https://in-toto.io/Statement/v1"})
    assert refusal(bundle, root).code == "attestation.malformed"
