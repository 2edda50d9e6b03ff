"""Values in one age file (age-encryption.org/v1, X25519), opened by a key file that a passphrase may seal.

``secrets.age`` decrypts to ``{"version": 1, "values": {"server/name": "value"}}``.  The key file is either the identity in
the clear (0600) or that identity in an age file of its own, sealed by a passphrase with scrypt: so opening costs a quarter
of a second once per process, and changing the passphrase rewrites no value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage

from harbourmaster.core.digests import sha256
from harbourmaster.core.secrets.errors import SecretsDamaged, SecretsKeyWrong, SecretsLocked
from harbourmaster.core.secrets.private import read_private, write_private

VERSION = 1
AGE_MAGIC = b"age-encryption.org/v1\n"  # first line of every age file (C2SP age.md, "Version line")
_NO_KEY = "No matching keys found"  # the words of the age library when the file is whole but for another key

Ask = Callable[[], str]


class AgeFile:
    """``passphrase``: seals a new key and opens a sealed one.  ``ask``: asked only to open a sealed key, and answers ""
    where nobody is there.  Writers hold the store's lock."""

    def __init__(self, path: Path, key_path: Path, passphrase: str, ask: Ask) -> None:
        self._path = path
        self._key_path = key_path
        self._given = passphrase
        self._ask = ask
        self._opened: tuple[str, Any] | None = None  # digest of the key file, and what it holds

    def read(self) -> dict[str, str]:
        """Raises ``SecretsLocked``, ``SecretsKeyWrong``, ``SecretsDamaged``, ``SecretsExposed``."""
        sealed = read_private(self._path)
        if sealed is None:
            return {}
        try:
            plain = pyrage.decrypt(sealed, [self._identity()])
        except pyrage.DecryptError as e:
            raise self._unopened(sealed, e) from None
        return self._values(plain)

    def write(self, values: dict[str, str]) -> None:
        """The key is made on first use."""
        body = {"version": VERSION, "values": dict(sorted(values.items()))}
        sealed = pyrage.encrypt(json.dumps(body, ensure_ascii=False).encode(), [self._identity(make=True).to_public()])
        write_private(self._path, sealed)

    @property
    def sealed(self) -> bool:
        """Whether a passphrase guards the key."""
        return (read_private(self._key_path) or b"").startswith(AGE_MAGIC)

    def seal(self, passphrase: str) -> None:
        """Guard the key with another passphrase, or with none (``""``)."""
        self._save_key(self._identity(make=True), passphrase)

    def _identity(self, *, make: bool = False) -> Any:
        raw = read_private(self._key_path)
        if raw is None:
            if make and not self._path.exists():
                identity = pyrage.x25519.Identity.generate()
                self._save_key(identity, self._given)
                return identity
            raise SecretsLocked(
                f"the key of the secrets, {self._key_path}, is gone",
                remedy=f"restore it from your backup; or remove {self._path} and set every secret again",
            )
        stamp = sha256(raw)
        if self._opened is None or self._opened[0] != stamp:
            self._opened = (stamp, self._parse_key(raw))
        return self._opened[1]

    def _parse_key(self, raw: bytes) -> Any:
        plain = self._unseal(raw) if raw.startswith(AGE_MAGIC) else raw
        try:
            return pyrage.x25519.Identity.from_str(plain.decode().strip())
        except (pyrage.IdentityError, UnicodeDecodeError):
            pass  # the library's words may quote the key
        raise SecretsDamaged(
            f"{self._key_path} does not hold an age key", remedy="restore it from your backup"
        ) from None

    def _unseal(self, raw: bytes) -> bytes:
        passphrase = self._given or self._ask()
        if not passphrase:
            raise SecretsLocked(
                f"{self._key_path} is sealed with a passphrase, and nobody is here to be asked for it",
                remedy="start with HM_SECRETS_PASSPHRASE set",
            )
        try:
            return bytes(pyrage.passphrase.decrypt(raw, passphrase))
        except pyrage.DecryptError:
            raise SecretsKeyWrong(
                f"the passphrase does not open {self._key_path}, or the file is damaged",
                remedy="try again; mind HM_SECRETS_PASSPHRASE",
            ) from None

    def _save_key(self, identity: Any, passphrase: str) -> None:
        raw = str(identity).encode() + b"\n"
        write_private(self._key_path, pyrage.passphrase.encrypt(raw, passphrase) if passphrase else raw)
        self._opened = None

    def _unopened(self, sealed: bytes, error: Exception) -> SecretsKeyWrong | SecretsDamaged:
        if sealed.startswith(AGE_MAGIC) and str(error) == _NO_KEY:
            return SecretsKeyWrong(
                f"{self._key_path} is not the key of {self._path}, or the file's head is damaged",
                remedy="restore the two from the same backup",
            )
        return self._damaged()

    def _values(self, plain: bytes) -> dict[str, str]:
        try:
            body = json.loads(plain)
            values = body["values"]
            if body["version"] != VERSION or not all(isinstance(v, str) for v in values.values()):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._damaged(" or was written by a newer version") from None
        return dict(values)

    def _damaged(self, more: str = "") -> SecretsDamaged:
        return SecretsDamaged(
            f"{self._path} is damaged{more}", remedy="restore it from your backup; it was not touched"
        )
