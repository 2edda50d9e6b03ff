"""``hm registry lock``: write the lock files of an entry anew.  For authors; needs uv (one of our dependencies) or npm.

Nothing of a package runs here: npm scripts are off, and of a git source only what its project file states is read.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from harbourmaster.core.files import write_atomic
from registry.build.errors import BuildFailed
from registry.build.gitsource import tree
from registry.entry import Entry
from registry.locks import BUILD_LOCK, NODE_LOCK, NODE_MANIFEST, PYTHON_LOCK, check
from registry.lookup import tools
from registry.lookup.errors import LookupUnusable
from registry.lookup.git import project_files

OLDEST_PYTHON = "3.11"  # locks hold for this and every later Python: the hub's 3.13, Debian's 3.13 and 3.11
DEFAULT_BACKEND = ("setuptools>=40.8.0",)  # PEP 518, where a project names none


def lock(entry: Entry, directory: Path) -> list[Path]:
    """Resolve, pin with hashes, check against the entry, write; returns the files.

    Raises ``BuildFailed``, and ``LookupUnavailable`` or ``LookupMissing`` where an index does not answer or has no such thing.
    """
    source, build = entry.recipe()
    if source.kind == "git":
        files = _git(entry)
    else:
        files = _python(entry) if build.runtime == "python" else _node(entry, {source.package: source.version})
    check(entry, files)
    for name, data in files.items():
        write_atomic(directory / name, data)
    return [directory / name for name in files]


def _python(entry: Entry) -> dict[str, bytes]:
    source, build = entry.recipe()
    return {PYTHON_LOCK: _compiled(entry, [f"{source.package}=={source.version}", *build.constraints])}


def _git(entry: Entry) -> dict[str, bytes]:
    source, build = entry.recipe()
    found = project_files(tree(str(source.repository), str(source.commit), source.directory or ""))
    name = "pyproject.toml" if build.runtime == "python" else "package.json"
    if name not in found:
        raise LookupUnusable(f"{entry.name}: its source has no {name}", remedy="name its folder: source.directory")
    try:
        body: Any = tomllib.loads(found[name].decode()) if build.runtime == "python" else json.loads(found[name])
    except ValueError as e:
        raise LookupUnusable(f"{entry.name}: its {name} cannot be read: {e}", remedy="mend it") from e
    if build.runtime == "node":
        return _node(entry, {str(k): str(v) for k, v in (body.get("dependencies") or {}).items()})
    project, backend = body.get("project") or {}, body.get("build-system") or {}
    if "dependencies" in project.get("dynamic", []) or "name" not in project:
        raise LookupUnusable(
            f"{entry.name}: its dependencies are made up while it is built, so they cannot be pinned",
            remedy="state project.dependencies in pyproject.toml, or name a published package",
        )
    wanted = [*map(str, project.get("dependencies", [])), *build.constraints]
    needed = [str(line) for line in backend.get("requires", DEFAULT_BACKEND)]
    return {PYTHON_LOCK: _compiled(entry, wanted), BUILD_LOCK: _compiled(entry, needed)}


def _compiled(entry: Entry, wanted: list[str]) -> bytes:
    if importlib.util.find_spec("uv") is None:
        raise BuildFailed("uv is not installed", remedy=f"install it: {sys.executable} -m pip install uv")
    if not wanted:
        return b""
    argv = [sys.executable, "-m", "uv", "pip", "compile", "-", "--universal", "--python-version", OLDEST_PYTHON]
    argv += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    return _run(f"what {entry.name} depends on", argv, "\n".join(wanted), None)


def _node(entry: Entry, dependencies: dict[str, str]) -> dict[str, bytes]:
    if shutil.which("npm") is None:
        raise BuildFailed("npm is not installed", remedy="install Node.js with npm to lock Node servers")
    manifest = {
        "name": f"harbourmaster-{entry.name}",
        "version": "1.0.0",
        "private": True,
        "license": entry.licence,
        "dependencies": dependencies,
    }
    body = (json.dumps(manifest, indent=2) + "\n").encode()
    with tempfile.TemporaryDirectory(prefix="hm-lock-") as scratch:
        (Path(scratch) / NODE_MANIFEST).write_bytes(body)
        argv = ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"]
        argv += ["--omit-lockfile-registry-resolved", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        _run(f"what {entry.name} depends on", argv, "", Path(scratch))
        return {NODE_MANIFEST: body, NODE_LOCK: (Path(scratch) / NODE_LOCK).read_bytes()}


def _run(what: str, argv: list[str], stdin: str, cwd: Path | None) -> bytes:
    try:
        return tools.run(what, argv, stdin=stdin, cwd=cwd)
    except tools.ToolFailed as e:
        raise BuildFailed(str(e), remedy="mend server.yaml") from e
