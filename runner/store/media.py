"""Media types of model artifacts: Docker's (docker/model-spec, ``config.md``) and CNCF ModelPack's (modelpack/model-spec)."""

from __future__ import annotations

from typing import Final

DOCKER_CONFIG_V1: Final = "application/vnd.docker.ai.model.config.v0.1+json"
DOCKER_CONFIG_V2: Final = "application/vnd.docker.ai.model.config.v0.2+json"
DOCKER_GGUF: Final = "application/vnd.docker.ai.gguf.v3"
DOCKER_LORA: Final = "application/vnd.docker.ai.gguf.v3.lora"
DOCKER_MMPROJ: Final = "application/vnd.docker.ai.gguf.v3.mmproj"
DOCKER_MMPROJ_OLD: Final = "application/vnd.docker.ai.mmproj"  # what Docker's runner writes
DOCKER_LICENSE: Final = "application/vnd.docker.ai.license"
DOCKER_TEMPLATE: Final = "application/vnd.docker.ai.chat.template.jinja"
DOCKER_FILE: Final = "application/vnd.docker.ai.model.file"
DOCKER_SAFETENSORS: Final = "application/vnd.docker.ai.safetensors"

MODELPACK_MANIFEST: Final = "application/vnd.cncf.model.manifest.v1+json"  # artifactType
MODELPACK_CONFIG: Final = "application/vnd.cncf.model.config.v1+json"
MODELPACK_WEIGHT: Final = "application/vnd.cncf.model.weight.v1.raw"
MODELPACK_WEIGHT_GGUF: Final = "application/vnd.cncf.model.weight.v1.gguf"  # Docker's runner writes and reads this one
MODELPACK_WEIGHT_CONFIG: Final = "application/vnd.cncf.model.weight.config.v1.raw"
MODELPACK_DOC: Final = "application/vnd.cncf.model.doc.v1.raw"

FILEPATH: Final = "org.cncf.model.filepath"  # annotation of a ModelPack layer

DOCKER_CONFIGS: Final = (DOCKER_CONFIG_V1, DOCKER_CONFIG_V2)

# What a layer is for -> the media types that say so.  A ModelPack layer's role also depends on its file name.
ROLES: Final[dict[str, str]] = {
    DOCKER_GGUF: "weights",
    DOCKER_LORA: "lora",
    DOCKER_MMPROJ: "mmproj",
    DOCKER_MMPROJ_OLD: "mmproj",
    DOCKER_LICENSE: "license",
    DOCKER_TEMPLATE: "template",
    DOCKER_FILE: "file",
    DOCKER_SAFETENSORS: "safetensors",
    MODELPACK_WEIGHT_GGUF: "weights",
    MODELPACK_WEIGHT: "weights",
    MODELPACK_WEIGHT_CONFIG: "template",
    MODELPACK_DOC: "license",
}

WRITTEN: Final[dict[str, dict[str, str]]] = {  # format -> role -> media type
    "docker": {
        "weights": DOCKER_GGUF,
        "lora": DOCKER_LORA,
        "mmproj": DOCKER_MMPROJ_OLD,
        "license": DOCKER_LICENSE,
        "template": DOCKER_TEMPLATE,
    },
    "cncf": {
        "weights": MODELPACK_WEIGHT,
        "lora": MODELPACK_WEIGHT,
        "mmproj": MODELPACK_WEIGHT,
        "license": MODELPACK_DOC,
        "template": MODELPACK_WEIGHT_CONFIG,
    },
}
