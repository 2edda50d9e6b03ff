"""Image references: is a digest pinned, and who publishes it.  Grammar: github.com/distribution/reference."""

from __future__ import annotations

import re

from catalog.records import ImageRecord

_REFERENCE = re.compile(
    r"(?P<name>(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
MAX_REFERENCE_CHARS = 512
DOCKER_BUILT = ("mcp/", "docker.io/mcp/")


def image_of(reference: str) -> ImageRecord | None:
    """``reference`` split; None when it is no image reference."""
    match = _REFERENCE.fullmatch(reference) if len(reference) <= MAX_REFERENCE_CHARS else None
    return ImageRecord(reference, match["digest"] or "") if match else None


def is_docker_built(reference: str) -> bool:
    """Docker's pipeline builds and signs what is named ``mcp/*`` on Docker Hub; everything else is its publisher's."""
    return reference.startswith(DOCKER_BUILT)


def namespace_of(reference: str) -> str:
    """``ghcr.io/owner/x:1`` -> ``owner``; ``owner/x`` -> ``owner``; ``busybox`` -> ``""``."""
    name = reference.partition("@")[0]
    parts = name.split("/")
    if len(parts) > 1 and ("." in parts[0] or ":" in parts[0]):
        parts = parts[1:]
    return parts[0] if len(parts) > 1 else ""
