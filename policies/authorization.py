"""May this caller do this?  Cedar decides; the answer names the policies that decided and what would change them.  Pure.

Default deny: a request passes only where a ``permit`` matches and no ``forbid`` does.  A ``forbid`` with ``@approval``
is one that a person can lift for one call: where nothing else forbids, the call waits for their yes.

What cannot depend on the request is decided once: policies that ask about ``context`` are told apart when they are read,
and ``Decision.constant`` says that none of them could have had a say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import cedarpy

from harbourmaster.core.settings import Settings
from policies.admission import DEFAULT_DENY, Reason
from policies.errors import PolicyInvalid
from policies.policy_set import Policy, PolicySet, own_files
from policies.subsets import Subset, asks_context, asks_name, asks_server

ACTIONS: Final = ("call", "read", "get", "list", "exec")
OTHER_SERVER: Final = "calls.other-server"  # the shipped policy that has a say about callers of some servers alone
APPROVERS: Final = ("client", "operator")  # who may say yes: the caller's own user, or only `hm approve`
ASKED: Final[Mapping[str, Any]] = {  # a request about which nothing is known
    "method": "", "profile": "", "client": "", "hour": 0, "weekday": 1, "argument_names": [], "arguments": "",
}  # fmt: skip
# action -> the scopes of which one is enough, by the shipped policies
SCOPES_FOR: Final = {
    "call": ("call", "call:read-only"),  # the latter for tools annotated read-only
    "read": ("read",),
    "get": ("get",),
    "list": ("list",),
    "exec": ("exec",),
}


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    key: str  # tells apart callers of one name
    scopes: frozenset[str]
    servers: frozenset[str] | None = None
    profiles: frozenset[str] | None = None
    groups: frozenset[str] = frozenset()
    admin: bool = False
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """What is called, read, got or listed; ``kind``: Tool, Prompt or Resource.  ``annotations``: a tool's own words."""

    kind: str
    server: str
    name: str
    tier: str = ""
    annotations: tuple[tuple[str, bool], ...] = ()

    @property
    def uid(self) -> dict[str, str]:
        return {"type": self.kind, "id": f"{self.server}/{self.name}"}


@dataclass(frozen=True, slots=True)
class Decision:
    """``reasons``: those of the policies that decided.  ``approval``: policies that want a person's yes first, of the kind
    ``approver``.  ``constant``: every other request of this caller for this thing is decided alike."""

    allowed: bool
    reasons: tuple[Reason, ...]
    constant: bool
    action: str = ""
    approval: tuple[Reason, ...] = ()
    approver: str = ""

    @property
    def policies(self) -> list[str]:
        return [reason.policy for reason in self.reasons]

    @property
    def scopes(self) -> tuple[str, ...]:
        """Scopes of which one would have been enough, where nothing but that is missing."""
        missing = not self.allowed and self.policies == [DEFAULT_DENY]
        return SCOPES_FOR.get(self.action, ()) if missing else ()

    @property
    def summary(self) -> str:
        return "; ".join(f"{reason.reason} ({reason.policy})" for reason in self.reasons)


class CallPolicies:
    """The authorization policies in force.  Immutable; raises ``PolicyInvalid`` for files that are not valid."""

    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        self.set = PolicySet(files, schema_text())
        self.digest = self.set.digest
        bodies = [(policy, _body(self.set, policy)) for policy in self.set.policies]
        approving = [(policy, body) for policy, body in bodies if "approval" in body["annotations"]]
        for policy, body in approving:
            _check_approval(policy, body)
        self._rules = Subset((p, b) for p, b in bodies if "approval" not in b["annotations"])
        self._approvals = Subset(approving)
        conditional = [(p, b) for p, b in bodies if asks_context(b["conditions"])]
        self._heads = Subset((p, {**b, "effect": "permit", "conditions": []}) for p, b in conditional)
        asking = {policy.id for policy, _ in conditional}
        self.conditional = bool(asking)
        self.named = any(asks_name(body) for _, body in bodies)
        self._by_server = any(asks_server(body) for policy, body in bodies if policy.id != OTHER_SERVER)
        self._unconditional = Subset(
            (p, b) for p, b in bodies if p.id not in asking and "approval" not in b["annotations"]
        )

    @classmethod
    def load(cls, settings: Settings) -> CallPolicies:
        """Ours, then those in ``HM_HOME/policies/calls``."""
        return cls((*builtin_files(), *own_files(settings.home / "policies" / "calls")))

    @classmethod
    def builtin(cls) -> CallPolicies:
        return cls(builtin_files())

    def decide(
        self, caller: Caller, action: str, thing: Thing, request: Mapping[str, Any], *, entities: Any = None
    ) -> Decision:
        """``request``: the context, as ``policies/calls/calls.cedarschema`` has it."""
        known = entities if entities is not None else entities_of(caller, [thing])
        asked = _request(caller, action, thing, request)
        constant = not self._heads.matching(asked, known)
        allowed, deciding, errors = self._rules.evaluate(asked, known)
        if errors or not allowed:
            return Decision(False, _refusal(caller, action, thing, deciding, errors), constant, action)
        waiting, problems = self._approvals.matching_policies(asked, known)
        if problems:
            return Decision(False, _refusal(caller, action, thing, (), problems), constant, action)
        approver = "operator" if any(note == "operator" for _, note in waiting) else "client" if waiting else ""
        reasons = tuple(_reason(policy, thing) for policy in deciding)
        approval = tuple(_reason(policy, thing) for policy, _ in waiting)
        return Decision(True, reasons, constant, action, approval, approver)

    def could_allow(self, caller: Caller, action: str, things: Sequence[Thing]) -> list[bool]:
        """For each of ``things``: whether some request for it would pass.  What is never allowed need not be listed.

        Where no policy asks for names, or for servers either, things that differ in nothing else are asked about once.
        """
        if caller.servers is not None and action != "exec":  # as OTHER_SERVER says, and nothing can lift a forbid
            own = [thing for thing in things if thing.server in caller.servers]
            if len(own) < len(things):
                passing = iter(self.could_allow(caller, action, own))
                return [thing.server in caller.servers and next(passing) for thing in things]
        if not self.named:
            apart = self._by_server
            kinds = [(t.kind, t.server if apart else "", t.tier, t.annotations) for t in things]
            first = {kind: thing for kind, thing in zip(reversed(kinds), reversed(things), strict=True)}
            answers = dict(zip(first, self._each_could(caller, action, list(first.values())), strict=True))
            return [answers[kind] for kind in kinds]
        return self._each_could(caller, action, things)

    def _each_could(self, caller: Caller, action: str, things: Sequence[Thing]) -> list[bool]:
        if not things:
            return []
        known = entities_of(caller, things)
        asked = [_request(caller, action, thing, ASKED) for thing in things]
        conditional = self._heads.conditional_permits(asked, known)
        answers = self._unconditional.evaluate_all(asked, known)
        return [
            (allowed or (maybe and not forbidden))
            for (allowed, forbidden), maybe in zip(answers, conditional, strict=True)
        ]


