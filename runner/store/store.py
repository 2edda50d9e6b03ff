"""The model store: an OCI layout with models in it.  Changes of tags and deletions happen under one lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harbourmaster.core.files import file_lock, make_private_dir
from registry.oci.descriptor import Descriptor, Manifest
from registry.oci.layout import OciLayout
from registry.oci.transfer import cosign_tag
from runner.errors import ModelInUse, ModelInvalid, ModelNotFound
from runner.store import media, reference
from runner.store.config import MAX_CONFIG_BYTES, ModelConfig, is_model, read_config

SHORT_ID = 12  # hex digits, as Docker's listings show


@dataclass(frozen=True)
class Model:
    """A model as it lies in the store."""

    id: str  # manifest digest
    tags: tuple[str, ...]
    config: ModelConfig
    manifest: Manifest
    layers: dict[str, tuple[Descriptor, ...]]  # by role: weights, template, license, mmproj, lora, file

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(b.size for b in self.manifest.blobs)

    @property
    def name(self) -> str:
        return self.tags[0] if self.tags else self.id

    def created_epoch(self) -> int:
        from datetime import datetime

        try:
            return int(datetime.fromisoformat(self.config.created).timestamp())
        except ValueError:
            return 0

    def as_docker(self) -> dict[str, Any]:
        """As ``GET /models`` of Docker's runner shows it."""
        tags = [t.removeprefix("docker.io/") for t in self.tags]
        return {"id": self.id, "tags": tags, "created": self.created_epoch(), "config": self.config.as_docker()}


