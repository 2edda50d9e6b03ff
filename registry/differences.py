"""What changes between two versions of a server, in words for a reviewer: tools, packages, permissions.  Pure."""

from __future__ import annotations

from typing import Any

from registry.entry import Entry
from registry.templates import splices
from registry.toolset import containers

MAX_LINES = 60  # of one part; a reviewer reads no more, and the rest is counted


def tools(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """``+ name``, ``- name``, ``~ name: its description, its arguments``."""
    old, new = _by_name((before or {}).get("tools")), _by_name(after.get("tools"))
    lines = [f"+ {name}" for name in sorted(new.keys() - old.keys())]
    lines += [f"- {name}" for name in sorted(old.keys() - new.keys())]
    for name in sorted(old.keys() & new.keys()):
        if parts := [word for key, word in _PARTS.items() if old[name].get(key) != new[name].get(key)]:
            lines.append(f"~ {name}: {', '.join(parts)}")
    return _bounded(lines)


_PARTS = {
    "description": "its description",
    "inputSchema": "its arguments",
    "outputSchema": "what it returns",
    "annotations": "what it says of its effects",
    "title": "its title",
}


def packages(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """``+ purl``, ``- purl``, ``~ name old -> new``, from two CycloneDX documents."""
    old, new = _versions(before or {}), _versions(after)
    lines = [f"+ {name} {', '.join(sorted(new[name]))}" for name in sorted(new.keys() - old.keys())]
    lines += [f"- {name} {', '.join(sorted(old[name]))}" for name in sorted(old.keys() - new.keys())]
    for name in sorted(old.keys() & new.keys()):
        if old[name] != new[name]:
            lines.append(f"~ {name} {', '.join(sorted(old[name]))} -> {', '.join(sorted(new[name]))}")
    return _bounded(lines)


def permissions(before: Entry | None, after: Entry) -> list[str]:
    """What it may touch now and could not before, and the reverse."""
    old, new = touches(before) if before else set(), touches(after)
    return [f"+ {line}" for line in sorted(new - old)] + [f"- {line}" for line in sorted(old - new)]


def touches(entry: Entry) -> set[str]:
    """Everything that widens what the server reaches, one line each."""
    run = entry.run
    lines = {f"network: {host}" for host in run.network.hosts}
    lines |= {f"private address: {host}" for host in run.network.private}
    lines |= {f"remote: {entry.remote.url}"} if entry.remote else set()
    lines |= {f"secret: {secret.name}" for secret in entry.config.secrets}
    lines |= {f"sign-in with: {provider.provider}" for provider in entry.oauth}
    lines |= {
        f"sandbox: {limit} {item.value}, because {item.reason}" for limit, item in run.sandbox if item is not None
    }
    lines |= {f"volume: {volume}" for volume in run.volumes}
    lines |= {f"user: {run.user}"} if run.user else set()
    for name, container in containers(entry).items():
        lines.add(f"tool: {name} runs {container.image}" + (f" as {container.user}" if container.user else ""))
        if any(splices(text) for text in container.command):
            lines.add(f"tool: whoever calls {name} chooses all of its program's options")
    packages = entry.build.packages if entry.build else []
    return lines | {f"Debian package: {package}" for package in packages}


def _by_name(listed: Any) -> dict[str, dict[str, Any]]:
    return {str(t.get("name")): t for t in listed if isinstance(t, dict)} if isinstance(listed, list) else {}


def _versions(sbom: dict[str, Any]) -> dict[str, set[str]]:
    """``npm/@scope/name`` -> its versions; an image may hold several."""
    found: dict[str, set[str]] = {}
    for component in sbom.get("components", []):
        purl = str(component.get("purl", "")).removeprefix("pkg:").partition("?")[0]
        name, _, version = purl.rpartition("@")
        if name:
            found.setdefault(name, set()).add(version)
    return found


def _bounded(lines: list[str]) -> list[str]:
    more = len(lines) - MAX_LINES
    return lines if more <= 0 else [*lines[:MAX_LINES], f"... and {more} more"]
