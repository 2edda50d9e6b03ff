"""Why something was refused before it ran.

RefusedError
|-- SignatureError          a signature does not stand             signature.*
|   |-- SignatureInvalid        the mathematics or the log say no
|   |-- SignatureMalformed      not a bundle, or one that could be read in two ways
|   |-- SignatureExpired        made outside the validity of its certificate, authority or log key
|   |-- WrongIdentity           a sound signature by someone the trust policy does not name
|   `-- UntrustedKey            a sound or unknown signature by a key the trust policy does not name
|-- AttestationError        a paper does not fit                   attestation.*
|   |-- StatementMalformed
|   |-- WrongSubject            it speaks of another image
|   |-- WrongPredicate          it says something else than was looked for
|   `-- AttestationMissing
|-- TrustEmpty              nobody is trusted for this server      trust.empty
`-- AdmissionDenied         Cedar said no                          admission.denied

ConfigError
|-- KeyFileError            the signing key cannot be used safely  key.*
|-- TrustInvalid            trust.yaml is wrong                    trust.invalid
|-- TrustedRootInvalid      a trusted root file is wrong           trust.root_invalid
`-- PolicyInvalid           a .cedar file is wrong                 policy.invalid
"""

from __future__ import annotations

from harbourmaster.core.errors import ConfigError, RefusedError


class SignatureError(RefusedError):
    code = "signature"


class SignatureInvalid(SignatureError):
    code = "signature.invalid"


class SignatureMalformed(SignatureError):
    code = "signature.malformed"


class SignatureExpired(SignatureError):
    code = "signature.expired"


class WrongIdentity(SignatureError):
    code = "signature.identity"


class UntrustedKey(SignatureError):
    code = "signature.untrusted_key"


class AttestationError(RefusedError):
    code = "attestation"


class StatementMalformed(AttestationError):
    code = "attestation.malformed"


class WrongSubject(AttestationError):
    code = "attestation.wrong_subject"


class WrongPredicate(AttestationError):
    code = "attestation.wrong_predicate"


class AttestationMissing(AttestationError):
    code = "attestation.missing"


class TrustEmpty(RefusedError):
    code = "trust.empty"


class AdmissionDenied(RefusedError):
    """``details["policies"]`` names the deciding policies; ``details["reasons"]`` says what each wants changed."""

    code = "admission.denied"


class KeyFileError(ConfigError):
    code = "key.invalid"


class TrustInvalid(ConfigError):
    code = "trust.invalid"


class TrustedRootInvalid(ConfigError):
    code = "trust.root_invalid"


class PolicyInvalid(ConfigError):
    code = "policy.invalid"
