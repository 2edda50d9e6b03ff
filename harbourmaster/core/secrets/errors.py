"""Errors about secrets.  None of them ever carries a value.

UnavailableError
|-- SecretMissing         a server needs a secret that nobody set              secret.missing
|-- SecretSourceFailed    an env:, file: or cmd: source gave no value          secret.source_failed
`-- KeyringFailed         the system's keyring did not answer, or is locked    secret.keyring_failed
RefusedError
|-- SecretsExposed        a file of secrets that others may read or write      secret.permissions
|-- SecretsLocked         the key wants a passphrase, and there is none        secret.locked
`-- SecretsKeyWrong       the key or passphrase does not open the file         secret.wrong_key
IntegrityError
`-- SecretsDamaged        a file is not what was written                       secret.damaged
NotFoundError
`-- SecretUnknown         no such secret                                       secret.unknown
UsageError
`-- SecretInvalid         a name, value or source that cannot be               secret.invalid
"""

from __future__ import annotations

from harbourmaster.core.errors import IntegrityError, NotFoundError, RefusedError, UnavailableError, UsageError


class SecretMissing(UnavailableError):
    code = "secret.missing"


class SecretSourceFailed(UnavailableError):
    code = "secret.source_failed"


class KeyringFailed(UnavailableError):
    code = "secret.keyring_failed"


class SecretsExposed(RefusedError):
    code = "secret.permissions"


class SecretsLocked(RefusedError):
    code = "secret.locked"


class SecretsKeyWrong(RefusedError):
    code = "secret.wrong_key"


class SecretsDamaged(IntegrityError):
    code = "secret.damaged"


class SecretUnknown(NotFoundError):
    code = "secret.unknown"


class SecretInvalid(UsageError):
    code = "secret.invalid"
