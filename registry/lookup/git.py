"""A git repository: the commit to pin, and what the project at it says of itself."""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
from typing import Any

from registry.build.gitsource import newest_commit, tree
from registry.lookup.errors import LookupUnusable
from registry.lookup.found import Found, clean, slug, title_of, web_address

MAX_FILE_BYTES = 1 << 20
_WANTED = ("pyproject.toml", "package.json")


def look_up(repository: str, commit: str = "", directory: str = "") -> Found:
    """Raises ``LookupUnavailable``, ``LookupMissing``, ``LookupUnusable``, ``BuildFailed``."""
    address = web_address(repository)
    if not address:
        raise LookupUnusable(f"{repository!r} is not an https address", remedy="write https://host/owner/project")
    pinned = commit or newest_commit(address)
    files = project_files(tree(address, pinned, directory))
    source = {"kind": "git", "repository": address, "commit": pinned} | ({"directory": directory} if directory else {})
    place = f"{address}/tree/{pinned}/{directory}".rstrip("/")
    if "pyproject.toml" in files:
        return _python(address, source, place, files["pyproject.toml"])
    if "package.json" in files:
        return _node(address, source, place, files["package.json"])
    raise LookupUnusable(
        f"{place} has neither pyproject.toml nor package.json at its top",
        remedy="name the folder of the package: --directory; or publish an image and use --image",
    )


def project_files(archive: bytes) -> dict[str, bytes]:
    """``pyproject.toml`` and ``package.json`` at the top of a tree."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        for member in tar:
            if member.name in _WANTED and member.isreg() and member.size <= MAX_FILE_BYTES:
                data = tar.extractfile(member)
                found[member.name] = data.read() if data else b""
    return found


def _python(address: str, source: dict[str, Any], place: str, raw: bytes) -> Found:
    try:
        project = tomllib.loads(raw.decode()).get("project", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise LookupUnusable(f"{place}: pyproject.toml cannot be read: {e}", remedy="mend it") from e
    scripts = project.get("scripts", {}) if isinstance(project, dict) else {}
    package = str(project.get("name") or slug(address))
    licence = project.get("license")
    text = licence.get("text") if isinstance(licence, dict) else licence
    programs = sorted(scripts, key=lambda name: (name != package, "mcp" not in name, name))
    return _found(package, source, place, "python", programs, project.get("description"), text)


def _node(address: str, source: dict[str, Any], place: str, raw: bytes) -> Found:
    try:
        body = json.loads(raw)
    except ValueError as e:
        raise LookupUnusable(f"{place}: package.json cannot be read: {e}", remedy="mend it") from e
    package = str(body.get("name") or slug(address))
    said = body.get("bin")
    programs = [package.rpartition("/")[2]] if isinstance(said, str) else sorted(said or {})
    return _found(package, source, place, "node", programs, body.get("description"), body.get("license"))


def _found(
    package: str, source: dict[str, Any], place: str, runtime: str, programs: list[str], about: Any, licence: Any
) -> Found:
    name = slug(package)
    notes = [] if programs else ["it installs no program: write the command that starts it"]
    return Found(
        name=name,
        title=title_of(name),
        description=clean(about, 1000),
        licence=clean(licence, 60),
        homepage=place,
        source={**source, "package": package},
        runtime=runtime,
        command=tuple(programs[:1]),
        notes=tuple(notes),
    )
