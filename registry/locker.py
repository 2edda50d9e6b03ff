"""``hm registry lock``: write the lock files of an entry anew.  For authors; needs uv (the dev set) or npm."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harbourmaster.core.files import write_atomic
from registry.build.errors import BuildFailed
from registry.locks import NODE_LOCK, NODE_MANIFEST, PYTHON_LOCK, check
from registry.schema import Entry

OLDEST_PYTHON = "3.11"  # locks hold for this and every later Python: the hub's 3.13, Debian's 3.13 and 3.11
TIMEOUT_S = 600


def lock(entry: Entry, directory: Path) -> list[Path]:
    """Resolve, pin with hashes, check against the entry, write; returns the files.  Raises ``BuildFailed``."""
    source, _ = entry.recipe()
    files = _python(entry) if source.kind == "pypi" else _node(entry)
    check(entry, files)
    for name, data in files.items():
        write_atomic(directory / name, data)
    return [directory / name for name in files]


def _python(entry: Entry) -> dict[str, bytes]:
    if importlib.util.find_spec("uv") is None:
        raise BuildFailed("uv is not installed", remedy="install the dev set: pip install -e '.[dev]'")
    source, build = entry.recipe()
    wanted = [f"{source.package}=={source.version}", *build.constraints]
    argv = [sys.executable, "-m", "uv", "pip", "compile", "-", "--universal", "--python-version", OLDEST_PYTHON]
    argv += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    return {PYTHON_LOCK: _run(argv, "\n".join(wanted), None)}


def _node(entry: Entry) -> dict[str, bytes]:
    if shutil.which("npm") is None:
        raise BuildFailed("npm is not installed", remedy="install Node.js with npm to lock Node servers")
    source, _ = entry.recipe()
    manifest = {
        "name": f"harbourmaster-{entry.name}",
        "version": "1.0.0",
        "private": True,
        "license": source.licence,
        "dependencies": {source.package: source.version},
    }
    body = (json.dumps(manifest, indent=2) + "\n").encode()
    with tempfile.TemporaryDirectory(prefix="hm-lock-") as scratch:
        (Path(scratch) / NODE_MANIFEST).write_bytes(body)
        argv = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"]
        _run([*argv, "--omit-lockfile-registry-resolved"], "", Path(scratch))
        return {NODE_MANIFEST: body, NODE_LOCK: (Path(scratch) / NODE_LOCK).read_bytes()}


def _run(argv: list[str], stdin: str, cwd: Path | None) -> bytes:
    done = subprocess.run(
        argv, input=stdin.encode(), capture_output=True, cwd=cwd, timeout=TIMEOUT_S, env=os.environ, check=False
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.decode("utf-8", "replace").splitlines()[-20:])
        raise BuildFailed(f"{' '.join(argv[:4])} ... ended with {done.returncode}:\n{tail}", remedy="mend server.yaml")
    return done.stdout
