"""Sign and verify: Sigstore bundles v0.3 (keys, as cosign 3 writes them, and keyless), and cosign's older layout.

``sigstore`` is imported where a certificate or a log entry is to be verified: a key's signature needs none of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from harbourmaster.core.digests import hex_of, is_digest
from policies import envelopes, statements, strict_json
from policies.envelopes import Envelope, Message, ParsedBundle, malformed
from policies.errors import SignatureInvalid, SignatureMalformed, UntrustedKey, WrongIdentity, WrongSubject
from policies.evidence import Signature
from policies.keys import SigningKey, VerifyingKey
from policies.trust import Requirement

COSIGN_TYPE = "cosign container image signature"  # containers/image, docs/containers-signature.5.md
MAX_COSIGN_BYTES = 1 << 20


@dataclass(frozen=True)
class Verified:
    """A signature that stands, by whom, under which trust rule, and the in-toto statement that it covers if any.

    ``logged``: the transparency log's proof was verified too.
    """

    signature: Signature
    rule: str
    statement: dict[str, Any] | None = None
    logged: bool = False


def sign_statement(statement: dict[str, Any], key: SigningKey) -> bytes:
    """A DSSE envelope around ``statement`` in a v0.3 bundle with a ``publicKey`` hint: the format cosign 3 writes."""
    payload = orjson.dumps(statement)
    signature = key.sign(envelopes.pae(statements.PAYLOAD_TYPE, payload))
    return orjson.dumps(
        {
            "mediaType": envelopes.BUNDLE_V03,
            "verificationMaterial": {"publicKey": {"hint": key.verifying.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": statements.PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode()}],
            },
        }
    )


def verify_bundle(
    bundle: bytes, requirement: Requirement, *, trusted_root: Path | None, artifact: bytes | str | None = None
) -> Verified:
    """Verify ``bundle`` against a trust rule; raises the ``SignatureError`` tree, or ``AttestationError`` for a payload
    that is no statement or speaks of something else.

    ``artifact`` is what was signed: its bytes, or its ``sha256:<hex>``.  With a statement, one subject must be it.
    ``trusted_root`` goes before the rule's own root; keyless without either uses the public-good root.  A key-signed
    bundle's log entries are verified when there is a root to verify them with, and needed by nobody.
    """
    parsed = envelopes.parse(bundle)
    digest = _artifact_sha256(artifact)
    if isinstance(parsed.content, Envelope) and parsed.content.payload_type != statements.PAYLOAD_TYPE:
        raise malformed(f"its payload type {parsed.content.payload_type[:100]!r} is not an in-toto statement's")
    root_file = trusted_root or requirement.trusted_root
    if parsed.keyed:
        verified = _verify_keyed(parsed, requirement, root_file, artifact)
    elif not requirement.identities:
        raise WrongIdentity(
            f"signed with a certificate, but the trust rule {requirement.rule!r} names only keys",
            remedy="name the signer's issuer and identity in trust.yaml",
        )
    else:
        from policies import keyless, roots

        root = roots.refreshed() if requirement.refresh and root_file is None else roots.load(root_file)
        verified = Verified(keyless.verify(parsed, requirement, root, digest), requirement.rule, logged=True)
    return _with_statement(parsed, verified, digest)


def _with_statement(parsed: ParsedBundle, verified: Verified, digest: bytes | None) -> Verified:
    if isinstance(parsed.content, Message):
        return verified
    statement = statements.parse(parsed.content.payload)
    if digest is not None:
        statements.subject_is(statement, f"sha256:{digest.hex()}")
    return Verified(verified.signature, verified.rule, statement, verified.logged)


def _verify_keyed(
    parsed: ParsedBundle, requirement: Requirement, root_file: Path | None, artifact: bytes | str | None
) -> Verified:
    key = _signer(parsed, requirement, artifact)
    time, logged = None, False
    if root_file is not None and parsed.log_entries:
        from policies import roots

        time = _verify_log(parsed, key, roots.load(root_file), _artifact_sha256(artifact))
        logged = True
    return Verified(Signature("key", key_id=key.key_id, integrated_time=time), requirement.rule, logged=logged)


def _signer(parsed: ParsedBundle, requirement: Requirement, artifact: bytes | str | None) -> VerifyingKey:
    """The trusted key that made the signature.  The hint is a claim: it words the refusal and decides nothing."""
    for key in requirement.keys:
        if _signed_by(key, parsed.content, artifact):
            return key
    hinted = next((key for key in requirement.keys if key.hint == parsed.hint), None)
    if hinted:
        raise SignatureInvalid(
            f"the bundle says it was signed by the trusted key {hinted.key_id}, but the signature does not match its bytes",
            remedy="the bundle or what it signs was changed after signing: build or pull it again",
            key_id=hinted.key_id,
        )
    raise UntrustedKey(
        f"signed by a key that the trust rule {requirement.rule!r} does not name (hint {str(parsed.hint)[:100]!r})",
        remedy="if this key is the right one, name it in trust.yaml; else build the server again, or refuse it",
        hint=parsed.hint,
    )


def _signed_by(key: VerifyingKey, content: Envelope | Message, artifact: bytes | str | None) -> bool:
    if isinstance(content, Envelope):
        return key.verifies(content.signature, content.pae())
    if artifact is None:
        raise malformed("it signs bytes that are not in it, and none were given")
    if isinstance(artifact, bytes):
        digest = hashlib.new(key.hash_name, artifact).digest()
    elif key.hash_name == "sha256":
        digest = bytes.fromhex(hex_of(artifact))
    else:
        return False
    _digest_agrees(content, key.hash_name, digest)
    return key.verifies_digest(content.signature, digest)


def _digest_agrees(content: Message, hash_name: str, digest: bytes) -> None:
    if content.digest is not None and (content.algorithm, content.digest) != (f"SHA2_{hash_name[3:]}", digest):
        raise SignatureInvalid(
            "the bundle was made for other bytes than these (its message digest differs)",
            remedy="it belongs to another artifact: get the right bundle",
        )


def _verify_log(parsed: ParsedBundle, key: VerifyingKey, root: Any, digest: bytes | None) -> int | None:
    from sigstore_models.bundle.v1 import Bundle as BundleModel

    from policies import logs

    try:
        model = BundleModel.from_json(parsed.raw)
    except ValueError as e:
        raise malformed(str(e)) from e
    if parsed.log_entries != 1:
        raise malformed(f"it carries {parsed.log_entries} log entries instead of one")
    entry = model.verification_material.tlog_entries[0]
    time = logs.verify_entry(entry, root)
    logs.records(entry, parsed, key, digest)
    return time


def verify_cosign(payload: bytes, signature_b64: str, requirement: Requirement, *, image: str) -> Verified:
    """Cosign's layout before v3: a simple-signing ``payload`` signed by a key, which must name the digest ``image``."""
    try:
        signature = base64.b64decode(signature_b64, validate=True)
    except (binascii.Error, ValueError) as e:
        raise _cosign_malformed(f"its signature is not base64 ({e})") from e
    key = next((key for key in requirement.keys if key.verifies(signature, payload)), None)
    if key is None:
        raise UntrustedKey(
            f"no key of the trust rule {requirement.rule!r} made this cosign signature",
            remedy="name the signer's key in trust.yaml, or refuse the image",
        )
    _names_image(payload, image)
    return Verified(Signature("cosign", key_id=key.key_id), requirement.rule)


def _names_image(payload: bytes, image: str) -> None:
    try:
        critical = strict_json.loads(payload, limit=MAX_COSIGN_BYTES)["critical"]
        kind, named = critical["type"], critical["image"]["docker-manifest-digest"]
    except (strict_json.JsonRefused, KeyError, TypeError) as e:
        raise _cosign_malformed(f"its payload is not a simple-signing document ({e})") from e
    if kind != COSIGN_TYPE:
        raise _cosign_malformed(f"its payload is of type {str(kind)[:100]!r}")
    if named != image:
        raise WrongSubject(
            f"the cosign signature is for {str(named)[:100]}, not for {image}",
            remedy="it was copied from another image: refuse this one",
            expected=image,
            found=named,
        )


def _cosign_malformed(why: str) -> SignatureMalformed:
    return SignatureMalformed(f"the cosign signature is refused: {why}", remedy="sign the image again")


def _artifact_sha256(artifact: bytes | str | None) -> bytes | None:
    if artifact is None:
        return None
    if isinstance(artifact, bytes):
        return hashlib.sha256(artifact).digest()
    if not is_digest(artifact):
        raise malformed(f"{artifact[:100]!r} is not a sha256 digest")
    return bytes.fromhex(hex_of(artifact))
