"""Transparency log entries: that the log really has the entry, that its key was valid then, and that it records this
very signature (not another one by the same signer: CVE-2022-36056).

The proofs are checked by ``sigstore``; what an entry says is compared here, for keys and for the older ``intoto`` kind
that sigstore-python leaves out.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sigstore._internal.trust import KeyringPurpose
from sigstore.errors import Error
from sigstore.models import TransparencyLogEntry, TrustedRoot
from sigstore_models.rekor.v1 import TransparencyLogEntry as LogEntry

from policies import roots, strict_json
from policies.envelopes import Envelope, Message, ParsedBundle
from policies.errors import SignatureExpired, SignatureInvalid
from policies.keys import VerifyingKey

MAX_BODY_BYTES = 128 << 20  # an intoto 0.0.2 body holds the whole payload, twice in base64


def verify_entry(entry: LogEntry, root: TrustedRoot) -> int | None:
    """Check proofs and promise; the log's own time where it signed one.  Raises ``SignatureError``."""
    try:
        TransparencyLogEntry(entry)._verify(root.rekor_keyring(KeyringPurpose.VERIFY))
    except (Error, ValueError) as e:
        raise _invalid(f"its log entry does not stand: {e}") from e
    if entry.integrated_time is None or entry.inclusion_promise is None:
        return None
    key_was_valid(entry, root, entry.integrated_time)
    return entry.integrated_time


def key_was_valid(entry: LogEntry, root: TrustedRoot, moment: float) -> None:
    """Raise ``SignatureExpired`` unless the entry's log was trusted at ``moment`` (the root's validFor windows)."""
    logs = root._inner.tlogs
    named = [log for log in logs if entry.log_id.key_id in (log.log_id.key_id, _checkpoint_id(log))]
    if not any(roots.covers(log.public_key.valid_for, moment) for log in named or logs):
        raise SignatureExpired(
            "the signature was logged outside the time in which the trusted root trusts that log's key",
            remedy="sign again, or use the trusted root of the time of signing",
            moment=moment,
        )


def _checkpoint_id(log: Any) -> bytes | None:
    return log.checkpoint_key_id.key_id if log.checkpoint_key_id else None


def records(entry: LogEntry, bundle: ParsedBundle, signer: VerifyingKey | bytes, artifact_sha256: bytes | None) -> None:
    """Raise ``SignatureInvalid`` unless the entry's body records this content, signature and signer.

    ``signer`` is the key, or the DER of the certificate; ``artifact_sha256`` is needed for message signatures.
    """
    try:
        body = strict_json.loads(entry.canonicalized_body, limit=MAX_BODY_BYTES)
        kind = (body["kind"], body["apiVersion"])
        if kind != (entry.kind_version.kind, entry.kind_version.version):
            raise _invalid("its log entry is of another kind than it says")
        expected, found = _compare(kind, body["spec"], bundle.content, signer, artifact_sha256)
    except (strict_json.JsonRefused, KeyError, TypeError, IndexError, ValueError) as e:
        raise _invalid(f"its log entry cannot be read ({type(e).__name__}: {e})") from e
    if expected != found:
        raise _invalid("its log entry records another signature than the bundle carries")


def _compare(
    kind: tuple[str, str],
    spec: dict[str, Any],
    content: Envelope | Message,
    signer: VerifyingKey | bytes,
    artifact: bytes | None,
) -> tuple[Any, Any]:
    der = signer.der if isinstance(signer, VerifyingKey) else signer
    match kind, content:
        case ("hashedrekord", "0.0.1"), Message():
            digest = spec["data"]["hash"]
            found = (digest["algorithm"], digest["value"], _b64(spec["signature"]["content"]))
            return (
                ("sha256", artifact.hex() if artifact else None, content.signature, der),
                (*found, _pem_der(_b64(spec["signature"]["publicKey"]["content"]))),
            )
        case ("hashedrekord", "0.0.2"), _:
            return _compare_v2(spec["hashedRekordV002"], content, signer, artifact)
        case ("dsse", "0.0.1"), Envelope():
            signed = [(_b64(s["signature"]), _pem_der(_b64(s["verifier"]))) for s in spec["signatures"]]
            return (_payload_hash(content), [(content.signature, der)]), (spec["payloadHash"], signed)
        case ("intoto", "0.0.2"), Envelope():
            envelope = spec["content"]["envelope"]
            # Rekor's intoto 0.0.2 keeps the envelope's own base64 text, in base64 again.
            signed = [(_b64(_b64(s["sig"])), _pem_der(_b64(s["publicKey"]))) for s in envelope["signatures"]]
            return (
                (_payload_hash(content), [(content.signature, der)], content.payload_type),
                (spec["content"]["payloadHash"], signed, envelope["payloadType"]),
            )
    raise _invalid(f"its log entry is of a kind that cannot record this content ({'/'.join(kind)})")


def _compare_v2(
    spec: dict[str, Any], content: Envelope | Message, signer: VerifyingKey | bytes, artifact: bytes | None
) -> tuple[Any, Any]:
    name = signer.hash_name if isinstance(signer, VerifyingKey) else "sha256"
    message = hashlib.new(name, content.pae()).digest() if isinstance(content, Envelope) else artifact
    verifier = spec["signature"]["verifier"]
    field = "publicKey" if isinstance(signer, VerifyingKey) else "x509Certificate"
    der = signer.der if isinstance(signer, VerifyingKey) else signer
    return (
        (f"SHA2_{name[3:]}", message, content.signature, der),
        (
            spec["data"]["algorithm"],
            _b64(spec["data"]["digest"]),
            _b64(spec["signature"]["content"]),
            _b64(verifier[field]["rawBytes"]),
        ),
    )


def _payload_hash(content: Envelope) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content.payload).hexdigest()}


def _b64(text: str | bytes) -> bytes:
    return base64.b64decode(text, validate=True)


def _pem_der(pem: bytes) -> bytes:
    if b"BEGIN CERTIFICATE" in pem:
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    return VerifyingKey.from_pem(pem).der


def _invalid(why: str) -> SignatureInvalid:
    return SignatureInvalid(f"the signature is refused: {why}", remedy="sign the image again")
