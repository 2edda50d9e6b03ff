"""Names of models, as people write them for Docker's model runner.

>>> str(parse("smollm2"))
'ai/smollm2:latest'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.errors import RequestInvalid

DEFAULT_NAMESPACE = "ai"
DEFAULT_TAG = "latest"
DEFAULT_REGISTRY = "registry-1.docker.io"  # Docker Hub's registry API host
_HUB = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
_MAX = 255
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
# distribution-spec 1.1, "pulling manifests": <name> and <reference>
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"(?:localhost|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Reference:
    host: str  # empty: Docker Hub
    path: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        prefix = f"{self.host}/" if self.host else ""
        return f"{prefix}{self.path}@{self.digest}" if self.digest else f"{prefix}{self.path}:{self.tag}"

    @property
    def registry(self) -> str:
        return self.host or DEFAULT_REGISTRY


def looks_like_id(text: str) -> str:
    """The hex digits of a model ID or the beginning of one; empty for a name."""
    match = _ID.fullmatch(text.strip())
    return match.group(1) if match else ""


def parse(text: str) -> Reference:
    """Raises ``RequestInvalid``."""
    name = text.strip()
    for prefix in _HUB:
        name = name.removeprefix(prefix)
    name, _, digest = name.partition("@")
    host, rest = _split_host(name)
    path, colon, tag = rest.rpartition(":")
    if not colon:
        path, tag = rest, DEFAULT_TAG
    path = path.lower()
    if not host and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    wrong_digest = digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    if len(name) > _MAX or not _PATH.fullmatch(path) or not _TAG.fullmatch(tag) or wrong_digest:
        raise RequestInvalid(
            f"{text!r} is no name of a model", remedy="write NAME, NAME:TAG or HOST/NAME:TAG", param="model"
        )
    return Reference(host.lower(), path, tag, digest)


def _split_host(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost") and _HOST.fullmatch(first.lower())
    return (first, rest) if is_host else ("", name)
