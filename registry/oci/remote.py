"""Images to and from registries, with all their papers (distribution-spec 1.1; ``oras`` is the transport).

Referrers travel over the referrers API, or over the fallback tag ``sha256-<hex>`` where a registry lacks it; cosign's older
``sha256-<hex>.sig`` travels too.  What comes in is stored only under the digest that was asked for; a name is given last.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urljoin

from harbourmaster.core.digests import expect, hex_of, is_digest, sha256
from registry.errors import ManifestInvalid, RemoteInsecure, RemoteLied, RemoteNotFound, TooLarge
from registry.oci import media
from registry.oci.descriptor import Descriptor, Manifest, parse_manifest, parse_object
from registry.oci.layout import OciLayout
from registry.oci.reference import Reference
from registry.oci.transfer import MAX_PAPERS, cosign_tag, with_referrers
from registry.oci.transport import Transport

MAX_PAGES = 32  # of a referrers list
_ACCEPT = ", ".join((*media.MANIFESTS, *media.INDEXES))
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname -> GOARCH, which OCI platforms use


def this_platform() -> str:
    return f"linux/{_MACHINES.get(platform.machine(), platform.machine())}"


class Remote:
    """
    >>> Remote().pull("registry.example.org/team/time:1.0", layout, tag="time:1.0")
    'sha256:...'

    ``plain_http`` allows HTTP to hosts other than loopback.  Credentials: as given, else as ``docker login`` left them.
    """

    def __init__(self, *, plain_http: bool = False, credentials: tuple[str, str] | None = None) -> None:
        self._plain_http, self._credentials = plain_http, credentials

    def push(self, layout: OciLayout, digest: str, ref: str) -> str:
        """Push the image ``digest`` and its papers; returns the digest.  A subject goes up before what refers to it."""
        with self._open(ref) as transport:
            push = _Push(layout, transport)
            for manifest in with_referrers(layout, digest):
                push.manifest(manifest)
            if transport.reference.tag:
                push.tag(digest, transport.reference.tag)
            name = cosign_tag(digest)
            if signatures := layout.tags().get(name):
                push.manifest(layout.read_manifest(signatures))
                push.tag(signatures, name)
        return digest

    def pull(self, ref: str, layout: OciLayout, *, tag: str = "", platform: str = "") -> str:
        """Pull an image and its papers; returns its manifest digest, tagged ``tag`` once everything is there.

        ``platform`` (``linux/arm64``) chooses from a multi-platform index; this machine's by default.
        """
        with self._open(ref) as transport:
            pull = _Pull(layout, transport)
            digest = pull.image(transport.reference.version, platform or this_platform())
            pull.papers(digest)
            pull.cosign(digest)
        if tag:
            layout.tag(tag, digest)
        return digest

    def papers(self, ref: str, layout: OciLayout, digest: str) -> None:
        """Pull only what is attached to the manifest ``digest``: its referrers, and cosign's older signatures."""
        with self._open(ref) as transport:
            pull = _Pull(layout, transport)
            pull.papers(digest)
            pull.cosign(digest)

    def resolve(self, ref: str) -> str:
        """The digest of the manifest (or index) that ``ref`` names in its registry."""
        with self._open(ref) as transport:
            return sha256(_Pull.fetch(transport, transport.reference.version))

    def describe(self, ref: str, *, platform: str = "") -> tuple[str, dict[str, Any]]:
        """The digest that ``ref`` stands for (an index's where it is one), and the image's configuration for one platform."""
        with self._open(ref) as transport:
            data = _Pull.fetch(transport, transport.reference.version)
            digest, body = sha256(data), parse_object(data, "a manifest", media.MAX_MANIFEST_BYTES)
            if body.get("mediaType") in media.INDEXES or "manifests" in body:
                data = _Pull.fetch(transport, _of_platform(body, platform or this_platform()))
            config = parse_manifest(data).config
            if config.size > media.MAX_CONFIG_BYTES:
                raise TooLarge(f"{config.digest} has {config.size} bytes", remedy="do not use it")
            raw = b"".join(transport.body(transport.get(f"blobs/{config.digest}"), config.size))
            expect(config.digest, sha256(raw), "an image's configuration")
            return digest, parse_object(raw, "an image config", media.MAX_CONFIG_BYTES)

    def _open(self, ref: str) -> closing[Transport]:
        reference = Reference.parse(ref)
        return closing(Transport(reference, plain_http=self._plain_http, credentials=self._credentials))


