"""The server layer of a git source: its locked dependencies by the network, then its own code without one.

What the repository says to run at build time (a Python build backend) runs in a builder that reaches nothing; what it would run
at installation (npm scripts) never runs.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable
from typing import BinaryIO

import docker

from registry.build.container import Job, LogTail, run_job
from registry.build.errors import BuildFailed
from registry.build.install import installed_packages, keep
from registry.build.network import BuildNetwork
from registry.build.tarball import Rules, normalise, tar_of
from registry.locks import BUILD_LOCK, NODE_LOCK, PYTHON_LOCK, Pinned, parse_package_lock

_CA = "/tmp/in/ca.pem"  # noqa: S108 - inside the container

# The backend lands outside of /opt/server: it builds and is left behind.
_PYTHON_FETCH = """
mkdir /tmp/in && tar -xf - -C /tmp/in
. /tmp/in/env
pip() { python3 -m pip install --no-input --no-cache-dir --disable-pip-version-check --no-compile --no-deps \
  --progress-bar off --require-hashes --only-binary=:all: "$@" >&2; }
mkdir -p /opt/server/lib /opt/base/backend
if [ -s /tmp/in/requirements.lock ]; then
  pip --target /opt/server/lib --report /opt/base/report.json -r /tmp/in/requirements.lock
else
  echo '{"install": []}' > /opt/base/report.json
fi
if [ -s /tmp/in/build-requirements.lock ]; then pip --target /opt/base/backend -r /tmp/in/build-requirements.lock; fi
cp /tmp/in/source.tar /opt/base/source.tar
tar -cf - -C / opt/server -C /opt/base report.json backend source.tar
"""
_PYTHON_BUILD = """
mkdir /tmp/all /tmp/src && tar -xf - -C /tmp/all && tar -xf /tmp/all/source.tar -C /tmp/src
export PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=1767225600 PYTHONPATH=/tmp/all/backend
python3 -m pip install --no-input --no-cache-dir --disable-pip-version-check --no-index --no-deps --no-build-isolation \
  --no-compile --progress-bar off --target /tmp/own /tmp/src >&2
unset PYTHONPATH
mkdir -p /opt/server/lib
cp -R /tmp/all/opt/server/lib/. /opt/server/lib/
cp -R /tmp/own/. /opt/server/lib/
if [ -d /opt/server/lib/bin ]; then mv /opt/server/lib/bin /opt/server/bin; fi
find /opt/server -name '__pycache__' -prune -exec rm -rf {} +
python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /opt/server/lib >&2 || true
tar -cf - -C / opt/server -C /tmp/all report.json
"""
# Its files as they are in the repository, where npm would put the package; programs are linked as npm does.
_NODE = """
mkdir /tmp/in && tar -xf - -C /tmp/in
. /tmp/in/env
cd /opt/server
cp /tmp/in/package.json /tmp/in/package-lock.json .
npm ci --ignore-scripts --omit=dev --no-audit --no-fund --no-update-notifier --cache /tmp/npm >&2
mkdir -p "node_modules/$HM_PACKAGE" node_modules/.bin
tar -xf /tmp/in/source.tar -C "node_modules/$HM_PACKAGE"
node -e '
const fs = require("fs"), name = process.env.HM_PACKAGE, own = "node_modules/" + name;
const said = JSON.parse(fs.readFileSync(own + "/package.json")).bin || {};
const bins = typeof said === "string" ? {[name.split("/").pop()]: said} : said;
for (const [program, file] of Object.entries(bins)) {
  const path = require("path").posix.normalize(own + "/" + file);
  if (!path.startsWith(own + "/") || !/^[A-Za-z0-9._-]+$/.test(program)) throw new Error("a program outside of the package");
  if (!fs.existsSync(path)) { console.error(file + " is not in the repository: it needs a compile step"); process.exit(3); }
  fs.chmodSync(path, 0o755);
  fs.rmSync("node_modules/.bin/" + program, {force: true});
  fs.symlinkSync("../" + path.slice("node_modules/".length), "node_modules/.bin/" + program);
}' >&2
cd / && tar -cf - opt/server/node_modules
"""


def git_layer(
    client: docker.DockerClient,
    builder_image: str,
    runtime: str,
    package: str,
    locks: dict[str, bytes],
    source: Callable[[], bytes],
    network: BuildNetwork,
    raw: BinaryIO,
    sink: BinaryIO,
    log: LogTail,
) -> list[Pinned] | None:
    """As ``install.server_layer``; ``source``: the tree's tar, fetched when it is needed.  No dependencies: no network at all."""
    wants = bool(locks.get(PYTHON_LOCK) or locks.get(BUILD_LOCK))
    if runtime == "node":
        wants = bool(parse_package_lock(locks[NODE_LOCK]))
    variables = network.shell(_CA) + f"export HM_PACKAGE={shlex.quote(package)}\n".encode()
    files = locks | {"env": variables, "ca.pem": network.ca_bundle, "source.tar": source()}
    if runtime == "node":
        run_job(client, Job("install Node packages", builder_image, _NODE, tar_of(files), network=wants), raw, log)
    else:
        fetched = io.BytesIO()
        fetch = Job("install Python packages", builder_image, _PYTHON_FETCH, tar_of(files), network=wants)
        run_job(client, fetch, fetched, log)
        build = Job("build the package", builder_image, _PYTHON_BUILD, fetched.getvalue(), network=False)
        run_job(client, build, raw, log)
    raw.seek(0)
    if normalise(raw, sink, Rules(keep=keep)) < 2:
        raise BuildFailed("the build left nothing behind", remedy="check that the package names its modules")
    return installed_packages(raw) if runtime == "python" else None
