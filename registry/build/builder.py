"""From an entry to an image: base layers, Debian packages, one layer with the server, and a configuration of our own.

Two builds of the same inputs give the same manifest digest; the same inputs are not built twice.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import docker

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.digests import sha256
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from registry.build import image
from registry.build.bases import Base, Bases, Progress, hosts_label, silent
from registry.build.container import LogTail
from registry.build.errors import BuildFailed
from registry.build.gitbuild import git_layer
from registry.build.gitsource import tree
from registry.build.image import Built, Config, Part
from registry.build.install import PYTHON_LIB, server_layer
from registry.build.network import BuildNetwork
from registry.build.records import BuildRecord, BuildRecords
from registry.locks import pinned, read_locks
from registry.oci import media
from registry.oci.descriptor import Descriptor
from registry.oci.layout import OciLayout
from registry.schema import ENTRY_FILE, Entry

BUILDER_VERSION = 1  # raise it when the same inputs give another image
Materials = tuple[tuple[str, str, str], ...]  # (purl, hash algorithm, hex)
SERVER_NAMESPACE = "dev.harbourmaster"  # reverse DNS, as the MCP registry writes server names


@dataclass
class BuildContext:
    """What a build needs; one for all servers of a run."""

    settings: Settings
    client: docker.DockerClient
    layout: OciLayout
    network: BuildNetwork
    bases: Bases
    records: BuildRecords
    progress: Progress = silent

    @classmethod
    def create(
        cls, settings: Settings, client: docker.DockerClient, network: BuildNetwork, progress: Progress = silent
    ) -> BuildContext:
        layout = OciLayout(settings.oci_dir)
        bases = Bases(settings, client, layout, network, progress)
        return cls(settings, client, layout, network, bases, BuildRecords(settings.home), progress)


@dataclass(frozen=True)
class Inputs:
    entry: Entry
    entry_bytes: bytes
    locks: dict[str, bytes]

    @classmethod
    def read(cls, entry: Entry, root: Path) -> Inputs:
        directory = root / entry.name
        return cls(entry, (directory / ENTRY_FILE).read_bytes(), read_locks(entry, directory))

    def digest(self, base: str, builder: str) -> str:
        """Over all that decides the image: the entry, the locks, the bases, the builder, the architecture."""
        return canonical_digest(
            {
                "builder": BUILDER_VERSION,
                "architecture": image.architecture(),
                "entry": sha256(self.entry_bytes),
                "locks": {name: sha256(data) for name, data in self.locks.items()},
                "bases": [base, builder],
            }
        )

    def install_digest(self, builder: str) -> str:
        """Over what decides the server layer alone, so that an edited entry does not install everything again."""
        locks = {name: sha256(data) for name, data in self.locks.items()}
        source, _ = self.entry.recipe()
        git = [source.repository, source.commit, source.directory, source.package] if source.kind == "git" else []
        parts = {"builder": BUILDER_VERSION, "locks": locks, "base": builder}
        return canonical_digest(parts | ({"git": git} if git else {}))


def current(inputs: Inputs, context: BuildContext, records: dict[str, BuildRecord]) -> BuildRecord | None:
    """The record of an earlier build of the same inputs whose image is still in the layout; asks no engine."""
    record = records.get(inputs.entry.name)
    if record is None or inputs.digest(*context.bases.digests(*_wants(inputs.entry))) != record.inputs:
        return None
    return record if context.layout.blobs.has(record.manifest) else None


def build(entry: Entry, context: BuildContext, *, root: Path | None = None) -> tuple[Built, BuildRecord]:
    """Make the image of ``entry`` unless it exists; it is then in the layout as ``<name>:<version>`` and in the engine.

    Raises ``BuildFailed`` and its kin, naming server, step, the log's end and the remedy.
    """
    inputs = Inputs.read(entry, root or context.settings.servers_dir)
    record = current(inputs, context, context.records.all())
    log = LogTail()
    try:
        record = record or _make(inputs, context, log)
        image_id = image.load(context.client, context.layout, record.manifest, engine_ref(entry), base=record.base)
    except HarbourError as e:
        raise _named(e, entry) from e
    return Built(record.manifest, record.config, image_id), record


def engine_ref(entry: Entry) -> str:
    """The tag in the engine: for people's eyes, never used to start anything."""
    return f"harbourmaster/{entry.name}:{entry.version}"


def _wants(entry: Entry) -> tuple[str, tuple[str, ...]]:
    _, build = entry.recipe()
    return build.runtime, tuple(build.packages)


