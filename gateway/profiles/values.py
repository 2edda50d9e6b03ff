"""A server as one profile runs it: its parameters filled in, its secrets and limits as the profile says.  Pure.

A locked server with parameters carries its templates (``run.config``: command, env, JSON Schemas), so that what a value
can change was reviewed with the lock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.lock import LockedServer
from gateway.profiles.errors import ConfigInvalid, ConfigMissing, OverrideRefused
from gateway.profiles.schema import ServerRules

_TEMPLATE: Final = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
Limits = Mapping[str, int | float | bool]


def variant(server: LockedServer, rules: ServerRules, profile: str, defaults: Limits) -> LockedServer:
    """``server`` as ``profile`` runs it; the same object where the profile changes nothing.

    ``defaults``: the sandbox profile's limits.  Raises ``ConfigMissing``, ``ConfigInvalid``, ``OverrideRefused``.
    """
    run = dict(server.run)
    run |= _configured(server, rules.config, profile)
    if rules.secrets:
        run["secrets"] = _secrets(server, rules.secrets)
    if rules.limits:
        run["limits"] = {**run.get("limits", {}), **rules.limits}
        run["relaxed"] = relaxed(server, rules.limits, defaults)
    return server if run == server.run else replace(server, run=run)


def relaxed(server: LockedServer, limits: Limits, defaults: Limits) -> list[str]:
    """The limits that give more than the entry does; one whose measure is unknown counts."""
    stated: Limits = server.run.get("limits", {})

    def more(name: str, value: int | float | bool) -> bool:
        usual = stated.get(name, defaults.get(name))
        return usual is None or value > usual

    return sorted(name for name, value in limits.items() if more(name, value))


def schemas(server: LockedServer) -> dict[str, dict[str, Any]]:
    """The server's parameters, by name, as JSON Schemas."""
    found = (server.run.get("config") or {}).get("parameters") or {}
    return {str(name): dict(schema) for name, schema in found.items()}


def check(server: LockedServer, config: Mapping[str, Any]) -> None:
    """Raises ``ConfigInvalid`` for a value that does not fit, or a parameter that there is not."""
    known = schemas(server)
    for name, value in config.items():
        if name not in known:
            has = f"it has: {', '.join(sorted(known))}" if known else f"{server.name} takes no configuration"
            raise ConfigInvalid(f"{server.name} has no parameter {name}", remedy=has, server=server.name)
        error = _mismatch(known[name], value)
        if error:
            remedy = str(known[name].get("description") or "give another value")
            raise ConfigInvalid(f"{server.name}: parameter {name}: {error}", remedy=remedy, server=server.name)
        if isinstance(value, str) and any(ord(c) < 32 for c in value):
            raise ConfigInvalid(f"{server.name}: parameter {name} holds control characters", remedy="remove them")


def _mismatch(schema: Mapping[str, Any], value: Any) -> str:
    import jsonschema  # a tenth of a second, which a gateway without configured servers need not spend

    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(value))
    return "" if error is None else str(error.message)


def unset(server: LockedServer, config: Mapping[str, Any]) -> list[str]:
    """Parameters that have neither a value nor a default."""
    return [n for n, s in schemas(server).items() if n not in config and s.get("default") is None]


def _configured(server: LockedServer, config: Mapping[str, Any], profile: str) -> dict[str, Any]:
    known = schemas(server)
    check(server, config)
    missing = unset(server, config)
    if missing:
        words = " ".join(f"{name}=..." for name in missing)
        raise ConfigMissing(
            f"{server.name} needs a value for {', '.join(missing)} in the profile {profile}",
            remedy=f"run: hm profile config {profile} {server.name} {words}",
            server=server.name,
        )
    if not config:
        return {}
    values = {name: schema.get("default") for name, schema in known.items()} | dict(config)
    templates = server.run["config"]
    return {
        "command": [_argument(server, text, values) for text in templates.get("command", ())],
        "env": {name: _fill(server, text, values) for name, text in templates.get("env", {}).items()},
    }


def _argument(server: LockedServer, text: str, values: Mapping[str, Any]) -> str:
    filled = _fill(server, text, values)
    if filled.startswith("-") and not text.startswith("-"):
        raise ConfigInvalid(
            f"{server.name}: {filled:.80} would be taken for an option", remedy="give a value without a leading dash"
        )
    return filled


def _fill(server: LockedServer, text: str, values: Mapping[str, Any]) -> str:
    """``{{parameter}}``, or Docker's ``{{server.parameter}}``, replaced."""

    def value(match: re.Match[str]) -> str:
        name = match[1].removeprefix(f"{server.name}.")
        if name not in values:
            raise ConfigInvalid(
                f"{server.name}: its lock uses {{{{{match[1]}}}}}, which no parameter is called",
                remedy=f"write the lock anew: hm lock update {server.name}",
            )
        given = values[name]
        return str(given).lower() if isinstance(given, bool) else str(given)

    return _TEMPLATE.sub(value, text)


def _secrets(server: LockedServer, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    declared = [dict(s) for s in server.run.get("secrets", ())]
    unknown = sorted(set(wanted) - {s["name"] for s in declared})
    if unknown:
        has = ", ".join(s["name"] for s in declared) or "none"
        raise OverrideRefused(
            f"{server.name} declares no secret {', '.join(unknown)}", remedy=f"it declares: {has}", server=server.name
        )
    return [{**s, "from": wanted[s["name"]]} if s["name"] in wanted else s for s in declared]
