"""Models to and from registries.  A broken pull goes on where it stopped; nothing counts before its digest is right."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from harbourmaster.core.digests import CHUNK, DigestMismatch, hex_of, is_digest, sha256
from registry.errors import RemoteLied, TooLarge
from registry.oci import media as oci
from registry.oci.descriptor import Descriptor, parse_manifest
from registry.oci.reference import Reference as OciReference
from registry.oci.remote import Remote
from registry.oci.transport import Transport
from runner.errors import Cancelled, DiskFull, ModelInvalid, Unsupported
from runner.store import reference
from runner.store.config import MAX_CONFIG_BYTES, is_model, read_config
from runner.store.store import Model, ModelStore, by_role

PARALLEL = 3  # layers at once, as Docker's pulls of images
MAX_BLOB_BYTES = 2 << 40  # the largest published GGUF models are below 1 TiB
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")  # RFC 9110 section 14.4

Progress = Callable[[str, int, int], None]  # digest, bytes so far, bytes in all


def remote_name(name: str) -> str:
    """``smollm2`` -> ``docker.io/ai/smollm2:latest``."""
    wanted = reference.parse(name)
    if wanted.host in ("hf.co", "huggingface.co"):
        raise Unsupported(
            "Hugging Face is no OCI registry", remedy="tag the model with a registry's name and push that"
        )
    return str(wanted) if wanted.host else f"docker.io/{wanted}"


def pull(
    store: ModelStore,
    name: str,
    progress: Progress = lambda *_: None,
    *,
    plain_http: bool = False,
    vouch: Callable[[str], None] | None = None,
) -> Model:
    """Fetch what is missing of a model and name it.  Blocking: callers use a thread.

    ``vouch`` is asked about the manifest's digest first, and raises to refuse it.
    """
    ref = OciReference.parse(remote_name(name))
    with closing(Transport(ref, plain_http=plain_http)) as transport:
        data = _manifest(transport, ref.version)
        manifest = parse_manifest(data)
        if not is_model(manifest):
            raise ModelInvalid(
                f"{ref} is no model: its config is {manifest.config.media_type}",
                remedy="hm model pull fetches model artifacts; images are the registry's business",
            )
        if vouch:
            vouch(sha256(data))
        puller = Blobs(store, transport, progress)
        puller.fetch(manifest.config, MAX_CONFIG_BYTES)
        read_config(store.layout.read_blob(manifest.config.digest, MAX_CONFIG_BYTES), manifest.config.media_type)
        if "weights" not in by_role(manifest):
            raise ModelInvalid(f"{ref} has no GGUF weights", remedy="pull a GGUF build of the model")
    _fetch_all(store, ref, manifest.layers, progress, plain_http=plain_http)
    return store.commit(data, name)


def _fetch_all(
    store: ModelStore, ref: OciReference, layers: Sequence[Descriptor], progress: Progress, *, plain_http: bool
) -> None:
    """Several at once, each over a connection of its own; the first that fails stops the others."""
    failed = threading.Event()

    def watched(digest: str, current: int, total: int) -> None:
        if failed.is_set():
            raise Cancelled("another layer could not be fetched", remedy="pull again: it goes on where it stopped")
        progress(digest, current, total)

    def one(layer: Descriptor) -> None:
        with closing(Transport(ref, plain_http=plain_http)) as transport:
            Blobs(store, transport, watched).fetch(layer, MAX_BLOB_BYTES)

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="pull") as pool:
        try:
            for done in as_completed([pool.submit(one, layer) for layer in layers]):
                done.result()
        except BaseException:
            failed.set()
            raise


def push(store: ModelStore, name: str, *, plain_http: bool = False) -> str:
    """Upload a model under its own name; returns its ID."""
    model = store.find(name)
    return Remote(plain_http=plain_http).push(store.layout, model.id, remote_name(name))


def _manifest(transport: Transport, version: str) -> bytes:
    response = transport.get(f"manifests/{version}", accept=", ".join(oci.MANIFESTS))
    said = response.headers.get("Docker-Content-Digest", "")
    data = b"".join(transport.body(response, oci.MAX_MANIFEST_BYTES))
    for wanted in (said, version):
        if is_digest(wanted) and wanted != sha256(data):
            raise RemoteLied(f"the manifest sent as {wanted} is {sha256(data)}", remedy="do not use this registry")
    return data


class Sender(Protocol):
    """Where blobs come from: ``Transport``, or Hugging Face's Hub."""

    def url(self, path: str) -> str: ...

    def do_request(self, url: str, *, headers: dict[str, str]) -> Any: ...

    def expect(self, response: Any, *statuses: int) -> None: ...

    def body(self, response: Any, limit: int) -> Iterator[bytes]: ...


