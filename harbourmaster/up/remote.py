"""Remote servers into the lock: connect, log in where that is asked for, list, show, and after a yes write it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import yaml

from gateway.errors import NotAgreed
from gateway.held import HeldFiles
from gateway.lock import LockedServer, pin_of, read_lock
from gateway.remote.errors import LoginRequired, NameTaken, RemoteInvalid, ScopeRequired
from gateway.remote.listing import listing_of
from gateway.remote.oauth.flow import revoke
from gateway.remote.oauth.grant import Grant, Vault
from gateway.remote.oauth.login import log_in, usual_port
from gateway.remote.oauth.redirect import Listener, Pasted, Redirect
from gateway.remote.spec import RemoteSpec, checked_url, endpoint_of, is_loopback, parse
from gateway.remote.start import Remotes
from gateway.upstream import OnExit, OnLine, Sandbox
from harbourmaster.compose import remotes_of
from harbourmaster.core.audit import AuditLog
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.files import write_atomic
from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.settings import Settings
from harbourmaster.up.host import ask
from harbourmaster.up.locking import changes, write
from registry.entry import ENTRY_FILE, Entry
from registry.places import adopted_dir, entry_folder, find_entry
from registry.schema import load_entry, parse_entry

Say = Callable[[str], None]
T = TypeVar("T")

TIER = "remote"


class Login:
    """How a person logs in: ``show`` brings an address before them; ``paste`` asks for the one they ended at."""

    def __init__(
        self,
        show: Callable[[str], None],
        paste: Callable[[str], Awaitable[str]] | None = None,
        *,
        port: int = 0,
        scopes: tuple[str, ...] = (),
    ) -> None:
        self.show, self.paste, self.port, self.scopes = show, paste, port, scopes

    @contextlib.asynccontextmanager
    async def redirect(self, before: Grant | None) -> Any:
        if self.paste is not None:
            yield Pasted(self.paste, self.port)
            return
        async with Listener(self.show, self.port or usual_port(before)) as listener:
            yield listener


def draft(settings: Settings, name: str, body: dict[str, Any]) -> Entry:
    """The entry for a server that a person names by its address alone; not written yet.  Raises ``EntryInvalid``."""
    document = {
        "name": name,
        "type": "remote",
        "tier": "community",
        "about": {"title": name, "description": f"A remote server at {body['remote']['url']}"},
        "meta": {"category": "other"},
        **body,
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
    return parse_entry(adopted_dir(settings) / name / ENTRY_FILE, text)


def keep(settings: Settings, entry: Entry) -> None:
    """Write the entry to HM_HOME/servers, where it is found from now on."""
    folder = adopted_dir(settings) / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    body = entry.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {
        "type": entry.type,
        "tier": entry.tier,
    }
    write_atomic(folder / ENTRY_FILE, yaml.safe_dump(body, sort_keys=False, allow_unicode=True).encode())


def private_hosts(url: str) -> list[str]:
    """A server on this machine is meant to be there when its address says so."""
    host = checked_url(url).hostname or ""
    return [endpoint_of(url)] if is_loopback(host) else []


def run_of(entry: Entry) -> dict[str, Any]:
    """``LockedServer.run`` of a remote server: ``{remote, network, env?, secrets?}``."""
    if entry.remote is None:
        raise RemoteInvalid(f"{entry.name} is no remote server", remedy=f"hm server enable {entry.name}")
    spec = parse(entry.remote.as_run())
    run: dict[str, Any] = {
        "remote": spec.as_dict(),
        "network": {"hosts": [spec.host], "private": sorted(spec.private & {spec.host})},
    }
    if entry.config.env:
        run["env"] = entry.environment()
    if entry.config.secrets:
        run["secrets"] = [secret.as_dict() for secret in entry.secrets()]
    return run


def line_of(entry: Entry, listing: dict[str, Any], *, enabled: bool) -> LockedServer:
    said = listing.get("serverInfo") or {}
    version = said.get("version") if isinstance(said, dict) else ""
    return LockedServer(
        name=entry.name,
        tier=TIER,
        version=version[:100] if isinstance(version, str) and version.isprintable() else "",
        image="",
        image_id="",
        signer="",
        sbom="",
        profile="",
        pin=pin_of(listing),
        enabled=enabled,
        listing=listing,
        run=run_of(entry),
    )


def relisted(settings: Settings, name: str, login: Login | None = None, *, entry: Entry | None = None) -> LockedServer:
    """The lock's line for a remote server as it is now.  Blocking.  Raises what connecting and logging in raise."""
    entry = entry or find_entry(settings, name)
    before = read_lock(settings.lock_file).get(name)
    blank = line_of(entry, {"protocolVersion": ""}, enabled=before.enabled if before is not None else True)
    listing = asyncio.run(_with(settings, lambda remotes: _list(settings, remotes, blank, login)))
    return line_of(entry, listing, enabled=blank.enabled)


