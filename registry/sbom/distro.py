"""Which distribution the image is (os-release(5))."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from registry.sbom.tree import FileSystem


@dataclass(frozen=True)
class Distro:
    id: str  # "debian", "alpine"
    version: str  # VERSION_ID; "" for rolling ones
    pretty: str
    location: str

    @property
    def qualifier(self) -> str:
        """The purl qualifier ``distro``: ``debian-12``."""
        return f"{self.id}-{self.version}" if self.version else self.id


def distro_of(fs: FileSystem) -> Distro | None:
    for path in ("etc/os-release", "usr/lib/os-release"):
        if data := fs.read(path):
            values = _parse(data.decode(errors="replace"))
            if name := values.get("ID"):
                version = values.get("VERSION_ID", "")
                return Distro(name, version, values.get("PRETTY_NAME", name), path)
    return None


def _parse(text: str) -> dict[str, str]:
    values = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                values[key] = "".join(shlex.split(value))
            except ValueError:
                values[key] = value
    return values
