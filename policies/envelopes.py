"""A Sigstore bundle taken apart, strictly, before any cryptography looks at it.

Format: sigstore/protobuf-specs, sigstore_bundle.proto, v0.1 to v0.3; DSSE: secure-systems-lab/dsse, envelope.md v1.0.0.
Exactly one signer, one content and one signature: a second signature that nobody checked is never carried along.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from policies import strict_json
from policies.errors import SignatureMalformed

BUNDLE_V03 = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MEDIA_TYPES = (
    BUNDLE_V03,
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
)
MAX_BUNDLE_BYTES = 96 << 20  # a statement at its limit, in base64, and its proofs
MAX_SIGNATURE_BYTES = 1024  # an ECDSA P-521 signature has 139


@dataclass(frozen=True)
class Envelope:
    """DSSE envelope with its one signature."""

    payload_type: str
    payload: bytes
    signature: bytes

    def pae(self) -> bytes:
        return pae(self.payload_type, self.payload)


@dataclass(frozen=True)
class Message:
    """A signature over bytes that are not in the bundle; ``algorithm`` and ``digest`` are the bundle's own claim."""

    signature: bytes
    algorithm: str | None
    digest: bytes | None


@dataclass(frozen=True)
class ParsedBundle:
    """``raw`` is the bundle's JSON with default values written out, as ``sigstore`` reads it."""

    raw: bytes
    hint: str | None
    keyed: bool
    content: Envelope | Message
    log_entries: int


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding; lengths are in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse(raw: bytes) -> ParsedBundle:
    """Raises ``SignatureMalformed`` with the reason."""
    try:
        body = strict_json.loads(raw, limit=MAX_BUNDLE_BYTES)
    except strict_json.JsonRefused as e:
        raise malformed(str(e)) from e
    if not isinstance(body, dict) or body.get("mediaType") not in _MEDIA_TYPES:
        raise malformed("its media type is not that of a Sigstore bundle v0.1 to v0.3")
    material = _object(body, "verificationMaterial")
    signers = [name for name in ("publicKey", "certificate", "x509CertificateChain") if material.get(name) is not None]
    if len(signers) != 1:
        raise malformed(f"it names {len(signers)} kinds of signer instead of one")
    keyed = signers == ["publicKey"]
    entries = material.get("tlogEntries", [])
    if not isinstance(entries, list):
        raise malformed("tlogEntries is not a list")
    whole = json.dumps(body).encode() if _fill_defaults(material, entries) else raw
    return ParsedBundle(whole, _hint(material) if keyed else None, keyed, _content(body), len(entries))


def _fill_defaults(material: dict[str, Any], entries: list[Any]) -> bool:
    """Write out what protobuf JSON leaves out and sigstore's models insist on; whether anything was missing.

    A log's first entry has index 0 and an empty proof, and a writer omits both: they are the types' default values.
    """
    missing = "tlogEntries" not in material
    material.setdefault("tlogEntries", entries)
    for entry in entries:
        proof = entry.get("inclusionProof") if isinstance(entry, dict) else None
        for holder, name, default in ((entry, "logIndex", "0"), (proof, "logIndex", "0"), (proof, "hashes", [])):
            if isinstance(holder, dict) and name not in holder:
                holder[name] = default
                missing = True
    return missing


def _hint(material: dict[str, Any]) -> str | None:
    hint = _object(material, "publicKey").get("hint")
    if hint is not None and not isinstance(hint, str):
        raise malformed("its key hint is not text")
    return hint


def _content(body: dict[str, Any]) -> Envelope | Message:
    contents = [name for name in ("dsseEnvelope", "messageSignature") if body.get(name) is not None]
    if len(contents) != 1:
        raise malformed(f"it carries {len(contents)} contents instead of one")
    return _envelope(_object(body, "dsseEnvelope")) if contents == ["dsseEnvelope"] else _message(body)


def _envelope(value: dict[str, Any]) -> Envelope:
    signatures = value.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        count = len(signatures) if isinstance(signatures, list) else 0
        raise malformed(f"its envelope has {count} signatures instead of one")
    kind = value.get("payloadType")
    if not isinstance(kind, str):
        raise malformed("its envelope has no payload type")
    return Envelope(kind, _bytes(value, "payload"), _signature(signatures[0], "sig"))


def _message(body: dict[str, Any]) -> Message:
    value = _object(body, "messageSignature")
    signature = _signature(value, "signature")
    if value.get("messageDigest") is None:
        return Message(signature, None, None)
    claim = _object(value, "messageDigest")
    return Message(signature, str(claim.get("algorithm")), _bytes(claim, "digest"))


def _signature(value: dict[str, Any], name: str) -> bytes:
    signature = _bytes(value, name)
    if not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
        raise malformed(f"its signature has {len(signature)} bytes")
    return signature


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise malformed(f"{name} is missing or not an object")
    return found


def _bytes(value: dict[str, Any], name: str) -> bytes:
    text = value.get(name)
    if not isinstance(text, str):
        raise malformed(f"{name} is missing or not text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise malformed(f"{name} is not base64 ({e})") from e


def malformed(why: str) -> SignatureMalformed:
    return SignatureMalformed(
        f"the signature bundle is refused: {why}", remedy="publish the image's papers again with a current tool"
    )
