"""An OCI image layout (image-spec 1.1, image-layout.md): images, and what refers to them, on disk.

Tags and referrers are descriptors in ``index.json``, so every tool that reads layouts sees them.  What is read by
digest is hashed again; the layout's files are data from elsewhere, not truth.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import BinaryIO

from harbourmaster.core.digests import is_digest
from harbourmaster.core.errors import IntegrityError, LimitError, NotFoundError
from registry.errors import ImageNotFound
from registry.oci import media
from registry.oci.archive import ArchiveStream, archive_members
from registry.oci.blobs import BlobStore, Source
from registry.oci.descriptor import (
    EMPTY_DESCRIPTOR,
    Descriptor,
    Manifest,
    artifact_manifest,
    invalid,
    parse_manifest,
    parse_object,
)
from registry.oci.index import Index

GC_GRACE_S = 3600.0  # a blob younger than this may belong to an image that is just being written


class OciLayout:
    """
    >>> layout = OciLayout(settings.oci_dir)
    >>> layout.resolve("time:1.0")
    'sha256:...'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = BlobStore(path)
        self.index = Index(path)

    # -- blobs

    def put_blob(self, source: Source, media_type: str = "", *, digest: str = "", limit: int = 0) -> Descriptor:
        """Store bytes, a stream or chunks; with ``digest`` given, ``DigestMismatch`` unless they are that."""
        self._create()
        actual, size = self.blobs.put(source, digest=digest, limit=limit or media.MAX_LAYER_BYTES)
        return Descriptor(media_type, actual, size)

    def open_blob(self, digest: str) -> BinaryIO:
        """The bytes, not checked: hash what you read, or use ``read_blob`` or ``verify_blob``."""
        return self.blobs.open(digest)

    def read_blob(self, digest: str, limit: int = media.MAX_BUNDLE_BYTES) -> bytes:
        return self.blobs.read(digest, limit)

    def verify_blob(self, digest: str) -> int:
        """Read every byte; returns the size.  Raises ``DigestMismatch`` or ``BlobMissing``."""
        return self.blobs.verify(digest)

    def blob_path(self, digest: str) -> Path:
        return self.blobs.path(digest)

    # -- manifests and tags

    def put_manifest(self, data: bytes, *, tag: str = "") -> Descriptor:
        """Store a manifest as it is, byte for byte; one with a ``subject`` becomes that image's referrer."""
        manifest = parse_manifest(data)
        self.put_blob(data, manifest.media_type)
        if manifest.subject:
            hint = {**manifest.annotations, media.SUBJECT_HINT: manifest.subject.digest}
            self._list(dataclasses.replace(manifest.descriptor, annotations=hint))
        if tag:
            self.tag(tag, manifest.digest)
        return manifest.descriptor

    def put_index(self, data: bytes) -> Descriptor:
        """Store an image index (several platforms) as it is, named by its digest: an entry may pin it."""
        body = parse_object(data, "an image index", media.MAX_MANIFEST_BYTES)
        if body.get("mediaType", media.INDEX) not in media.INDEXES or not isinstance(body.get("manifests"), list):
            raise invalid("not an image index")
        descriptor = self.put_blob(data, body.get("mediaType", media.INDEX))
        named = dataclasses.replace(descriptor, annotations={media.REF_NAME: index_name(descriptor.digest)})
        with self.index.change() as entries:
            entries[:] = [e for e in entries if e.digest != descriptor.digest] + [named]
        return descriptor

    def listed_in(self, index: str) -> tuple[str, ...]:
        """The manifest digests that the stored index ``index`` lists; nothing where it is not here or no index."""
        if not self.blobs.has(index):
            return ()
        body = parse_object(self.read_manifest_bytes(index), "a manifest", media.MAX_MANIFEST_BYTES)
        listed = body.get("manifests")
        return tuple(Descriptor.parse(m).digest for m in listed) if isinstance(listed, list) else ()

    def read_manifest_bytes(self, digest: str) -> bytes:
        return self.blobs.read(digest, media.MAX_MANIFEST_BYTES)

    def read_manifest(self, digest: str) -> Manifest:
        """Parsed from bytes whose digest was checked."""
        return parse_manifest(self.read_manifest_bytes(digest))

    def tag(self, ref: str, digest: str) -> None:
        """Let ``ref`` name the manifest ``digest``, and nothing else from now on."""
        manifest = self.read_manifest(digest)
        entry = Descriptor(manifest.media_type, digest, manifest.size, "", {media.REF_NAME: ref})
        with self.index.change() as entries:
            entries[:] = [e for e in entries if e.annotations.get(media.REF_NAME) != ref] + [entry]

    def untag(self, ref: str) -> bool:
        """Remove the name; the image goes at the next ``gc``."""
        with self.index.change() as entries:
            kept = [e for e in entries if e.annotations.get(media.REF_NAME) != ref]
            found = len(kept) != len(entries)
            entries[:] = kept
        return found

    def resolve(self, ref: str) -> str:
        """The manifest digest that ``ref`` (a name, or a digest) stands for; raises ``ImageNotFound``."""
        if is_digest(ref):
            if self.blobs.has(ref):
                return ref
        else:
            for entry in self.index.read():
                if entry.annotations.get(media.REF_NAME) == ref:
                    return entry.digest
        raise ImageNotFound(
            f"no image {ref} in {self.path}",
            remedy="build it: hm up for the starter servers, hm registry build NAME for one",
            ref=ref,
        )

    def tags(self) -> dict[str, str]:
        """Name -> manifest digest."""
        named = ((e.annotations.get(media.REF_NAME), e.digest) for e in self.index.read())
        return {name: digest for name, digest in named if name}

    # -- referrers

    def add_referrer(
        self,
        subject: str,
        data: bytes,
        *,
        artifact_type: str = media.SIGSTORE_BUNDLE,
        annotations: dict[str, str] | None = None,
    ) -> Descriptor:
        """Attach ``data`` as a one-layer artifact to the manifest ``subject``; returns the artifact's descriptor.

        ``data`` is the layer and ``artifact_type`` its media type.  Attaching the same bytes again changes nothing.
        """
        image = self.read_manifest(subject)
        self.put_blob(media.EMPTY_BLOB, media.EMPTY, digest=EMPTY_DESCRIPTOR.digest)
        layer = self.put_blob(data, artifact_type)
        return self.put_manifest(artifact_manifest(image.descriptor, artifact_type, [layer], annotations or {}))

    def referrers(self, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """Artifact manifests whose ``subject`` is ``digest``, of one artifact type or of all, oldest first.

        The subject is read from each manifest itself: the index is only believed where it says that one is not ours.
        """
        found = []
        for entry in self.index.read():
            if entry.media_type not in media.MANIFESTS or entry.annotations.get(media.SUBJECT_HINT, digest) != digest:
                continue
            try:
                manifest = self.read_manifest(entry.digest)
            except (NotFoundError, IntegrityError, LimitError):
                if media.SUBJECT_HINT in entry.annotations:
                    raise
                continue  # another tool's, and unreadable: a paper less, which can only refuse
            wanted = not artifact_type or manifest.artifact_type == artifact_type
            if manifest.subject and manifest.subject.digest == digest and wanted and manifest.descriptor not in found:
                found.append(manifest.descriptor)
        return found

    def remove_referrer(self, digest: str) -> bool:
        """Detach an artifact manifest; its blobs go at the next ``gc``."""
        with self.index.change() as entries:
            kept = [e for e in entries if e.digest != digest]
            found = len(kept) != len(entries)
            entries[:] = kept
        return found

    # -- whole images

    def archive(self, digest: str, ref: str = "") -> ArchiveStream:
        """A tar for ``docker load`` that is also an OCI layout; every blob is hashed as it passes."""
        manifest_bytes = self.read_manifest_bytes(digest)
        return ArchiveStream(archive_members(manifest_bytes, ref), self.blobs)

    def gc(self, *, now: float | None = None, grace_s: float = GC_GRACE_S) -> int:
        """Remove blobs that no entry of the index reaches, and referrers whose image is gone.  Returns bytes freed."""
        newest = (time.time() if now is None else now) - grace_s
        with self.index.change() as entries:
            alive = _alive(entries, self)
            entries[:] = [e for e in entries if e.digest in alive]
            kept = set().union(*alive.values()) if alive else set()
        self.blobs.remove_dead_ingests()
        doomed = [d for d in self.blobs.all() if d not in kept and self.blobs.path(d).stat().st_mtime <= newest]
        return sum(self.blobs.remove(d) for d in doomed)

    def _list(self, entry: Descriptor) -> None:
        with self.index.change() as entries:
            if not any(e.digest == entry.digest for e in entries):
                entries.append(entry)

    def _create(self) -> None:
        if not (self.path / "index.json").exists():
            self.index.create()


def index_name(digest: str) -> str:
    """What index.json calls an image index, so that it is kept and taken for no paper."""
    return f"index@{digest}"


def _alive(entries: list[Descriptor], layout: OciLayout) -> dict[str, set[str]]:
    """Manifest digest -> every blob it needs, for entries that are no referrers, and referrers of those, and so on."""
    manifests = {e.digest: layout.read_manifest(e.digest) for e in entries if e.media_type in media.MANIFESTS}
    alive = {e.digest: {e.digest} for e in entries if e.media_type not in media.MANIFESTS}
    waiting = dict(manifests)
    while True:
        ready = {d for d, m in waiting.items() if m.subject is None or m.subject.digest in alive or _named(entries, d)}
        if not ready:
            return alive
        for digest in ready:
            alive[digest] = {digest, *(b.digest for b in waiting.pop(digest).blobs)}


def _named(entries: list[Descriptor], digest: str) -> bool:
    return any(e.digest == digest and media.REF_NAME in e.annotations for e in entries)
