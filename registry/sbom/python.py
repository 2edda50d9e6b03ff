"""Python distributions: ``*.dist-info`` (core metadata 2.4, RECORD) and the older ``*.egg-info``."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import posixpath
import re
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesHeaderParser

from packageurl import PackageURL

from registry.sbom.package import Package, owned_files
from registry.sbom.tree import FileSystem, Node

_METADATA = re.compile(r"(?P<info>(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info))")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_MAX_LICENCE_TEXT = 100  # longer, or many lines: a licence's text, not its name

_CLASSIFIERS = {  # trove classifier's last part -> SPDX
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "Zope Public License": "ZPL-2.1",
}


def packages(fs: FileSystem) -> Iterator[Package]:
    for path, node in fs.files():
        if node.data is not None and _METADATA.fullmatch(path):
            fields = BytesHeaderParser().parsebytes(node.data)
            if fields["Name"] and fields["Version"]:
                yield _package(fs, path, node, fields)


def normalized(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _package(fs: FileSystem, path: str, node: Node, fields: Message) -> Package:
    name, version = _one(fields, "Name"), _one(fields, "Version")
    info = posixpath.dirname(path) if path.endswith(("/METADATA", "/PKG-INFO")) else path
    site = posixpath.dirname(info)
    record = fs.read(f"{info}/RECORD")
    rows = list(_rows(record or b"", site))
    files = owned_files(fs, [r[0] for r in rows]) or tuple(p for p, _ in fs.files(info))
    return Package(
        kind="pypi",
        name=name,
        version=version,
        purl=PackageURL("pypi", None, normalized(name), version),
        location=path,
        layer=node.layer,
        licences=licences(fields),
        files=files,
        key=_key(site, name),
        needs=tuple(sorted({_key(site, n) for n in _requirements(fields)})),
        supplier=_one(fields, "Author") or _one(fields, "Author-email") or _one(fields, "Maintainer"),
        description=_one(fields, "Summary"),
        notes=tuple(_notes(fs, rows)),
    )


def licences(fields: Message) -> tuple[str, ...]:
    """License-Expression (PEP 639), else classifiers, else a short License field, in SPDX where it can be said."""
    if expression := _one(fields, "License-Expression"):
        return (expression,)
    found = [c.split(" :: ")[-1] for c in _all(fields, "Classifier") if c.startswith("License :: ")]
    found = [c for c in found if c != "OSI Approved"]
    field = _one(fields, "License")
    short = field if field != "UNKNOWN" and len(field) <= _MAX_LICENCE_TEXT and "\n" not in field else ""
    if short and (not found or found == ["BSD License"]):
        return (_CLASSIFIERS.get(short, short),)
    return tuple(sorted({_CLASSIFIERS.get(c, c) for c in found}))


def _requirements(fields: Message) -> Iterator[str]:
    for line in _all(fields, "Requires-Dist"):
        requirement, _, marker = line.partition(";")
        if "extra" not in marker and (m := _REQUIREMENT.match(requirement)):
            yield m[1]


def _rows(record: bytes, site: str) -> Iterator[tuple[str, str]]:
    """``(path, sha256 hex or "")`` of each line of RECORD; paths that leave the image are dropped by ``normpath``."""
    try:
        for row in csv.reader(io.StringIO(record.decode(errors="replace"))):
            if row:
                path = posixpath.normpath("/" + posixpath.join(site, row[0])).lstrip("/")
                yield path, _sha256(row[1] if len(row) > 1 else "")
    except csv.Error:
        return


def _sha256(field: str) -> str:
    algorithm, _, value = field.partition("=")
    if algorithm != "sha256":
        return ""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except (ValueError, binascii.Error):
        return ""


def _notes(fs: FileSystem, rows: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Files that are not what the distribution recorded when it was installed."""
    recorded = [(fs.find(path), digest) for path, digest in rows if digest]
    missing = sum(1 for node, _ in recorded if node is None)
    changed = sum(1 for node, digest in recorded if node is not None and node.sha256 != digest)
    if changed:
        yield "pypi.record.changed", f"{changed} of {len(recorded)} files are not what was recorded at installation"
    if missing:
        yield "pypi.record.missing", f"{missing} of {len(recorded)} recorded files are not there"


def _key(site: str, name: str) -> str:
    return f"pypi:{site}:{normalized(name)}"


def _one(fields: Message, name: str) -> str:
    return str(fields.get(name) or "").strip()


def _all(fields: Message, name: str) -> list[str]:
    return [str(v).strip() for v in fields.get_all(name) or []]
