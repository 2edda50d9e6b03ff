"""``hm profile ls|create|show|set|add|remove|config|export|import|rm``: which servers and tools a client sees."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from gateway.cli_errors import ServerUnknown
from gateway.cli_output import columns, one_line, visible
from gateway.cli_profile_values import assigned, limits_of, pairs_of
from gateway.lock import LockedServer, read_lock
from gateway.profiles.errors import ProfileInvalid, ProfileUnknown
from gateway.profiles.files import ProfileFiles, dumped, section
from gateway.profiles.schema import EVERYTHING, Profile, ServerRules, body_of, is_glob, parse
from gateway.profiles.shown import load, sandbox_limits, selected, summary
from gateway.profiles.values import schemas, variant
from gateway.profiles.view import DEFAULT
from harbourmaster.core.errors import HarbourError, UsageError
from harbourmaster.core.files import write_atomic
from harbourmaster.core.program import as_typed
from harbourmaster.core.secrets import SecretId
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="machine-readable")]
Name = Annotated[str, typer.Argument(metavar="PROFILE", help="see: hm profile ls")]
Server = Annotated[str, typer.Argument(metavar="SERVER", help="see: hm server ls")]
Globs = Annotated[list[str] | None, typer.Option(metavar="GLOB", help="tool names as the server says them; repeatable")]
Prompts = Annotated[list[str] | None, typer.Option(metavar="GLOB", help="names of its prompts")]
Uris = Annotated[list[str] | None, typer.Option(metavar="GLOB", help="URIs of its resources, and templates")]


@app.command("ls")
def ls(as_json: Json = False) -> None:
    """The profiles, and what each serves."""
    settings = Settings.load()
    lock = read_lock(settings.lock_file)
    rows: list[dict[str, Any]] = []
    known: dict[str, Profile | ProfileInvalid] = {DEFAULT: EVERYTHING}
    for name, profile in sorted((known | ProfileFiles(settings.profiles_dir).load_all()).items()):
        if isinstance(profile, ProfileInvalid):
            rows.append({"name": name, "error": profile.as_dict()})
        else:
            rows.append(summary(name, profile, selected(name, profile, lock)))
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    header = ("PROFILE", "SERVERS", "TOOLS", "DYNAMIC", "ADDRESS", "TITLE")
    sys.stdout.write(columns(header, [_cells(row) for row in rows]))
    for row in rows:
        if "error" in row:
            sys.stderr.write(f"{row['name']}: {row['error']['message']}\n")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return row["name"], "-", "-", "-", "-", "cannot be read"
    servers, dynamic = str(len(row["servers"])), "yes" if row["dynamic"] else "-"
    return row["name"], servers, str(row["tools"]), dynamic, row["path"], one_line(row["title"] or "")


@app.command("create")
def create(
    name: Name,
    servers: Annotated[list[str] | None, typer.Argument(metavar="SERVER")] = None,
    title: Annotated[str, typer.Option(help="one line for people")] = "",
    dynamic: Annotated[bool, typer.Option("--dynamic", help="clients find and add servers themselves")] = False,
) -> None:
    """Make a profile; running gateways serve it at once."""
    settings = Settings.load()
    lock = read_lock(settings.lock_file)
    for server in servers or []:
        _known(lock, server)
    rules: dict[str, ServerRules | None] = dict.fromkeys(servers or [])
    profile = Profile(title=title or None, dynamic=dynamic, servers=rules)
    path = ProfileFiles(settings.profiles_dir).create(name, profile)
    print(f"{name} is served at /mcp/{name} ({path})")
    if not servers and not dynamic:
        print(as_typed(f"  it has no servers yet: hm profile add {name} SERVER"))
    print(as_typed(f"  connect a client: hm client connect CLIENT --profile {name}"))


@app.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """One profile: its servers, tools, values, and what keeps a server from running."""
    settings = Settings.load()
    profile = load(settings, name)
    body = summary(name, profile, selected(name, profile, read_lock(settings.lock_file)))
    if as_json:
        print(json.dumps(body, indent=2, ensure_ascii=False))
        return
    sys.stdout.write(_page(body))


def _page(body: dict[str, Any]) -> str:
    lines = [f"{body['name']}   {visible(body['title'] or '')}".rstrip(), f"  served at {body['path']}"]
    if body["dynamic"]:
        lines.append("  dynamic: clients find, add and execute tools themselves")
    rows = [
        (s["name"], f"{s['tools']} of {s['of']}", _settings(s), s["problem"]["message"] if s["problem"] else "ready")
        for s in body["servers"]
    ]
    if rows:
        lines += ["", columns(("SERVER", "TOOLS", "SETTINGS", "STATE"), rows).rstrip()]
    lines += [as_typed(f"not in the lock: {absent} (hm up --servers {absent})") for absent in body["absent"]]
    lines += [as_typed(f"to mend {s['name']}: {s['problem']['remedy']}") for s in body["servers"] if s["problem"]]
    return "\n".join(lines) + "\n"


def _settings(server: dict[str, Any]) -> str:
    config = [f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in server["config"].items()]
    secrets = [f"secret {k}: {v}" for k, v in server["secrets"].items()]
    limits = [f"{k}={v}" for k, v in server["limits"].items()]
    rules = [
        f"{part} {key}: {' '.join(globs)}" for part, said in server["rules"].items() for key, globs in said.items()
    ]
    return one_line(", ".join(config + secrets + limits + rules), 60) or "-"


@app.command("set")
def set_(
    name: Name,
    title: Annotated[str | None, typer.Option(help="one line for people")] = None,
    dynamic: Annotated[
        bool | None, typer.Option("--dynamic/--static", help="clients find and add servers themselves, or see all")
    ] = None,
) -> None:
    """Change what a profile is called, and whether its tools are dynamic."""

    def change(body: CommentedMap) -> None:
        if title is not None:
            body["title"] = title
        if dynamic is False or (dynamic and not body.get("dynamic")):  # what is said about it in detail stays
            body["dynamic"] = dynamic

    _edit(Settings.load(), name, change)
    print(f"{name} is changed")


@app.command("add")
def add(
    name: Name,
    servers: Annotated[list[str], typer.Argument(metavar="SERVER", help="names, or globs over enabled ones: 'git*'")],
    allow: Globs = None,
    deny: Globs = None,
    allow_prompt: Prompts = None,
    deny_prompt: Prompts = None,
    allow_resource: Uris = None,
    deny_resource: Uris = None,
) -> None:
    """Serve these servers in the profile; with --allow and --deny, these of their tools, prompts and resources."""
    given = {
        "tools": {"allow": allow, "deny": deny},
        "prompts": {"allow": allow_prompt, "deny": deny_prompt},
        "resources": {"allow": allow_resource, "deny": deny_resource},
    }
    settings = Settings.load()
    lock = read_lock(settings.lock_file)
    for server in servers:
        if not is_glob(server):
            _known(lock, server)

    def change(body: CommentedMap) -> None:
        for server in servers:
            rules = section(body, "servers", server)
            for part, sides in given.items():
                for key, globs in sides.items():
                    if globs:
                        section(rules, part)[key] = CommentedSeq(globs)

    _edit(settings, name, change)
    print(f"{name} serves {', '.join(servers)}")


@app.command("remove")
def remove(name: Name, servers: Annotated[list[str], typer.Argument(metavar="SERVER")]) -> None:
    """Take servers out of the profile."""

    def change(body: CommentedMap) -> None:
        listed = section(body, "servers")
        for server in servers:
            if server not in listed:
                raise ServerUnknown(
                    f"the profile {name} does not name {server}",
                    remedy=f"it names: {', '.join(listed) or 'none'}; others are kept out with exclude",
                )
            del listed[server]

    _edit(Settings.load(), name, change)
    print(f"{name} serves {', '.join(servers)} no more")


@app.command("config")
def config(
    name: Name,
    server: Server,
    words: Annotated[list[str] | None, typer.Argument(metavar="key=value", help="key:=JSON for raw JSON")] = None,
    unset: Annotated[list[str] | None, typer.Option(metavar="KEY", help="forget this value; repeatable")] = None,
    secret: Annotated[
        list[str] | None, typer.Option(metavar="NAME=STORED", help="give it another of its stored secrets")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="LIMIT=VALUE", help="of its sandbox: memory_mb=1024; policies decide")
    ] = None,
) -> None:
    """Set a server's values in this profile, or show which it takes."""
    settings = Settings.load()
    locked = _known(read_lock(settings.lock_file), server)
    if not (words or unset or secret or limit):
        sys.stdout.write(_parameters(locked, load(settings, name).rules(server)))
        return
    values, secrets, limits = assigned(locked, words or []), pairs_of(secret or []), limits_of(limit or [])

    def change(body: CommentedMap) -> None:
        rules = section(body, "servers", server)
        for part, given in (("config", values), ("secrets", secrets), ("limits", limits)):
            if given:
                section(rules, part).update(given)
        for key in unset or []:
            for part in ("config", "secrets", "limits"):
                rules.get(part, {}).pop(key, None)
        checked = parse(Path(name), dumped(Profile.model_validate({"servers": {server: _plain(rules)}})))
        _complain(locked, checked.rules(server), name)

    _edit(settings, name, change)
    print(f"{server} is configured in {name}")
    for stored in sorted(set(secrets.values())):
        print(as_typed(f"  its value, once: {SecretId(server, stored).set_command}"))


