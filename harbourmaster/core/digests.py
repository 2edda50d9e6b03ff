"""Content digests as OCI writes them: ``sha256:<64 lower-case hex>`` (OCI image-spec 1.1, descriptor.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from harbourmaster.core.errors import IntegrityError, UsageError

CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class DigestMismatch(IntegrityError):
    code = "digest.mismatch"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_of_chunks(chunks: Iterable[bytes]) -> str:
    h = hashlib.sha256()
    for chunk in chunks:
        h.update(chunk)
    return "sha256:" + h.hexdigest()


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as f:
        return sha256_of_stream(f)


def sha256_of_stream(stream: BinaryIO) -> str:
    return sha256_of_chunks(iter(lambda: stream.read(CHUNK), b""))


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def hex_of(digest: str) -> str:
    """The hex part of ``digest``; raises ``UsageError`` for anything but a sha256 digest (it becomes a file name)."""
    if not is_digest(digest):
        raise UsageError(f"not a sha256 digest: {digest!r}")
    return digest[7:]


def expect(digest: str, actual: str, what: str) -> None:
    """Raise ``DigestMismatch`` unless ``actual`` is ``digest``; ``what`` names the thing in the message."""
    if digest != actual:
        raise DigestMismatch(
            f"{what} should be {digest} but its bytes are {actual}",
            remedy="it was damaged or replaced; build or pull it again",
            expected=digest,
            actual=actual,
        )
