"""The tar that ``docker load`` and ``ctr image import`` read, made from a layout's blobs as a stream.

Two formats in one, as Docker >= 25 itself saves: ``manifest.json`` (Docker's image-spec v1.2; engines down to 20.10
read it) and an OCI layout (``oci-layout``, ``index.json``; engines with the containerd store read that).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from harbourmaster.core.digests import hex_of
from registry.errors import ManifestInvalid
from registry.oci import media
from registry.oci.blobs import BlobStore
from registry.oci.descriptor import Descriptor, parse_manifest
from registry.oci.streams import ChunkReader

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)  # POSIX.1-1988: two zero blocks end an archive


@dataclass(frozen=True)
class Member:
    name: str
    size: int
    data: bytes | None = None  # None: the blob ``digest``
    digest: str = ""

    @property
    def padded(self) -> int:
        return _BLOCK + self.size + (-self.size % _BLOCK)


def archive_members(manifest_bytes: bytes, ref: str) -> list[Member]:
    manifest = parse_manifest(manifest_bytes)
    manifest.require_known_layers()
    blobs = {b.digest: b for b in manifest.blobs}
    return [
        _text("oci-layout", {"imageLayoutVersion": "1.0.0"}),
        *(Member(_name(b.digest), b.size, digest=b.digest) for b in blobs.values()),
        Member(_name(manifest.digest), len(manifest_bytes), manifest_bytes),
        _text("index.json", _index(manifest.descriptor, ref)),
        _text(
            "manifest.json",
            [
                {
                    "Config": _name(manifest.config.digest),
                    "RepoTags": [ref] if ref else None,
                    "Layers": [_name(layer.digest) for layer in manifest.layers],
                }
            ],
        ),
    ]


class ArchiveStream(ChunkReader):
    """Readable, not seekable; ``len()`` is known, so HTTP clients can send a Content-Length.

    Raises ``DigestMismatch`` in the middle of the stream when a blob is not what its name says: the engine then has a
    broken archive and loads nothing.
    """

    def __init__(self, members: list[Member], blobs: BlobStore) -> None:
        super().__init__(_stream(members, blobs))
        self._length = sum(m.padded for m in members) + len(_END)

    def __len__(self) -> int:
        return self._length


def _stream(members: list[Member], blobs: BlobStore) -> Iterator[bytes]:
    for member in members:
        header = tarfile.TarInfo(member.name)
        header.size, header.mode = member.size, 0o644
        yield header.tobuf(tarfile.USTAR_FORMAT if member.size < 8 << 30 else tarfile.GNU_FORMAT)
        sent = 0
        for chunk in [member.data] if member.data is not None else blobs.chunks(member.digest):
            sent += len(chunk)
            if sent > member.size:
                break
            yield chunk
        if sent != member.size:
            raise ManifestInvalid(
                f"{member.digest} has not the {member.size} bytes that the manifest says",
                remedy="build or pull the image again",
            )
        yield bytes(-member.size % _BLOCK)
    yield _END


def _index(manifest: Descriptor, ref: str) -> dict[str, object]:
    names = {media.CONTAINERD_IMAGE_NAME: _full(ref), media.REF_NAME: ref.rpartition(":")[2] or ref} if ref else {}
    entry = Descriptor(manifest.media_type, manifest.digest, manifest.size, "", names)
    return {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [entry.as_dict()]}


def _full(ref: str) -> str:
    """How engines with the containerd store write names: with the registry that Docker takes for granted."""
    first, slash, _ = ref.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return ref
    return f"docker.io/{ref}" if slash else f"docker.io/library/{ref}"


def _name(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _text(name: str, body: object) -> Member:
    data = json.dumps(body, sort_keys=True).encode()
    return Member(name, len(data), data)
