"""``hm policy``: the admission commands, and ``hm policy can``: may this caller do this, and by which policy."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gateway.authorization.things import ACTIONS, Annotations, caller, request_of, thing
from gateway.errors import TokenUnknown, UnknownTool
from gateway.index import Route
from gateway.lock import read_lock
from gateway.principals import SCOPES, Principal
from gateway.tokens import TokenStore
from harbourmaster.core.errors import UsageError
from harbourmaster.core.settings import Settings
from policies.authorization import CallPolicies, Decision
from policies.cli import app

__all__ = ["app"]

_METHODS = {"call": "tools/call", "get": "prompts/get", "read": "resources/read", "list": "tools/call", "exec": "exec"}


@app.command("can")
def can(
    name: Annotated[str, typer.Argument(metavar="SERVER.TOOL", help="or SERVER.PROMPT, or SERVER.URI")],
    who: Annotated[str, typer.Option("--as", metavar="TOKEN", help="the name of a token")] = "default",
    scope: Annotated[list[str] | None, typer.Option(help="imagine a token of these scopes instead")] = None,
    action: Annotated[str, typer.Option(help="call, get, read, list or exec")] = "call",
    arguments: Annotated[str, typer.Option(help="as JSON, for policies that look at them")] = "{}",
    profile: Annotated[str, typer.Option(help="for policies that ask through which")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """May this caller do this?  Names the policies that decide, and what would change it; exit status 1: no."""
    settings = Settings.load()
    if action not in _METHODS:
        raise UsageError(f"--action {action}: no such action", remedy=f"use one of {', '.join(_METHODS)}")
    server, _, item = name.partition(".")
    locked = read_lock(settings.lock_file).get(server)
    if locked is None or not item:
        raise UnknownTool(f"no such server in the lock: {server}", remedy="write SERVER.TOOL; see: hm tools ls")
    kind = ACTIONS[_METHODS[action]][1]
    part = {"Tool": "tools", "Prompt": "prompts"}.get(kind, "")
    if part and action != "exec" and item not in {each["name"] for each in locked.listing.get(part) or []}:
        raise UnknownTool(f"{server} has no {part[:-1]} {item}", remedy=f"see what it has: hm server inspect {server}")
    wanted = thing(kind, locked, Route(server, item, item), Annotations())
    asking = caller(_principal(settings, who, scope))
    context = request_of(_METHODS[action], profile, "", _arguments(arguments))
    decision = CallPolicies.load(settings).decide(asking, action, wanted, context)
    print(json.dumps(_as_dict(decision), indent=2) if as_json else _in_words(decision))
    if not decision.allowed:
        raise typer.Exit(1)


def _principal(settings: Settings, name: str, scope: list[str] | None) -> Principal:
    if scope:
        if unknown := sorted(set(scope) - SCOPES.keys()):
            raise UsageError(f"--scope {unknown[0]}: no such scope", remedy=f"scopes are {', '.join(SCOPES)}")
        return Principal("imagined", "imagined", frozenset(scope))
    store = TokenStore(settings.tokens_file)
    if name == "default":
        store.default()
    found = next((each for each in store.list() if each.name == name), None)
    if found is None:
        raise TokenUnknown(f"no token named {name}", remedy="see: hm token ls")
    return found.principal


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as e:
        raise UsageError(f"--arguments is not JSON: {e}", remedy='write for example \'{"path": "/tmp"}\'') from e
    if not isinstance(found, dict):
        raise UsageError("--arguments must be an object", remedy='write for example \'{"path": "/tmp"}\'')
    return found


def _as_dict(decision: Decision) -> dict[str, Any]:
    reasons = [{"policy": r.policy, "reason": r.reason, "remedy": r.remedy} for r in decision.reasons]
    waits = [{"policy": r.policy, "reason": r.reason} for r in decision.approval]
    return {
        "allowed": decision.allowed,
        "reasons": reasons,
        "approval": waits,
        "approver": decision.approver,
        "depends_on_the_request": not decision.constant,
    }


def _in_words(decision: Decision) -> str:
    lines = ["✔ allowed" if decision.allowed else "✘ refused"]
    for reason in decision.reasons:
        lines.append(f"  {reason.policy}: {reason.reason}")
        if not decision.allowed:
            lines.append(f"    what to do: {reason.remedy}")
    for reason in decision.approval:
        lines.append(f"  {reason.policy}: {decision.approver} must say yes to each call: {reason.reason}")
    if not decision.constant:
        lines.append("  another request may be decided otherwise: a policy looks at it")
    return "\n".join(lines)
