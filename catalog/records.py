"""What a source's reader hands to the importer: plain values, already cleaned and bounded, no database in sight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]
Kind = Literal["server", "remote", "poci"]
Tier = Literal["built", "community"]
Status = Literal["active", "deprecated", "deleted"]
Network = Literal["none", "hosts", "undeclared", "remote"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong or odd in a document.  An ``error`` means: cannot run safely as written."""

    code: str
    severity: Severity
    path: str
    message: str
    remedy: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class ToolRecord:
    name: str
    description: str = ""
    arguments: tuple[dict[str, Any], ...] = ()
    annotations: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    reference: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the server asks to touch, in the order people read it."""

    network: Network = "undeclared"
    hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    user: str = ""
    command: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    oauth: tuple[str, ...] = ()
    long_lived: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "hosts": list(self.hosts),
            "secrets": list(self.secrets),
            "volumes": list(self.volumes),
            "user": self.user,
            "command": list(self.command),
            "parameters": list(self.parameters),
            "oauth": list(self.oauth),
            "long_lived": self.long_lived,
        }


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One version of one server as one source describes it; ``document`` is the source's own bytes."""

    name: str
    title: str
    description: str
    kind: Kind
    category: str
    tier: Tier
    version: str
    document: bytes
    media_type: str
    digest: str
    tags: tuple[str, ...] = ()
    publisher: str = ""
    licence: str = ""
    homepage: str = ""
    repository: str = ""
    icon: str = ""
    readme: str = ""
    status: Status = "active"
    status_message: str = ""
    published_at: str = ""
    updated_at: str = ""
    is_latest: bool = True
    upstream_meta: bytes = b""
    keywords: str = ""
    tools: tuple[ToolRecord, ...] = ()
    images: tuple[ImageRecord, ...] = ()
    permissions: Permissions = Permissions()
    findings: tuple[Finding, ...] = ()

    @property
    def runnable(self) -> bool:
        return all(f.severity != "error" for f in self.findings)

    @property
    def read_only(self) -> bool:
        """Every tool says of itself that it only reads; a server without recorded tools says nothing."""
        return bool(self.tools) and all(t.annotations.get("readOnlyHint") is True for t in self.tools)


@dataclass(frozen=True, slots=True)
class UnreadRecord:
    """A thing that a source offered and that could not be read, with the reason."""

    name: str
    code: str
    message: str
    remedy: str = ""