def _make(inputs: Inputs, context: BuildContext, log: LogTail) -> BuildRecord:
    entry = inputs.entry
    context.progress(entry.name, "base images", 0.05)
    base = context.bases.runtime(*_wants(entry))
    builder = context.bases.builder(entry.recipe()[1].runtime)
    started = _now()
    install = inputs.install_digest(builder.manifest)
    layer, materials = _reused(inputs, install, context) or _install(inputs, builder, context, log)
    context.progress(entry.name, "assemble", 0.7)
    parts = [*image.parts_of(context.layout, base.manifest), Part(layer, f"install {entry.origin}, hashes checked")]
    config = server_config(entry, base, image.environment_of(context.layout, base.manifest))
    annotations = {"org.opencontainers.image.created": image.CREATED, **_labels(entry, base)}
    manifest, digest = image.assemble(context.layout, parts, config, tag=entry.ref, annotations=annotations)
    record = BuildRecord(
        inputs=inputs.digest(base.manifest, builder.manifest),
        manifest=manifest,
        config=digest,
        install=install,
        layer=layer.digest,
        base=base.manifest,
        builder=builder.manifest,
        base_origin=base.origin,
        materials=materials,
        started=started,
        finished=_now(),
    )
    context.records.put(entry.name, record)
    context.progress(entry.name, "load into the engine", 0.8)
    return record


def _reused(inputs: Inputs, install: str, context: BuildContext) -> tuple[Descriptor, Materials] | None:
    record = context.records.all().get(inputs.entry.name)
    if record is None or record.install != install or not context.layout.blobs.is_sound(record.layer):
        return None
    return Descriptor(media.LAYER_TAR, record.layer, context.layout.blobs.size(record.layer)), record.materials


def _install(inputs: Inputs, builder: Base, context: BuildContext, log: LogTail) -> tuple[Descriptor, Materials]:
    context.progress(inputs.entry.name, "install packages", 0.15)
    source, recipe = inputs.entry.recipe()
    runtime, client, network = recipe.runtime, context.client, context.network
    with tempfile.TemporaryFile() as raw, tempfile.TemporaryFile() as sink:
        if source.kind == "git":
            package = source.package or inputs.entry.name
            fetch = functools.partial(tree, str(source.repository), str(source.commit), source.directory or "")
            image_id = builder.image_id
            installed = git_layer(client, image_id, runtime, package, inputs.locks, fetch, network, raw, sink, log)
        else:
            installed = server_layer(client, builder.image_id, runtime, inputs.locks, network, raw, sink, log)
        sink.seek(0)
        layer = context.layout.put_blob(sink, media.LAYER_TAR)
    packages = pinned(inputs.entry, inputs.locks) if installed is None else installed
    own = ((f"git+{source.repository}@{source.commit}", "gitCommit", str(source.commit)),) if source.commit else ()
    return layer, (*own, *((p.purl, *p.digest) for p in packages))


def server_config(entry: Entry, base: Base, base_env: dict[str, str]) -> Config:
    """The image configuration of a server: nobody's user, its command with default parameters, and labels."""
    command = entry.command()
    env = base_env | {"HOME": "/tmp"}  # noqa: S108 - the one place that is writable in a sandbox
    if entry.recipe()[1].runtime == "python":
        env |= {"PYTHONPATH": PYTHON_LIB, "PYTHONSAFEPATH": "1"}
    path = env.get("PATH", image.PATH)
    env["PATH"] = path if path.startswith("/opt/server/") else f"/opt/server/bin:/opt/server/node_modules/.bin:{path}"
    return Config(
        command=tuple(command),
        env=env | entry.environment(),
        user=entry.run.user or image.NONROOT,
        working_dir="/tmp",  # noqa: S108
        labels={
            "io.modelcontextprotocol.server.name": f"{SERVER_NAMESPACE}/{entry.name}",
            **hosts_label(base),
            **_labels(entry, base),
        },
    )


def _labels(entry: Entry, base: Base) -> dict[str, str]:
    """OCI image-spec 1.1, annotations.md."""
    return {
        "org.opencontainers.image.title": entry.about.title,
        "org.opencontainers.image.description": entry.about.description.strip(),
        "org.opencontainers.image.version": entry.version,
        "org.opencontainers.image.url": entry.homepage,
        "org.opencontainers.image.licenses": entry.licence,
        "org.opencontainers.image.base.name": base.origin,
        "org.opencontainers.image.base.digest": base.manifest,
    }


def _named(error: HarbourError, entry: Entry) -> HarbourError:
    if not isinstance(error, BuildFailed):
        return error
    details = {k: v for k, v in error.details.items() if k != "server"}
    return BuildFailed(f"{entry.name}: {error.message}", remedy=error.remedy, server=entry.name, **details)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
