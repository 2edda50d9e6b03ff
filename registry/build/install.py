"""The server layer: a builder container installs the locked packages into /opt/server, and nothing else comes out of it."""

from __future__ import annotations

from typing import BinaryIO

import docker

from registry.build.container import Job, LogTail, run_job
from registry.build.network import BuildNetwork
from registry.build.tarball import Rules, normalise, tar_of, under

PYTHON_LIB = "/opt/server/lib"
_CA = "/tmp/in/ca.pem"  # noqa: S108 - inside the container

# The compiled files carry the hash of their source and are never checked against it: a read-only image starts fast and
# its bytes do not depend on when it was built (PEP 552).
_PYTHON = """
mkdir /tmp/in && tar -xf - -C /tmp/in
. /tmp/in/env
export PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=1767225600
python3 -m pip install --no-input --no-cache-dir --disable-pip-version-check --no-compile --no-deps --progress-bar off \
  --require-hashes --only-binary=:all: --target /opt/server/lib -r /tmp/in/requirements.lock >&2
if [ -d /opt/server/lib/bin ]; then mv /opt/server/lib/bin /opt/server/bin; fi
find /opt/server -name '__pycache__' -prune -exec rm -rf {} +
python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/server/lib >&2 || true
cd / && tar -cf - opt/server
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
) -> None:
    """Install ``locks`` with ``builder_image`` and write the layer to ``sink``; ``raw`` is scratch."""
    files = locks | {"env": network.shell(_CA), "ca.pem": network.ca_bundle}
    kind = {"python": "Python", "node": "Node"}[runtime]
    run_job(client, Job(f"install {kind} packages", builder_image, _SCRIPTS[runtime], tar_of(files)), raw, log)
    raw.seek(0)
    normalise(raw, sink, Rules(keep=_keep))


_inside = under(["opt/server"])


def _keep(name: str) -> bool:
    return _inside(name) and not name.endswith(_NOT_AT_RUN_TIME) and not name.endswith("/node_modules/.package-lock.json")
