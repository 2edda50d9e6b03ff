"""The conformance server as an image: our Python base, the MCP SDK as locked here, and the server's own files on top."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.digests import sha256
from harbourmaster.core.settings import Settings
from registry.build import image
from registry.build.builder import BuildContext
from registry.build.container import LogTail
from registry.build.image import Built, Config, Part
from registry.build.install import PYTHON_LIB, server_layer
from registry.build.network import detect
from registry.build.tarball import tar_of
from registry.locks import PYTHON_LOCK
from registry.oci import media
from registry.oci.descriptor import Descriptor
from sandbox.engine import Engine
from sandbox.spec import LABEL_HOSTS

HERE = Path(__file__).parent
PACKAGE = "conformance_server"
REF = "harbourmaster-test/conformance"


def build(settings: Settings, engine: Engine) -> Built:
    """The image, in the layout of ``settings`` and in the engine; made anew only when its inputs change."""
    context = BuildContext.create(settings, engine.client, detect(os.environ))
    base, builder = context.bases.runtime("python"), context.bases.builder("python")
    lock = (HERE / PYTHON_LOCK).read_bytes()
    files = {f"opt/server/lib/{PACKAGE}/{p.name}": p.read_bytes() for p in sorted((HERE / "server").glob("*.py"))}
    sources = {name: sha256(data) for name, data in files.items()}
    ref = f"{REF}:{canonical_digest([base.manifest, builder.manifest, sha256(lock), sources])[7:23]}"
    manifest = context.layout.tags().get(ref) or _assemble(context, base.manifest, builder.image_id, lock, files, ref)
    for old in context.layout.tags():
        if old.startswith(f"{REF}:") and old != ref:
            context.layout.untag(old)
    config = context.layout.read_manifest(manifest).config.digest
    return Built(manifest, config, image.load(context.client, context.layout, manifest, ref, base=base.manifest))


def _assemble(context: BuildContext, base: str, builder: str, lock: bytes, files: dict[str, bytes], ref: str) -> str:
    layout = context.layout
    parts = [
        *image.parts_of(layout, base),
        Part(_sdk_layer(context, builder, lock), "install the MCP SDK, hashes checked"),
        Part(layout.put_blob(tar_of(files), media.LAYER_TAR), "the conformance server"),
    ]
    env = image.environment_of(layout, base)
    env |= {"HOME": "/tmp", "PATH": env.get("PATH", image.PATH), "PYTHONPATH": PYTHON_LIB, "PYTHONSAFEPATH": "1"}
    config = Config(
        command=("python3", "-m", PACKAGE), env=env, user=image.NONROOT, working_dir="/tmp", labels={LABEL_HOSTS: "1"}
    )
    return image.assemble(layout, parts, config, tag=ref)[0]


def _sdk_layer(context: BuildContext, builder: str, lock: bytes) -> Descriptor:
    with tempfile.TemporaryFile() as raw, tempfile.TemporaryFile() as sink:
        locks = {PYTHON_LOCK: lock}
        server_layer(context.client, builder, "python", locks, context.network, raw, sink, LogTail())
        sink.seek(0)
        return context.layout.put_blob(sink, media.LAYER_TAR)
