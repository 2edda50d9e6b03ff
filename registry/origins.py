"""Where a server comes from and what it is made with: ``source``, ``build`` and ``image`` of a ``server.yaml``."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from registry.fields import Commit, Debian, Folder, Integrity, Line, Package, Sha256, Strict, WebAddress, Word

# The grammar of github.com/distribution/reference, with a registry (registry/oci/reference.py) and a digest
_IMAGE = (
    r"^(localhost|[a-z0-9.-]*[.][a-z0-9.-]*|[a-z0-9.-]+:[0-9]{1,5})(:[0-9]{1,5})?"
    r"(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?@sha256:[0-9a-f]{64}$"
)


def _pinned(image: str) -> str:
    if "@" not in image:
        raise ValueError(f"{image[:200]} has no digest: what runs can change behind its name")
    if not re.fullmatch(_IMAGE, image):
        raise ValueError(f"{image[:200]!r} is not host[:port]/name[:tag]@sha256:<64 hex digits>")
    return image


PinnedImage = Annotated[
    str, StringConstraints(max_length=512), AfterValidator(_pinned), Field(json_schema_extra={"pattern": _IMAGE})
]


class Source(Strict):
    """One package by version and by hash of the very file that is installed, or one commit of a git repository.

    ``url`` is for people; ``repository`` is what is fetched, and ``directory`` the folder of the package in it.
    """

    kind: Literal["pypi", "npm", "git"]
    package: Package = ""
    version: Word = ""
    sha256: Sha256 | None = None  # pypi: of the wheel
    integrity: Integrity | None = None  # npm: of the tarball
    repository: WebAddress | None = None
    commit: Commit | None = None
    directory: Folder | None = None
    dockerfile: Folder | None = Field(default=None, description="git: kept for its readers; none is ever run here")
    url: WebAddress
    licence: Line

    @model_validator(mode="after")
    def is_pinned(self) -> Source:
        given = {k for k in ("sha256", "integrity", "repository", "commit") if getattr(self, k) is not None}
        wanted = {"pypi": {"sha256"}, "npm": {"integrity"}, "git": {"repository", "commit"}}[self.kind]
        if given != wanted:
            raise ValueError(_PINS[self.kind])
        if self.kind != "git" and not (self.package and self.version):
            raise ValueError(f"a {self.kind} source names package and version")
        if self.kind != "git" and (self.directory or self.dockerfile):
            raise ValueError("only a git source has a directory or a dockerfile")
        return self

    @property
    def label(self) -> str:
        """``1.2.3``, or the commit's first twelve digits."""
        return self.version or (self.commit or "")[:12]

    @property
    def words(self) -> str:
        """``pypi mcp-server-time 1.0`` or ``git https://... 0123456789ab``, for people."""
        if self.kind == "git":
            place = f"{self.repository}" + (f" {self.directory}" if self.directory else "")
            return f"git {place} {(self.commit or '')[:12]}"
        return f"{self.kind} {self.package} {self.version}"


_PINS = {
    "pypi": "a pypi source has sha256 (of the wheel) and no integrity, repository or commit",
    "npm": "an npm source has integrity (sha512) and no sha256, repository or commit",
    "git": "a git source has repository and commit (40 hex digits), and no sha256 or integrity",
}


class Build(Strict):
    runtime: Literal["python", "node"]
    packages: list[Debian] = Field(default=[], max_length=20, description="Debian packages needed at run time")
    constraints: list[Line] = Field(default=[], max_length=20, description='PEP 508, for the lock: "mcp<2"')
