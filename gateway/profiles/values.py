"""A server as one profile runs it: its parameters filled in, its secrets and limits as the profile says.  Pure.

A locked server with parameters carries its templates (``run.config``: command, env, JSON Schema), so that what a value
can change was reviewed with the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.lock import LockedServer
from gateway.profiles.errors import ConfigInvalid, ConfigMissing, OverrideRefused
from gateway.profiles.schema import ServerRules
from registry.templates import fill, fill_argument

Limits = Mapping[str, int | float | bool]
_TELLING: Final = 3  # characters; a shorter value is in every other word, and is held to what was locked


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
    """``name=value`` for each limit that gives more than the entry does; one whose measure is unknown counts."""
    stated: Limits = server.run.get("limits", {})

    def more(name: str, value: int | float | bool) -> bool:
        usual = stated.get(name, defaults.get(name))
        return usual is None or value > usual

    return sorted(f"{name}={value}" for name, value in limits.items() if more(name, value))


def schemas(server: LockedServer) -> dict[str, dict[str, Any]]:
    """The server's parameters, by name, as JSON Schemas."""
    return {str(name): dict(schema) for name, schema in _config(server).get("schema", {}).get("properties", {}).items()}


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
    """Parameters that must be given and are not."""
    return [name for name in _config(server).get("schema", {}).get("required", []) if name not in config]


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
    value = _lookup(server, values)
    return ({"values": values} if server.parts else {}) | {
        "command": [word for text in _config(server).get("command", ()) for word in _arguments(server, text, value)],
        "env": {name: fill(text, value) for name, text in _config(server).get("env", {}).items()},
        "filled": _repeated(known, config),
    }


def _repeated(known: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]) -> list[str]:
    """Values, and the defaults they take the place of, that a server may repeat in what it lists; the longest first."""
    pairs = [(given, known[name].get("default")) for name, given in config.items()]
    words = {str(each) for pair in pairs for each in pair if isinstance(each, str | int) and pair[0] != pair[1]}
    return sorted((word for word in words if len(word) >= _TELLING), key=lambda word: (-len(word), word))


def _arguments(server: LockedServer, text: str, value: Callable[[str], Any]) -> list[str]:
    words = fill_argument(text, value)
    for word in words:
        if word.startswith("-") and not text.startswith("-"):
            raise ConfigInvalid(
                f"{server.name}: {word:.80} would be taken for an option", remedy="give a value without a leading dash"
            )
    return words


def _lookup(server: LockedServer, values: Mapping[str, Any]) -> Callable[[str], Any]:
    """The value of ``parameter``, or of Docker's ``server.parameter``."""

    def value(name: str) -> Any:
        short = name.removeprefix(f"{server.name}.")
        if short not in values:
            raise ConfigInvalid(
                f"{server.name}: its lock uses {{{{{name}}}}}, which no parameter is called",
                remedy=f"write the lock anew: hm lock update {server.name}",
            )
        return values[short]

    return value


def _config(server: LockedServer) -> Mapping[str, Any]:
    found = server.run.get("config")
    return found if isinstance(found, dict) else {}


def _secrets(server: LockedServer, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    declared = [dict(s) for s in server.run.get("secrets", ())]
    unknown = sorted(set(wanted) - {s["name"] for s in declared})
    if unknown:
        has = ", ".join(s["name"] for s in declared) or "none"
        raise OverrideRefused(
            f"{server.name} declares no secret {', '.join(unknown)}", remedy=f"it declares: {has}", server=server.name
        )
    return [{**s, "from": wanted[s["name"]]} if s["name"] in wanted else s for s in declared]