class _Push:
    def __init__(self, layout: OciLayout, transport: Transport) -> None:
        self._layout, self._transport = layout, transport
        self._sent: set[str] = set()

    def manifest(self, manifest: Manifest) -> None:
        for blob in manifest.blobs:
            if blob.digest not in self._sent:
                self._blob(blob)
        data = self._layout.read_manifest_bytes(manifest.digest)
        response = self._transport.put_manifest(data, manifest.media_type, manifest.digest)
        said = response.headers.get("Docker-Content-Digest", manifest.digest)
        if said != manifest.digest:
            raise _lied(self._transport, f"it stored {manifest.digest} as {said[:100]}")
        if manifest.subject and response.headers.get("OCI-Subject") != manifest.subject.digest:
            self._list(manifest, manifest.subject.digest)

    def tag(self, digest: str, tag: str) -> None:
        manifest = self._layout.read_manifest(digest)
        self._transport.put_manifest(self._layout.read_manifest_bytes(digest), manifest.media_type, tag)

    def _blob(self, blob: Descriptor) -> None:
        self._layout.verify_blob(blob.digest)
        path = str(self._layout.blob_path(blob.digest))
        self._transport.upload_blob(path, self._transport.container(), blob.as_dict())
        self._sent.add(blob.digest)

    def _list(self, manifest: Manifest, subject: str) -> None:
        """The fallback tag ("referrers tag schema"): an index of the referrers, kept by those who push."""
        tag = f"sha256-{hex_of(subject)}"
        listed = [d for d in _Pull.fallback(self._transport, subject) if d.digest != manifest.digest]
        body = {
            "schemaVersion": 2,
            "mediaType": media.INDEX,
            "manifests": [d.as_dict() for d in (*listed, manifest.descriptor)],
        }
        self._transport.put_manifest(json.dumps(body).encode(), media.INDEX, tag)