class Blobs:
    """Fetches blobs into the store: resumed, hashed, one process at a time for each."""

    def __init__(self, store: ModelStore, transport: Sender, progress: Progress) -> None:
        self._blobs, self._transport, self._progress = store.layout.blobs, transport, progress
        self._partial = store.root / "partial"
        store.layout.index.create()
        for directory in (self._partial, self._blobs.directory):
            directory.mkdir(parents=True, exist_ok=True)

    def fetch(self, blob: Descriptor, limit: int) -> None:
        if blob.size > limit:
            raise TooLarge(f"{blob.digest} has {blob.size} bytes, over the limit of {limit}", remedy="do not use it")
        path = self._partial / hex_of(blob.digest)
        with _disk(path), _exclusive(path) as f:  # a second pull of the same blob waits here, and then finds it
            if self._blobs.has(blob.digest) and self._blobs.size(blob.digest) == blob.size:
                path.unlink(missing_ok=True)
            else:
                self._complete(f, path, blob)
        self._progress(blob.digest, blob.size, blob.size)

    def _complete(self, f: IO[bytes], path: Path, blob: Descriptor) -> None:
        digest = hashlib.sha256()
        have = _hash_start(f, digest, blob.size)
        if have < blob.size or blob.size == 0:
            digest = self._download(f, digest, have, blob)
        f.flush()
        os.fsync(f.fileno())
        if f"sha256:{digest.hexdigest()}" != blob.digest or f.tell() != blob.size:
            path.unlink()
            raise DigestMismatch(
                f"the bytes sent as {blob.digest} are sha256:{digest.hexdigest()}",
                remedy="try again; if it stays so, do not use this registry",
            )
        os.fchmod(f.fileno(), 0o644)
        path.replace(self._blobs.path(blob.digest))

    def _download(self, f: IO[bytes], digest: Any, have: int, blob: Descriptor) -> Any:
        url = self._transport.url(f"blobs/{blob.digest}")
        response = self._transport.do_request(url, headers={"Range": f"bytes={have}-"} if have else {})
        if have and not _continues(response, have, blob.size):
            # 200: it sends everything; 416 or another range: what we have is of no use to it.
            if response.status_code != 200:
                response.close()
                response = self._transport.do_request(url, headers={})
            f.seek(0)
            f.truncate()
            digest, have = hashlib.sha256(), 0
        self._transport.expect(response, 200, 206)
        for chunk in self._transport.body(response, blob.size - have):
            f.write(chunk)
            digest.update(chunk)
            self._progress(blob.digest, f.tell(), blob.size)
        return digest


def _continues(response: Any, have: int, size: int) -> bool:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return bool(
        response.status_code == 206
        and match
        and int(match[1]) == have
        and match[3] in ("*", str(size))
        and int(match[2]) < size
    )


def _hash_start(f: IO[bytes], digest: Any, size: int) -> int:
    """Hash what a broken pull left; a file that is too long is thrown away."""
    if os.fstat(f.fileno()).st_size > size:
        f.truncate(0)
    f.seek(0)
    while chunk := f.read(CHUNK):
        digest.update(chunk)
    return f.tell()


@contextmanager
def _exclusive(path: Path) -> Iterator[IO[bytes]]:
    while True:
        with path.open("a+b") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            if _is_same(path, f):  # not the one that another pull has just finished with
                handle = os.fdopen(os.dup(f.fileno()), "r+b")
                with handle:
                    yield handle
                return


def _is_same(path: Path, f: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(f.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"no space left for {path.name[:12]} in {path.parent}",
            remedy="make room (hm model prune, hm model rm) and pull again: it goes on where it stopped",
        ) from e
