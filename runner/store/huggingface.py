"""Models by Hugging Face's names: ``hf.co/OWNER/REPOSITORY[:QUANTIZATION]`` (Hub API: ``/api/models``, ``/tree``, ``/resolve``).

The repository's commit is asked for once and everything is fetched at that commit; each large file's sha256 is what the Hub
says (its ``lfs.oid``) before a byte of it counts.  The same commit gives the same model ID.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from harbourmaster.core.digests import is_digest, sha256
from registry.errors import RemoteLied, RemoteNotFound, RemoteUnauthorized, RemoteUnavailable
from registry.oci.descriptor import Descriptor
from runner.errors import ModelInvalid, RequestInvalid
from runner.store import media, reference
from runner.store.package import Parts, package_blobs
from runner.store.search import hf_endpoint
from runner.store.store import Model, ModelStore
from runner.store.transfer import MAX_BLOB_BYTES, Blobs, Progress

HOSTS = ("hf.co", "huggingface.co")
DEFAULT_QUANTIZATION = "Q4_K_M"  # as Docker's runner chooses
TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
MAX_ANSWER = 32 << 20  # bytes of a listing
MAX_PAGES = 50
MAX_REDIRECTS = 5
MAX_TEXT = 1 << 20  # bytes of a template or licence
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
)  # Hub documentation, "Repositories"
_LICENSES = ("license", "license.txt", "license.md")


@dataclass(frozen=True)
class File:
    path: str
    size: int
    digest: str = ""  # empty: a small file, which the Hub keeps in git


def is_ours(name: str) -> bool:
    return name.strip().partition("/")[0].lower() in HOSTS


def pull(store: ModelStore, name: str, progress: Progress = lambda *_: None) -> Model:
    """Fetch and package; blocking.  Raises ``RemoteNotFound``, ``RemoteUnauthorized``, ``DigestMismatch`` and the like."""
    repository, wanted = parse(name)
    with closing(_Hub(hf_endpoint())) as hub:
        facts = hub.json(f"/api/models/{repository}")
        commit = str(facts.get("sha") or "")
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise RemoteLied(f"the Hub names no commit of {repository}", remedy="try again")
        hub.at(repository, commit)
        files = list(hub.files())
        weights = choose(files, wanted)
        blobs = Blobs(store, hub, progress)
        projector = choose_projector(files)
        for file in (*weights, *([projector] if projector else [])):
            hub.known[file.digest] = file.path
            blobs.fetch(Descriptor(media.DOCKER_GGUF, file.digest, file.size), MAX_BLOB_BYTES)
        parts = _texts(store, hub, files)
        if projector:
            parts["mmproj"] = store.layout.blob_path(projector.digest)
        chosen = [(store.layout.blob_path(f.digest), f.path.rpartition("/")[2]) for f in weights]
        return package_blobs(
            store,
            Parts(tuple(p for p, _ in chosen), created=_created(facts), **parts),
            _tag(repository, wanted),
            [n for _, n in chosen],
        )


def parse(name: str) -> tuple[str, str]:
    rest = name.strip().partition("/")[2]
    repository, _, wanted = rest.partition(":")
    if not _NAME.fullmatch(repository) or ".." in repository or not re.fullmatch(r"[A-Za-z0-9._-]*", wanted):
        raise RequestInvalid(
            f"{name!r} is no name of a model",
            remedy="write hf.co/OWNER/REPOSITORY or hf.co/OWNER/REPOSITORY:Q4_K_M",
            param="model",
        )
    return repository, "" if wanted == reference.DEFAULT_TAG else wanted


def _tag(repository: str, wanted: str) -> str:
    return f"hf.co/{repository.lower()}:{wanted or reference.DEFAULT_TAG}"


def choose(files: list[File], wanted: str) -> list[File]:
    """The weights of one quantization, all shards in order; raises ``RemoteNotFound`` naming those there are."""
    found = [f for f in files if f.path.lower().endswith(".gguf") and "mmproj" not in f.path.lower() and f.digest]
    named = [f for f in found if _has(f.path, wanted or DEFAULT_QUANTIZATION)]
    chosen = named or ([] if wanted else found)
    if not chosen:
        names = ", ".join(sorted(f.path for f in found)[:12]) or "none"
        raise RemoteNotFound(f"there is no GGUF file of {wanted or 'any kind'}", remedy=f"GGUF files there: {names}")
    first = min(chosen, key=lambda f: f.path)
    match = _SHARD.fullmatch(first.path)
    if not match:
        return [first]
    shards = sorted((f for f in chosen if (m := _SHARD.fullmatch(f.path)) and m[1] == match[1]), key=lambda f: f.path)
    if len(shards) != int(match[3]):
        raise ModelInvalid(f"{len(shards)} of {match[3]} shards of {match[1]} are there", remedy="choose another one")
    return shards


def choose_projector(files: list[File]) -> File | None:
    """What lets the model see, where the repository has it: in F16 (as Docker's runner chooses), else the smallest."""
    found = [f for f in files if "mmproj" in f.path.lower() and f.path.lower().endswith(".gguf") and f.digest]
    return min(found, key=lambda f: (not _has(f.path, "F16"), f.size, f.path), default=None)


def _has(path: str, quantization: str) -> bool:
    """As a word of the file's name: Q4_K must not mean Q4_K_M."""
    name = path.rpartition("/")[2]
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(quantization)}(?![A-Za-z0-9_])", name, re.IGNORECASE) is not None


