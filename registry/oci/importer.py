"""An engine's image into the layout: ``docker save`` as a stream -> config byte for byte, layers as uncompressed tars.

Reads what engines from 20.10 on save (classic: ``<id>/layer.tar``; since 25: ``blobs/sha256/...``); both list their
parts in ``manifest.json``.  The archive is hostile: nothing is unpacked, names are only looked up, sizes are bounded,
and every layer's digest must be the diff ID that the config names.
"""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from contextlib import ExitStack
from typing import IO, Any, Protocol

from harbourmaster.core.digests import CHUNK, expect, is_digest
from harbourmaster.core.errors import EngineError
from registry.errors import ArchiveInvalid, ImageNotFound
from registry.oci import media
from registry.oci.blobs import Ingest
from registry.oci.compression import NotReadable, uncompressed
from registry.oci.descriptor import Descriptor, exact, image_manifest, parse_object
from registry.oci.layout import OciLayout
from registry.oci.streams import ChunkReader
from registry.oci.tars import members

SMALL_BYTES = 1 << 20  # parts up to this size wait in memory for manifest.json, which engines write last
MAX_SMALL_TOTAL = 64 << 20


class EngineClient(Protocol):
    """The part of ``docker.DockerClient`` that is used."""

    @property
    def api(self) -> Any: ...


def import_engine_image(
    client: EngineClient, image: str, layout: OciLayout, *, annotations: dict[str, str] | None = None
) -> str:
    """Import ``image`` (a name or an ID) from the engine; returns the digest of its manifest in the layout."""
    import docker.errors

    try:
        chunks = client.api.get_image(image, chunk_size=CHUNK)
        return import_archive(ChunkReader(chunks), layout, annotations=annotations)
    except docker.errors.NotFound as e:
        raise ImageNotFound(f"the engine has no image {image}", remedy="build or load it first", image=image) from e
    except (docker.errors.DockerException, OSError) as e:
        raise EngineError(f"the engine could not save {image}: {e}", remedy="see: hm doctor") from e


def import_archive(
    stream: IO[bytes] | io.RawIOBase, layout: OciLayout, *, annotations: dict[str, str] | None = None
) -> str:
    """Import the one image of a ``docker save`` archive; returns the manifest digest.  Raises ``ArchiveInvalid``."""
    layout.index.create()
    with ExitStack() as stack:
        parts = _Parts(layout, stack)
        try:
            parts.read(stream)
        except (tarfile.TarError, NotReadable) as e:
            raise invalid(f"it is not a tar that can be read: {e}") from e
        config_name, layer_names = parts.listing()
        config = parts.data(config_name)
        layers = parts.layers(layer_names)
        for layer, diff_id in zip(layers, diff_ids(config, len(layers)), strict=True):
            expect(diff_id, layer.digest, "a layer of the engine's image")
        descriptor = layout.put_blob(config, media.CONFIG)
    return layout.put_manifest(image_manifest(descriptor, layers, annotations)).digest


def diff_ids(config: bytes, count: int) -> list[str]:
    """``rootfs.diff_ids`` of an image config (image-spec config.md); as many as there are layers."""
    body = parse_object(config, "an image config", media.MAX_CONFIG_BYTES)
    exact(body, "rootfs", "config")
    rootfs = body.get("rootfs")
    exact(rootfs if isinstance(rootfs, dict) else {}, "diff_ids")
    ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(ids, list) or len(ids) != count or not all(isinstance(d, str) and is_digest(d) for d in ids):
        raise invalid(f"the config does not name {count} layers by digest")
    return ids


class _Parts:
    """What the archive held, by name: small parts in memory, large ones as blobs that are not committed yet."""

    def __init__(self, layout: OciLayout, stack: ExitStack) -> None:
        self._layout, self._stack = layout, stack
        self._small: dict[str, bytes] = {}
        self._large: dict[str, Ingest] = {}
        self._links: dict[str, str] = {}
        self._committed: dict[str, Descriptor] = {}

    def read(self, stream: IO[bytes] | io.RawIOBase) -> None:
        total = 0
        for count, (member, tar) in enumerate(members(stream)):
            if count > media.MAX_ARCHIVE_MEMBERS:
                raise invalid(f"it has more than {media.MAX_ARCHIVE_MEMBERS} parts")
            name = posixpath.normpath(member.name)
            if member.issym() or member.islnk():
                base = posixpath.dirname(name) if member.issym() else ""
                self._links[name] = posixpath.normpath(posixpath.join(base, member.linkname))
            elif member.isreg():
                total += self._take(name, member, tar)
                if total > MAX_SMALL_TOTAL:
                    raise invalid("its small parts do not fit in memory")

    def _take(self, name: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> int:
        source = tar.extractfile(member)
        assert source is not None  # a regular file, always
        if member.size <= SMALL_BYTES:
            self._small[name] = source.read()
            return member.size
        ingest = self._stack.enter_context(self._layout.blobs.ingest())
        for chunk in uncompressed(iter(lambda: source.read(CHUNK), b"")):
            ingest.write(chunk)
        self._large[name] = ingest
        return 0

    def listing(self) -> tuple[str, list[str]]:
        """The names of the config and the layers, from ``manifest.json`` (Docker image-spec v1.2)."""
        try:
            body = json.loads(self._small["manifest.json"])
            (image,) = body
            config, layers = image["Config"], image["Layers"] or []
        except (KeyError, ValueError, TypeError, RecursionError) as e:
            raise invalid("its manifest.json does not describe exactly one image") from e
        if not isinstance(config, str) or not all(isinstance(name, str) for name in layers):
            raise invalid("its manifest.json does not name files")
        return config, layers

    def data(self, name: str) -> bytes:
        try:
            return self._small[self._target(name)]
        except KeyError:
            raise invalid(f"{name!r} is missing or too large") from None

    def layers(self, names: list[str]) -> list[Descriptor]:
        try:
            return [self._layer(name) for name in names]
        except NotReadable as e:
            raise invalid(str(e)) from e

    def _layer(self, name: str) -> Descriptor:
        target = self._target(name)
        if target not in self._committed:
            self._committed[target] = self._commit(target)
        return self._committed[target]

    def _commit(self, name: str) -> Descriptor:
        if ingest := self._large.get(name):
            return Descriptor(media.LAYER_TAR, ingest.commit(), ingest.size)
        return self._layout.put_blob(uncompressed(iter([self.data(name)])), media.LAYER_TAR)

    def _target(self, name: str) -> str:
        """Follow the links inside the archive (20.10 saves a repeated layer as one)."""
        name = posixpath.normpath(name)
        for _ in range(8):
            if name not in self._links:
                return name
            name = self._links[name]
        raise invalid(f"{name!r} links in a circle")


def invalid(why: str) -> ArchiveInvalid:
    return ArchiveInvalid(f"the image archive cannot be imported: {why}", remedy="save or build the image again")
