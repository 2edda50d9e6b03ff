"""The server layer: a builder container installs the locked packages into /opt/server, and nothing else comes out of it."""

from __future__ import annotations

import json
import tarfile
from typing import Any, BinaryIO

import docker

from registry.build.container import Job, LogTail, run_job
from registry.build.errors import LayerRefused
from registry.build.network import BuildNetwork
from registry.build.tarball import Rules, normalise, tar_of, under
from registry.locks import Pinned

PYTHON_LIB = "/opt/server/lib"
_CA = "/tmp/in/ca.pem"  # noqa: S108 - inside the container

# The compiled files carry the hash of their source and are never checked against it: a read-only image starts fast and
# its bytes do not depend on when it was built (PEP 552).
_PYTHON = """
mkdir /tmp/in && tar -xf - -C /tmp/in
. /tmp/in/env
export PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=1767225600
python3 -m pip install --no-input --no-cache-dir --disable-pip-version-check --no-compile --no-deps --progress-bar off \
  --require-hashes --only-binary=:all: --target /opt/server/lib --report /opt/base/report.json -r /tmp/in/requirements.lock >&2
if [ -d /opt/server/lib/bin ]; then mv /opt/server/lib/bin /opt/server/bin; fi
find /opt/server -name '__pycache__' -prune -exec rm -rf {} +
python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/server/lib >&2 || true
tar -cf - -C / opt/server -C /opt/base report.json
"""
_NODE = """
mkdir /tmp/in && tar -xf - -C /tmp/in
. /tmp/in/env
cd /opt/server
cp /tmp/in/package.json /tmp/in/package-lock.json .
npm ci --ignore-scripts --omit=dev --no-audit --no-fund --no-update-notifier --cache /tmp/npm >&2
cd / && tar -cf - opt/server/node_modules
"""
_SCRIPTS = {"python": _PYTHON, "node": _NODE}
# Source maps and type declarations are read by compilers and debuggers, never by node.
_NOT_AT_RUN_TIME = (".map", ".d.ts", ".d.mts", ".d.cts")


def server_layer(
    client: docker.DockerClient,
    builder_image: str,
    runtime: str,
    locks: dict[str, bytes],
    network: BuildNetwork,
    raw: BinaryIO,
    sink: BinaryIO,
    log: LogTail,
) -> list[Pinned] | None:
    """Install ``locks`` with ``builder_image`` and write the layer to ``sink``; ``raw`` is scratch.

    Returns what pip installed, each with the hash of the very file; None for npm, whose lock says that already.
    """
    files = locks | {"env": network.shell(_CA), "ca.pem": network.ca_bundle}
    kind = {"python": "Python", "node": "Node"}[runtime]
    run_job(client, Job(f"install {kind} packages", builder_image, _SCRIPTS[runtime], tar_of(files)), raw, log)
    raw.seek(0)
    normalise(raw, sink, Rules(keep=keep))
    return installed_packages(raw) if runtime == "python" else None


_inside = under(["opt/server"])


def installed_packages(raw: BinaryIO) -> list[Pinned]:
    """pip's installation report (pip manual, "Installation Report", version 1)."""
    raw.seek(0)
    try:
        with tarfile.open(fileobj=raw, mode="r:") as tar:
            member = tar.extractfile("report.json")
            report: Any = json.load(member) if member else {}
        return sorted((_from_report(item) for item in report["install"]), key=lambda p: p.name)
    except (tarfile.TarError, KeyError, ValueError, TypeError) as e:
        raise LayerRefused(f"pip's report cannot be read: {e!r}", remedy="build it again") from e


def _from_report(item: Any) -> Pinned:
    metadata, hashes = item["metadata"], item["download_info"]["archive_info"]["hashes"]
    return Pinned("pypi", str(metadata["name"]), str(metadata["version"]), (f"sha256:{hashes['sha256']}",))


def keep(name: str) -> bool:
    return (
        _inside(name) and not name.endswith(_NOT_AT_RUN_TIME) and not name.endswith("/node_modules/.package-lock.json")
    )
