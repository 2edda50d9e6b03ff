"""Signing and verifying keys.

The hash goes with the key's curve and is never read from the signed document, so no document can talk its verifier into
a weaker one.  Only ECDSA is accepted: it is what cosign makes, and one family leaves nothing to confuse.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from harbourmaster.core.files import PUBLIC_MODE, SECRET_MODE, file_lock, make_private_dir, write_atomic
from policies.errors import KeyFileError

KEY_FILE = "signing.key"  # PKCS #8 PEM
PUBLIC_FILE = "signing.pub"  # SubjectPublicKeyInfo PEM, for other people's tools
MAX_KEY_BYTES = 16 << 10

# Sigstore algorithm registry: the hash that belongs to each curve.
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True)
class VerifyingKey:
    """An ECDSA public key.  ``key_id`` is the sha256 of its DER SubjectPublicKeyInfo."""

    der: bytes

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyingKey:
        """Raises ``ValueError`` with a reason for anything but one ECDSA public key on a NIST curve."""
        try:
            public = serialization.load_pem_public_key(pem)
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:
            raise ValueError(f"not a PEM public key ({e})") from e
        return cls.from_public(public)

    @classmethod
    def from_public(cls, public: object) -> VerifyingKey:
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in _HASHES:
            raise ValueError("not an ECDSA key on P-256, P-384 or P-521")
        return cls(_spki(public))

    @cached_property
    def _public(self) -> ec.EllipticCurvePublicKey:
        public = serialization.load_der_public_key(self.der)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        return public

    @cached_property
    def key_id(self) -> str:
        return "sha256:" + hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """The ``publicKey.hint`` that cosign writes: base64 of the same sha256."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def pem(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._public.public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def hash_name(self) -> str:
        """The hash that goes with the curve: ``sha256``, ``sha384`` or ``sha512``."""
        return _HASHES[self._public.curve.name].name

    def verifies(self, signature: bytes, data: bytes) -> bool:
        return self._check(signature, data, _HASHES[self._public.curve.name])

    def verifies_digest(self, signature: bytes, digest: bytes) -> bool:
        """As ``verifies``, for data of which only its hash (by ``hash_name``) is known."""
        algorithm = _HASHES[self._public.curve.name]
        return len(digest) == algorithm.digest_size and self._check(signature, digest, Prehashed(algorithm))

    def _check(self, signature: bytes, data: bytes, algorithm: Prehashed | hashes.HashAlgorithm) -> bool:
        try:
            self._public.verify(signature, data, ec.ECDSA(algorithm))
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """The ECDSA P-256 key that this installation signs with, made on first use."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.verifying = VerifyingKey.from_public(private.public_key())

    @property
    def key_id(self) -> str:
        return self.verifying.key_id

    def sign(self, data: bytes) -> bytes:
        """DER ECDSA signature over the SHA-256 of ``data``."""
        return self._private.sign(data, ec.ECDSA(hashes.SHA256()))

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, directory: Path) -> SigningKey | None:
        """The key in ``directory``, or None; raises ``KeyFileError`` when it is not safe to use."""
        path = directory / KEY_FILE
        try:
            raw = _read_secret(path)
        except FileNotFoundError:
            return None
        try:
            private = serialization.load_pem_private_key(raw, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:
            raise _bad_key(path, f"it is not a PEM private key ({e})") from e
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise _bad_key(path, "it is not an ECDSA P-256 key")
        return cls(private)

    @classmethod
    def load_or_create(cls, directory: Path) -> SigningKey:
        """The key in ``directory``; when there is none, one process makes it and the others get the same one."""
        found = cls.load(directory)
        if found:
            return found
        make_private_dir(directory)
        directory.chmod(0o700)
        with file_lock(directory / ".lock"):
            found = cls.load(directory)
            if not found:
                found = cls.generate()
                found._save(directory)
        return found

    def _save(self, directory: Path) -> None:
        pem = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_atomic(directory / PUBLIC_FILE, self.verifying.pem.encode(), mode=PUBLIC_MODE)
        write_atomic(directory / KEY_FILE, pem, mode=SECRET_MODE)


def _read_secret(path: Path) -> bytes:
    """Read a private file through one descriptor, so that what was checked is what is read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise _bad_key(path, f"it cannot be opened ({e.strerror})") from e
    with os.fdopen(fd, "rb") as f:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise _bad_key(path, "it is not a regular file")
        if info.st_mode & 0o077:
            raise _bad_key(path, f"others may read or write it (mode {stat.S_IMODE(info.st_mode):04o})")
        if info.st_uid != os.geteuid():
            raise _bad_key(path, f"it belongs to another user (uid {info.st_uid})")
        return f.read(MAX_KEY_BYTES)


def _bad_key(path: Path, why: str) -> KeyFileError:
    return KeyFileError(
        f"the signing key {path} is refused: {why}",
        remedy=f"if nobody else can have read it: chmod 600 {path}; else move it away, and hm makes a new key",
        path=str(path),
    )


def _spki(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
