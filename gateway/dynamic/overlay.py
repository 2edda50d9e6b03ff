"""What one client of a dynamic profile sees: the gateway's own tools, and the servers it added.  Pure.

The profile's servers can be called without being listed, so that a client with 300 servers carries a handful of schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.dynamic.consent import digest
from gateway.dynamic.tools import OURS, own_server
from gateway.index import Index, build, layered
from gateway.lock import LockedServer
from gateway.profiles.schema import Dynamic, ServerRules
from gateway.profiles.select import Selection, matches
from gateway.profiles.values import Limits, variant
from harbourmaster.core.errors import HarbourError

_NO_LIMITS: Final[Limits] = {}


@dataclass(frozen=True)
class Wishes:
    """``added``: server -> the digest that a person agreed to, in the order they came.  ``config``: server -> values,
    beside those of the profile.
    """

    added: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ground:
    """What wishes stand on: the profile as it is now, and every locked server."""

    profile: str
    selection: Selection
    dynamic: Dynamic
    lock: Mapping[str, LockedServer]
    limits: Limits
    code: bool = True


def bare_index(ground: Ground, info: dict[str, Any]) -> Index:
    """What a client sees that has added nothing: the gateway's own tools listed, the profile's servers callable."""
    own, found = _own(ground), ground.selection
    return build(
        {**own, **{n: s for n, s in found.servers.items() if n != OURS}},
        info,
        visible=found.visible,
        problems=found.problems,
        listed={OURS},
        before=build(own, info),  # nobody takes their names
    )


def index_for(ground: Ground, wishes: Wishes, info: dict[str, Any], base: Index, before: Index) -> Index:
    """What a client with ``wishes`` sees.  ``base``: the profile's bare index, which this one shares.

    ``before``: what the client saw until now; names that it was told stay, and servers that are as they were.
    """
    if not wishes.added and not wishes.config:
        return base
    servers, problems = _own(ground), {}
    for name in dict.fromkeys((*wishes.added, *wishes.config)):
        if name in ground.lock and name != OURS:
            server, problem = wished(ground, wishes, name)
            same = (each.servers.get(name) for each in (before, base))
            servers[name] = next((old for old in same if old == server), server)
            if problem is not None:
                problems[name] = problem
    top = build(
        servers,
        info,
        visible=ground.selection.visible,
        problems=problems,
        listed={OURS, *wishes.added},
        below=base,
        before=before,
    )
    return layered(top, base)


def _own(ground: Ground) -> dict[str, LockedServer]:
    return {OURS: own_server(code=ground.dynamic.code and ground.code)}


def wished(ground: Ground, wishes: Wishes, name: str) -> tuple[LockedServer, HarbourError | None]:
    """``name`` as this client runs it, and why it cannot be run.  The operator's values win."""
    locked = ground.lock[name]
    rules = ground.selection.rules.get(name, ServerRules())
    config = {**wishes.config.get(name, {}), **rules.config}
    try:
        return variant(locked, rules.model_copy(update={"config": config}), ground.profile, ground.limits), None
    except HarbourError as e:
        return locked, e


def still_wished(ground: Ground, wishes: Wishes) -> Wishes:
    """``wishes`` without the servers that nobody agreed to as they are now: another image, listing, host or value."""
    return replace(
        wishes, added={n: agreed for n, agreed in wishes.added.items() if _stands(ground, wishes, n, agreed)}
    )


def _stands(ground: Ground, wishes: Wishes, name: str, agreed: str) -> bool:
    if name in ground.selection.servers:  # the operator chose it
        return True
    if name not in ground.lock or not matches(name, ground.dynamic.servers):
        return False
    server, problem = wished(ground, wishes, name)
    return problem is None and digest(server) == agreed
