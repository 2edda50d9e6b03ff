"""Decisions for the gateway: made once per caller and thing where they can be, at every call where a policy looks at it.

A client holds its ``Rights``; they are made anew when the caller, the policies or what is served changed, so a warm call
pays for three comparisons and one dictionary look-up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.authorization.errors import CallRefused
from gateway.authorization.offered import offered
from gateway.authorization.quotas import Quota, Quotas
from gateway.authorization.things import OURS, SILENT, Annotations, asked, caller, request, thing
from gateway.downstream import Downstream
from gateway.index import Index, Route
from gateway.principals import Principal
from harbourmaster.core.settings import Settings
from policies.authorization import ASKED, Caller, CallPolicies, Decision, Thing

_REMEMBERED: Final = 64  # sets of rights, the newest
_WANTED: Final = 4096  # decisions in one set; resources can be named without end
_LONG: Final = 512  # characters of a name that is not remembered: callers choose those of resources


Held = Mapping[str, frozenset[tuple[str, str]]]  # server -> (kind, its own name) of what is not as it was locked
NONE_HELD: Final[Held] = {}


class Rights:
    """What one principal may do with what one profile serves, under one set of policies."""

    __slots__ = ("caller", "decisions", "held", "index", "offered", "policies", "principal", "quotas")

    def __init__(self, principal: Principal, index: Index, policies: CallPolicies) -> None:
        self.principal = principal
        self.index = index
        self.policies = policies
        self.caller: Caller = caller(principal)
        self.decisions: dict[tuple[str, str, str], Decision] = {}
        self.quotas: dict[str, tuple[Quota, ...]] = {}
        self.offered: Index | None = None
        self.held: Held = NONE_HELD  # what was held when that was made


class Authorizer:
    """``check`` is the hot path.  ``policies`` may be replaced while the gateway runs."""

    def __init__(self, policies: CallPolicies, quotas: Quotas | None = None) -> None:
        self.policies = policies
        self.quotas = quotas or Quotas(())
        self.held: Held = NONE_HELD
        """What is not offered although it is locked; replaced as a whole."""
        self._annotations = Annotations()
        self._rights: dict[tuple[Principal, int], Rights] = {}

    def check(self, client: Downstream, method: str, route: Route, params: Mapping[str, Any]) -> Decision:
        """The decision where it is yes, which may want a person's too.  Raises ``CallRefused``."""
        rights: Rights | None = client.rights
        if (
            rights is None
            or rights.principal is not client.principal
            or rights.policies is not self.policies
            or rights.index is not client.index
        ):
            rights = self.rights(client)
        decision = rights.decisions.get((method, route.server, route.name))
        if decision is None:
            decision = self._decide(rights, client, method, route, params)
        if not decision.allowed:
            raise refusal(rights.principal, route, decision)
        return decision

    def quota(self, client: Downstream, route: Route) -> tuple[Quota, ...]:
        """The limits that this caller's use of the route's server counts against; after ``check``."""
        rights: Rights = client.rights
        found = rights.quotas.get(route.server)
        if found is None:
            found = rights.quotas[route.server] = self.quotas.of(rights.principal.name, route.server)
        return found

    def rights(self, client: Downstream) -> Rights:
        """Made anew, or those of another client of the same principal."""
        key = (client.principal, id(client.index))
        rights = self._rights.get(key)
        if rights is None or rights.index is not client.index or rights.policies is not self.policies:
            rights = Rights(client.principal, client.index, self.policies)
            if len(self._rights) >= _REMEMBERED:
                del self._rights[next(iter(self._rights))]
            self._rights[key] = rights
        elif rights.principal is not client.principal:
            client.principal = rights.principal  # equal, so that the next look is by identity
        client.rights = rights
        return rights

    def offered(self, client: Downstream) -> Index:
        """What ``client`` is shown: the profile's index without what it may never use."""
        rights = self.rights(client)
        if rights.offered is None or rights.held is not self.held:
            rights.held = self.held
            rights.offered = offered(rights.index, lambda part, routes: self._listed(rights, part, routes))
        return rights.offered

    def _listed(self, rights: Rights, kind: str, routes: list[Route]) -> list[bool]:
        action = {"Tool": "call", "Prompt": "get", "Resource": "read"}[kind]
        things = self._things(rights, kind, routes)
        policies = rights.policies
        usable = policies.could_allow(rights.caller, action, things)
        own = [place for place, each in enumerate(things) if each.server == OURS]
        for place in own:
            usable[place] = policies.could_allow(rights.caller, "exec", [things[place]])[0]
        seen = policies.could_allow(rights.caller, "list", things)
        found = [may and (sees or place in own) for place, (may, sees) in enumerate(zip(usable, seen, strict=True))]
        if self.held:
            held = self.held
            found = [yes and (kind, r.name) not in held.get(r.server, ()) for yes, r in zip(found, routes, strict=True)]
        return found

    def _things(self, rights: Rights, kind: str, routes: list[Route]) -> list[Thing]:
        """Those that no policy in force can tell apart are one."""
        named, servers = rights.policies.named, rights.index.servers
        known: dict[tuple[Any, ...], Thing] = {}
        found = []
        for route in routes:
            server = servers.get(route.server)
            own = self._annotations.of(server, route.name) if server is not None and kind == "Tool" else SILENT
            key = (route.server, own, route.name if named else "")
            each = known.get(key)
            if each is None:
                each = known[key] = thing(kind, server, route, self._annotations)
            found.append(each)
        return found

    def _decide(
        self, rights: Rights, client: Downstream, method: str, route: Route, params: Mapping[str, Any]
    ) -> Decision:
        action, kind = asked(method, params.get("ref"))
        wanted = self._thing(rights.index, kind, route)
        context = request(client, method, params) if rights.policies.conditional else ASKED
        decision = rights.policies.decide(rights.caller, action, wanted, context)
        known = method != "completion/complete" and len(route.name) <= _LONG and len(rights.decisions) < _WANTED
        if decision.constant and known:
            rights.decisions[method, route.server, route.name] = decision
        return decision

    def _thing(self, index: Index, kind: str, route: Route) -> Thing:
        return thing(kind, index.servers.get(route.server), route, self._annotations)


def refusal(principal: Principal, route: Route, decision: Decision) -> CallRefused:
    return CallRefused(
        f"{principal.name} may not use {route.public} of {route.server}: {decision.summary}",
        remedy="; ".join(dict.fromkeys(reason.remedy for reason in decision.reasons)),
        policies=decision.policies,
        scopes=decision.scopes,
    )


class PolicyWatch:
    """Says when the policies on disk changed.  Blocking, and cheap where nothing did."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home / "policies" / "calls"
        self._stamp = _stamp(self._folder)

    def changed(self) -> CallPolicies | None:
        """The new ones.  Raises ``PolicyInvalid``, and again until the file is mended."""
        stamp = _stamp(self._folder)
        if stamp == self._stamp:
            return None
        policies = CallPolicies.load(self._settings)
        self._stamp = stamp
        return policies


def _stamp(folder: Path) -> tuple[object, ...]:
    found: list[object] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".cedar"):
                    stat = entry.stat()
                    found.append((entry.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except FileNotFoundError:
        return ()
    return tuple(sorted(found, key=str))
