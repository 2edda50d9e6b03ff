"""Layers and a configuration become an image in the layout and in the engine.  The configuration is written here, byte by
byte, so that the engine's image ID is known before the engine sees it."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound

from harbourmaster.core.canonical import canonical
from registry.build.errors import BuildFailed, ImageDiffers
from registry.build.tarball import SOURCE_DATE_EPOCH
from registry.oci import media
from registry.oci.archive import ArchiveStream, archive_members
from registry.oci.descriptor import Descriptor, image_manifest, parse_object
from registry.oci.layout import OciLayout

CREATED = datetime.fromtimestamp(SOURCE_DATE_EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
NONROOT = "65532:65532"
PATH = "/opt/server/bin:/opt/server/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Go's names, which OCI image-spec config.md asks for
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True)
class Part:
    """One layer and the line of history that says where it came from."""

    layer: Descriptor
    created_by: str


@dataclass(frozen=True)
class Config:
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = "/"
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """An image that lies in the layout and in the engine."""

    manifest: str  # digest
    config: str  # digest
    image_id: str  # what the engine calls it


def config_bytes(parts: list[Part], config: Config, arch: str) -> bytes:
    """The image configuration (OCI image-spec 1.1, config.md); the same input gives the same bytes."""
    body: dict[str, Any] = {
        "architecture": arch,
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": [f"{k}={v}" for k, v in sorted(config.env.items())],
            "WorkingDir": config.working_dir,
            "Labels": config.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [part.layer.digest for part in parts]},
        "history": [{"created": CREATED, "created_by": part.created_by} for part in parts],
    }
    if config.user:
        body["config"]["User"] = config.user
    if config.entrypoint:
        body["config"]["Entrypoint"] = list(config.entrypoint)
    if config.command:
        body["config"]["Cmd"] = list(config.command)
    return canonical(body)


def assemble(
    layout: OciLayout, parts: list[Part], config: Config, *, tag: str, annotations: dict[str, str] | None = None
) -> tuple[str, str]:
    """Put config and manifest into the layout under ``tag``; returns their digests as (manifest, config)."""
    descriptor = layout.put_blob(config_bytes(parts, config, architecture()), media.CONFIG)
    layers = [part.layer for part in parts]
    manifest = layout.put_manifest(image_manifest(descriptor, layers, annotations), tag=tag)
    return manifest.digest, descriptor.digest


def parts_of(layout: OciLayout, manifest_digest: str) -> list[Part]:
    """The layers of an image with their history, to build on."""
    manifest = layout.read_manifest(manifest_digest)
    history = [h for h in image_config(layout, manifest_digest).get("history", []) if not h.get("empty_layer")]
    lines = [str(h.get("created_by", "")) for h in history]
    lines += [""] * (len(manifest.layers) - len(lines))
    return [Part(layer, line) for layer, line in zip(manifest.layers, lines, strict=False)]


def image_config(layout: OciLayout, manifest_digest: str) -> dict[str, Any]:
    digest = layout.read_manifest(manifest_digest).config.digest
    return parse_object(layout.read_blob(digest, media.MAX_CONFIG_BYTES), "an image config", media.MAX_CONFIG_BYTES)


def environment_of(layout: OciLayout, manifest_digest: str) -> dict[str, str]:
    env = image_config(layout, manifest_digest).get("config", {}).get("Env") or []
    return dict(line.split("=", 1) for line in env if "=" in line)


def engine_id(client: docker.DockerClient, *candidates: str) -> str:
    """The first of ``candidates`` (config digest, manifest digest) that the engine knows as an image ID; else ``""``."""
    api: Any = client.api
    for candidate in candidates:
        try:
            found = api.inspect_image(candidate)
        except ImageNotFound:
            continue
        if found["Id"] == candidate:
            return candidate
    return ""


def load(client: docker.DockerClient, layout: OciLayout, manifest_digest: str, ref: str, *, base: str = "") -> str:
    """Make sure that the engine holds the image; returns its ID there, which is one of the two digests.

    ``base``: manifest digest of an image below it that the engine may hold already; its layers are then not sent again
    (engines with the classic store skip layers that they have; others get the whole archive).
    """
    config = layout.read_manifest(manifest_digest).config.digest
    present = engine_id(client, config, manifest_digest)
    if present:
        return present
    known: set[str] = set()
    if base and engine_id(client, layout.read_manifest(base).config.digest):
        known = {layer.digest for layer in layout.read_manifest(base).layers}
    for skip in (known, set()) if known else (set(),):
        problem = _send(client, layout, manifest_digest, ref, skip)
        present = engine_id(client, config, manifest_digest)
        if present:
            return present
    if problem:
        raise BuildFailed(f"the engine did not load {ref}: {problem}", remedy="run: hm doctor")
    raise ImageDiffers(
        f"the engine loaded {ref}, but not as {config}",
        remedy="another image of that name may have come between: build it again",
        manifest=manifest_digest,
        config=config,
    )


def _send(client: docker.DockerClient, layout: OciLayout, digest: str, ref: str, skip: set[str]) -> str:
    """Send the archive without the layers in ``skip``; returns the engine's complaint or ``""``."""
    members = archive_members(layout.read_manifest_bytes(digest), ref)
    stream = ArchiveStream([m for m in members if m.digest not in skip], layout.blobs)
    api: Any = client.api
    try:
        answers = [a for a in api.load_image(stream, quiet=True) if isinstance(a, dict)]
    except APIError as e:
        return str(e.explanation)
    return next((str(a["error"]) for a in answers if "error" in a), "")
