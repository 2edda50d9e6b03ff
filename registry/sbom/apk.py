"""Alpine packages: ``lib/apk/db/installed`` (apk-tools' database: one letter, a colon, a value)."""

from __future__ import annotations

from collections.abc import Iterator

from packageurl import PackageURL

from registry.sbom.distro import Distro
from registry.sbom.package import Package, owned_files
from registry.sbom.tree import FileSystem

_DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")

Lines = list[tuple[str, str]]


def packages(fs: FileSystem, distro: Distro | None) -> Iterator[Package]:
    for path in _DATABASES:
        node = fs.find(path)
        if node is not None and node.data is not None and fs.resolve(path) == path:
            stanzas = list(_stanzas(node.data.decode(errors="replace")))
            provided = _provided(stanzas)
            for lines in stanzas:
                yield _package(fs, distro, path, node.layer, lines, provided)


def _stanzas(text: str) -> Iterator[Lines]:
    for block in text.split("\n\n"):
        lines = [(line[0], line[2:]) for line in block.split("\n") if line[1:2] == ":"]
        if {"P", "V"} <= {letter for letter, _ in lines}:
            yield lines


def _package(
    fs: FileSystem, distro: Distro | None, path: str, layer: int, lines: Lines, provided: dict[str, str]
) -> Package:
    first = dict(reversed(lines))
    name, version = first["P"], first["V"]
    qualifiers = {"arch": first["A"]} if first.get("A") else {}
    if distro:
        qualifiers["distro"] = distro.qualifier
    return Package(
        kind="apk",
        name=name,
        version=version,
        purl=PackageURL("apk", distro.id if distro else "alpine", name, version, qualifiers),
        location=path,
        layer=layer,
        licences=(first["L"],) if first.get("L") else (),
        files=owned_files(fs, _files(lines)),
        key=f"apk:{name}",
        needs=tuple(sorted({provided[d] for d in _wanted(first.get("D", "")) if d in provided} - {f"apk:{name}"})),
        supplier=first.get("m", ""),
        description=first.get("T", ""),
        homepage=first.get("U", ""),
        notes=(("apk.origin", first.get("o", name)),),
    )


def _files(lines: Lines) -> Iterator[str]:
    directory = ""
    for letter, value in lines:
        if letter == "F":
            directory = value
        elif letter == "R":
            yield f"{directory}/{value}"


def _provided(stanzas: list[Lines]) -> dict[str, str]:
    provided: dict[str, str] = {}
    for lines in stanzas:
        first = dict(reversed(lines))
        for name in (first["P"], *_wanted(first.get("p", ""))):
            provided.setdefault(name, f"apk:{first['P']}")
    return provided


def _wanted(value: str) -> list[str]:
    """Names without version constraints; conflicts (``!name``) left out."""
    names = [item for item in value.split() if not item.startswith("!")]
    return [n.partition("=")[0].partition("<")[0].partition(">")[0].partition("~")[0] for n in names]