def builtin_files() -> tuple[tuple[str, str], ...]:
    folder = resources.files("policies").joinpath("calls")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".cedar"))
    return tuple((f"policies/calls/{name}", folder.joinpath(name).read_text()) for name in names)


def schema_text() -> str:
    return resources.files("policies").joinpath("calls", "calls.cedarschema").read_text()


def entities_of(caller: Caller, things: Sequence[Thing]) -> Any:
    """The caller and ``things`` with what is known of them; raises nothing that a name can cause."""
    servers = {thing.server for thing in things}
    rows = [_caller(caller), *({"uid": {"type": "McpServer", "id": s}, "attrs": {}, "parents": []} for s in servers)]
    seen = {(thing.kind, thing.server, thing.name): thing for thing in things}
    rows += [_thing(thing) for thing in seen.values()]
    return cedarpy.Entities.from_json_str(json.dumps(rows))


def _caller(caller: Caller) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "name": caller.name,
        "scopes": sorted(caller.scopes),
        "admin": caller.admin,
        "issuer": caller.issuer,
    }
    if caller.servers is not None:
        attrs["servers"] = sorted(caller.servers)
    if caller.profiles is not None:
        attrs["profiles"] = sorted(caller.profiles)
    parents = [{"type": "Group", "id": group} for group in sorted(caller.groups)]
    return {"uid": {"type": "Caller", "id": caller.name}, "attrs": attrs, "parents": parents}


def _thing(thing: Thing) -> dict[str, Any]:
    attrs = {"server": thing.server, "name": thing.name, "tier": thing.tier, **dict(thing.annotations)}
    return {"uid": thing.uid, "attrs": attrs, "parents": [{"type": "McpServer", "id": thing.server}]}


def _request(caller: Caller, action: str, thing: Thing, context: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "principal": {"type": "Caller", "id": caller.name},
        "action": {"type": "Action", "id": action},
        "resource": thing.uid,
        "context": dict(context),
    }


def _refusal(
    caller: Caller, action: str, thing: Thing, deciding: Sequence[Policy], errors: Sequence[str]
) -> tuple[Reason, ...]:
    if errors:
        return tuple(Reason("policy-error", error, "correct the policy: hm policy check") for error in errors)
    if deciding:
        return tuple(_reason(policy, thing) for policy in deciding)
    has = " ".join(sorted(caller.scopes)) or "none"
    why = f"no policy permits it: the scopes are {has}, and this needs {' or '.join(SCOPES_FOR[action])}"
    return (Reason(DEFAULT_DENY, why, "use a token with that scope: hm token create NAME --scope ..."),)


def _reason(policy: Policy, thing: Thing) -> Reason:
    return Reason(policy.id, policy.reason, policy.remedy.replace("SERVER", thing.server).replace("TOOL", thing.name))


def _body(policies: PolicySet, policy: Policy) -> dict[str, Any]:
    """The parsed policy of this id."""
    text = dict(policies.files)[policy.source]
    for body in json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values():
        if body.get("annotations", {}).get("id") == policy.id:
            return body  # type: ignore[no-any-return]
    raise LookupError(policy.id)


def _check_approval(policy: Policy, body: dict[str, Any]) -> None:
    who = body["annotations"]["approval"]
    if body["effect"] != "forbid" or who not in APPROVERS:
        raise PolicyInvalid(
            f"{policy.source} is refused: {policy.id} has @approval, which a forbid may have, saying who can lift it",
            remedy=f'write @approval("client") or @approval("operator") on a forbid, in {policy.source}',
            file=policy.source,
        )
