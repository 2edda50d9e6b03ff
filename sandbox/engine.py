"""The container engine over its Docker API: Docker 20.10 and later, rootless Docker, Podman's compatible service.

Blocking and thread-safe; asyncio callers go through ``Engine.workers``.  Nothing here knows what a sandbox is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from harbourmaster.core.settings import Settings
from sandbox.errors import EngineFailed, EngineMissing, EnginePermission, EngineWeak, RuntimeMissing
from sandbox.owner import owner_of_this_process
from sandbox.spec import LABEL_HOSTS, ImageFacts
from sandbox.unixsocket import closing_refused

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 120  # one API call; the engine answers slowly while it unpacks layers
WORKERS = 16  # starts and stops in flight at once; each costs the engine a shim process and the host a few forks
POOL = WORKERS + 16  # connections kept: the workers' and those of blocking callers (builder, command line)


@dataclass(frozen=True)
class EngineInfo:
    """What the engine is and what it can enforce (GET /info, GET /version)."""

    name: str  # "docker" or "podman"
    version: str
    api_version: str
    cgroup: str  # "1" or "2"
    rootless: bool
    seccomp: bool
    limits: frozenset[str]  # of memory, swap, pids, cpu: what cgroups let it enforce
    runtimes: tuple[str, ...]
    default_runtime: str
    containerd_store: bool  # image IDs are manifest digests, not config digests
    architecture: str
    root: str = ""  # where it keeps images, on its own machine


def addresses(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """Engine addresses in the order tried; one that a person names is the only one."""
    if named := settings.engine_url or environment.get("DOCKER_HOST") or environment.get("CONTAINER_HOST"):
        return [named]
    runtime_dir = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    sockets = [
        "/var/run/docker.sock",
        f"{runtime_dir}/docker.sock",
        f"{runtime_dir}/podman/podman.sock",
        "/run/podman/podman.sock",
    ]
    return [f"unix://{path}" for path in sockets]


class Engine:
    """Usage: ``engine = Engine.connect(settings)``; then ``engine.image_id("hm/time:1")``."""

    def __init__(self, client: docker.DockerClient, url: str, home: Path) -> None:
        self.client = client
        self.api: Any = client.api  # low-level calls, which the SDK leaves half typed
        self.url = url
        self.home = home
        self.home_label = hashlib.sha256(str(home).encode()).hexdigest()[:16]
        self.owner = owner_of_this_process()
        self.workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="engine")
        self.leftovers: set[str] = set()  # containers that could not be removed while the engine did not answer
        self._info: EngineInfo | None = None
        self._facts: dict[str, ImageFacts] = {}
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, settings: Settings, environment: Mapping[str, str] | None = None) -> Engine:
        """Raises ``EngineMissing`` or ``EnginePermission``, naming each address that was tried."""
        environment = os.environ if environment is None else environment
        tried, forbidden = addresses(settings, environment), ""
        for url in tried:
            try:
                _knock(url)
                return cls(_client(url, environment), url, settings.home)
            except PermissionError:
                forbidden = forbidden or url
            except (DockerException, requests.RequestException, OSError) as e:
                log.debug("no engine at %s: %s", url, e)
        if forbidden:
            raise EnginePermission(
                f"the container engine at {forbidden} does not let this user in",
                remedy="join the docker group (usermod -aG docker $USER, then log in again) or use a rootless engine",
                address=forbidden,
            )
        raise EngineMissing(
            f"no container engine answers at {', '.join(tried)}",
            remedy="install and start one (Debian: apt-get install docker.io), or set HM_ENGINE_URL; hm doctor tells more",
            addresses=tried,
        )

    def close(self) -> None:
        self.workers.shutdown(wait=True)
        self.client.close()

    def ping(self) -> None:
        with failures("answer a ping"):
            self.client.ping()

    def info(self) -> EngineInfo:
        if self._info is None:
            with failures("describe itself"):
                self._info = _read_info(self.client.info(), self.client.version())
        return self._info

    def require_enforcement(self) -> None:
        """Raise ``EngineWeak`` when a limit or filter of the profile would be silently ignored.

        Swap accounting is not asked for: without it an engine still holds the memory limit, and hosts without swap
        never have it.
        """
        info = self.info()
        lacking = sorted({"memory", "pids", "cpu"} - info.limits) + ([] if info.seccomp else ["seccomp"])
        if lacking:
            raise EngineWeak(
                f"{info.name} {info.version} cannot enforce: {', '.join(lacking)}",
                remedy="enable these cgroup controllers (rootless engines need cgroup v2 delegation) and seccomp",
                lacking=lacking,
            )

    def require_runtime(self, runtime: str) -> None:
        """Raise ``RuntimeMissing`` unless a sandbox that asks for ``runtime`` would get it.

        Podman's compatible API (4.3) passes over the field and takes its default, so only the default counts there.
        """
        info = self.info()
        usable = info.runtimes if info.name == "docker" else (info.default_runtime,)
        if runtime not in usable:
            how = "register it in /etc/docker/daemon.json under `runtimes`, and restart the engine"
            raise RuntimeMissing(
                f"{info.name} {info.version} has no runtime named {runtime}; it has: {', '.join(usable) or 'none'}",
                remedy=f"install {runtime} and {how if info.name == 'docker' else 'make it the default runtime'}",
                usable=list(usable),
            )

    def image_id(self, ref: str) -> str | None:
        """The engine's ID of an image (config digest; manifest digest under the containerd store), None if it has none."""
        with failures(f"look up image {ref}"):
            try:
                return str(self.api.inspect_image(ref)["Id"])
            except ImageNotFound:
                return None

    def image_facts(self, image_id: str) -> ImageFacts:
        """Kept for good: an image ID names its bytes.  Raises ``EngineFailed`` where the engine has no such image."""
        if image_id not in self._facts:
            with failures(f"inspect image {image_id}"):
                config = self.api.inspect_image(image_id).get("Config") or {}
            self._facts[image_id] = ImageFacts(
                user=config.get("User") or "",
                volumes=tuple(sorted(config.get("Volumes") or ())),
                has_hosts=LABEL_HOSTS in (config.get("Labels") or {}),
                entrypoint=tuple(config.get("Entrypoint") or ()),
                command=tuple(config.get("Cmd") or ()),
            )
        return self._facts[image_id]

    def warn_once(self, warning: str) -> None:
        """Engines repeat a warning (no swap accounting, say) on every start."""
        if warning not in self._warned:
            self._warned.add(warning)
            log.warning("the engine says: %s", warning)

    def load(self, archive: BinaryIO) -> list[str]:
        """``docker load``: the IDs of the images in a tar archive (docker-archive or OCI layout, as the engine can)."""
        with failures("load an image archive"), self._lock:
            return [str(image.id) for image in self.client.images.load(archive)]


