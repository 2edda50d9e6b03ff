"""One package as a reader found it; ``document.py`` turns it into a CycloneDX component."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from packageurl import PackageURL

from registry.sbom.tree import FileSystem


@dataclass(frozen=True)
class Package:
    kind: str  # deb | apk | pypi | npm | golang | generic
    name: str
    version: str
    purl: PackageURL
    location: str  # the file that says so
    layer: int
    licences: tuple[str, ...] = ()  # as found: SPDX expressions or free names
    files: tuple[str, ...] = ()  # paths of regular files it owns, without links in them
    sha512: str = ""  # hex, of the published archive
    key: str = ""  # how other packages of this image call it in ``needs``
    needs: tuple[str, ...] = ()  # keys of packages it depends on; those the image does not have are left out
    supplier: str = ""
    description: str = ""
    homepage: str = ""
    notes: tuple[tuple[str, str], ...] = ()  # further properties: name without prefix, value


def file_set_digest(fs: FileSystem, paths: Iterable[str]) -> str:
    """SHA-256 (hex) of the lines ``<sha256>  <path>``, sorted by path, one for each regular file; empty without files."""
    h, any_file = hashlib.sha256(), False
    for path in sorted(set(paths)):
        node = fs.at(path)
        if node is not None and node.kind == "file":
            any_file = True
            h.update(f"{node.sha256}  {path}\n".encode())
    return h.hexdigest() if any_file else ""


def owned_files(fs: FileSystem, names: Iterable[str]) -> tuple[str, ...]:
    """The regular files among ``names``, their paths without links (usrmerge: ``/bin/sh`` is ``usr/bin/sh``)."""
    found = set()
    for name in names:
        path = fs.resolve(name, follow_last=False)
        if path and (node := fs.at(path)) is not None and node.kind == "file":
            found.add(path)
    return tuple(sorted(found))
