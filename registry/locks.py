"""Lock files beside server.yaml: every package that goes into an image, by version and hash.

Python: ``requirements.lock`` (pip's hash-checking mode).  Node: ``package.json`` and ``package-lock.json`` (version 3).
Neither names a package index, so that the same lock works behind any mirror.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packageurl import PackageURL

from registry.build.errors import LockMissing
from registry.schema import Entry

PYTHON_LOCK = "requirements.lock"
BUILD_LOCK = "build-requirements.lock"  # of a git source: what its build backend needs
NODE_MANIFEST = "package.json"
NODE_LOCK = "package-lock.json"
MAX_LOCK_BYTES = 4 << 20

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)\s*(?:;([^\\]*))?\\?$")
_HASH = re.compile(r"^\s+--hash=sha256:([0-9a-f]{64})\s*\\?$")


@dataclass(frozen=True)
class Pinned:
    kind: str  # "pypi" or "npm"
    name: str
    version: str
    hashes: tuple[str, ...]  # "sha256:<hex>" (any of them) or "sha512-<base64>"
    marker: str = ""  # PEP 508: where it applies

    @property
    def purl(self) -> str:
        namespace, _, name = self.name.rpartition("/")
        return PackageURL(self.kind, namespace or None, name, self.version).to_string()

    @property
    def digest(self) -> tuple[str, str]:
        """Algorithm and hex of its hash, for SLSA's resolved dependencies."""
        first = self.hashes[0]
        if first.startswith("sha256:"):
            return "sha256", first[7:]
        return "sha512", base64.b64decode(first.removeprefix("sha512-")).hex()


def lock_files(entry: Entry) -> tuple[str, ...]:
    source, build = entry.recipe()
    if build.runtime == "node":
        return (NODE_MANIFEST, NODE_LOCK)
    return (PYTHON_LOCK, BUILD_LOCK) if source.kind == "git" else (PYTHON_LOCK,)


def read_locks(entry: Entry, directory: Path) -> dict[str, bytes]:
    """The bytes of the entry's lock files by name, checked; raises ``LockMissing``."""
    files = {name: _read(entry, directory / name) for name in lock_files(entry)}
    check(entry, files)
    return files


def pinned(entry: Entry, files: dict[str, bytes]) -> list[Pinned]:
    """Every package that the lock names, sorted."""
    if entry.recipe()[1].runtime == "python":
        return parse_requirements(files[PYTHON_LOCK].decode())
    return parse_package_lock(files[NODE_LOCK])


def check(entry: Entry, files: dict[str, bytes]) -> None:
    """Raise ``LockMissing`` unless the lock pins all with hashes, names no index and agrees with the entry."""
    try:
        packages = pinned(entry, files)
        parse_requirements(files.get(BUILD_LOCK, b"").decode())
    except ValueError as e:
        raise _refuse(entry, str(e)) from e
    if b"://" in b"".join(files[name] for name in files if name != NODE_LOCK) or b'"resolved"' in files.get(
        NODE_LOCK, b""
    ):
        raise _refuse(entry, "the lock names an address: it must work behind any mirror")
    source, _ = entry.recipe()
    if source.kind == "git":
        return  # its own code is pinned by the commit
    wanted = f"sha256:{source.sha256}" if source.sha256 else str(source.integrity)
    for package in packages:
        if normal(package.name) == normal(source.package):
            if package.version == source.version and wanted in package.hashes:
                return
            raise _refuse(entry, f"the lock has {package.name} {package.version}, which is not what server.yaml pins")
    raise _refuse(entry, f"the lock does not name {source.package}")


def parse_requirements(text: str) -> list[Pinned]:
    """``uv pip compile --generate-hashes`` output; raises ``ValueError`` for anything else."""
    found: list[Pinned] = []
    hashes: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if match := _HASH.match(line):
            if not found:
                raise ValueError(f"line {number}: a hash of nothing")
            hashes.append(f"sha256:{match[1]}")
            found[-1] = Pinned("pypi", found[-1].name, found[-1].version, tuple(hashes), found[-1].marker)
        elif match := _REQUIREMENT.match(line):
            hashes = []
            found.append(Pinned("pypi", match[1], match[2], (), (match[3] or "").strip()))
        else:
            raise ValueError(f"line {number} is neither name==version nor a hash: {line[:60]!r}")
    unhashed = [p.name for p in found if not p.hashes]
    if unhashed:
        raise ValueError(f"{unhashed[0]} has no hash")
    return sorted(found, key=lambda p: (p.name, p.version))


def parse_package_lock(raw: bytes) -> list[Pinned]:
    """``package-lock.json`` version 3; raises ``ValueError`` for a package without integrity, or from elsewhere."""
    try:
        packages: Any = json.loads(raw)["packages"]
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError("package-lock.json is not a version 3 lock") from e
    found = set()
    for path, body in packages.items():
        if not path or body.get("inBundle"):
            continue  # bundled packages are inside their parent's tarball, which has a hash
        if body.get("link") or not str(body.get("integrity", "")).startswith("sha512-"):
            raise ValueError(f"{path} has no sha512 integrity")
        name = str(body.get("name") or path.rpartition("node_modules/")[2])
        found.add(Pinned("npm", name, str(body["version"]), (str(body["integrity"]),)))
    return sorted(found, key=lambda p: (p.name, p.version))


def normal(name: str) -> str:
    """PEP 503 normalisation; npm names are lower case already and keep their scope."""
    return name if name.startswith("@") else re.sub(r"[-_.]+", "-", name).lower()


def _read(entry: Entry, path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise _refuse(entry, f"{path.name} cannot be read ({e.strerror})") from e
    if len(raw) > MAX_LOCK_BYTES:
        raise _refuse(entry, f"{path.name} is larger than {MAX_LOCK_BYTES} bytes")
    return raw


def _refuse(entry: Entry, why: str) -> LockMissing:
    return LockMissing(f"{entry.name}: {why}", remedy=f"run: hm registry lock {entry.name}", server=entry.name)
