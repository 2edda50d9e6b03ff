"""Licences of Debian packages, from machine-readable ``copyright`` files (DEP-5, copyright-format/1.0)."""

from __future__ import annotations

import re

from registry.sbom.tree import FileSystem

_FORMAT = re.compile(r"^Format(?:-Specification)?:.*(?:copyright-format|dep5|CopyrightFormat)", re.I | re.M)
_LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.I | re.M)
_GNU = re.compile(r"(?P<name>A?GPL|LGPL|GFDL)-(?P<version>\d+(?:\.\d+)?)(?P<later>\+?)", re.I)
_NAMES = {  # short names of copyright-format/1.0 that differ from SPDX's
    "expat": "MIT",
    "artistic": "Artistic-1.0-Perl",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "cc0": "CC0-1.0",
    "isc": "ISC",
    "zlib": "Zlib",
    "psf-2": "PSF-2.0",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
}


def licences_of(fs: FileSystem, package: str) -> tuple[tuple[str, ...], str]:
    """``(licences, path)``: the distinct licences that the copyright file names; none when it is free text."""
    path = f"usr/share/doc/{package}/copyright"
    data = fs.read(path)
    if data is None:
        return (), ""
    text = data.decode(errors="replace")
    if not _FORMAT.search(text[:2000]):
        return (), path
    return tuple(sorted({spdx_of(value) for value in _LICENCE.findall(text)})), path


def spdx_of(value: str) -> str:
    """``GPL-2+ or Artistic`` -> ``GPL-2.0-or-later OR Artistic-1.0-Perl``; what has no SPDX name stays as it is."""
    text = re.sub(r"\s*,?\s+and\s+", " AND ", re.sub(r"\s*,?\s+or\s+", " OR ", value.strip(), flags=re.I), flags=re.I)
    parts = re.split(r"( AND | OR )", text)
    return "".join(part if part in (" AND ", " OR ") else _one(part.strip(" ,")) for part in parts)


def _one(name: str) -> str:
    if m := _GNU.fullmatch(name):
        version = m["version"] if "." in m["version"] else m["version"] + ".0"
        if m["name"].upper() == "GFDL" and "." not in m["version"]:
            version = m["version"] + ".0"
        return f"{m['name'].upper()}-{version}-{'or-later' if m['later'] else 'only'}"
    return _NAMES.get(name.lower(), name)
