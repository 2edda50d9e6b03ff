"""Keyless signatures: a short-lived certificate that binds an identity to a key, and a log that proves when it signed.

``sigstore`` does the work; ``StrictVerifier`` adds what its release 4.5 leaves out and sigstore-conformance asks for:
certificate authorities count only inside their ``validFor`` window, as do log keys; windows include their last second;
and ``intoto`` 0.0.2 log entries are read.  It overrides steps of ``sigstore.verify.Verifier`` that are not public API,
so the release is pinned, and the conformance suite in ``tests/policies`` is what an update has to pass.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    Certificate,
    ExtensionNotFound,
    ObjectIdentifier,
    OtherName,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    UnrecognizedExtension,
    load_der_x509_certificate,
)
from rfc3161_client import TimeStampResponse, VerifierBuilder
from rfc3161_client import VerificationError as TimestampError
from sigstore import dsse
from sigstore._internal.timestamp import TimestampSource, TimestampVerificationResult
from sigstore._internal.trust import CertificateAuthority
from sigstore.errors import VerificationError
from sigstore.hashes import Hashed
from sigstore.models import Bundle, InvalidBundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import VerificationPolicy
from sigstore_models.common.v1 import HashAlgorithm

from harbourmaster.core.errors import HarbourError
from policies import logs, roots
from policies.envelopes import ParsedBundle, malformed
from policies.errors import SignatureExpired, SignatureInvalid, WrongIdentity
from policies.evidence import Signature
from policies.trust import Requirement

# Fulcio's certificate extensions: sigstore/fulcio docs/oid-info.md
_ISSUER_V1 = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2 = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_OTHER_NAME = ObjectIdentifier("1.3.6.1.4.1.57264.1.7")

MAX_NAME = 2048  # characters; identities meet regular expressions, whose cost grows with length

INTOTO = ("intoto", "0.0.2")
_TIMED_KINDS = frozenset({("dsse", "0.0.1"), ("hashedrekord", "0.0.1"), INTOTO})


def verify(
    bundle: ParsedBundle, requirement: Requirement, root: TrustedRoot, artifact_sha256: bytes | None
) -> Signature:
    """Verify a bundle signed with a certificate; raises the ``SignatureError`` tree and nothing else."""
    policy = _IdentityPolicy(requirement)
    try:
        parsed = Bundle.from_json(bundle.raw)
        _no_root_certificates(parsed)
        verifier = StrictVerifier(bundle, trusted_root=root)
        if parsed._dsse_envelope is not None:
            verifier.verify_dsse(parsed, policy)
        elif artifact_sha256 is not None:
            verifier.verify_artifact(Hashed(algorithm=HashAlgorithm.SHA2_256, digest=artifact_sha256), parsed, policy)
        else:
            raise malformed("it signs bytes that are not in it, and none were given")
    except HarbourError:
        raise
    except InvalidBundle as e:
        raise malformed(str(e)) from e
    except VerificationError as e:
        raise SignatureInvalid(f"the signature is refused: {e}", remedy="sign the image again") from e
    except Exception as e:  # hostile certificates make the parsers below raise nearly anything; all of it is a refusal
        raise malformed(f"{type(e).__name__}: {e}") from e
    entry = parsed.log_entry._inner
    return policy.signature(entry.integrated_time if entry.inclusion_promise else None)


def _no_root_certificates(bundle: Bundle) -> None:
    chain = bundle._inner.verification_material.x509_certificate_chain
    for certificate in (chain.certificates if chain else [])[1:]:
        parsed = load_der_x509_certificate(certificate.raw_bytes)
        if parsed.issuer == parsed.subject:
            raise malformed("it brings a root certificate of its own")


class _IdentityPolicy(VerificationPolicy):
    """Accepts a certificate whose issuer and identity one rule names together; remembers which."""

    def __init__(self, requirement: Requirement) -> None:
        self._requirement = requirement
        self._found: tuple[str, str] | None = None

    def verify(self, cert: Certificate) -> None:
        issuer, names = _issuer(cert), _names(cert)
        for identity in self._requirement.identities:
            for name in names:
                if identity.accepts(issuer, name):
                    self._found = (name, issuer)
                    return
        raise WrongIdentity(
            f"signed by {' '.join(names) or 'nobody'} (issuer {issuer or 'none'}), whom the trust rule "
            f"{self._requirement.rule!r} does not name",
            remedy="if this signer is the right one, name issuer and identity in trust.yaml",
            identity=names,
            issuer=issuer,
        )

    def signature(self, integrated_time: int | None) -> Signature:
        assert self._found is not None
        identity, issuer = self._found
        return Signature("keyless", identity=identity, issuer=issuer, integrated_time=integrated_time)


def _issuer(cert: Certificate) -> str:
    """The OIDC issuer; where the certificate states it twice, both must agree."""
    found = []
    for oid, decode in ((_ISSUER_V2, lambda raw: asn1.decode_der(str, raw)), (_ISSUER_V1, bytes.decode)):
        try:
            value = cert.extensions.get_extension_for_oid(oid).value
        except ExtensionNotFound:
            continue
        assert isinstance(value, UnrecognizedExtension)
        found.append(decode(value.value))
    if len(set(found)) > 1:
        raise malformed("its certificate names two different issuers")
    return found[0] if found else ""


def _names(cert: Certificate) -> list[str]:
    try:
        san = cert.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return []
    others = [o for o in san.get_values_for_type(OtherName) if o.type_id == _OTHER_NAME]
    names = [
        *san.get_values_for_type(UniformResourceIdentifier),
        *san.get_values_for_type(RFC822Name),
        *(asn1.decode_der(str, o.value) for o in others),
    ]
    if any(len(name) > MAX_NAME for name in names):
        raise malformed("its certificate names an identity of unreasonable length")
    return names


class StrictVerifier(Verifier):
    """Serves one verification, in one thread."""

    def __init__(self, parsed: ParsedBundle, *, trusted_root: TrustedRoot) -> None:
        super().__init__(trusted_root=trusted_root)
        self._parsed = parsed

    def _establish_time(self, bundle: Bundle) -> list[TimestampVerificationResult]:
        times: list[TimestampVerificationResult] = []
        if bundle.verification_material.timestamp_verification_data:
            if not self._trusted_root.get_timestamp_authorities():
                raise VerificationError("it carries a timestamp, but the trusted root has no timestamp authority")
            times.extend(self._verify_timestamp_authority(bundle))
        entry = bundle.log_entry._inner
        if entry.integrated_time and entry.inclusion_promise:
            if (entry.kind_version.kind, entry.kind_version.version) not in _TIMED_KINDS:
                raise VerificationError("its kind of log entry has no time of its own")
            moment = datetime.fromtimestamp(entry.integrated_time, tz=UTC)
            times.append(TimestampVerificationResult(source=TimestampSource.TRANSPARENCY_SERVICE, time=moment))
        for result in times:
            logs.key_was_valid(entry, self._trusted_root, result.time.timestamp())
        return times

    def _verify_signed_timestamp(
        self, timestamp_response: TimeStampResponse, message: bytes
    ) -> TimestampVerificationResult | None:
        moment = timestamp_response.tst_info.gen_time
        for authority in self._trusted_root.get_timestamp_authorities():
            inside = roots.covers(authority._inner.valid_for, moment.timestamp())
            if inside and _stamped_by(authority, timestamp_response, message):
                return TimestampVerificationResult(source=TimestampSource.TIMESTAMP_AUTHORITY, time=moment)
        return None

    def _verify_chain_at_time(
        self, certificate: Certificate, timestamp_result: TimestampVerificationResult
    ) -> list[Certificate]:
        moment = timestamp_result.time
        if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
            raise _expired(f"signed at {moment:%Y-%m-%d %H:%M:%S} UTC, outside the validity of its certificate", moment)
        trusted = [
            CertificateAuthority(authority)
            for authority in self._trusted_root._inner.certificate_authorities
            if roots.covers(authority.valid_for, moment.timestamp())
        ]
        if not trusted:
            raise _expired("no certificate authority of the trusted root was trusted at the time of signing", moment)
        self._fulcio_certificate_chain = [c for a in trusted for c in a.certificates(allow_expired=True)]
        return super()._verify_chain_at_time(certificate, timestamp_result)

    def _verify_common_signing_cert(self, bundle: Bundle, policy: VerificationPolicy) -> None:
        # sigstore assumes an elliptic curve key further down; anything else would end in a traceback there.
        if not isinstance(bundle.signing_certificate.public_key(), ec.EllipticCurvePublicKey):
            raise malformed("its certificate's key is not ECDSA")
        super()._verify_common_signing_cert(bundle, policy)

    def verify_dsse(self, bundle: Bundle, policy: VerificationPolicy) -> tuple[str, bytes]:
        entry = bundle.log_entry._inner
        if (entry.kind_version.kind, entry.kind_version.version) != INTOTO:
            return super().verify_dsse(bundle, policy)
        self._verify_common_signing_cert(bundle, policy)
        envelope = bundle._dsse_envelope
        key = bundle.signing_certificate.public_key()
        assert envelope is not None
        assert isinstance(key, ec.EllipticCurvePublicKey)
        payload = dsse._verify(key, envelope)
        logs.records(entry, self._parsed, bundle.signing_certificate.public_bytes(Encoding.DER), None)
        return envelope._inner.payload_type, payload


def _stamped_by(authority: CertificateAuthority, response: TimeStampResponse, message: bytes) -> bool:
    chain = authority.certificates(allow_expired=True)
    if len(chain) < 2:  # a timestamp verifier needs at least the signer and the root
        return False
    builder = VerifierBuilder().tsa_certificate(chain[0]).add_root_certificate(chain[-1])
    for certificate in chain[1:-1]:
        builder = builder.add_intermediate_certificate(certificate)
    try:
        builder.build().verify_message(response, message)
    except TimestampError:
        return False
    return True


def _expired(why: str, moment: datetime) -> SignatureExpired:
    return SignatureExpired(
        f"the signature is refused: {why}", remedy="sign the image again", moment=moment.isoformat()
    )
