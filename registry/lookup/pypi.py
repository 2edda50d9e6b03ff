"""A Python package: its newest wheel (or the one asked for), what it says of itself, and its hash."""

from __future__ import annotations

import email
import email.message
import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path

from harbourmaster.core.digests import hex_of, sha256
from registry.lookup.errors import LookupUnusable
from registry.lookup.found import Found, clean, slug, title_of, web_address
from registry.lookup.tools import ToolFailed, run

MAX_WHEEL_BYTES = 512 << 20
MAX_METADATA_BYTES = 4 << 20
_CODE_HOSTS = ("source", "repository", "code", "homepage", "home")


def look_up(package: str, version: str = "") -> Found:
    """Raises ``LookupUnavailable``, ``LookupMissing``, ``LookupUnusable``."""
    with tempfile.TemporaryDirectory(prefix="hm-wheel-") as place:
        wheel = _download(f"{package}=={version}" if version else package, Path(place))
        metadata, scripts = _read(wheel)
        digest = hex_of(sha256(wheel.read_bytes()))
    name, homepage = slug(package), _homepage(metadata)
    notes = (
        [] if scripts else ["it installs no program: write the command that starts it, such as [python3, -m, module]"]
    )
    notes += [] if homepage else ["it names no project page: write source.url"]
    return Found(
        name=name,
        title=title_of(name),
        description=clean(metadata["Summary"], 1000),
        licence=_licence(metadata),
        homepage=homepage,
        source={
            "kind": "pypi",
            "package": str(metadata["Name"] or package),
            "version": str(metadata["Version"]),
            "sha256": digest,
        },
        runtime="python",
        command=(_program(scripts, package),) if scripts else (),
        notes=tuple(notes),
    )


def _download(wanted: str, place: Path) -> Path:
    pip = ["-m", "pip"] if importlib.util.find_spec("pip") else ["-m", "uv", "tool", "run", "--quiet", "pip"]
    argv = [sys.executable, *pip, "download", "--no-deps", "--only-binary=:all:", "--quiet", "--no-input"]
    argv += ["--disable-pip-version-check", "--dest", str(place), "--", wanted]
    try:
        run(f"the Python package {wanted}", argv)
    except ToolFailed as e:
        raise LookupUnusable(f"{wanted}: {e}", remedy="only packages with a wheel can be built; see above") from e
    found = sorted(place.glob("*.whl"))
    if len(found) != 1 or found[0].stat().st_size > MAX_WHEEL_BYTES:
        raise LookupUnusable(f"{wanted} has no wheel that can be read", remedy="name another package or version")
    return found[0]


def _read(wheel: Path) -> tuple[email.message.Message, list[str]]:
    """Core metadata, and the names of the console scripts (PyPA specifications, "Entry points")."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = {n.rpartition("/")[2]: n for n in archive.namelist() if n.count("/") == 1 and ".dist-info/" in n}
            with archive.open(names["METADATA"]) as f:
                metadata = email.message_from_bytes(f.read(MAX_METADATA_BYTES))
            points = b""
            if "entry_points.txt" in names:
                with archive.open(names["entry_points.txt"]) as f:
                    points = f.read(MAX_METADATA_BYTES)
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError) as e:
        raise LookupUnusable(f"{wheel.name} is not a wheel: {e}", remedy="name another package or version") from e
    return metadata, _scripts(points.decode("utf-8", "replace"))


def _scripts(text: str) -> list[str]:
    found, inside = [], False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == "[console_scripts]"
        elif inside and "=" in line:
            found.append(line.partition("=")[0].strip())
    return found


def _program(scripts: list[str], package: str) -> str:
    alike = [s for s in scripts if s.lower() == package.lower()]
    servers = [s for s in scripts if "mcp" in s.lower() or "server" in s.lower()]
    return (alike or servers or scripts)[0]


def _licence(metadata: email.message.Message) -> str:
    """SPDX from ``License-Expression`` (core metadata 2.4), else a short ``License``, else a classifier's last part."""
    for said in (metadata["License-Expression"], metadata["License"]):
        if said and "\n" not in said and len(said) <= 60:
            return clean(said, 60)
    classifiers = [c for c in metadata.get_all("Classifier", []) if c.startswith("License ::")]
    return clean(classifiers[0].rpartition("::")[2].replace(" License", ""), 60) if classifiers else ""


def _homepage(metadata: email.message.Message) -> str:
    pairs = [line.partition(",") for line in metadata.get_all("Project-URL", [])]
    named = {label.strip().lower(): url.strip() for label, _, url in pairs}
    best = [url for word in _CODE_HOSTS for label, url in named.items() if word in label]
    return web_address(*best, metadata["Home-page"], *named.values())
