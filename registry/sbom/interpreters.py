"""Python and Node that no package manager owns (``/usr/local`` of official images, or copied in by a build)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packageurl import PackageURL

from registry.sbom.package import Package
from registry.sbom.tree import FileSystem, Node

_PYTHON = re.compile(r"(?P<prefix>(?:.*/)?)bin/python(?P<minor>3\.[0-9]+)(?P<free>t?)")
_NODE = re.compile(r"(?P<prefix>(?:.*/)?)bin/node(?:js)?")
_PATCHLEVEL = re.compile(rb'#define\s+PY_VERSION\s+"([^"]+)"')
_NODE_VERSION = re.compile(rb"#define\s+NODE_(MAJOR|MINOR|PATCH)_VERSION\s+(\d+)")


def packages(fs: FileSystem, owned: set[str]) -> Iterator[Package]:
    """``owned``: paths that belong to packages; an interpreter among them has been counted already."""
    for path, node in fs.files():
        if path in owned or "elf" not in node.marks:
            continue
        if m := _PYTHON.fullmatch(path):
            yield _python(fs, path, node, m, owned)
        elif m := _NODE.fullmatch(path):
            yield _node(fs, path, node, m["prefix"], owned)


def _python(fs: FileSystem, path: str, node: Node, m: re.Match[str], owned: set[str]) -> Package:
    prefix, minor = m["prefix"], m["minor"] + m["free"]
    header = _PATCHLEVEL.search(fs.read(f"{prefix}include/python{minor}/patchlevel.h") or b"")
    version = header[1].decode(errors="replace") if header else m["minor"]
    library = f"{prefix}lib/python{minor}/"
    parts = [p for p, _ in fs.files(library) if "/site-packages/" not in p and "/dist-packages/" not in p]
    parts += [p for p, _ in fs.files(f"{prefix}lib") if p.startswith(f"{prefix}lib/libpython{m['minor']}")]
    return _interpreter("python", version, "PSF-2.0", path, node, parts, owned)


def _node(fs: FileSystem, path: str, node: Node, prefix: str, owned: set[str]) -> Package:
    header = dict(_NODE_VERSION.findall(fs.read(f"{prefix}include/node/node_version.h") or b""))
    numbers = [header.get(part, b"").decode() for part in (b"MAJOR", b"MINOR", b"PATCH")]
    version = ".".join(numbers) if all(numbers) else node.marks.get("node", b"").decode()
    parts = [p for p, _ in fs.files(f"{prefix}include/node")]
    return _interpreter("node", version, "MIT", path, node, parts, owned)


def _interpreter(
    name: str, version: str, licence: str, path: str, node: Node, parts: list[str], owned: set[str]
) -> Package:
    return Package(
        kind="generic",
        name=name,
        version=version,
        purl=PackageURL("generic", None, name, version or None),
        location=path,
        layer=node.layer,
        licences=(licence,),
        files=tuple(p for p in (path, *parts) if p not in owned),
        key=f"generic:{path}",
    )