class ModelStore:
    """
    >>> store = ModelStore(settings.home / "models")
    >>> store.find("smollm2").id
    'sha256:...'
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = OciLayout(root)

    def lock(self) -> Any:
        make_private_dir(self.root)
        return file_lock(self.root / "store.lock")

    def all(self) -> list[Model]:
        """Newest first."""
        tags: dict[str, list[str]] = {}
        for tag, digest in self._names().items():
            tags.setdefault(digest, []).append(tag)
        models = [self._read(digest, tuple(sorted(names))) for digest, names in tags.items()]
        return sorted(models, key=lambda m: (-m.created_epoch(), m.name))

    def find(self, name: str) -> Model:
        """By name, ID, or the first 12 or more hex digits of one; raises ``ModelNotFound``."""
        tags = self._names()
        digest = self._digest(name, tags)
        return self._read(digest, tuple(sorted(t for t, d in tags.items() if d == digest)))

    def has(self, name: str) -> bool:
        try:
            self._digest(name, self._names())
        except ModelNotFound:
            return False
        return True

    def _names(self) -> dict[str, str]:
        """Names of models; cosign's tags (``sha256-<hex>.sig``) name signatures."""
        return {tag: digest for tag, digest in self.layout.tags().items() if ":" in tag or "@" in tag}

    def _digest(self, name: str, tags: dict[str, str]) -> str:
        if hex_digits := reference.looks_like_id(name):
            found = {d for d in tags.values() if d.startswith(f"sha256:{hex_digits}")}
            if len(found) == 1:
                return found.pop()
        else:
            wanted = reference.parse(name)
            if wanted.digest and wanted.digest in tags.values():
                return wanted.digest
            if digest := tags.get(str(wanted)):
                return digest
        raise ModelNotFound(
            f"no model {name} in the store", remedy=f"pull it (hm model pull {name}), or see hm model ls", model=name
        )

    def _read(self, digest: str, tags: tuple[str, ...]) -> Model:
        manifest = self.layout.read_manifest(digest)
        if not is_model(manifest):
            raise ModelInvalid(
                f"{digest} is no model: its config is {manifest.config.media_type}",
                remedy="pull a model artifact, not an image",
            )
        config = read_config(
            self.layout.read_blob(manifest.config.digest, MAX_CONFIG_BYTES), manifest.config.media_type
        )
        return Model(digest, tags, config, manifest, by_role(manifest))

    # -- changes

    def commit(self, manifest: bytes, tag: str) -> Model:
        """Store a manifest whose blobs are there, under ``tag``; the same bytes give the same ID."""
        name = str(reference.parse(tag))
        with self.lock():
            descriptor = self.layout.put_manifest(manifest)
            for blob in self.layout.read_manifest(descriptor.digest).blobs:
                self.layout.blobs.size(blob.digest)  # raises BlobMissing
            self.layout.tag(name, descriptor.digest)
        return self.find(name)

    def tag(self, name: str, new: str) -> Model:
        target = str(reference.parse(new))
        with self.lock():
            self.layout.tag(target, self.find(name).id)
        return self.find(target)

    def remove(self, name: str, *, force: bool = False) -> list[dict[str, str]]:
        """Untag; with the last tag the blobs that no other model needs go too.  Returns Docker's list of what happened.

        Raises ``ModelInUse`` for an ID with several tags, unless ``force``.
        """
        with self.lock():
            model = self.find(name)
            by_id = bool(reference.looks_like_id(name))
            if by_id and len(model.tags) > 1 and not force:
                raise ModelInUse(
                    f"{model.id} has {len(model.tags)} tags: {', '.join(model.tags)}",
                    remedy="remove the tags, or use --force",
                )
            doomed = model.tags if by_id else (str(reference.parse(name)),)
            for tag in doomed:
                self.layout.untag(tag)
            done = [{"Untagged": tag} for tag in doomed]
            if set(doomed) == set(model.tags):
                self._remove_blobs(model)
                done.append({"Deleted": model.id})
        return done

    def _remove_blobs(self, model: Model) -> None:
        for paper in self.layout.referrers(model.id):
            self.layout.remove_referrer(paper.digest)
        self.layout.untag(cosign_tag(model.id))
        kept: set[str] = set()
        for digest in self.layout.tags().values():
            kept.update(b.digest for b in self.layout.read_manifest(digest).blobs)
        for digest in {model.id, *(b.digest for b in model.manifest.blobs)} - kept:
            self.layout.blobs.remove(digest)

    def prune(self) -> int:
        """Remove blobs that no model needs (older than an hour: a pull may be writing them); returns bytes."""
        with self.lock():
            return self.layout.gc()

    def disk_usage(self) -> int:
        return sum(self.layout.blobs.size(d) for d in self.layout.blobs.all())

    # -- files of a model

    def weights(self, model: Model) -> list[Path]:
        return [self.layout.blob_path(d.digest) for d in model.layers.get("weights", ())]

    def adapters(self, model: Model) -> list[Path]:
        return [self.layout.blob_path(d.digest) for d in model.layers.get("lora", ())]

    def projector(self, model: Model) -> Path | None:
        layers = model.layers.get("mmproj", ())
        return self.layout.blob_path(layers[0].digest) if layers else None

    def template(self, model: Model) -> str:
        layers = model.layers.get("template", ())
        return self.layout.read_blob(layers[0].digest, 1 << 20).decode(errors="replace") if layers else ""

    def licenses(self, model: Model) -> list[str]:
        return [
            self.layout.read_blob(d.digest, 4 << 20).decode(errors="replace") for d in model.layers.get("license", ())
        ]


def by_role(manifest: Manifest) -> dict[str, tuple[Descriptor, ...]]:
    roles: dict[str, list[Descriptor]] = {}
    for layer in manifest.layers:
        role = _role(layer)
        if role:
            roles.setdefault(role, []).append(layer)
    return {role: tuple(_in_order(layers)) for role, layers in roles.items()}


def _role(layer: Descriptor) -> str:
    role = media.ROLES.get(layer.media_type, "")
    path = layer.annotations.get(media.FILEPATH, "")
    if layer.media_type in (media.MODELPACK_WEIGHT, media.MODELPACK_WEIGHT_GGUF):
        if "mmproj" in path:
            return "mmproj"
        return "lora" if "lora" in path else "weights"
    if layer.media_type == media.MODELPACK_WEIGHT_CONFIG:
        return "template" if path.endswith(".jinja") else "file"
    if layer.media_type == media.MODELPACK_DOC:
        return "license" if "license" in path.lower() or not path else "file"
    return role


def _in_order(layers: list[Descriptor]) -> list[Descriptor]:
    """Shards by file name where they have one, else as the manifest lists them."""
    if all(media.FILEPATH in layer.annotations for layer in layers):
        return sorted(layers, key=lambda layer: layer.annotations[media.FILEPATH])
    return layers
