"""The image in which clients' scripts run (``mcp-code``): the Python base and one program, papered like a server's.

Named by what it is made of, so that a changed program or base is another image.  The program is handed in: it belongs to
the gateway, which this package knows nothing of.
"""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from datetime import UTC, datetime
from typing import Any

import harbourmaster
from harbourmaster.core.digests import hex_of, sha256
from harbourmaster.core.settings import Settings
from policies.bundles import sign_statement
from policies.keys import SigningKey
from policies.statements import LISTING, PROVENANCE, SBOM, SIGNATURE, statement
from registry.build import image
from registry.build.bases import Base, hosts_label
from registry.build.builder import BuildContext
from registry.build.image import Config, Part
from registry.build.ours import CODE_RUNNER, code_target
from registry.build.tarball import SOURCE_DATE_EPOCH
from registry.errors import ImageNotFound
from registry.oci import media
from registry.oci.layout import OciLayout
from registry.provenance import BUILDER_ID
from registry.sbom import sbom_of

BUILD_TYPE = "https://harbourmaster.dev/build/code-runner/v1"
PROGRAM = "opt/code-runner.py"


def is_built(settings: Settings, program: bytes) -> bool:
    """Whether the image lies in the layout, on today's base, with four papers.  What they are worth, admission says."""
    layout = OciLayout(settings.oci_dir)
    try:
        manifest = layout.resolve(code_target(program).ref)
    except ImageNotFound:
        return False
    base = _recorded_base(settings)
    if not base or not layout.blobs.has(base):
        return False
    below = [layer.digest for layer in layout.read_manifest(manifest).layers][:-1]
    if below != [layer.digest for layer in layout.read_manifest(base).layers]:
        return False
    papers = layout.referrers(manifest, media.SIGSTORE_BUNDLE)
    return {SIGNATURE, SBOM, PROVENANCE, LISTING} <= {
        d.annotations.get(media.PREDICATE_TYPE_ANNOTATION) for d in papers
    }


def _recorded_base(settings: Settings) -> str:
    """The manifest digest of the Python base in HM_HOME/bases.json; empty where there is none."""
    try:
        return str(json.loads((settings.home / "bases.json").read_bytes())["bases"]["python"]["manifest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def build_code_runner(context: BuildContext, program: bytes, listing: dict[str, Any]) -> str:
    """Assemble, paper; the manifest digest.  Raises ``BuildFailed``, ``BaseUnavailable``."""
    context.progress(CODE_RUNNER, "base images", 0.1)
    started, base, ref = _now(), context.bases.runtime("python"), code_target(program).ref
    with io.BytesIO(_layer(program)) as layer:
        part = Part(context.layout.put_blob(layer, media.LAYER_TAR), f"copy the code runner {sha256(program)}")
    parts = [*image.parts_of(context.layout, base.manifest), part]
    manifest, _ = image.assemble(context.layout, parts, _config(context, base), tag=ref)
    context.progress(CODE_RUNNER, "sign", 0.8)
    predicates = {
        SIGNATURE: {},
        SBOM: sbom_of(context.layout, manifest),
        PROVENANCE: _provenance(program, base, started),
        LISTING: listing,
    }
    key = SigningKey.load_or_create(context.settings.keys_dir)
    for kind, predicate in predicates.items():
        bundle = sign_statement(statement(ref, manifest, kind, predicate), key)
        context.layout.add_referrer(manifest, bundle, annotations={media.PREDICATE_TYPE_ANNOTATION: kind})
    context.progress(CODE_RUNNER, "ready", 1.0)
    return manifest


def _config(context: BuildContext, base: Base) -> Config:
    env = image.environment_of(context.layout, base.manifest)
    return Config(
        command=("python3", "-I", f"/{PROGRAM}"),
        env={**env, "PATH": env.get("PATH", image.PATH), "HOME": "/tmp"},  # noqa: S108 - writable in a sandbox
        user=image.NONROOT,
        working_dir="/tmp",  # noqa: S108
        labels={"org.opencontainers.image.title": "Code runner", **hosts_label(base)},
    )


def _layer(program: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as out:
        info = tarfile.TarInfo(PROGRAM)
        info.size, info.mtime, info.mode = len(program), SOURCE_DATE_EPOCH, 0o644
        out.addfile(info, io.BytesIO(program))
    return buffer.getvalue()


def _provenance(program: bytes, base: Base, started: str) -> dict[str, Any]:
    """SLSA v1 (https://slsa.dev/spec/v1.0/provenance)."""
    source = {"name": PROGRAM, "digest": {"sha256": hex_of(sha256(program))}}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"source": source},
            "internalParameters": {"architecture": image.architecture()},
            "resolvedDependencies": [{"name": "base", "uri": base.origin, "digest": {"sha256": hex_of(base.manifest)}}],
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID, "version": {"harbourmaster": harbourmaster.__version__}},
            "metadata": {"invocationId": f"urn:uuid:{uuid.uuid4()}", "startedOn": started, "finishedOn": _now()},
        },
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
