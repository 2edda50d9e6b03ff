"""Layers -> file system: whiteouts, opaque directories and links as image-spec 1.1's layer.md says.

Every layer is hashed as it is read, so what the readers see is what the manifest names.  Nothing is written to disk.
"""

from __future__ import annotations

import hashlib
import re
import tarfile

from harbourmaster.core.digests import CHUNK
from registry.errors import FilesystemInvalid, TooLarge
from registry.oci.compression import NotReadable, uncompressed
from registry.oci.descriptor import Manifest
from registry.oci.layout import OciLayout
from registry.oci.streams import ChunkReader
from registry.oci.tars import members
from registry.sbom.golang import MAGIC as GO_MAGIC
from registry.sbom.golang import WINDOW as GO_WINDOW
from registry.sbom.tree import MAX_DEPTH, FileSystem, Node

MAX_ENTRIES = 2_000_000  # an image of 1 GB has about 50,000
MAX_KEPT_FILE = 32 << 20  # the dpkg status of a full desktop is below 10 MB
MAX_KEPT_TOTAL = 512 << 20

WHITEOUT = ".wh."  # layer.md, "whiteouts"
OPAQUE = ".wh..wh..opq"

_KEPT = re.compile(
    r"(?:usr/)?(?:etc|lib)/os-release|"
    r"var/lib/dpkg/(?:status|status\.d/[^/]+|info/[^/]+\.list)|"
    r"usr/share/doc/[^/]+/copyright|"
    r"(?:usr/)?lib/apk/db/installed|"
    r"(?:.*/)?[^/]+\.dist-info/(?:METADATA|RECORD)|"
    r"(?:.*/)?[^/]+\.egg-info(?:/PKG-INFO)?|"
    r"(?:.*/)?node_modules/\.package-lock\.json|"
    r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/]+/package\.json|"
    r"(?:.*/)?include/python3\.[0-9]+t?/patchlevel\.h|"
    r"(?:.*/)?include/node/node_version\.h"
)
_NODE_RELEASE = re.compile(
    rb"nodejs\.org/download/release/v([0-9]+\.[0-9]+\.[0-9]+)/"
)  # process.release, in the binary
_OVERLAP = 128


def filesystem_of(layout: OciLayout, manifest: Manifest) -> FileSystem:
    """The image's root file system.  Raises ``FilesystemInvalid``, ``TooLarge`` or ``DigestMismatch``."""
    manifest.require_known_layers()
    overlay = _Overlay()
    for index, layer in enumerate(manifest.layers):
        reader = ChunkReader(uncompressed(layout.blobs.chunks(layer.digest)))
        try:
            overlay.add_layer(index, reader)
            while reader.read(CHUNK):  # what follows the end mark is hashed too
                pass
        except (tarfile.TarError, NotReadable) as e:
            raise invalid(f"layer {layer.digest} is not a tar that can be read: {e}") from e
    return overlay.tree


class _Overlay:
    def __init__(self) -> None:
        self.tree = FileSystem()
        self._entries = 0
        self._kept = 0

    def add_layer(self, index: int, stream: ChunkReader) -> None:
        for member, tar in members(stream):
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise TooLarge(
                    f"the image has more than {MAX_ENTRIES} files", remedy="do not use it", limit=MAX_ENTRIES
                )
            if parts := _parts(member.name):
                self._add(index, parts, member, tar)

    def _add(self, index: int, parts: list[str], member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        name = parts[-1]
        if name == OPAQUE:
            self.tree.hide_children(parts[:-1], index)
        elif name.startswith(WHITEOUT):
            self.tree.hide([*parts[:-1], name.removeprefix(WHITEOUT)], index)
        elif member.isdir():
            self.tree.put(parts, Node("dir", index, mode=member.mode))
        elif member.issym():
            self.tree.put(parts, Node("link", index, target=member.linkname))
        elif member.islnk():
            self.tree.put(parts, self._linked(index, member))
        elif member.isreg():
            self.tree.put(parts, self._file(index, "/".join(parts), member, tar))
        else:
            self.tree.put(parts, Node("other", index))

    def _linked(self, index: int, member: tarfile.TarInfo) -> Node:
        target = self.tree.at("/".join(_parts(member.linkname)))
        if target is None or target.kind == "dir":
            raise invalid(f"{member.name!r} is a hard link to {member.linkname!r}, which is not there")
        return Node(
            target.kind, index, target.size, target.sha256, target.target, target.mode, target.data, target.marks
        )

    def _file(self, index: int, path: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> Node:
        source = tar.extractfile(member)
        assert source is not None  # a regular file, always
        keep = _KEPT.fullmatch(path) is not None
        if keep:
            self._count(path, member.size)
        h, held, scan = hashlib.sha256(), bytearray(), _Scan(path)
        while chunk := source.read(CHUNK):
            h.update(chunk)
            scan.feed(chunk)
            if keep:
                held += chunk
        data = bytes(held) if keep else None
        return Node("file", index, member.size, h.hexdigest(), "", member.mode, data, scan.marks())

    def _count(self, path: str, size: int) -> None:
        self._kept += size
        if size > MAX_KEPT_FILE or self._kept > MAX_KEPT_TOTAL:
            raise TooLarge(f"{path} is too large to be read for the SBOM", remedy="do not use this image", path=path)


class _Scan:
    """Looks into executables while they pass: ELF or not, Go build info, the version a node binary says it has."""

    def __init__(self, path: str) -> None:
        self._first = True
        self._elf = False
        self._tail = b""
        self._go: bytearray | None = None
        self._node = b""
        self._is_node = path.rpartition("/")[2] in ("node", "nodejs")

    def feed(self, chunk: bytes) -> None:
        if self._first:
            self._first, self._elf = False, chunk.startswith(b"\x7fELF")
        if not self._elf:
            return
        window = self._tail + chunk
        if self._go is not None and len(self._go) < GO_WINDOW:
            self._go += chunk
        elif self._go is None and (at := window.find(GO_MAGIC)) >= 0:
            self._go = bytearray(window[at:])
        if self._is_node and not self._node and (found := _NODE_RELEASE.search(window)):
            self._node = found[1]
        self._tail = chunk[-_OVERLAP:]

    def marks(self) -> dict[str, bytes]:
        marks = {"elf": b""} if self._elf else {}
        if self._go:
            marks["go"] = bytes(self._go[:GO_WINDOW])
        if self._node:
            marks["node"] = self._node
        return marks


def _parts(name: str) -> list[str]:
    parts = [p for p in name.split("/") if p not in ("", ".")]
    if ".." in parts or len(parts) > MAX_DEPTH or "\x00" in name:
        raise invalid(f"a layer holds the path {name[:200]!r}")
    return parts


def invalid(message: str) -> FilesystemInvalid:
    return FilesystemInvalid(message, remedy="do not use this image")
