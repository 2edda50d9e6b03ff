"""Descriptors and manifests (OCI image-spec 1.1, descriptor.md and manifest.md), parsed strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from harbourmaster.core.canonical import canonical
from harbourmaster.core.digests import is_digest, sha256
from registry.errors import ManifestInvalid, TooLarge
from registry.oci import media

_REMEDY = "build or pull the image again"


@dataclass(frozen=True)
class Descriptor:
    media_type: str
    digest: str
    size: int  # bytes
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            body["artifactType"] = self.artifact_type
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        return body

    @classmethod
    def parse(cls, value: Any) -> Descriptor:
        """Raises ``ManifestInvalid`` for anything but an object with a media type, a sha256 digest and a size."""
        if not isinstance(value, dict):
            raise invalid(f"a descriptor should be an object, not {type(value).__name__}")
        exact(value, "mediaType", "digest", "size")
        digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType", "")
        if not isinstance(digest, str) or not is_digest(digest):
            raise invalid(f"a descriptor has no usable sha256 digest: {digest!r}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise invalid(f"the descriptor of {digest} has no usable size: {size!r}")
        if not isinstance(media_type, str):
            raise invalid(f"the descriptor of {digest} has no usable media type: {media_type!r}")
        artifact_type = value.get("artifactType", "")
        return cls(media_type, digest, size, artifact_type if isinstance(artifact_type, str) else "", _strings(value))

    @classmethod
    def of(cls, data: bytes, media_type: str, **more: Any) -> Descriptor:
        return cls(media_type, sha256(data), len(data), **more)


EMPTY_DESCRIPTOR = Descriptor.of(media.EMPTY_BLOB, media.EMPTY)


@dataclass(frozen=True)
class Manifest:
    digest: str
    size: int
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str  # falls back to the config's media type, as the referrers API does
    annotations: dict[str, str] = field(hash=False)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, self.size, self.artifact_type, self.annotations)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.config, *self.layers)

    def require_known_layers(self) -> None:
        """Raise ``ManifestInvalid`` unless every layer is a tar, plain or gzipped."""
        for layer in self.layers:
            if layer.media_type not in media.LAYERS:
                raise invalid(f"{self.digest} has a layer of a kind that is not read: {layer.media_type[:100]!r}")


def parse_manifest(data: bytes) -> Manifest:
    """Image manifests only; an index raises ``ManifestInvalid`` (choose a platform first)."""
    body = parse_object(data, "a manifest", media.MAX_MANIFEST_BYTES)
    exact(body, "schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "artifactType")
    media_type = body.get("mediaType", media.MANIFEST)
    if body.get("schemaVersion") != 2 or media_type not in media.MANIFESTS:
        raise invalid(f"not an image manifest: schemaVersion {body.get('schemaVersion')!r}, mediaType {media_type!r}")
    layers = body.get("layers")
    if not isinstance(layers, list) or len(layers) > media.MAX_LAYERS:
        raise invalid(f"a manifest should list at most {media.MAX_LAYERS} layers")
    config = Descriptor.parse(body.get("config"))
    subject = Descriptor.parse(body["subject"]) if body.get("subject") is not None else None
    artifact_type = body.get("artifactType") or config.media_type
    if not isinstance(artifact_type, str):
        raise invalid("a manifest's artifactType should be text")
    return Manifest(
        digest=sha256(data),
        size=len(data),
        media_type=media_type,
        config=config,
        layers=tuple(Descriptor.parse(layer) for layer in layers),
        subject=subject,
        artifact_type=artifact_type,
        annotations=_strings(body),
    )


def image_manifest(config: Descriptor, layers: list[Descriptor], annotations: dict[str, str] | None = None) -> bytes:
    """The bytes of an image manifest; the same input gives the same bytes."""
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "config": config.as_dict(),
        "layers": [layer.as_dict() for layer in layers],
    }
    if annotations:
        body["annotations"] = annotations
    return canonical(body)


def artifact_manifest(
    subject: Descriptor, artifact_type: str, layers: list[Descriptor], annotations: dict[str, str]
) -> bytes:
    """A referrer: an artifact manifest with an empty config and a ``subject`` (manifest.md, "artifact usage")."""
    bare = Descriptor(subject.media_type, subject.digest, subject.size)
    body = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": artifact_type,
        "config": EMPTY_DESCRIPTOR.as_dict(),
        "layers": [layer.as_dict() for layer in layers],
        "subject": bare.as_dict(),
        "annotations": annotations,
    }
    return canonical(body)


def parse_object(data: bytes, what: str, limit: int) -> dict[str, Any]:
    if len(data) > limit:
        raise TooLarge(f"{what} of {len(data)} bytes is over the limit of {limit}", remedy=_REMEDY, limit=limit)
    try:
        body = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as e:
        raise invalid(f"{what} is not JSON: {e}") from e
    if not isinstance(body, dict):
        raise invalid(f"{what} should be a JSON object, not {type(body).__name__}")
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """One key, one value: engines may take another one of two than we do."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def exact(body: dict[str, Any], *names: str) -> None:
    """Raise ``ManifestInvalid`` for a key that is one of ``names`` but for upper and lower case: engines are written in Go,
    which takes either for the field (encoding/json, "Unmarshal"), and would run what was not looked at."""
    wanted = {name.casefold(): name for name in names}
    for key in body:
        if wanted.get(key.casefold(), key) != key:
            raise invalid(f"the key {key[:100]!r} is {wanted[key.casefold()]!r} to some readers, and nothing to others")


def invalid(message: str) -> ManifestInvalid:
    return ManifestInvalid(message, remedy=_REMEDY)


def _strings(body: dict[str, Any]) -> dict[str, str]:
    annotations = body.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
        raise invalid("annotations should be an object of texts")
    return annotations
