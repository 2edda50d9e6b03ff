"""Base images, made once and recorded in HM_HOME/bases.json: for each runtime one to run on and one to build in.

Where Docker Hub answers they are its ``python:3.13-slim`` and ``node:22-slim``, by the digest that the tag had then; else
they are made here from Debian packages and the Node binary that the npm registry has, on one shared Debian layer.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import docker
import requests
from docker.errors import APIError

from harbourmaster.core.files import file_lock, write_atomic
from harbourmaster.core.settings import Settings
from registry.build import debian, image, node
from registry.build.container import LogTail
from registry.build.errors import BaseUnavailable
from registry.build.image import Config, Part
from registry.build.network import BuildNetwork
from registry.oci import media
from registry.oci.descriptor import Descriptor
from registry.oci.importer import import_engine_image
from registry.oci.layout import OciLayout
from sandbox.spec import LABEL_HOSTS

BASES_VERSION = 2  # raise it when what is made here changes
HUB = {"python": "python:3.13-slim", "node": "node:22-slim"}
HUB_TIMEOUT_S = 8.0  # only to ask for a digest; offline machines must not wait long for nothing

_COMPILE = "python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /usr/lib/python3*  || true"
_PYTHON_ENV = {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
_NODE_ENV = {"LANG": "C.UTF-8"}

Progress = Callable[[str, str, float], None]  # (server or base, stage, fraction of the whole 0..1)


def silent(server: str, stage: str, fraction: float) -> None:
    """A progress callback for nobody."""


@dataclass(frozen=True)
class Base:
    name: str
    manifest: str  # digest in the layout
    image_id: str  # in the engine
    origin: str  # "docker.io/library/python@sha256:..." or "debian:trixie"


class Bases:
    """``runtime("python", ("git",))`` and ``builder("node")``; thread-safe, and safe beside other processes."""

    def __init__(
        self,
        settings: Settings,
        client: docker.DockerClient,
        layout: OciLayout,
        network: BuildNetwork,
        progress: Progress = silent,
    ) -> None:
        self._client, self._layout, self._network, self._progress = client, layout, network, progress
        self._path = settings.home / "bases.json"
        self._mutex = threading.RLock()
        self._ready: dict[str, Base] = {}
        self._hub_silent = False

    def runtime(self, runtime: str, packages: tuple[str, ...] = ()) -> Base:
        """The image that servers of ``runtime`` run on, with Debian ``packages`` added."""
        names = tuple(sorted(packages))
        return self._get(_runtime_name(runtime, names), lambda: self._make_runtime(runtime, names))

    def builder(self, runtime: str) -> Base:
        return self._get(f"{runtime}-builder", lambda: self._make_builder(runtime))

    def digests(self, runtime: str, packages: tuple[str, ...] = ()) -> tuple[str, str]:
        """Manifest digests of the recorded runtime and builder bases, ``""`` for one that was not made yet."""
        bases = self._read()
        names = (_runtime_name(runtime, packages), f"{runtime}-builder")
        return bases.get(names[0], {}).get("manifest", ""), bases.get(names[1], {}).get("manifest", "")

    def forget(self) -> None:
        """Make all bases anew when they are next asked for: with today's packages, or the hub's newer images."""
        with self._mutex, file_lock(self._path.with_suffix(".lock")):
            self._path.unlink(missing_ok=True)
            self._ready.clear()

    def _get(self, name: str, make: Callable[[], Base]) -> Base:
        with self._mutex:
            if name not in self._ready:
                self._ready[name] = self._recorded(name) or self._record(name, make)
            return self._ready[name]

    def _recorded(self, name: str) -> Base | None:
        entry = self._read().get(name)
        if entry is None or not self._layout.blobs.has(entry["manifest"]):
            return None
        base = Base(**entry)
        image_id = image.load(self._client, self._layout, base.manifest, _ref(name))
        return Base(base.name, base.manifest, image_id, base.origin)

    def _record(self, name: str, make: Callable[[], Base]) -> Base:
        with file_lock(self._path.with_suffix(".lock")):
            found = self._recorded(name)  # another process may have been first
        if found:
            return found
        base = make()
        with file_lock(self._path.with_suffix(".lock")):
            bases = self._read() | {name: asdict(base)}
            body = {"version": BASES_VERSION, "architecture": image.architecture(), "bases": bases}
            write_atomic(self._path, (json.dumps(body, indent=2, sort_keys=True) + "\n").encode())
        return base

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            body = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        ours = body.get("version") == BASES_VERSION and body.get("architecture") == image.architecture()
        return body["bases"] if ours else {}

    # -- how each is made

    def _make_runtime(self, runtime: str, packages: tuple[str, ...]) -> Base:
        if packages:
            return self._with_packages(_runtime_name(runtime, packages), self.runtime(runtime), packages)
        return self._from_hub(runtime, runtime) or self._from_debian(runtime)

    def _make_builder(self, runtime: str) -> Base:
        base = self.runtime(runtime)
        if not base.origin.startswith("debian:"):
            return base  # the hub's images bring pip and npm
        if runtime == "python":
            return self._with_packages("python-builder", base, ("python3-pip",))
        parts = [*image.parts_of(self._layout, base.manifest), Part(self._node_parts()[1], "npm")]
        return self._base("node-builder", parts, base.origin, _NODE_ENV, base.manifest)

    def _from_hub(self, name: str, runtime: str) -> Base | None:
        tag = HUB[runtime]
        digest = self._hub_digest(tag)
        if not digest:
            return None
        self._progress(name, f"pull {tag}", 0.1)
        repository = tag.rpartition(":")[0]
        try:
            pulled = self._client.images.pull(repository, tag=digest)
        except (APIError, requests.RequestException):
            return None
        manifest = import_engine_image(self._client, pulled.id or digest, self._layout)
        self._layout.tag(_ref(name), manifest)
        image_id = image.load(self._client, self._layout, manifest, _ref(name))
        full = repository if "/" in repository else f"docker.io/library/{repository}"
        return Base(name, manifest, image_id, f"{full}@{digest}")

    def _hub_digest(self, tag: str) -> str:
        """The digest that the hub has for ``tag`` now, or ``""`` when it does not answer soon."""
        if self._hub_silent:
            return ""
        api = self._client.api
        address = f"{api.base_url}/v{api.api_version}/distribution/{tag}/json"  # docker.APIClient cannot limit its wait
        try:
            answer = api.get(address, timeout=HUB_TIMEOUT_S)
            return str(answer.json()["Descriptor"]["digest"])
        except (requests.RequestException, ValueError, KeyError):
            self._hub_silent = True
            return ""

    def _from_debian(self, runtime: str) -> Base:
        shared = self._get("debian", self._make_debian)
        if runtime == "python":
            return self._with_packages("python", shared, ("python3",), after=_COMPILE, env=_PYTHON_ENV)
        node_layer, _ = self._node_parts()
        parts = [*image.parts_of(self._layout, shared.manifest), Part(node_layer, f"node {node.VERSION}")]
        return self._base("node", parts, shared.origin, _NODE_ENV, shared.manifest)

    def _make_debian(self) -> Base:
        self._progress("debian", f"mmdebstrap {debian.SUITE}", 0.1)
        layer = self._layer(lambda sink, log: debian.bootstrap(sink, log))
        return self._base("debian", [Part(layer, f"mmdebstrap {debian.SUITE}")], f"debian:{debian.SUITE}", {})

    def _with_packages(
        self, name: str, base: Base, packages: tuple[str, ...], *, after: str = "", env: dict[str, str] | None = None
    ) -> Base:
        self._progress(name, f"install {', '.join(packages)}", 0.1)
        layer = self._layer(
            lambda sink, log: debian.package_layer(
                self._client, base.image_id, packages, self._network, sink, log, after=after
            )
        )
        parts = [*image.parts_of(self._layout, base.manifest), Part(layer, f"apt-get install {' '.join(packages)}")]
        environment = image.environment_of(self._layout, base.manifest) | (env or {})
        return self._base(name, parts, base.origin, environment, base.manifest)

    def _node_parts(self) -> tuple[Descriptor, Descriptor]:
        """The layers with the Node binary and with npm; both come out of one container."""
        with self._mutex:
            if not hasattr(self, "_node_layers"):
                self._progress("node", f"fetch node {node.VERSION}", 0.1)
                with tempfile.TemporaryFile() as raw:
                    node.fetch(self._client, self.builder("python").image_id, self._network, raw, LogTail())
                    self._node_layers = (
                        self._layer(lambda sink, log: node.runtime_layer(raw, sink)),
                        self._layer(lambda sink, log: node.npm_layer(raw, sink)),
                    )
            return self._node_layers

    def _layer(self, write: Callable[[BinaryIO, LogTail], object]) -> Descriptor:
        with tempfile.TemporaryFile() as sink:
            write(sink, LogTail())
            sink.seek(0)
            return self._layout.put_blob(sink, media.LAYER_TAR)

    def _base(self, name: str, parts: list[Part], origin: str, env: dict[str, str], below: str = "") -> Base:
        config = Config(env=env | {"PATH": env.get("PATH", image.PATH)}, labels={"harbourmaster.base": name})
        manifest, _ = image.assemble(self._layout, parts, config, tag=_ref(name))
        image_id = image.load(self._client, self._layout, manifest, _ref(name), base=below)
        self._progress(name, "ready", 1.0)
        return Base(name, manifest, image_id, origin)


def hosts_label(base: Base) -> dict[str, str]:
    """What tells the sandbox that ``localhost`` has an address in this image without the engine's hosts file."""
    return {LABEL_HOSTS: "1"} if base.origin.startswith("debian:") else {}


def _runtime_name(runtime: str, packages: tuple[str, ...]) -> str:
    return "+".join((runtime, *sorted(packages)))


def _ref(name: str) -> str:
    return f"harbourmaster/base-{name.replace('+', '.')}:{BASES_VERSION}"


__all__ = ["Base", "BaseUnavailable", "Bases", "Progress", "hosts_label", "silent"]
