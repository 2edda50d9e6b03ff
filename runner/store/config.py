"""A model's config blob: Docker's v0.1 and v0.2 (docker/model-spec) and ModelPack's (modelpack/model-spec v1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harbourmaster.core.canonical import canonical
from registry.oci.descriptor import Manifest, parse_object
from runner.errors import ModelInvalid
from runner.gguf import Gguf
from runner.store import media

MAX_CONFIG_BYTES = 4 << 20  # Docker's runner copies a GGUF's short metadata into it


@dataclass(frozen=True)
class ModelConfig:
    """What both formats say, under one name each.  ``size`` and ``parameters`` are texts for people ("92.10 MiB")."""

    format: str = "gguf"
    architecture: str = ""
    parameters: str = ""
    quantization: str = ""
    size: str = ""
    context_size: int | None = None
    created: str = ""  # RFC 3339
    metadata: dict[str, str] = field(default_factory=dict, hash=False)
    kind: str = "docker"  # or "cncf"

    def as_docker(self) -> dict[str, Any]:
        """The ``config`` object that Docker's API shows."""
        body: dict[str, Any] = {"format": self.format}
        for name in ("quantization", "parameters", "architecture", "size"):
            if value := getattr(self, name):
                body[name] = value
        if self.metadata:
            body["gguf"] = self.metadata
        if self.context_size:
            body["context_size"] = self.context_size
        return body


def read_config(data: bytes, media_type: str) -> ModelConfig:
    """Raises ``ModelInvalid`` for a blob that is neither format."""
    try:
        body = parse_object(data, "a model's config", MAX_CONFIG_BYTES)
    except Exception as e:
        raise _invalid(str(e)) from e
    if media_type == media.MODELPACK_CONFIG or "modelfs" in body:
        return _read_modelpack(body)
    if media_type in media.DOCKER_CONFIGS:
        return _read_docker(body)
    raise _invalid(f"the media type {media_type!r} is no model's")


def _read_docker(body: dict[str, Any]) -> ModelConfig:
    config, descriptor = _object(body, "config"), _object(body, "descriptor")
    gguf = {k: v for k, v in _object(config, "gguf").items() if isinstance(v, str)}
    context = config.get("context_size")
    return ModelConfig(
        format=_text(config, "format") or "gguf",
        architecture=_text(config, "architecture"),
        parameters=_text(config, "parameters"),
        quantization=_text(config, "quantization"),
        size=_text(config, "size"),
        context_size=context if type(context) is int and context > 0 else None,
        created=_text(descriptor, "created"),
        metadata=gguf,
    )


def _read_modelpack(body: dict[str, Any]) -> ModelConfig:
    config, descriptor = _object(body, "config"), _object(body, "descriptor")
    return ModelConfig(
        format=_text(config, "format") or "gguf",
        architecture=_text(config, "architecture"),
        parameters=_text(config, "paramSize"),
        quantization=_text(config, "quantization"),
        created=_text(descriptor, "createdAt"),
        kind="cncf",
    )


def describe(weights: list[Gguf], *, created: str, context_size: int | None) -> ModelConfig:
    first = weights[0]
    metadata = {
        key: str(value)
        for key, value in sorted(first.metadata.items())
        if isinstance(value, str | int | float) and len(str(value)) <= 256 and not key.startswith("tokenizer.")
    }
    return ModelConfig(
        architecture=first.architecture,
        parameters=human_count(sum(g.parameters for g in weights)),
        quantization=first.quantization,
        size=human_bytes(sum(g.size for g in weights)),
        context_size=context_size,
        created=created,
        metadata=metadata,
    )


def write_docker(config: ModelConfig, diff_ids: list[str]) -> bytes:
    return canonical(
        {
            "config": config.as_docker(),
            "descriptor": {"created": config.created},
            "rootfs": {"type": "rootfs", "diff_ids": diff_ids},
        }
    )


def write_modelpack(config: ModelConfig, name: str, diff_ids: list[str]) -> bytes:
    inner = {
        "architecture": config.architecture,
        "format": config.format,
        "paramSize": config.parameters,
        "quantization": config.quantization,
    }
    return canonical(
        {
            "descriptor": {"createdAt": config.created, "name": name},
            "config": {k: v for k, v in inner.items() if v},
            "modelfs": {"type": "layers", "diffIds": diff_ids},
        }
    )


def is_model(manifest: Manifest) -> bool:
    return manifest.config.media_type in (*media.DOCKER_CONFIGS, media.MODELPACK_CONFIG)


def human_count(value: int) -> str:
    """``135M``, ``1.71B``: as Docker's listings write parameters."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if value >= size:
            return f"{value / size:.2f}".rstrip("0").rstrip(".") + unit
    return str(value)


def human_bytes(value: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value} B"


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _invalid(why: str) -> ModelInvalid:
    return ModelInvalid(f"the model's config is refused: {why}", remedy="package or pull the model again")