def _texts(store: ModelStore, hub: _Hub, files: list[File]) -> dict[str, Any]:
    """Template and licence, where the repository has them as files of their own."""
    by_name = {f.path.lower(): f for f in files if f.size <= MAX_TEXT}
    parts: dict[str, Any] = {}
    if template := by_name.get("chat_template.jinja"):
        parts["template"] = hub.text(store, template)
    if license_file := next((by_name[n] for n in _LICENSES if n in by_name), None):
        parts["licenses"] = (hub.text(store, license_file),)
    return parts


def _created(facts: dict[str, Any]) -> str:
    """The repository's own time, so that the same commit gives the same ID."""
    return str(facts.get("lastModified") or "1970-01-01T00:00:00+00:00").replace("Z", "+00:00")


class _Hub:
    """Requests of one pull.  Also what ``transfer.Blobs`` wants of a transport."""

    def __init__(self, base: str) -> None:
        self._base = base
        token = os.environ.get("HF_TOKEN", "")
        self._token = f"Bearer {token}" if token else ""
        self._client = httpx2.Client(timeout=TIMEOUT, follow_redirects=False)
        self._place = ""
        self._tree = ""
        self.known: dict[str, str] = {}  # digest -> path

    def close(self) -> None:
        self._client.close()

    def at(self, repository: str, commit: str) -> None:
        self._place = f"/{repository}/resolve/{commit}/"
        self._tree = f"/api/models/{repository}/tree/{commit}?recursive=true"

    def json(self, path: str) -> Any:
        return self._page(path)[0]

    def files(self) -> Iterator[File]:
        url = self._tree
        for _ in range(MAX_PAGES):
            rows, url = self._page(url)
            for row in rows:
                if row.get("type") == "file":
                    yield _file(row)
            if not url:
                return
        raise RemoteLied("the Hub's list of files has no end", remedy="choose another repository")

    def _page(self, path: str) -> tuple[Any, str]:
        response = self.do_request(urljoin(self._base, path))
        self.expect(response, 200)
        data = b"".join(self.body(response, MAX_ANSWER))
        try:
            body = httpx2.Response(200, content=data).json()
        except ValueError:
            raise RemoteLied("the Hub's answer is not JSON", remedy="try again") from None
        following = response.links.get("next", {}).get("url", "")
        if following and not urljoin(self._base, following).startswith(f"{self._base}/"):
            raise RemoteLied("the Hub's list goes on elsewhere", remedy="try again")
        return body, following

    def text(self, store: ModelStore, file: File) -> Any:
        """A small file as a blob; its path."""
        response = self.do_request(self._base + self._place + quote(file.path))
        self.expect(response, 200)
        data = b"".join(self.body(response, MAX_TEXT))
        return store.layout.blob_path(store.layout.put_blob(data, digest=file.digest or sha256(data)).digest)

    # -- what a transport is

    def url(self, path: str) -> str:
        return self._base + self._place + quote(self.known[path.removeprefix("blobs/")])

    def do_request(self, url: str, *, headers: dict[str, str] | None = None) -> httpx2.Response:
        """The token goes to the Hub's own origin, never to where it redirects."""
        for _ in range(MAX_REDIRECTS):
            sent = {"Accept-Encoding": "identity", **(headers or {})}
            if self._token and _origin(url) == _origin(self._base):
                sent["Authorization"] = self._token
            try:
                response = self._client.send(self._client.build_request("GET", url, headers=sent), stream=True)
            except httpx2.HTTPError as e:
                raise RemoteUnavailable(
                    f"{urlsplit(url).netloc} does not answer: {e}", remedy="check the network"
                ) from e
            if not response.is_redirect:
                return response
            response.close()
            url = urljoin(url, response.headers["Location"])
            if urlsplit(url).scheme != urlsplit(self._base).scheme:
                raise RemoteLied(f"the Hub redirects to {url[:200]!r}, another scheme", remedy="do not use it")
        raise RemoteLied("the Hub redirects again and again", remedy="try again")

    def expect(self, response: httpx2.Response, *statuses: int) -> None:
        status = response.status_code
        if status in statuses:
            return
        response.close()
        if status in (401, 403):
            raise RemoteUnauthorized(
                "the Hub does not let us read this repository",
                remedy="check its name; for private and gated ones set HF_TOKEN, and accept the terms on its page",
            )
        if status == 404:
            raise RemoteNotFound("the Hub has no such repository or file", remedy="check the name")
        raise RemoteUnavailable(f"the Hub answers {status}", remedy="try again later", status=status)

    def body(self, response: httpx2.Response, limit: int) -> Iterator[bytes]:
        count = 0
        try:
            for chunk in response.iter_raw():  # as it comes: a chunk that is waited for is lost when the line breaks
                count += len(chunk)
                if count > limit:
                    raise RemoteLied(f"the Hub sends more than {limit} bytes", remedy="do not use this repository")
                yield chunk
        except httpx2.HTTPError as e:
            raise RemoteLied(
                f"the Hub's answer breaks off: {e}", remedy="pull again: it goes on where it stopped"
            ) from e
        finally:
            response.close()


def _file(row: dict[str, Any]) -> File:
    lfs = row.get("lfs")
    digest = f"sha256:{lfs.get('oid')}" if isinstance(lfs, dict) else ""
    return File(str(row.get("path", "")), int((lfs or row).get("size") or 0), digest if is_digest(digest) else "")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
