"""What a Go binary says it was built from (Go >= 1.18, debug/buildinfo: inline strings after the magic)."""

from __future__ import annotations

from collections.abc import Iterator

from packageurl import PackageURL

from registry.sbom.package import Package
from registry.sbom.tree import FileSystem, Node

MAGIC = b"\xff Go buildinf:"
WINDOW = 1 << 20  # bytes kept from the magic on; the module list of a large binary is about 50 kB
_HEADER = 32  # magic, pointer size, flags, padding
_INLINE = 2  # flags bit: strings follow the header
_FRAME = 16  # the module text stands between two 16-byte marks


def packages(fs: FileSystem) -> Iterator[Package]:
    for path, node in fs.files():
        if blob := node.marks.get("go"):
            yield from _modules(path, node, blob)


def _modules(path: str, node: Node, blob: bytes) -> Iterator[Package]:
    parsed = parse_build_info(blob)
    if parsed is None:
        return
    version, text = parsed
    yield _package("stdlib", version.removeprefix("go").split(" ")[0], path, node, [])
    modules: list[tuple[str, str]] = []
    main: tuple[str, str] | None = None
    for line in text.splitlines():
        kind, _, rest = line.partition("\t")
        fields = rest.split("\t")
        if kind == "=>" and modules and len(fields) >= 2:
            modules[-1] = (fields[0], fields[1])
        elif kind == "dep" and len(fields) >= 2:
            modules.append((fields[0], fields[1]))
        elif kind == "mod" and len(fields) >= 2:
            main = (fields[0], fields[1])
    for name, release in modules:
        yield _package(name, release, path, node, [])
    if main:
        needs = [_key(path, name) for name in ("stdlib", *(m[0] for m in modules))]
        yield _package(main[0], main[1], path, node, needs, owns=True)


def parse_build_info(blob: bytes) -> tuple[str, str] | None:
    """``(go version, module text)``, or None when it is not build info of Go >= 1.18."""
    if len(blob) < _HEADER or not blob[15] & _INLINE:
        return None
    version, rest = _string(blob[_HEADER:])
    text, _ = _string(rest)
    if not version.startswith(b"go"):
        return None
    framed = len(text) >= 2 * _FRAME + 1 and text[-_FRAME - 1 : -_FRAME] == b"\n"
    body = text[_FRAME:-_FRAME] if framed else b""
    return version.decode(errors="replace"), body.decode(errors="replace")


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A uvarint length (encoding/binary: 7 bits a byte, at most 10), then so many bytes; and the rest."""
    length = start = 0
    for byte in data[:10]:
        length |= (byte & 0x7F) << (7 * start)
        start += 1
        if not byte & 0x80:
            break
    return data[start : start + length], data[start + length :]


def _purl(name: str, version: str) -> PackageURL:
    namespace, _, last = name.rpartition("/")
    usable = "" if version in ("(devel)", "") else version
    return PackageURL("golang", namespace.lower() or None, last.lower(), usable or None)


def _key(path: str, name: str) -> str:
    return f"golang:{path}:{name}"


def _package(name: str, version: str, path: str, node: Node, needs: list[str], *, owns: bool = False) -> Package:
    return Package(
        kind="golang",
        name=name,
        version=version,
        purl=_purl(name, version),
        location=path,
        layer=node.layer,
        files=(path,) if owns else (),
        key=_key(path, name),
        needs=tuple(needs),
    )
