"""Key-signed bundles and cosign's older layout: what we sign verifies, and nothing else does."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from harbourmaster.core.errors import HarbourError
from policies import statements
from policies.bundles import COSIGN_TYPE, sign_statement, verify_bundle, verify_cosign
from policies.envelopes import BUNDLE_V03, pae
from policies.keys import SigningKey, VerifyingKey
from policies.trust import Requirement, TrustedIdentity

DIGEST = "sha256:" + "a1" * 32
OTHER = "sha256:" + "b2" * 32


def changed(bundle: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    body = json.loads(bundle)
    change(body)
    return json.dumps(body).encode()


def refusal(bundle: bytes, requirement: Requirement, artifact: bytes | str | None = DIGEST) -> HarbourError:
    with pytest.raises(HarbourError) as caught:
        verify_bundle(bundle, requirement, trusted_root=None, artifact=artifact)
    assert caught.value.remedy
    return caught.value


def envelope(key: SigningKey, payload: bytes, kind: str = statements.PAYLOAD_TYPE) -> bytes:
    body = {
        "mediaType": BUNDLE_V03,
        "verificationMaterial": {"publicKey": {"hint": key.verifying.hint}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind,
            "signatures": [{"sig": base64.b64encode(key.sign(pae(kind, payload))).decode()}],
        },
    }
    return json.dumps(body).encode()


def message(key: SigningKey, data: bytes, algorithm: str = "SHA2_256", digest: bytes | None = None) -> bytes:
    body = {
        "mediaType": BUNDLE_V03,
        "verificationMaterial": {"publicKey": {"hint": key.verifying.hint}},
        "messageSignature": {
            "messageDigest": {
                "algorithm": algorithm,
                "digest": base64.b64encode(digest or hashlib.sha256(data).digest()).decode(),
            },
            "signature": base64.b64encode(key.sign(data)).decode(),
        },
    }
    return json.dumps(body).encode()


def test_what_we_sign_verifies_and_says_by_whom(
    bundle: bytes, requirement: Requirement, key: SigningKey, statement: dict[str, Any]
) -> None:
    verified = verify_bundle(bundle, requirement, trusted_root=None, artifact=DIGEST)
    assert verified.statement == statement
    assert (verified.signature.kind, verified.signature.key_id) == ("key", key.key_id)
    assert (verified.rule, verified.logged) == ("local builds", False)


def test_the_bundle_has_the_shape_that_cosign_3_writes(bundle: bytes, key: SigningKey) -> None:
    body = json.loads(bundle)
    assert body["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    hint = body["verificationMaterial"]["publicKey"]["hint"]
    assert base64.b64decode(hint).hex() == key.key_id.removeprefix("sha256:")
    assert body["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"


def test_the_pre_authentication_encoding_is_that_of_the_dsse_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("ü", "ß".encode()) == "DSSEv1 2 ü 2 ß".encode()  # lengths are in bytes


def test_another_keys_signature_is_refused(bundle: bytes) -> None:
    stranger = Requirement("acme", keys=(SigningKey.generate().verifying,))
    assert refusal(bundle, stranger).code == "signature.untrusted_key"


def test_a_stranger_who_borrows_the_hint_of_a_trusted_key_is_refused(
    requirement: Requirement, key: SigningKey, statement: dict[str, Any]
) -> None:
    forged = changed(
        sign_statement(statement, SigningKey.generate()),
        lambda body: body["verificationMaterial"]["publicKey"].update(hint=key.verifying.hint),
    )
    assert refusal(forged, requirement).code == "signature.invalid"


@pytest.mark.parametrize("hint", [None, "", "something else"])
def test_the_hint_decides_nothing(bundle: bytes, requirement: Requirement, hint: str | None) -> None:
    other = changed(bundle, lambda body: body["verificationMaterial"].update(publicKey={"hint": hint}))
    assert verify_bundle(other, requirement, trusted_root=None).rule == "local builds"


def test_any_of_several_trusted_keys_will_do(bundle: bytes, key: SigningKey) -> None:
    need = Requirement("many", keys=(SigningKey.generate().verifying, key.verifying))
    assert verify_bundle(bundle, need, trusted_root=None).signature.key_id == key.key_id


def test_a_rule_without_keys_accepts_no_key(bundle: bytes) -> None:
    need = Requirement("keyless only", identities=(TrustedIdentity("https://issuer", "me"),))
    assert refusal(bundle, need).code == "signature.untrusted_key"


def test_a_signature_moved_from_another_image_is_refused(bundle: bytes, requirement: Requirement) -> None:
    error = refusal(bundle, requirement, OTHER)
    assert error.code == "attestation.wrong_subject"
    assert DIGEST in error.message
    assert OTHER in error.message


def test_a_flipped_bit_anywhere_in_the_payload_is_refused(bundle: bytes, requirement: Requirement) -> None:
    payload = base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"])
    for position in range(0, len(payload), 7):
        flipped = bytearray(payload)
        flipped[position] ^= 1
        text = base64.b64encode(bytes(flipped)).decode()
        other = changed(bundle, lambda body, text=text: body["dsseEnvelope"].update(payload=text))
        assert refusal(other, requirement).code == "signature.invalid"


def test_the_payload_type_is_signed_too(bundle: bytes, requirement: Requirement) -> None:
    other = changed(bundle, lambda body: body["dsseEnvelope"].update(payloadType="application/json"))
    assert refusal(other, requirement).code == "signature.malformed"


def test_a_well_signed_payload_of_another_type_is_refused(requirement: Requirement, key: SigningKey) -> None:
    signed = envelope(key, b'{"critical": {}}', "application/vnd.dev.cosign.simplesigning.v1+json")
    assert refusal(signed, requirement).code == "signature.malformed"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"_type": "https://in-toto.io/Statement/v2", "predicateType": "x", "subject": []}',
        b'{"_type": "https://in-toto.io/Statement/v1", "subject": []}',
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "x", "subject": {}}',
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "x", "subject": [{"digest": "sha256"}]}',
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "x", "subject": [{"digest": {"sha256": 1}}]}',
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "x", "subject": [], "predicate": []}',
        b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "x", "predicateType": "y", "subject": []}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_well_signed_payload_that_is_no_unambiguous_statement_is_refused(
    requirement: Requirement, key: SigningKey, payload: bytes
) -> None:
    assert refusal(envelope(key, payload), requirement, None).code == "attestation.malformed"


def test_a_statement_without_subjects_speaks_of_no_image(requirement: Requirement, key: SigningKey) -> None:
    payload = b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "x", "subject": []}'
    assert refusal(envelope(key, payload), requirement).code == "attestation.wrong_subject"


def test_a_subject_under_another_hash_name_is_not_the_image(requirement: Requirement, key: SigningKey) -> None:
    statement = {
        "_type": statements.STATEMENT_V1,
        "predicateType": "x",
        "subject": [{"name": "a", "digest": {"sha512": DIGEST[7:], "SHA256": DIGEST[7:]}}],
    }
    assert refusal(sign_statement(statement, key), requirement).code == "attestation.wrong_subject"


def drop(*path: str) -> Callable[[dict[str, Any]], Any]:
    def change(body: dict[str, Any]) -> None:
        for name in path[:-1]:
            body = body[name]
        del body[path[-1]]

    return change


def put(value: Any, *path: str) -> Callable[[dict[str, Any]], Any]:
    def change(body: dict[str, Any]) -> None:
        for name in path[:-1]:
            body = body[name]
        body[path[-1]] = value

    return change


GOOD_SIG = "MEUCIQ=="


@pytest.mark.parametrize(
    "change",
    [
        drop("mediaType"),
        put("application/json", "mediaType"),
        put("application/vnd.dev.sigstore.bundle+json;version=0.4", "mediaType"),
        put({"a": 1}, "mediaType"),
        drop("verificationMaterial"),
        put([], "verificationMaterial"),
        drop("verificationMaterial", "publicKey"),
        put({"rawBytes": "AAAA"}, "verificationMaterial", "certificate"),
        put({"hint": 5}, "verificationMaterial", "publicKey"),
        put("hint", "verificationMaterial", "publicKey"),
        put({}, "verificationMaterial", "tlogEntries"),
        drop("dsseEnvelope"),
        put({"signature": GOOD_SIG}, "messageSignature"),
        drop("dsseEnvelope", "payload"),
        put("not base64!", "dsseEnvelope", "payload"),
        put(7, "dsseEnvelope", "payload"),
        drop("dsseEnvelope", "payloadType"),
        drop("dsseEnvelope", "signatures"),
        put([], "dsseEnvelope", "signatures"),
        put({}, "dsseEnvelope", "signatures"),
        put(["sig"], "dsseEnvelope", "signatures"),
        put([{}], "dsseEnvelope", "signatures"),
        put([{"sig": ""}], "dsseEnvelope", "signatures"),
        put([{"sig": "A" * 4000}], "dsseEnvelope", "signatures"),
    ],
)
def test_a_malformed_bundle_is_refused_as_malformed(
    bundle: bytes, requirement: Requirement, change: Callable[[dict[str, Any]], Any]
) -> None:
    assert refusal(changed(bundle, change), requirement).code == "signature.malformed"


@pytest.mark.parametrize("good_first", [True, False])
def test_a_second_signature_is_refused_even_beside_a_good_one(
    bundle: bytes, requirement: Requirement, statement: dict[str, Any], good_first: bool
) -> None:
    stranger = json.loads(sign_statement(statement, SigningKey.generate()))["dsseEnvelope"]["signatures"]

    def add(body: dict[str, Any]) -> None:
        good = body["dsseEnvelope"]["signatures"]
        body["dsseEnvelope"]["signatures"] = good + stranger if good_first else stranger + good

    assert refusal(changed(bundle, add), requirement).code == "signature.malformed"


@pytest.mark.parametrize("place", ['"payload":', '"payloadType":', '"mediaType":', '"sig":', '"hint":'])
def test_a_duplicate_key_is_refused_wherever_it_stands(bundle: bytes, requirement: Requirement, place: str) -> None:
    text = bundle.decode()
    assert refusal(text.replace(place, f'{place}"evil",{place}', 1).encode(), requirement).code == "signature.malformed"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b"[]", b'"x"', b"\xff", b"[" * 200_000, b'{"a": NaN}', b"1" * 5000]
)
def test_what_is_not_a_bundle_at_all_is_refused(requirement: Requirement, raw: bytes) -> None:
    assert refusal(raw, requirement).code == "signature.malformed"


def test_a_huge_bundle_is_refused_before_it_is_parsed(requirement: Requirement, monkeypatch: Any) -> None:
    monkeypatch.setattr("policies.envelopes.MAX_BUNDLE_BYTES", 1000)
    error = refusal(b'{"mediaType":"' + b"a" * 1000 + b'"}', requirement)
    assert error.code == "signature.malformed"
    assert "1016 bytes" in error.message


def test_bytes_signed_directly_verify_by_content_or_by_digest(requirement: Requirement, key: SigningKey) -> None:
    signed = message(key, b"data")
    for artifact in (b"data", "sha256:" + hashlib.sha256(b"data").hexdigest()):
        assert verify_bundle(signed, requirement, trusted_root=None, artifact=artifact).statement is None
    assert refusal(signed, requirement, b"other").code == "signature.invalid"
    assert refusal(signed, requirement, None).code == "signature.malformed"
    assert refusal(signed, requirement, "sha256:short").code == "signature.malformed"


@pytest.mark.parametrize("algorithm", ["SHA2_512", "SHA1", "MD5", "none", ""])
def test_the_bundle_cannot_choose_the_hash(requirement: Requirement, key: SigningKey, algorithm: str) -> None:
    assert refusal(message(key, b"data", algorithm), requirement, b"data").code == "signature.invalid"


def test_a_signature_with_another_hash_than_the_curves_own_is_refused(statement: dict[str, Any]) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    verifying = VerifyingKey.from_public(private.public_key())
    payload = json.dumps(statement).encode()

    def signed(algorithm: hashes.HashAlgorithm) -> bytes:
        signature = private.sign(pae(statements.PAYLOAD_TYPE, payload), ec.ECDSA(algorithm))
        body = {
            "mediaType": BUNDLE_V03,
            "verificationMaterial": {"publicKey": {"hint": verifying.hint}},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": statements.PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode()}],
            },
        }
        return json.dumps(body).encode()

    need = Requirement("p384", keys=(verifying,))
    assert verify_bundle(signed(hashes.SHA384()), need, trusted_root=None).statement == statement
    assert refusal(signed(hashes.SHA256()), need).code == "signature.invalid"


def test_a_root_file_that_is_missing_or_wrong_is_named(bundle: bytes, requirement: Requirement, tmp_path: Path) -> None:
    logged = changed(bundle, put([{}], "verificationMaterial", "tlogEntries"))
    for content in (None, b"", b"{}", b'{"mediaType": "x"}'):
        root = tmp_path / "root.json"
        if content is not None:
            root.write_bytes(content)
        with pytest.raises(HarbourError) as caught:
            verify_bundle(logged, requirement, trusted_root=root)
        assert caught.value.code == "trust.root_invalid"
        assert str(root) in caught.value.message


def cosign_payload(image: str = DIGEST, kind: str = COSIGN_TYPE) -> bytes:
    identity = {"docker-reference": "docker.io/acme/time"}
    body = {
        "critical": {"identity": identity, "image": {"docker-manifest-digest": image}, "type": kind},
        "optional": None,
    }
    return json.dumps(body).encode()


def signed_by(key: SigningKey, payload: bytes) -> str:
    return base64.b64encode(key.sign(payload)).decode()


def test_cosigns_older_layout_verifies(requirement: Requirement, key: SigningKey) -> None:
    payload = cosign_payload()
    verified = verify_cosign(payload, signed_by(key, payload), requirement, image=DIGEST)
    assert (verified.signature.kind, verified.signature.key_id) == ("cosign", key.key_id)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (cosign_payload(OTHER), "attestation.wrong_subject"),
        (cosign_payload(kind="atomic container signature"), "signature.malformed"),
        (b"{}", "signature.malformed"),
        (b"[]", "signature.malformed"),
        (b'{"critical": []}', "signature.malformed"),
        (b'{"critical": {"type": "a", "type": "b"}}', "signature.malformed"),
        (b"\xff", "signature.malformed"),
    ],
)
def test_a_well_signed_cosign_payload_for_something_else_is_refused(
    requirement: Requirement, key: SigningKey, payload: bytes, code: str
) -> None:
    with pytest.raises(HarbourError) as caught:
        verify_cosign(payload, signed_by(key, payload), requirement, image=DIGEST)
    assert caught.value.code == code


def test_a_cosign_signature_by_nobody_we_trust_is_refused(requirement: Requirement, key: SigningKey) -> None:
    payload = cosign_payload()
    for signature, code in (
        (signed_by(SigningKey.generate(), payload), "signature.untrusted_key"),
        (signed_by(key, payload + b" "), "signature.untrusted_key"),
        ("", "signature.untrusted_key"),
        ("***", "signature.malformed"),
    ):
        with pytest.raises(HarbourError) as caught:
            verify_cosign(payload, signature, requirement, image=DIGEST)
        assert caught.value.code == code
