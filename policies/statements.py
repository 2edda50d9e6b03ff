"""In-toto statements v1 (https://in-toto.io/Statement/v1): what an attestation says, about which image."""

from __future__ import annotations

from typing import Any

from harbourmaster.core.digests import hex_of
from policies import strict_json
from policies.errors import StatementMalformed, WrongPredicate, WrongSubject

PAYLOAD_TYPE = "application/vnd.in-toto+json"  # in-toto attestation spec v1, envelope.md
STATEMENT_V1 = "https://in-toto.io/Statement/v1"
_READ = (STATEMENT_V1, "https://in-toto.io/Statement/v0.1")  # v0.1 is what older signers still write; same shape

SIGNATURE = "https://sigstore.dev/cosign/sign/v1"  # what cosign 3 writes for `cosign sign`
SBOM = "https://cyclonedx.org/bom"  # CycloneDX predicate, in-toto attestation spec
PROVENANCE = "https://slsa.dev/provenance/v1"  # SLSA v1.0
LISTING = "https://harbourmaster.dev/attestation/listing/v1"  # ours: docs/architecture.md, registry

MAX_STATEMENT_BYTES = 64 << 20  # ours: ten times the largest SBOM of a Node image


def statement(
    subject_name: str, manifest_digest: str, predicate_type: str, predicate: dict[str, Any]
) -> dict[str, Any]:
    """A statement about the image ``manifest_digest`` (``sha256:<hex>``)."""
    return {
        "_type": STATEMENT_V1,
        "subject": [{"name": subject_name, "digest": {"sha256": hex_of(manifest_digest)}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def parse(payload: bytes) -> dict[str, Any]:
    """Read a signed payload; raises ``StatementMalformed`` for anything but an unambiguous statement."""
    try:
        body = strict_json.loads(payload, limit=MAX_STATEMENT_BYTES)
    except strict_json.JsonRefused as e:
        raise _malformed(str(e)) from e
    if not isinstance(body, dict) or body.get("_type") not in _READ:
        raise _malformed("its _type is not an in-toto statement's")
    if not isinstance(body.get("predicateType"), str) or not isinstance(body.get("predicate", {}), dict):
        raise _malformed("it has no predicateType, or its predicate is no object")
    subjects = body.get("subject")
    if not isinstance(subjects, list) or not all(_is_subject(s) for s in subjects):
        raise _malformed("its subject is not a list of names with digests")
    return body


def _is_subject(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("digest"), dict):
        return False
    return all(isinstance(v, str) for v in value["digest"].values())


def subject_is(statement: dict[str, Any], digest: str) -> None:
    """Raise ``WrongSubject`` unless the statement speaks of ``digest`` (``sha256:<hex>``)."""
    wanted = hex_of(digest)
    found = [subject["digest"].get("sha256") for subject in statement.get("subject", [])]
    if wanted not in found:
        named = ", ".join(f"sha256:{hex_}" for hex_ in found[:3]) or "nothing"
        raise WrongSubject(
            f"this {statement.get('predicateType')} attestation speaks of {named}, not of {digest}",
            remedy="it belongs to another image, or the image changed after it was attested: build it again",
            expected=digest,
            found=[f"sha256:{hex_}" for hex_ in found[:3]],
        )


def predicate_is(statement: dict[str, Any], predicate_type: str) -> None:
    """Raise ``WrongPredicate`` unless the statement is of ``predicate_type``."""
    if statement.get("predicateType") != predicate_type:
        raise WrongPredicate(
            f"expected an attestation of type {predicate_type}, found {statement.get('predicateType')}",
            remedy="the referrer's annotation does not match what was signed: publish the papers again",
            expected=predicate_type,
            found=statement.get("predicateType"),
        )


def _malformed(why: str) -> StatementMalformed:
    return StatementMalformed(
        f"the signed payload is not an in-toto statement: {why}",
        remedy="ask its publisher for a well-formed attestation",
    )
