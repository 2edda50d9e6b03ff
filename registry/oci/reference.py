"""Names of images in registries (distribution-spec 1.1, "pulling manifests"): ``host[:port]/name[:tag][@digest]``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from harbourmaster.core.digests import is_digest
from harbourmaster.core.errors import UsageError

_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:(?P<port>[0-9]{1,5}))?")
_API_HOSTS = {"docker.io": "registry-1.docker.io"}  # docker.io serves no API; Docker's own clients know this too
DEFAULT_TAG = "latest"


@dataclass(frozen=True)
class Reference:
    host: str  # with its port, as written
    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises ``UsageError``.  The registry must be named: there is no default one."""
        rest, _, digest = text.partition("@")
        host, slash, path = rest.partition("/")
        name, colon, tag = path.partition(":")
        if not slash or not _HOST.fullmatch(host) or not ("." in host or ":" in host or host == "localhost"):
            raise _malformed(text, "it names no registry")
        if not _NAME.fullmatch(name) or len(host) + len(name) > 255:
            raise _malformed(text, "names are lower-case words, with slashes between them")
        if (colon and not _TAG.fullmatch(tag)) or ("@" in text and not is_digest(digest)):
            raise _malformed(text, "its tag or digest is malformed")
        return cls(host, name, tag or ("" if digest else DEFAULT_TAG), digest)

    @property
    def api_host(self) -> str:
        return _API_HOSTS.get(self.host, self.host)

    @property
    def version(self) -> str:
        """What manifests are asked for: the digest where there is one."""
        return self.digest or self.tag

    def at(self, version: str) -> str:
        """``oras`` form of this repository at a tag or digest."""
        return f"{self.api_host}/{self.name}{'@' if is_digest(version) else ':'}{version}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def is_loopback(host: str) -> bool:
    """Whether ``host`` (with or without a port) is this machine, without asking a resolver."""
    match = _HOST.fullmatch(host)
    name = match["name"].strip("[]") if match else ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _malformed(text: str, why: str) -> UsageError:
    return UsageError(
        f"not an image in a registry: {text!r} ({why})", remedy="write host[:port]/name[:tag][@sha256:...]"
    )
