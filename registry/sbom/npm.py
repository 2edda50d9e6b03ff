"""npm packages: ``package.json`` in every ``node_modules``, integrity from the hidden lock ``.package-lock.json``."""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from packageurl import PackageURL

from registry.sbom.package import Package
from registry.sbom.tree import FileSystem, Node

_PACKAGE = re.compile(r"(?P<dir>(?P<root>(?:.*/)?node_modules)/(?P<name>(?:@[^/]+/)?[^/]+))/package\.json")
_SHA512_BYTES = 64


def packages(fs: FileSystem) -> Iterator[Package]:
    found = []
    integrity: dict[str, str] = {}
    for path, node in fs.files():
        if node.data is None:
            continue
        if match := _PACKAGE.fullmatch(path):
            found.append((match["dir"], path, node))
        elif path.endswith("node_modules/.package-lock.json"):
            integrity.update(_integrity(path.removesuffix("node_modules/.package-lock.json"), node.data))
    directories = {directory for directory, _, _ in found}
    for directory, path, node in found:
        body = _object(node.data or b"")
        name, version = body.get("name"), body.get("version")
        if isinstance(name, str) and isinstance(version, str) and name and version:
            needs = tuple(sorted(set(_needs(directory, body, directories))))
            yield _package(fs, directory, path, node, body, needs, integrity.get(directory, ""))


def _package(
    fs: FileSystem, directory: str, path: str, node: Node, body: dict[str, Any], needs: tuple[str, ...], sha512: str
) -> Package:
    return Package(
        kind="npm",
        name=body["name"],
        version=body["version"],
        purl=purl(body["name"], body["version"]),
        location=path,
        layer=node.layer,
        licences=licences(body),
        files=tuple(p for p, _ in fs.files(directory) if "/node_modules/" not in p[len(directory) :]),
        sha512=sha512,
        key=f"npm:{directory}",
        needs=needs,
        supplier=_person(body.get("author")),
        description=_text(body.get("description")),
        homepage=_text(body.get("homepage")),
    )


def purl(name: str, version: str) -> PackageURL:
    """purl-spec type ``npm``: the scope is the namespace, written ``%40scope``."""
    namespace, _, last = name.rpartition("/")
    return PackageURL("npm", namespace or None, last, version)


def licences(body: dict[str, Any]) -> tuple[str, ...]:
    """``license`` as text, or the older object and list forms."""
    value = body.get("license") or body.get("licenses") or []
    values = value if isinstance(value, list) else [value]
    names = [v.get("type") if isinstance(v, dict) else v for v in values]
    return tuple(sorted({n.strip() for n in names if isinstance(n, str) and n.strip()}))


def _needs(directory: str, body: dict[str, Any], directories: set[str]) -> Iterator[str]:
    """Where Node's resolution finds each dependency: the nearest ``node_modules`` upwards."""
    for field in ("dependencies", "optionalDependencies", "peerDependencies"):
        wanted = body.get(field)
        for name in wanted if isinstance(wanted, dict) else ():
            if found := _nearest(directory, name, directories):
                yield f"npm:{found}"


def _nearest(directory: str, name: str, directories: set[str]) -> str:
    base = directory
    while True:
        candidate = posixpath.join(base, "node_modules", name)
        if posixpath.basename(base) != "node_modules" and candidate in directories:
            return candidate
        if not base:
            return ""
        base = posixpath.dirname(base)


def _integrity(root: str, data: bytes) -> Iterator[tuple[str, str]]:
    """Directory -> SHA-512 (hex) of the archive it was unpacked from."""
    entries = _object(data).get("packages")
    for place, entry in entries.items() if isinstance(entries, dict) else ():
        text = entry.get("integrity", "") if isinstance(entry, dict) else ""
        for item in text.split() if isinstance(text, str) else ():
            if digest := _sha512(item):
                yield f"{root}{place}", digest


def _sha512(item: str) -> str:
    algorithm, _, value = item.partition("-")
    if algorithm != "sha512":
        return ""
    try:
        raw = base64.b64decode(value.partition("?")[0], validate=True)
    except (ValueError, binascii.Error):
        return ""
    return raw.hex() if len(raw) == _SHA512_BYTES else ""


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _person(value: Any) -> str:
    return _text(value.get("name")) if isinstance(value, dict) else _text(value)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