def _complain(server: LockedServer, rules: ServerRules, profile: str) -> None:
    """Raise what is wrong with the values that were given; what is still missing is only said."""
    try:
        variant(server, rules, profile, sandbox_limits())
    except HarbourError as e:
        if e.code != "profile.config_missing":
            raise
        sys.stderr.write(as_typed(f"{e.message}; {e.remedy}\n"))


def _parameters(server: LockedServer, rules: ServerRules) -> str:
    known = schemas(server)
    if not known:
        return f"{server.name} takes no configuration\n"
    rows = [
        (
            key,
            str(s.get("type", "")),
            _value(rules.config.get(key, s.get("default"))),
            one_line(s.get("description", "")),
        )
        for key, s in known.items()
    ]
    return columns(("PARAMETER", "TYPE", "VALUE", "WHAT IT IS"), rows)


def _value(value: Any) -> str:
    return "not set" if value is None else one_line(json.dumps(value, ensure_ascii=False), 60)


@app.command("export")
def export(
    name: Name,
    output: Annotated[str, typer.Option("--output", "-o", help="a file; default: standard output")] = "",
    as_json: Json = False,
) -> None:
    """The profile as a file that `hm profile import` reads elsewhere.  It holds names of secrets, never values."""
    profile = load(Settings.load(), name)
    raw = (json.dumps(body_of(profile), indent=2, ensure_ascii=False) + "\n").encode() if as_json else dumped(profile)
    if output:
        write_atomic(Path(output), raw)
    else:
        sys.stdout.write(raw.decode())


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(metavar="FILE", help="YAML or JSON; - reads standard input")],
    name: Annotated[str, typer.Option(help="default: the file's name")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="in the place of a profile of that name")] = False,
) -> None:
    """Make a profile from an exported file."""
    settings = Settings.load()
    path = Path(source)
    called = name or ("" if source == "-" else path.stem)
    if not called:
        raise UsageError("a profile from standard input needs a name", remedy="add --name NAME")
    files = ProfileFiles(settings.profiles_dir)
    profile = parse(path, _bytes(source))
    files.put(called, profile) if replace else files.create(called, profile)
    print(f"{called} is served at {'/mcp' if called == DEFAULT else f'/mcp/{called}'}")
    sys.stdout.write(_page(summary(called, profile, selected(called, profile, read_lock(settings.lock_file)))))


@app.command("rm")
def rm(name: Name) -> None:
    """Remove a profile; its clients lose it at once."""
    try:
        ProfileFiles(Settings.load().profiles_dir).remove(name)
    except ProfileUnknown:
        if name == DEFAULT:
            raise UsageError("the profile default is always there", remedy="hm server disable NAME") from None
        raise
    print(f"{name} is back to every enabled server" if name == DEFAULT else f"{name} is removed")


def _bytes(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as e:
        raise UsageError(f"{source} cannot be read: {e.strerror}", remedy="name a readable file") from e


def _edit(settings: Settings, name: str, change: Any) -> None:
    ProfileFiles(settings.profiles_dir).edit(name, change, start=EVERYTHING if name == DEFAULT else None)


def _plain(rules: CommentedMap) -> Any:
    return json.loads(json.dumps(rules))


def _known(lock: dict[str, LockedServer], name: str) -> LockedServer:
    if name not in lock:
        raise ServerUnknown(
            f"no server named {name} in the lock", remedy=f"there are: {', '.join(sorted(lock)) or 'none yet'}"
        )
    return lock[name]
