"""A profile for people: what it serves, from the lock and the files alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.cli_lookup import Tool
from gateway.lock import LockedServer
from gateway.names import public_names
from gateway.profiles.files import ProfileFiles
from gateway.profiles.schema import EVERYTHING, Profile, ServerRules
from gateway.profiles.select import Selection, select
from gateway.profiles.values import Limits
from gateway.profiles.view import DEFAULT
from harbourmaster.core.settings import Settings


def load(settings: Settings, name: str) -> Profile:
    """The profile ``name``; ``default`` is there without a file.  Raises ``ProfileUnknown``, ``ProfileInvalid``."""
    files = ProfileFiles(settings.profiles_dir)
    return EVERYTHING if name == DEFAULT and not files.exists(name) else files.load(name)


def sandbox_limits() -> Limits:
    from sandbox.profile import Profile as SandboxProfile

    return {name: limit.default for name, limit in SandboxProfile.load().limits.items()}


def selected(name: str, profile: Profile, lock: Mapping[str, LockedServer]) -> Selection:
    limits = sandbox_limits() if any(rules and rules.limits for rules in profile.servers.values()) else {}
    return select(name, profile, lock, limits)


def tools(found: Selection) -> list[Tool]:
    """The tools that clients of the profile see, in name order."""
    owned = {(s.name, t["name"]): t for s in found.servers.values() for t in s.listing.get("tools", [])}
    public = public_names(owned)
    return [
        Tool(server, name, public[server, name], body)
        for (server, name), body in sorted(owned.items(), key=lambda item: item[0])
        if server not in found.visible or found.visible[server].tool(name)
    ]


def summary(name: str, profile: Profile, found: Selection) -> dict[str, Any]:
    """As ``hm profile ls --json`` and ``show --json`` give it."""
    shown = tools(found)
    return {
        "name": name,
        "title": profile.title,
        "description": profile.description,
        "dynamic": profile.dynamics is not None,
        "path": "/mcp" if name == DEFAULT else f"/mcp/{name}",
        "servers": [_server(profile, found, s, shown) for s in found.servers.values()],
        "absent": list(found.absent),
        "tools": len(shown),
    }


def _rules(rules: ServerRules) -> dict[str, Any]:
    """What is said about prompts and resources; about tools, their number says enough."""
    return rules.model_dump(include={"prompts", "resources"}, exclude_defaults=True)


def _server(profile: Profile, found: Selection, server: LockedServer, shown: list[Tool]) -> dict[str, Any]:
    rules, problem = profile.rules(server.name), found.problems.get(server.name)
    return {
        "name": server.name,
        "tools": sum(t.server == server.name for t in shown),
        "of": len(server.listing.get("tools", [])),
        "config": dict(rules.config),
        "secrets": dict(rules.secrets),
        "limits": dict(rules.limits),
        "rules": _rules(found.rules[server.name]),
        "relaxations": list(server.relaxed),
        "problem": problem.as_dict() if problem is not None else None,
    }
