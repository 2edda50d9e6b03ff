"""Media types, annotation keys and limits of the OCI formats that we read and write."""

from __future__ import annotations

from typing import Final

# OCI image-spec 1.1, media-types.md
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_TAR_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
EMPTY_BLOB: Final = b"{}"  # manifest.md, "guidance for an empty descriptor"

# Docker image manifest version 2, schema 2
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

PLAIN_LAYERS: Final = (LAYER_TAR,)
GZIP_LAYERS: Final = (LAYER_TAR_GZIP, DOCKER_LAYER_GZIP)  # in images that others built; ours are plain
LAYERS: Final = PLAIN_LAYERS + GZIP_LAYERS

MANIFESTS: Final = (MANIFEST, DOCKER_MANIFEST)
INDEXES: Final = (INDEX, DOCKER_INDEX)

# Sigstore bundle v0.3, and how cosign attaches one (cosign's BUNDLE_SPEC.md)
SIGSTORE_BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE_ANNOTATION: Final = "dev.sigstore.bundle.predicateType"
KEY_ANNOTATION: Final = "dev.harbourmaster.key"
"""Which of our keys signed: a hint for replacing, never believed in verification."""
# cosign's older layout: a manifest tagged sha256-<hex>.sig whose layers are simple-signing payloads
COSIGN_PAYLOAD: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"

REF_NAME: Final = "org.opencontainers.image.ref.name"  # annotations.md
CONTAINERD_IMAGE_NAME: Final = "io.containerd.image.name"  # what engines with the containerd store read from index.json
SUBJECT_HINT: Final = "dev.harbourmaster.subject"  # ours, in index.json only: spares a read, is never believed alone

MAX_MANIFEST_BYTES: Final = 4 << 20  # distribution-spec 1.1, "pushing manifests": registries should accept 4 MiB
MAX_CONFIG_BYTES: Final = 8 << 20  # what engines write is below 100 kB; Go build labels and history can grow it
MAX_INDEX_BYTES: Final = 16 << 20  # about 40,000 descriptors
MAX_BUNDLE_BYTES: Final = 64 << 20  # an SBOM of 10,000 components is about 10 MB before base64
MAX_LAYER_BYTES: Final = 32 << 30  # no server image comes near; stops a compressed layer that grows without end
MAX_LAYERS: Final = 512  # engines stop at 127 (overlay2)
MAX_ARCHIVE_MEMBERS: Final = 8 * MAX_LAYERS  # a classic archive has three files for each layer