def add(settings: Settings, entry: Entry, say: Say, login: Login, *, yes: bool) -> None:
    """Show where it is and what it may see before anything is sent; then connect, list, show, and lock.

    Raises ``NotAgreed``, ``NameTaken``, and what connecting and logging in raise.
    """
    spec = parse(run_of(entry)["remote"])
    _require_free(settings, entry.name)
    for text in papers(entry, spec):
        say(text)
    _agree(f"connect to {spec.host}?", yes=yes)
    if not (settings.servers_dir / entry.name / ENTRY_FILE).is_file():
        keep(settings, entry)  # so that its secrets can be set, and the next attempt needs no more than its name
    line = relisted(settings, entry.name, login, entry=entry)
    lock = read_lock(settings.lock_file)
    changed = changes(lock.get(entry.name), line, lock)
    for each in changed:
        say(f"  {each}")
    if changed:
        _agree(f"serve {entry.name} like this?", yes=yes)
    record(settings, line)
    write(settings, [line])
    HeldFiles(settings.held_dir).forget(entry.name)
    say(f"{entry.name} is locked and {'enabled' if line.enabled else 'disabled'}; running gateways notice")


def _require_free(settings: Settings, name: str) -> None:
    """A server in a sandbox is not replaced by one elsewhere, nor an entry of the starter catalog by an address."""
    locked = read_lock(settings.lock_file).get(name)
    folder = entry_folder(settings, name)
    known = load_entry(folder) if (folder / ENTRY_FILE).is_file() else None
    if (locked is not None and not locked.remote) or (known is not None and known.remote is None):
        raise NameTaken(f"{name} is a server that runs here", remedy="give the remote one another name")


def papers(entry: Entry, spec: RemoteSpec) -> list[str]:
    """What a person should know beforehand: nobody looks into a server that runs elsewhere."""
    lines = [
        f"{entry.name} runs elsewhere: no image to verify, no sandbox around it; what it is sent, it may keep",
        f"  it is reached at: {spec.url} ({spec.transport})",
    ]
    lines += [f"  it is sent the header {name}: {text}" for name, text in spec.headers.items()]
    if spec.private:
        lines.append(f"  on a private network or this machine: {', '.join(sorted(spec.private))}")
    return lines


def login_now(settings: Settings, name: str, login: Login) -> Grant:
    """``hm server login``: a new grant whatever is there; the lock stays as it is.  Blocking."""
    entry = find_entry(settings, name)
    line = line_of(entry, {"protocolVersion": ""}, enabled=True)
    return asyncio.run(_with(settings, lambda remotes: _login(settings, remotes, line, login, "")))


def logout(settings: Settings, name: str) -> str:
    """Forget the grant, and have it taken back where that can be asked for; what was done, for a person to read."""
    vault = _vault(settings, name)
    grant = vault.load()
    if not vault.drop():
        return f"{name} was not logged in"
    _record(settings, {"kind": "login", "event": "logout", "server": name})
    if grant is not None and asyncio.run(_with(settings, lambda remotes: _revoke(settings, remotes, name, grant))):
        return f"{name} is logged out, and its token was revoked"
    return f"{name} is logged out; its token was forgotten here, and ends there in its own time"


async def _revoke(settings: Settings, remotes: Remotes, name: str, grant: Grant) -> bool:
    try:
        line = line_of(find_entry(settings, name), {"protocolVersion": ""}, enabled=True)
        return await revoke(remotes.web(name, parse(line.run["remote"])), grant)
    except HarbourError:
        return False


async def _with(settings: Settings, work: Callable[[Remotes], Awaitable[T]]) -> T:
    remotes = remotes_of(settings, lambda record: None)
    try:
        return await work(remotes)
    finally:
        await remotes.close()


async def _list(settings: Settings, remotes: Remotes, blank: LockedServer, login: Login | None) -> dict[str, Any]:
    async def start(version: str, on_line: OnLine, on_exit: OnExit) -> Sandbox:
        return await remotes.start(replace(blank, listing={"protocolVersion": version}), on_line, on_exit)

    modern = blank.run["remote"]["transport"] != "sse"
    for last in (False, True):
        try:
            return await listing_of(blank.name, start, settings.start_timeout_s, modern=modern)
        except (LoginRequired, ScopeRequired) as e:
            if login is None or last:
                raise
            await _login(settings, remotes, blank, login, e.challenge)
    raise AssertionError("the second attempt returns or raises")


async def _login(settings: Settings, remotes: Remotes, line: LockedServer, login: Login, challenge: str) -> Grant:
    spec, vault = parse(line.run["remote"]), _vault(settings, line.name)
    before = await asyncio.to_thread(vault.load)
    web = remotes.web(line.name, spec)
    redirect: Redirect
    async with login.redirect(before) as redirect:
        grant = await log_in(spec, web, vault, redirect, challenge=challenge, scopes=login.scopes)
    said = {"issuer": grant.client.issuer, "scopes": list(grant.scopes), "host": spec.host}
    await asyncio.to_thread(_record, settings, {"kind": "login", "event": "login", "server": line.name, **said})
    return grant


def _vault(settings: Settings, name: str) -> Vault:
    return Vault(lambda: SecretStore.of(settings), name)


def _agree(question: str, *, yes: bool) -> None:
    if not ask(question, yes=yes):
        raise NotAgreed("nothing was changed: nobody said yes", remedy="say y at the prompt, or give --yes")


def record(settings: Settings, line: LockedServer) -> None:
    """On record before it is done."""
    host = parse(line.run["remote"]).host
    _record(
        settings, {"kind": "pin", "event": "update", "server": line.name, "image": "", "pin": line.pin, "host": host}
    )


def _record(settings: Settings, body: dict[str, Any]) -> None:
    audit = AuditLog(settings.audit_dir)
    try:
        audit.append_durably(body)
    finally:
        audit.close()
