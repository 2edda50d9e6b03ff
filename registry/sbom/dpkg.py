"""Debian packages: ``var/lib/dpkg/status`` (and ``status.d/*`` of distroless images), deb-control(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packageurl import PackageURL

from registry.sbom.copyright import licences_of
from registry.sbom.distro import Distro
from registry.sbom.package import Package, owned_files
from registry.sbom.tree import FileSystem

_DATABASE = "var/lib/dpkg"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")

Fields = dict[str, str]


def packages(fs: FileSystem, distro: Distro | None) -> Iterator[Package]:
    found = list(_stanzas(fs))
    provided = _provided([fields for _, fields in found])
    for location, fields in found:
        yield _package(fs, distro, location, fields, provided)


def _stanzas(fs: FileSystem) -> Iterator[tuple[str, Fields]]:
    status = f"{_DATABASE}/status"
    for fields in parse_control(_text(fs, status)):
        if fields.get("status", "").endswith(" installed"):
            yield status, fields
    for name in fs.listdir(f"{_DATABASE}/status.d"):
        path = f"{_DATABASE}/status.d/{name}"
        if not name.endswith(".md5sums"):
            for fields in parse_control(_text(fs, path)):
                yield path, fields


def parse_control(text: str) -> Iterator[Fields]:
    """Paragraphs of ``Field: value`` with continuation lines; field names in lower case."""
    fields: Fields = {}
    last = ""
    for line in [*text.split("\n"), ""]:
        if not line.strip():
            if "package" in fields and "version" in fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()


def _package(
    fs: FileSystem, distro: Distro | None, location: str, fields: Fields, provided: dict[str, list[str]]
) -> Package:
    name, version, arch = fields["package"], fields["version"], fields.get("architecture", "")
    node = fs.find(location)
    files = owned_files(fs, _listed(fs, name, arch))
    licences, source = licences_of(fs, name)
    return Package(
        kind="deb",
        name=name,
        version=version,
        purl=purl(distro, name, version, arch),
        location=location,
        layer=_layer(fs, name, arch, node.layer if node else 0),
        licences=licences,
        files=files,
        key=_key(name),
        needs=tuple(sorted(set(_needs(fields, provided)) - {_key(name)})),
        supplier=fields.get("maintainer", ""),
        description=fields.get("description", "").partition("\n")[0],
        homepage=fields.get("homepage", ""),
        notes=tuple(_notes(fields, source)),
    )


def purl(distro: Distro | None, name: str, version: str, arch: str) -> PackageURL:
    """purl-spec type ``deb``: vendor as namespace, qualifiers ``arch`` and ``distro``."""
    qualifiers = {"arch": arch} if arch else {}
    if distro:
        qualifiers["distro"] = distro.qualifier
    return PackageURL("deb", distro.id if distro else "debian", name, version, qualifiers)


def _notes(fields: Fields, copyright_path: str) -> Iterator[tuple[str, str]]:
    """The source package matters: Debian's advisories are about sources."""
    name, _, version = fields.get("source", fields["package"]).partition(" ")
    yield "deb.source", name
    yield "deb.source.version", version.strip("()") or fields["version"]
    if copyright_path:
        yield "licence.location", copyright_path


def _listed(fs: FileSystem, name: str, arch: str) -> list[str]:
    for stem in (f"{name}:{arch}", name):
        if text := _text(fs, f"{_DATABASE}/info/{stem}.list"):
            return text.split("\n")
    return []


def _layer(fs: FileSystem, name: str, arch: str, otherwise: int) -> int:
    for stem in (f"{name}:{arch}", name):
        if (node := fs.find(f"{_DATABASE}/info/{stem}.list")) is not None:
            return node.layer
    return otherwise


def _provided(stanzas: list[Fields]) -> dict[str, list[str]]:
    """Package or virtual name -> keys of the installed packages that satisfy it."""
    provided: dict[str, list[str]] = {}
    for fields in stanzas:
        names = [fields["package"], *(n for group in _relations(fields.get("provides", "")) for n in group)]
        for name in names:
            provided.setdefault(name, []).append(_key(fields["package"]))
    return provided


def _needs(fields: Fields, provided: dict[str, list[str]]) -> Iterator[str]:
    for field in ("pre-depends", "depends"):
        for alternatives in _relations(fields.get(field, "")):
            for name in alternatives:
                if name in provided:
                    yield from provided[name]
                    break


def _relations(value: str) -> Iterator[list[str]]:
    for group in value.replace("\n", " ").split(","):
        names = [m[0] for part in group.split("|") if (m := _NAME.match(part.strip()))]
        if names:
            yield names


def _key(name: str) -> str:
    return f"deb:{name}"


def _text(fs: FileSystem, path: str) -> str:
    return (fs.read(path) or b"").decode(errors="replace")
