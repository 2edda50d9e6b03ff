"""The egress relay's image: one static program from ``sandbox/egress/relay.c``, compiled in a container, papered and signed.

It goes the way of every server's image (layout, four papers, trust policy, Cedar, engine image ID), and is named by what
it is made of, so that a changed source is another image.
"""

from __future__ import annotations

import io
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
from registry.build.builder import BuildContext
from registry.build.container import LogTail
from registry.build.debian import compiled
from registry.build.image import Config, Part
from registry.build.ours import FLAGS, RELAY, SOURCE, relay_target
from registry.build.tarball import SOURCE_DATE_EPOCH
from registry.errors import ImageNotFound
from registry.oci import media
from registry.oci.layout import OciLayout
from registry.provenance import BUILDER_ID
from registry.sbom import sbom_of

PACKAGES = ("gcc", "libc6-dev")
BUILD_TYPE = "https://harbourmaster.dev/build/relay/v1"
# It has no MCP side; a listing says so in the form of every other
NO_TOOLS: dict[str, Any] = {"tools": [], "prompts": [], "resources": [], "resourceTemplates": []}


def is_built(settings: Settings) -> bool:
    """Whether the image lies in the layout with papers by this installation's key.  What they are worth, admission says."""
    layout = OciLayout(settings.oci_dir)
    try:
        manifest = layout.resolve(relay_target().ref)
    except ImageNotFound:
        return False
    kinds = {
        d.annotations.get(media.PREDICATE_TYPE_ANNOTATION) for d in layout.referrers(manifest, media.SIGSTORE_BUNDLE)
    }
    return {SIGNATURE, SBOM, PROVENANCE, LISTING} <= kinds


def build_relay(context: BuildContext) -> str:
    """Compile, assemble, paper; the manifest digest.  Raises ``BuildFailed`` with the compiler's words."""
    context.progress(RELAY, "compile", 0.2)
    started = _now()
    base = context.bases.runtime("python")
    source, log = SOURCE.read_bytes(), LogTail()
    command = (
        f"gcc {FLAGS} -o relay relay.c && dpkg-query -W -f '${{Package}} ${{Version}}\\n' gcc libc6-dev > versions"
    )
    files = compiled(context.client, base.image_id, PACKAGES, {"relay.c": source}, command, context.network, log)
    with io.BytesIO(_layer(files["relay"])) as layer:
        part = Part(context.layout.put_blob(layer, media.LAYER_TAR), f"compile relay.c {sha256(source)}")
    config = Config(
        entrypoint=("/relay",), user=image.NONROOT, labels={"org.opencontainers.image.title": "Egress relay"}
    )
    ref = relay_target().ref
    manifest, _ = image.assemble(context.layout, [part], config, tag=ref)
    context.progress(RELAY, "sign", 0.9)
    predicates = {
        SIGNATURE: {},
        SBOM: sbom_of(context.layout, manifest),
        PROVENANCE: _provenance(source, files["versions"].decode(), base.manifest, base.origin, started),
        LISTING: NO_TOOLS,
    }
    key = SigningKey.load_or_create(context.settings.keys_dir)
    for kind, predicate in predicates.items():
        bundle = sign_statement(statement(ref, manifest, kind, predicate), key)
        context.layout.add_referrer(manifest, bundle, annotations={media.PREDICATE_TYPE_ANNOTATION: kind})
    context.progress(RELAY, "ready", 1.0)
    return manifest


def _layer(program: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as out:
        info = tarfile.TarInfo("relay")
        info.size, info.mtime, info.mode = len(program), SOURCE_DATE_EPOCH, 0o755
        out.addfile(info, io.BytesIO(program))
    return buffer.getvalue()


def _provenance(source: bytes, versions: str, base: str, origin: str, started: str) -> dict[str, Any]:
    """SLSA v1 (https://slsa.dev/spec/v1.0/provenance); the C library is linked in, so it is a dependency."""
    packages = [line.split(" ") for line in versions.splitlines()]
    dependencies: list[dict[str, Any]] = [{"uri": f"pkg:deb/debian/{name}@{version}"} for name, version in packages]
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"source": {"name": "relay.c", "digest": {"sha256": hex_of(sha256(source))}}},
            "internalParameters": {"flags": FLAGS, "architecture": image.architecture()},
            "resolvedDependencies": [
                *dependencies,
                {"name": "compiler's base", "uri": origin, "digest": {"sha256": hex_of(base)}},
            ],
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID, "version": {"harbourmaster": harbourmaster.__version__}},
            "metadata": {"invocationId": f"urn:uuid:{uuid.uuid4()}", "startedOn": started, "finishedOn": _now()},
        },
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