class _Pull:
    def __init__(self, layout: OciLayout, transport: Transport) -> None:
        self._layout, self._transport = layout, transport

    def image(self, version: str, platform: str) -> str:
        data = self.fetch(self._transport, version)
        body = parse_object(data, "a manifest", media.MAX_MANIFEST_BYTES)
        if body.get("mediaType") in media.INDEXES or "manifests" in body:
            self._layout.put_index(data)
            data = self.fetch(self._transport, _of_platform(body, platform))
        return self._store(data, media.MAX_LAYER_BYTES)

    def papers(self, image: str) -> None:
        """All that refers to the image, and to that; each counts only if its own ``subject`` says so."""
        waiting, seen = [image], {image}
        while waiting:
            subject = waiting.pop(0)
            for descriptor in self._referrers(subject):
                if descriptor.digest in seen or descriptor.media_type not in media.MANIFESTS:
                    continue
                seen.add(descriptor.digest)
                if len(seen) > MAX_PAPERS:
                    raise TooLarge(f"over {MAX_PAPERS} papers are attached to {image}", remedy="do not use this image")
                data = self.fetch(self._transport, descriptor.digest)
                manifest = parse_manifest(data)
                if manifest.subject is None or manifest.subject.digest != subject:
                    raise _lied(
                        self._transport, f"it lists {descriptor.digest} under {subject}, which it does not refer to"
                    )
                waiting.append(self._store(data, media.MAX_BUNDLE_BYTES))

    def cosign(self, image: str) -> None:
        try:
            data = self.fetch(self._transport, cosign_tag(image))
        except RemoteNotFound:
            return
        self._layout.tag(cosign_tag(image), self._store(data, media.MAX_BUNDLE_BYTES))

    def _store(self, data: bytes, limit: int) -> str:
        """The manifest's blobs, each under the digest that it names, then the manifest."""
        manifest = parse_manifest(data)
        for blob in manifest.blobs:
            if blob.size > limit:
                raise TooLarge(
                    f"{blob.digest} has {blob.size} bytes, over the limit of {limit}", remedy="do not use it"
                )
            if not self._layout.blobs.is_sound(blob.digest):
                self._blob(blob)
        return self._layout.put_manifest(data).digest

    def _blob(self, blob: Descriptor) -> None:
        response = self._transport.get(f"blobs/{blob.digest}")
        chunks = self._transport.body(response, blob.size)
        self._layout.put_blob(chunks, blob.media_type, digest=blob.digest)
        if self._layout.blobs.size(blob.digest) != blob.size:
            raise ManifestInvalid(
                f"{blob.digest} is not {blob.size} bytes long, as its manifest says", remedy="do not use it"
            )

    @staticmethod
    def fetch(transport: Transport, version: str) -> bytes:
        """A manifest's exact bytes; where the version is a digest, they are checked against it."""
        response = transport.get(f"manifests/{version}", accept=_ACCEPT)
        data = b"".join(transport.body(response, media.MAX_MANIFEST_BYTES))
        said = response.headers.get("Docker-Content-Digest", "")
        for wanted in (said, version):
            if is_digest(wanted) and wanted != sha256(data):
                raise _lied(transport, f"the manifest it sends as {wanted} is {sha256(data)}")
        return data

    def _referrers(self, subject: str) -> list[Descriptor]:
        try:
            return list(self._pages(f"referrers/{subject}"))
        except RemoteNotFound:
            return self.fallback(self._transport, subject)

    def _pages(self, path: str) -> Iterator[Descriptor]:
        for _ in range(MAX_PAGES):
            response = self._transport.get(path, accept=media.INDEX)
            yield from _listed(b"".join(self._transport.body(response, media.MAX_MANIFEST_BYTES)))
            following = response.links.get("next", {}).get("url", "")
            if not following:
                return
            path = self._next(response.url, following)
        raise _lied(self._transport, f"its list of referrers has more than {MAX_PAGES} pages")

    def _next(self, url: str, following: str) -> str:
        """The next page as a path of this repository; another origin or repository is refused."""
        base, target = self._transport.url(""), urljoin(url, following)
        if not target.startswith(base + "referrers/"):
            raise RemoteInsecure(
                f"the list of referrers goes on at {target[:200]!r}", remedy="do not use this registry"
            )
        return target.removeprefix(base)

    @staticmethod
    def fallback(transport: Transport, subject: str) -> list[Descriptor]:
        try:
            return _listed(_Pull.fetch(transport, f"sha256-{hex_of(subject)}"))
        except RemoteNotFound:
            return []


def _listed(data: bytes) -> list[Descriptor]:
    manifests = parse_object(data, "a list of referrers", media.MAX_MANIFEST_BYTES).get("manifests")
    if not isinstance(manifests, list):
        raise ManifestInvalid("a list of referrers is not an image index", remedy="do not use this registry")
    return [Descriptor.parse(m) for m in manifests]


def _of_platform(index: dict[str, Any], wanted: str) -> str:
    system, _, rest = wanted.partition("/")
    architecture, _, variant = rest.partition("/")
    found = []
    for entry in index.get("manifests") or []:
        described = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(described, dict):
            found.append(f"{described.get('os')}/{described.get('architecture')}")
            same_variant = not variant or described.get("variant") == variant
            if found[-1] == f"{system}/{architecture}" and same_variant:
                return Descriptor.parse(entry).digest
    raise RemoteNotFound(
        f"the image is not there for {wanted}", remedy=f"it is there for: {', '.join(found)[:300] or 'none'}"
    )


def _lied(transport: Transport, what: str) -> RemoteLied:
    return RemoteLied(
        f"{transport.reference.host}: {what}", remedy="do not use this registry", host=transport.reference.host
    )
