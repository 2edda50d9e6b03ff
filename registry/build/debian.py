"""Debian parts: a minimal root file system with mmdebstrap, and layers of further packages with apt."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import docker
from docker.errors import APIError, NotFound
from docker.types import LogConfig

from registry.build.container import BUILD_LABELS, LogTail, failed, remove_builder
from registry.build.errors import BaseUnavailable, BuildFailed, LayerRefused
from registry.build.network import BuildNetwork
from registry.build.tarball import SOURCE_DATE_EPOCH, Rules, normalise, tar_of
from registry.build.underway import BUILDS

SUITE = "trixie"  # what python:3.13-slim and node:22-slim are made of: the same Python, the same C library
# TLS for egress; Node's C++ library; `localhost` where the engine leaves /etc/hosts empty (sandbox.spec.LABEL_HOSTS)
CORE_PACKAGES = ("ca-certificates", "libstdc++6", "libnss-myhostname")
KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/etc/apt/trusted.gpg.d/debian-archive-keyring.gpg")
MMDEBSTRAP_REMEDY = "run: apt-get install -y mmdebstrap debian-archive-keyring uidmap (as root), then try again"

# dpkg(1), path-exclude: licences stay, what only people at a shell read goes.
_SLIM = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
# Never in a layer: caches, logs, lists, scratch, and where builds put what only builds may see.
_EMPTY_DIRECTORIES = (
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "var/cache",
    "var/log",
    "var/tmp",
    "var/lib/apt/lists",
)
_NEVER = frozenset(
    {
        "etc/resolv.conf",
        "etc/hostname",
        "etc/hosts",
        "etc/machine-id",
        "etc/.pwd.lock",
        "etc/passwd-",
        "etc/group-",
        "etc/shadow-",
        "etc/gshadow-",
        "var/lib/dpkg/status-old",
        "var/lib/dpkg/available",
        "var/lib/dpkg/diversions-old",
        "var/lib/dpkg/statoverride-old",
    }
)
_BUILD_DIR = "/run/harbourmaster"
# dpkg's maintainer scripts change owners and modes; apt's fetcher becomes _apt.
_APT_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"]
_APT_SCRIPT = """
. {dir}/env
export DEBIAN_FRONTEND=noninteractive APT_CONFIG={dir}/apt.conf
apt-get -qq update
apt-get -qq install -y --no-install-recommends -o Dpkg::Use-Pty=0 -- {packages}
{after}
"""


def keep_in_debian_layer(name: str) -> bool:
    """Whether a path may be in a layer that apt or mmdebstrap made; directories that must be empty stay, empty."""
    return name not in _NEVER and not any(name.startswith(path + "/") for path in _EMPTY_DIRECTORIES)


def bootstrap(sink: BinaryIO, log: LogTail) -> None:
    """Write the shared Debian layer to ``sink``; raises ``BaseUnavailable`` with the remedy where mmdebstrap cannot."""
    if shutil.which("mmdebstrap") is None:
        raise BaseUnavailable(
            "the hub of base images does not answer and mmdebstrap, which could make one, is not installed",
            remedy=MMDEBSTRAP_REMEDY,
        )
    with tempfile.TemporaryDirectory(prefix="hm-base-") as scratch:
        raw = Path(scratch) / "debian.tar"
        _mmdebstrap(raw, log)
        with raw.open("rb") as source:
            normalise(source, sink, Rules(keep=keep_in_debian_layer, owners=True))


def _mmdebstrap(target: Path, log: LogTail) -> None:
    keyring = next((k for k in KEYRINGS if Path(k).is_file()), "")
    argv = ["mmdebstrap", "--variant=apt", "--format=tar", f"--include={','.join(CORE_PACKAGES)}"]
    argv += [f"--keyring={keyring}"] if keyring else []
    argv += ['--aptopt=APT::Install-Recommends "false"', *(f"--dpkgopt={line}" for line in _SLIM)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH), "LC_ALL": "C.UTF-8"}
    BUILDS.require_wanted()
    # A process group of its own: told to stop, it sends SIGHUP to all of its group.
    process = subprocess.Popen(
        [*argv, SUITE, str(target)], stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert process.stderr is not None
    with BUILDS.held(lambda: _interrupt(process)), process.stderr as stream:
        for line in stream:
            log.feed(line)
        status = process.wait()
    if status != 0:
        BUILDS.require_wanted()
        raise BaseUnavailable(
            f"mmdebstrap could not make the Debian base (status {status}):\n{log.text()}",
            remedy="check the Debian mirror and the machine's proxy settings, and that debian-archive-keyring is installed",
        )


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C at a terminal would: parent and children at once.  The parent alone would wait for its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


def package_layer(
    client: docker.DockerClient,
    image_id: str,
    packages: tuple[str, ...],
    network: BuildNetwork,
    sink: BinaryIO,
    log: LogTail,
    *,
    after: str = "",
) -> None:
    """Write a layer with ``packages`` and what they need, on top of ``image_id``; ``after``: shell lines to run last."""
    script = _APT_SCRIPT.format(dir=_BUILD_DIR, packages=" ".join(packages), after=after)
    step = f"install {', '.join(packages)}"
    with _container(client, image_id, script) as container:
        client.api.put_archive(container, "/run", _inputs(network))
        _run(client, container, step, log)
        with _committed(client, container) as image, tempfile.TemporaryFile() as saved:
            for chunk in client.api.get_image(image):
                saved.write(chunk)
            saved.seek(0)
            with _top_layer(saved) as layer:
                normalise(layer, sink, Rules(keep=keep_in_debian_layer, owners=True))


def compiled(
    client: docker.DockerClient,
    image_id: str,
    packages: tuple[str, ...],
    sources: dict[str, bytes],
    command: str,
    network: BuildNetwork,
    log: LogTail,
) -> dict[str, bytes]:
    """Every file in the folder of ``sources`` after ``command`` ran there, with ``packages`` installed; all else is gone."""
    place = f"{_BUILD_DIR}/work"
    after = f"cd {place} && {command}"
    script = _APT_SCRIPT.format(dir=_BUILD_DIR, packages=" ".join(packages), after=after)
    with _container(client, image_id, script) as container:
        files = {f"work/{name}": data for name, data in sources.items()}
        client.api.put_archive(container, "/run", _inputs(network, files))
        _run(client, container, "compile", log)
        chunks, _ = client.api.get_archive(container, place)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            found = {Path(m.name).name: archive.extractfile(m) for m in archive if m.isreg()}
            return {name: stream.read() for name, stream in found.items() if stream is not None}


def _inputs(network: BuildNetwork, more: Mapping[str, bytes] | None = None) -> bytes:
    ca = f"{_BUILD_DIR}/ca.pem"
    files = {"env": network.shell(ca), "apt.conf": network.apt_conf(ca), "ca.pem": network.ca_bundle, **(more or {})}
    return tar_of({f"harbourmaster/{name}": data for name, data in files.items()})


@contextlib.contextmanager
def _container(client: docker.DockerClient, image_id: str, script: str) -> Iterator[str]:
    api: Any = client.api
    host = api.create_host_config(
        cap_drop=["ALL"],
        cap_add=_APT_CAPABILITIES,
        security_opt=["no-new-privileges:true"],
        network_mode="bridge",
        log_config=LogConfig(type="json-file"),
    )
    container = api.create_container(
        image_id, ["/bin/sh", "-euc", script], user="0:0", labels=BUILD_LABELS, host_config=host, entrypoint=[]
    )["Id"]
    try:
        with BUILDS.held(lambda: remove_builder(api, container)):
            yield container
    finally:
        remove_builder(api, container)


def _run(client: docker.DockerClient, container: str, step: str, log: LogTail) -> None:
    try:
        client.api.start(container)
        for chunk in client.api.logs(container, stream=True, follow=True):
            log.feed(chunk)
        status = client.api.wait(container)["StatusCode"]
    except APIError as e:
        raise BuildFailed(f"{step}: the engine broke off: {e}", remedy="run: hm doctor", log=log.text()) from e
    if status != 0:
        raise failed(step, status, log)


@contextlib.contextmanager
def _committed(client: docker.DockerClient, container: str) -> Iterator[str]:
    image = client.api.commit(container, changes=["LABEL harbourmaster.build=1"])["Id"]
    try:
        yield image
    finally:
        with contextlib.suppress(NotFound, APIError):
            client.api.remove_image(image, noprune=True)


@contextlib.contextmanager
def _top_layer(saved: BinaryIO) -> Iterator[BinaryIO]:
    """The last layer in an archive that ``docker save`` wrote (image specification 1.2: manifest.json)."""
    with tarfile.open(fileobj=saved, mode="r:") as archive:
        manifest = archive.extractfile("manifest.json")
        name: Any = json.load(manifest)[0]["Layers"][-1] if manifest else ""
        layer = archive.extractfile(_follow(archive, name))
        if layer is None:
            raise LayerRefused("the engine's archive lacks its top layer", remedy="run: hm doctor")
        yield layer  # type: ignore[misc]


def _follow(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    member = archive.getmember(name)  # older engines store a repeated layer as a link to its first copy
    if member.issym():
        return archive.getmember(os.path.normpath(f"{Path(name).parent}/{member.linkname}"))
    return member
