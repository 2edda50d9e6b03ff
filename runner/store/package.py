"""Files into a model: GGUF weights (checked first), licences, template, projector, LoRA."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from harbourmaster.core.canonical import canonical
from harbourmaster.core.digests import sha256_of_file
from registry.oci.descriptor import Descriptor, image_manifest
from runner.chat.template import ChatTemplate
from runner.errors import RequestInvalid
from runner.gguf import Gguf, check_file
from runner.store import media, reference
from runner.store.config import describe, write_docker, write_modelpack
from runner.store.store import Model, ModelStore

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file, where the file system can


@dataclass(frozen=True)
class Parts:
    weights: tuple[Path, ...]
    licenses: tuple[Path, ...] = ()
    template: Path | None = None
    mmproj: Path | None = None
    loras: tuple[Path, ...] = ()
    context_size: int | None = None
    format: str = "docker"  # or "cncf"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def package(store: ModelStore, parts: Parts, tag: str) -> Model:
    """Raises ``GgufInvalid``, ``TemplateRefused`` or ``RequestInvalid`` before anything is stored."""
    name = reference.parse(tag)
    weights = _check(parts)
    layers = [
        _layer(store, path, role, parts.format)
        for role, paths in (
            ("weights", parts.weights),
            ("license", parts.licenses),
            ("template", (parts.template,) if parts.template else ()),
            ("mmproj", (parts.mmproj,) if parts.mmproj else ()),
            ("lora", parts.loras),
        )
        for path in paths
    ]
    config = describe(weights, created=parts.created, context_size=parts.context_size)
    diff_ids = [layer.digest for layer in layers]
    if parts.format == "cncf":
        data, kind = write_modelpack(config, name.path, diff_ids), media.MODELPACK_CONFIG
    else:
        data, kind = write_docker(config, diff_ids), media.DOCKER_CONFIG_V1
    manifest = image_manifest(store.layout.put_blob(data, kind), layers)
    if parts.format == "cncf":
        manifest = _with_artifact_type(manifest, media.MODELPACK_MANIFEST)
    return store.commit(manifest, tag)


def package_blobs(store: ModelStore, parts: Parts, tag: str, names: list[str]) -> Model:
    """As ``package``, of files that are blobs of the store already; ``names``: those of the weights, for people."""
    weights = _check(parts)
    layers = [_blob_layer(p, "weights", n) for p, n in zip(parts.weights, names, strict=True)]
    layers += [_blob_layer(p, "license", "LICENSE") for p in parts.licenses]
    layers += [_blob_layer(parts.template, "template", "chat_template.jinja")] if parts.template else []
    layers += [_blob_layer(parts.mmproj, "mmproj", "mmproj.gguf")] if parts.mmproj else []
    config = describe(weights, created=parts.created, context_size=parts.context_size)
    data = write_docker(config, [layer.digest for layer in layers])
    return store.commit(image_manifest(store.layout.put_blob(data, media.DOCKER_CONFIG_V1), layers), tag)


def _blob_layer(path: Path, role: str, name: str) -> Descriptor:
    kind = media.WRITTEN["docker"][role]
    return Descriptor(kind, f"sha256:{path.name}", path.stat().st_size, "", {media.FILEPATH: name})


def repackage(store: ModelStore, name: str, tag: str, *, context_size: int) -> Model:
    """The same files under another config; raises ``ModelNotFound`` or ``RequestInvalid``."""
    model = store.find(name)
    if model.config.kind == "cncf" or context_size < 1:
        raise RequestInvalid(
            "a context size of at least 1 token can be set in Docker's format only", param="context_size"
        )
    config = replace(model.config, context_size=context_size)
    layers = list(model.manifest.layers)
    data = write_docker(config, [layer.digest for layer in layers])
    return store.commit(image_manifest(store.layout.put_blob(data, model.manifest.config.media_type), layers), tag)


def _check(parts: Parts) -> list[Gguf]:
    if not parts.weights:
        raise RequestInvalid("a model needs at least one GGUF file", remedy="name it with --gguf", param="gguf")
    if parts.format not in media.WRITTEN:
        raise RequestInvalid(f"no format {parts.format!r}", remedy="use docker or cncf", param="format")
    if parts.format == "cncf" and parts.context_size:
        raise RequestInvalid(
            "the ModelPack format has no place for a context size", remedy="leave it out, or use the docker format"
        )
    if parts.template:
        ChatTemplate(parts.template.read_text())
    for path in parts.loras:
        check_file(path)
    if parts.mmproj and (kind := check_file(parts.mmproj).kind) != "mmproj":
        raise RequestInvalid(f"{parts.mmproj.name} is no projector, but a {kind}", param="mmproj")
    return [check_file(p) for p in parts.weights]


def _layer(store: ModelStore, path: Path, role: str, form: str) -> Descriptor:
    digest = import_file(store, path)
    name = {"lora": f"lora-{path.name}", "mmproj": f"mmproj-{path.name}"}.get(role, path.name)
    if role == "template" and not name.endswith(".jinja"):
        name += ".jinja"
    if role == "license" and "license" not in name.lower():
        name = f"LICENSE-{name}"
    return Descriptor(media.WRITTEN[form][role], digest, path.stat().st_size, "", {media.FILEPATH: name})


def import_file(store: ModelStore, path: Path) -> str:
    """The file as a blob, without a second copy of its bytes where the file system allows; returns its digest."""
    digest = sha256_of_file(path)
    target = store.layout.blob_path(digest)
    if store.layout.blobs.is_sound(digest):
        return digest
    store.layout.index.create()
    for directory in (target.parent, store.layout.blobs.ingest_dir):
        directory.mkdir(parents=True, exist_ok=True)
    if not _clone(path, target) and not _link(path, target):
        with path.open("rb") as f:
            store.layout.put_blob(f, digest=digest)
    return digest


def _clone(source: Path, target: Path) -> bool:
    """Share blocks: the copy stays as it is when the original changes."""
    fd, name = tempfile.mkstemp(prefix="in-", dir=target.parents[2] / "ingest")
    try:
        with os.fdopen(fd, "wb") as new, source.open("rb") as old:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            os.fchmod(new.fileno(), 0o644)
        os.replace(name, target)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        return False
    return True


def _link(source: Path, target: Path) -> bool:
    """A second name for the same file.  What is written into it later is found when the model is loaded or pushed."""
    try:
        target.unlink(missing_ok=True)
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _with_artifact_type(manifest: bytes, artifact_type: str) -> bytes:
    return canonical({**json.loads(manifest), "artifactType": artifact_type})
