"""``hm server ls|enable|disable|inspect``: which servers of the lock are served."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from gateway.cli_complete import servers
from gateway.cli_errors import ServerUnknown
from gateway.cli_output import columns, visible
from gateway.cli_remote import add, login, logout
from gateway.grants import change_grants
from gateway.lock import LockedServer, read_lock, update_lock
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.program import as_typed
from harbourmaster.core.secrets import SecretId, SecretStore, declared_from, missing
from harbourmaster.core.settings import Settings
from sandbox.access import explained

log = logging.getLogger("gateway.cli")

app = typer.Typer(no_args_is_help=True)
app.command("add")(add)
app.command("login")(login)
app.command("logout")(logout)

Json = Annotated[bool, typer.Option("--json", help="machine-readable")]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="servers in the lock; see: hm server ls", autocompletion=servers),
]


@app.command("ls")
def ls(as_json: Json = False) -> None:
    """The servers in the lock."""
    settings = Settings.load()
    lock = read_lock(settings.lock_file)
    needs = {s.name: _missing(settings, s) for s in lock.values()}
    if as_json:
        rows_ = [_row(s) | {"missing_secrets": [m.name for m in needs[s.name]]} for s in lock.values()]
        print(json.dumps(rows_, indent=2))
        return
    rows = [
        (s.name, _state(s, needs[s.name]), s.tier, s.version, str(_count(s, "tools")), _place(s))
        for _, s in sorted(lock.items())
    ]
    header = ("SERVER", "STATE", "TIER", "VERSION", "TOOLS", "IMAGE")
    sys.stdout.write(columns(header, rows) if rows else as_typed("no servers yet: hm up builds the starter servers\n"))
    _say_missing(needs[s.name] for s in lock.values() if s.enabled)


@app.command("enable")
def enable(
    names: Names,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="PATH[:INSIDE][:rw]", help="give one server a folder of this machine"),
    ] = None,
    revoke: Annotated[
        list[str] | None, typer.Option("--revoke", metavar="PATH", help="take back what --allow gave")
    ] = None,
) -> None:
    """Serve these servers; running gateways notice, and their clients are told."""
    if allow or revoke:
        for line in change_grants(Settings.load(), _one(names), allow or [], revoke or []):
            print(line)
    _say_relaxed(names)
    _switch(names, on=True)


@app.command("disable")
def disable(names: Names) -> None:
    """Stop serving these servers, except where a profile names them; they stay built and locked."""
    _switch(names, on=False)


@app.command("inspect")
def inspect(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a server in the lock", autocompletion=servers)],
    as_json: Json = False,
) -> None:
    """What the lock says about one server: image, signer, papers, profile, what it offers."""
    server = _known(read_lock(Settings.load().lock_file), name)
    if as_json:
        print(json.dumps(dataclasses.asdict(server), indent=2, ensure_ascii=False))
        return
    sys.stdout.write(_page(server))


def _one(names: list[str]) -> str:
    if len(names) != 1:
        raise typer.BadParameter("a folder is given to one server at a time")
    return names[0]


def _say_relaxed(names: list[str]) -> None:
    """What each has beyond the default profile, before it is served."""
    lock = read_lock(Settings.load().lock_file)
    for server in (_known(lock, name) for name in dict.fromkeys(names)):
        for line in explained(server.run.get("asked") or {}, server.granted):
            print(visible(f"{server.name} has more than usual: {line}"))


def _switch(names: list[str], *, on: bool) -> None:
    changed: list[str] = []

    def change(lock: dict[str, LockedServer]) -> None:
        for name in names:
            _known(lock, name)
        for name in names:
            if lock[name].enabled is not on:
                lock[name] = dataclasses.replace(lock[name], enabled=on)
                changed.append(name)

    settings = Settings.load()
    lock = update_lock(settings.lock_file, change)
    word = "enabled" if on else "disabled"
    for name in dict.fromkeys(names):
        print(f"{name} is {word}{'' if name in changed else ' already'}")
    if not on:
        _say_where_served(settings, names)
    if on:
        _say_missing(_missing(settings, lock[name]) for name in dict.fromkeys(names))


def _say_where_served(settings: Settings, names: list[str]) -> None:
    """Disabling takes a server out of what globs reach; a profile that names it says so itself."""
    from gateway.profiles.files import ProfileFiles
    from gateway.profiles.schema import Profile

    for profile, found in ProfileFiles(settings.profiles_dir).load_all().items():
        for name in names:
            if isinstance(found, Profile) and name in found.servers:
                sys.stderr.write(
                    as_typed(f"the profile {profile} still serves {name}: hm profile remove {profile} {name}\n")
                )


def _missing(settings: Settings, server: LockedServer) -> list[SecretId]:
    """Required secrets that nobody set.  Listing servers must work where the secrets cannot be read."""
    declared = declared_from(server.run)
    if not declared:
        return []
    try:
        return missing(SecretStore.of(settings), server.name, declared)
    except HarbourError as e:
        log.warning("%s (%s)", e.message, e.code)
        return []


def _place(server: LockedServer) -> str:
    return str(server.run["remote"]["url"])[:60] if server.remote else server.image[:19]


def _state(server: LockedServer, needs: list[SecretId]) -> str:
    state = "enabled" if server.enabled else "disabled"
    return f"{state}, needs {len(needs)} secret{'s' if len(needs) > 1 else ''}" if needs else state


def _say_missing(needs: Iterable[list[SecretId]]) -> None:
    for secret in (each for some in needs for each in some):
        sys.stderr.write(as_typed(f"{secret.server} does not start without {secret.name}; run: {secret.set_command}\n"))


def _known(lock: dict[str, LockedServer], name: str) -> LockedServer:
    if name in lock:
        return lock[name]
    if _runs_elsewhere(name):
        raise ServerUnknown(f"{name} runs elsewhere, and was not connected to yet", remedy=f"hm server add {name}")
    if name in starters():
        raise ServerUnknown(f"{name} is in the starter catalog but not built", remedy=f"hm up --servers {name}")
    known = ", ".join(sorted(lock)) or "none yet"
    raise ServerUnknown(f"no server named {name} in the lock", remedy=f"there are: {known}")


def _runs_elsewhere(name: str) -> bool:
    from registry.places import find_entry

    try:
        return find_entry(Settings.load(), name).remote is not None
    except HarbourError:
        return False


def starters() -> list[str]:
    """The names in the starter catalog."""
    return sorted(p.parent.name for p in Settings.load().servers_dir.glob("*/server.yaml"))


def _row(server: LockedServer) -> dict[str, Any]:
    keys = ("name", "enabled", "tier", "version", "image", "image_id", "signer", "pin")
    return {**{k: getattr(server, k) for k in keys}, "tools": _count(server, "tools")}


def _page(server: LockedServer) -> str:
    place = [
        ("image", server.image),
        ("image id", server.image_id),
        ("signed by", server.signer),
        ("SBOM", server.sbom),
        ("profile", server.profile),
    ]
    if server.parts:
        place += [
            (f"{name} runs", f"{tool['image']} {' '.join(tool['command'])}") for name, tool in _tool_images(server)
        ]
    if server.remote:
        place = [("runs elsewhere", f"{server.run['remote']['url']} ({server.run['remote']['transport']})")]
    facts = [
        ("state", "enabled" if server.enabled else "disabled"),
        ("tier", server.tier),
        ("version", server.version),
        *place,
        ("pin", server.pin),
        ("network", _hosts(server)),
        ("secrets", _secrets(server)),
        *(("relaxed", line) for line in explained(server.run.get("asked") or {}, server.granted)),
    ]
    offers = [
        (part, ", ".join(_names(server, part))) for part in ("tools", "prompts", "resources", "resourceTemplates")
    ]
    rows = facts + [(part, names) for part, names in offers if names]
    width = max(len(label) for label, _ in rows)
    return f"{server.name}\n" + "".join(f"  {label:<{width}}  {visible(text)}\n" for label, text in rows)


def _tool_images(server: LockedServer) -> list[tuple[str, dict[str, Any]]]:
    return sorted(server.run["tools"].items())


def _names(server: LockedServer, part: str) -> list[str]:
    key = {"resources": "uri", "resourceTemplates": "uriTemplate"}.get(part, "name")
    return [str(item[key]) for item in server.listing.get(part, [])]


def _secrets(server: LockedServer) -> str:
    declared = declared_from(server.run)
    return ", ".join(f"{d.name}{'' if d.required else ' (optional)'} in {d.variable}" for d in declared) or "none"


def _hosts(server: LockedServer) -> str:
    network = server.run.get("network") or {}
    private = network.get("private") or ()
    hosts = [f"{host} (may be private)" if host in private else host for host in network.get("hosts") or ()]
    return ", ".join(hosts) or "none"


def _count(server: LockedServer, part: str) -> int:
    return len(server.listing.get(part, []))
