"""Software bills of materials, read from the image's own file system.

>>> sbom_of(layout, manifest_digest)["specVersion"]
'1.6'
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from harbourmaster.core.canonical import canonical
from registry.oci.layout import OciLayout

__all__ = ["sbom_bytes", "sbom_of"]


def sbom_of(layout: OciLayout, manifest_digest: str, *, timestamp: datetime | None = None) -> dict[str, Any]:
    """CycloneDX 1.6 JSON for one image; the same image gives the same document (it has no time unless one is given).

    Raises ``FilesystemInvalid``, ``TooLarge``, ``DigestMismatch``: what cannot be read whole gets no SBOM.
    """
    from registry.sbom.reading import read  # not needed where a signed SBOM is only verified, as at every start

    return read(layout, manifest_digest, timestamp)


def sbom_bytes(sbom: dict[str, Any]) -> bytes:
    """The document's bytes (canonical JSON), for hashing and comparing."""
    return canonical(sbom)
