"""A model as one tar file: what Docker's runner exports and loads (docker/model-runner, ``pkg/distribution/tarball``), and at the
same time an OCI image layout, so that ``skopeo`` and ``oras`` read it too.

Docker's part is ``manifest.json`` (the manifest's own bytes) and ``blobs/<algorithm>/<hex>``; the layout's is ``oci-layout``,
``index.json`` (which also keeps the model's name) and the manifest once more as a blob.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO

from harbourmaster.core.digests import CHUNK, hex_of, is_digest, sha256
from harbourmaster.core.errors import HarbourError
from registry.oci import media as oci
from registry.oci.archive import ArchiveStream, Member
from registry.oci.descriptor import Descriptor, parse_manifest
from runner.errors import ModelInvalid
from runner.store import reference
from runner.store.config import MAX_CONFIG_BYTES, is_model, read_config
from runner.store.store import Model, ModelStore, by_role
from runner.store.transfer import MAX_BLOB_BYTES

MAX_MEMBERS = 10_000
MAX_TEXT = 8 << 20  # bytes of manifest.json and index.json


def export(store: ModelStore, name: str) -> ArchiveStream:
    """Readable once; its ``len()`` is the file's size.  Raises ``ModelNotFound``; ``DigestMismatch`` on the way."""
    model = store.find(name)
    manifest = store.layout.read_manifest_bytes(model.id)
    members = [
        _text("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode()),
        *(
            Member(_path(b.digest), b.size, digest=b.digest)
            for b in {b.digest: b for b in model.manifest.blobs}.values()
        ),
        Member(_path(model.id), len(manifest), manifest),
        _text("index.json", _index(model, len(manifest))),
        _text("manifest.json", manifest),
    ]
    return ArchiveStream(members, store.layout.blobs)


def load(store: ModelStore, source: IO[bytes], name: str = "") -> Model:
    """Take a model out of a tar stream.  ``name``: its new name; else the one in the archive, else one made of its ID.

    Raises ``ModelInvalid``, ``DigestMismatch`` or ``TooLarge``; what had come in by then goes with the next prune.
    """
    texts: dict[str, bytes] = {}
    store.layout.index.create()
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for member in _files(tar):
                _take(store, tar, member, texts)
    except (tarfile.TarError, EOFError) as e:
        raise _broken(f"the archive cannot be read: {e}") from e
    if "manifest.json" not in texts:
        raise _broken("the archive has no manifest.json")
    return _commit(store, texts["manifest.json"], name or _kept_name(texts))


def _files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(tar):
        if count >= MAX_MEMBERS:
            raise _broken(f"the archive has more than {MAX_MEMBERS} members")
        if member.isreg():  # links, devices and the like are nobody's model
            yield member


def _take(store: ModelStore, tar: tarfile.TarFile, member: tarfile.TarInfo, texts: dict[str, bytes]) -> None:
    f = tar.extractfile(member)
    assert f is not None
    if member.name in ("manifest.json", "index.json"):
        if member.size > MAX_TEXT:
            raise _broken(f"{member.name} is over {MAX_TEXT} bytes")
        texts[member.name] = f.read()
        return
    kind, _, rest = member.name.partition("/")
    digest = rest.replace("/", ":", 1)
    if kind == "blobs" and is_digest(digest):
        store.layout.put_blob(_chunks(f), digest=digest, limit=MAX_BLOB_BYTES)


def _chunks(f: IO[bytes]) -> Iterator[bytes]:
    while chunk := f.read(CHUNK):
        yield chunk


def _commit(store: ModelStore, data: bytes, name: str) -> Model:
    manifest = parse_manifest(data)
    if not is_model(manifest) or "weights" not in by_role(manifest):
        raise _broken("its manifest is no model's, or has no GGUF weights")
    for blob in manifest.blobs:
        if not store.layout.blobs.has(blob.digest):
            raise _broken(f"the archive lacks {blob.digest}")
    read_config(store.layout.read_blob(manifest.config.digest, MAX_CONFIG_BYTES), manifest.config.media_type)
    return store.commit(data, name or f"loaded/model:{hex_of(sha256(data))[:12]}")


def _kept_name(texts: dict[str, bytes]) -> str:
    """The name in the archive, if it is one; an archive comes from anywhere."""
    try:
        entries: Iterable[object] = json.loads(texts.get("index.json", b"{}")).get("manifests", [])
        names = [str(e["annotations"][oci.REF_NAME]) for e in entries if isinstance(e, dict)]
        return str(reference.parse(names[0]))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, HarbourError):
        return ""


def _index(model: Model, size: int) -> bytes:
    names = {oci.REF_NAME: model.tags[0]} if model.tags else {}
    entry = Descriptor(model.manifest.media_type, model.id, size, "", names)
    return json.dumps({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [entry.as_dict()]}).encode()


def _path(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _text(name: str, data: bytes) -> Member:
    return Member(name, len(data), data)


def _broken(why: str) -> ModelInvalid:
    return ModelInvalid(why, remedy="export the model again")