@contextmanager
def failures(doing: str) -> Iterator[None]:
    """Turn what the SDK raises into our errors; ``doing`` completes "the engine could not ..."."""
    try:
        yield
    except APIError as e:
        raise EngineFailed(
            f"the engine could not {doing}: {e.explanation or e}", remedy="see: hm doctor", status=e.status_code
        ) from e
    except (DockerException, requests.RequestException) as e:
        raise EngineFailed(f"the engine could not {doing}: {e}", remedy="is it running? see: hm doctor") from e


def gone_is_fine(call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Call; False where the engine says that the thing does not exist."""
    try:
        call(*args, **kwargs)
    except NotFound:
        return False
    return True


def _client(url: str, environment: Mapping[str, str]) -> docker.DockerClient:
    tls: Any = False
    if environment.get("DOCKER_TLS_VERIFY") and environment.get("DOCKER_CERT_PATH"):
        certs = Path(environment["DOCKER_CERT_PATH"])
        tls = docker.TLSConfig(
            client_cert=(str(certs / "cert.pem"), str(certs / "key.pem")), ca_cert=str(certs / "ca.pem"), verify=True
        )
    client = docker.DockerClient(base_url=url, version="auto", timeout=CALL_TIMEOUT_S, tls=tls, max_pool_size=POOL)
    if url.startswith("unix://"):
        closing_refused(client.api, url, timeout_s=CALL_TIMEOUT_S, connections=POOL)
    return client


def _knock(url: str) -> None:
    """Connect once to a Unix socket: the SDK hides why it could not, and leaves its socket open."""
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(url.removeprefix("unix://"))


def _read_info(info: dict[str, Any], version: dict[str, Any]) -> EngineInfo:
    options = " ".join(info.get("SecurityOptions") or ())
    components = {c.get("Name", "") for c in version.get("Components") or ()}
    enforceable = {
        "memory": info.get("MemoryLimit"),
        "swap": info.get("SwapLimit"),
        "pids": info.get("PidsLimit"),
        "cpu": info.get("CpuCfsQuota", info.get("CPUCfsQuota")),
    }
    status = info.get("DriverStatus") or ()
    return EngineInfo(
        name="podman" if "Podman Engine" in components else "docker",
        version=str(info.get("ServerVersion") or version.get("Version")),
        api_version=str(version.get("ApiVersion", "")),
        cgroup=str(info.get("CgroupVersion") or "1"),
        rootless="rootless" in options,
        seccomp="seccomp" in options,
        limits=frozenset(k for k, v in enforceable.items() if v),
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        default_runtime=str(info.get("DefaultRuntime") or ""),
        containerd_store=any("io.containerd.snapshotter" in str(item) for item in status),
        architecture=str(info.get("Architecture", "")),
        root=str(info.get("DockerRootDir") or ""),
    )
