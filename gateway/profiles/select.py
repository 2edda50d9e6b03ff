"""Which servers a profile serves, and what of them.  Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.lock import LockedServer
from gateway.profiles.schema import EVERYTHING, Profile, ServerRules, ToolRules, is_glob
from gateway.profiles.sight import Sight, matches
from gateway.profiles.values import Limits, variant
from harbourmaster.core.errors import HarbourError

__all__ = ["BUILT_IN", "Selection", "chosen_rules", "matches", "select"]


@dataclass(frozen=True)
class Selection:
    """``visible``: only servers with rules about what they offer.  ``problems``: why a server that is listed cannot run.
    ``absent``: servers that the profile names and the lock does not."""

    servers: dict[str, LockedServer] = field(default_factory=dict)
    visible: dict[str, Sight] = field(default_factory=dict)
    problems: dict[str, HarbourError] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    rules: dict[str, ServerRules] = field(default_factory=dict)


def select(name: str, profile: Profile, lock: Mapping[str, LockedServer], defaults: Limits) -> Selection:
    """What ``profile`` serves of ``lock``, in name order; ``defaults``: the sandbox profile's limits."""
    chosen = chosen_rules(profile, lock)
    found = Selection(absent=tuple(n for n in sorted(profile.servers) if not is_glob(n) and n not in lock))
    for server, rules in chosen.items():
        found.rules[server] = rules
        try:
            found.servers[server] = variant(lock[server], rules, name, defaults)
        except HarbourError as e:
            found.servers[server] = lock[server]
            found.problems[server] = e
        if (rules.tools, rules.prompts, rules.resources) != _ALL:
            listed = lock[server].listing.get("resourceTemplates") or ()
            found.visible[server] = Sight(rules, tuple(each["uriTemplate"] for each in listed))
    return found


def chosen_rules(profile: Profile, lock: Mapping[str, LockedServer]) -> dict[str, ServerRules]:
    """The servers of ``lock`` that the profile has, and its rules for each.  Globs reach enabled servers alone."""
    return {
        name: rules or ServerRules()
        for name, server in sorted(lock.items())
        if not matches(name, profile.exclude) and (rules := _rules(profile, server)) is not _NONE
    }


def _rules(profile: Profile, server: LockedServer) -> ServerRules | None:
    if server.name in profile.servers:
        return profile.servers[server.name]
    if server.enabled:
        for glob, rules in profile.servers.items():
            if is_glob(glob) and fnmatch.fnmatchcase(server.name, glob):
                return rules
    return _NONE


_ALL: Final = (ServerRules().tools, ServerRules().prompts, ServerRules().resources)
_NONE: Final = ServerRules(tools=ToolRules(allow=[]))  # stands for "not in this profile", by identity
BUILT_IN: Final[Mapping[str, Profile]] = {"default": EVERYTHING}
