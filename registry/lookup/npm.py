"""A package of npm: what the index says of one version, and its integrity."""

from __future__ import annotations

import json
import shutil
from typing import Any

from registry.lookup.errors import LookupUnusable
from registry.lookup.found import Found, clean, slug, title_of, web_address
from registry.lookup.tools import ToolFailed, run

_FIELDS = ("name", "version", "description", "license", "homepage", "repository", "dist", "bin", "deprecated")


def look_up(package: str, version: str = "") -> Found:
    """Raises ``LookupUnavailable``, ``LookupMissing``, ``LookupUnusable``."""
    if shutil.which("npm") is None:
        raise LookupUnusable("npm is not installed", remedy="install Node.js with npm to look up its packages")
    wanted = f"{package}@{version or 'latest'}"
    argv = ["npm", "view", "--json", "--fetch-retries=1", "--fetch-retry-mintimeout=500", "--", wanted, *_FIELDS]
    try:
        body = json.loads(run(f"the npm package {wanted}", argv) or b"{}")
    except (ToolFailed, ValueError) as e:
        raise LookupUnusable(f"{wanted}: {e}", remedy="check the name and the version") from e
    body = body[-1] if isinstance(body, list) and body else body
    return _found(package, body if isinstance(body, dict) else {})


def _found(package: str, body: dict[str, Any]) -> Found:
    raw = body.get("dist")
    dist: dict[str, Any] = raw if isinstance(raw, dict) else {}
    integrity, version = str(dist.get("integrity", "")), str(body.get("version", ""))
    if not integrity.startswith("sha512-") or not version:
        raise LookupUnusable(f"{package} {version} has no sha512 integrity", remedy="name another version")
    repository = body.get("repository")
    name = slug(package)
    programs = _programs(body.get("bin"), package)
    notes = [] if programs else ["it installs no program: write the command that starts it"]
    if body.get("deprecated"):
        notes.append(f"its publisher says: {clean(body['deprecated'], 200)}")
    return Found(
        name=name,
        title=title_of(name),
        description=clean(body.get("description"), 1000),
        licence=clean(body.get("license"), 60),
        homepage=web_address(
            repository.get("url") if isinstance(repository, dict) else repository, body.get("homepage")
        ),
        source={"kind": "npm", "package": str(body.get("name", package)), "version": version, "integrity": integrity},
        runtime="node",
        command=tuple(programs[:1]),
        notes=tuple(notes),
    )


def _programs(said: Any, package: str) -> list[str]:
    if isinstance(said, str):
        return [package.rpartition("/")[2]]
    names = [name for name in said if isinstance(name, str)] if isinstance(said, dict) else []
    return sorted(names, key=lambda name: (name != package.rpartition("/")[2], "mcp" not in name, name))
