"""Volumes that a document asks for, and those that give a container the host."""

from __future__ import annotations

import re

# Paths whose contents are the host's own keys or control: no entry may ask for them as written.
FORBIDDEN = (
    "/var/run",
    "/run",
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/root",
    "/var/lib/docker",
)
_FORBIDDEN_NAMES = (".ssh", ".aws", ".gnupg", ".docker", ".azure", ".kube", ".config")
_NAMED = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_TEMPLATE = re.compile(r"\{\{.*?\}\}")


def is_named(volume: str) -> bool:
    """A volume of the engine (``name:/path``) rather than a directory of the host."""
    return _NAMED.fullmatch(volume.partition(":")[0]) is not None


def host_path(volume: str) -> str:
    """The host side of a bind mount; a template stands for what the person will choose."""
    template = _TEMPLATE.match(volume)
    return template.group() if template else volume.partition(":")[0]


def refusal(volume: str) -> str:
    """Why the host path of ``volume`` is never given to a container; empty for paths that a person may choose."""
    path = host_path(volume)
    if path.endswith("docker.sock"):
        return "hands over the container engine, and with it the host"
    if path.startswith("{{"):
        return ""
    if ".." in path.split("/"):
        return "climbs out of its folder"
    if path.rstrip("/") == "":
        return "hands over the whole file system of the host"
    if any(path == p or path.startswith(p + "/") for p in FORBIDDEN):
        return "hands over a system folder of the host"
    if any(part in _FORBIDDEN_NAMES for part in path.split("/")):
        return "hands over keys of the person who runs it"
    return ""
