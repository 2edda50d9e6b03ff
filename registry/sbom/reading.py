"""One image's SBOM from its file system.  ``registry.sbom`` is the way in: this module's imports take a quarter of a second."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from registry.oci.layout import OciLayout
from registry.sbom import apk, dpkg, golang, interpreters, npm, python
from registry.sbom.distro import Distro, distro_of
from registry.sbom.document import document
from registry.sbom.overlay import filesystem_of
from registry.sbom.package import Package
from registry.sbom.tree import FileSystem


def read(layout: OciLayout, manifest_digest: str, timestamp: datetime | None) -> dict[str, Any]:
    manifest = layout.read_manifest(manifest_digest)
    fs = filesystem_of(layout, manifest)
    distro = distro_of(fs)
    packages = list(_packages(fs, distro))
    return document(manifest, fs, packages, distro, _loose(fs, packages), timestamp)


def _packages(fs: FileSystem, distro: Distro | None) -> Iterator[Package]:
    system = [*dpkg.packages(fs, distro), *apk.packages(fs, distro)]
    language = [*python.packages(fs), *npm.packages(fs), *golang.packages(fs)]
    yield from system
    yield from language
    yield from interpreters.packages(fs, _owned([*system, *language]))


def _loose(fs: FileSystem, packages: list[Package]) -> list[str]:
    """ELF files that belong to no package."""
    owned = _owned(packages)
    return [path for path, node in fs.files() if "elf" in node.marks and path not in owned]


def _owned(packages: list[Package]) -> set[str]:
    return {path for package in packages for path in package.files}
