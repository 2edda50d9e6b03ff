"""What a server was let near: remote servers and the logins to them, and folders of this machine.  Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from gateway.grants import change_grants
from gateway.lock import LockedServer, read_lock
from gateway.remote.oauth.grant import Grant, Vault
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.settings import Settings
from registry.places import find_entry
from sandbox import hostpaths
from sandbox.access import Access, HostPath
from web import deeds
from web.errors import FormInvalid
from web.guard import LOOPBACK
from web.harbour import Harbour
from web.identity import Who
from web.logins import PATH, Login

# -- remote servers


def remotes(harbour: Harbour) -> list[dict[str, Any]]:
    """Every remote server of the lock: where it is, whether a person is logged in to it, and a login that goes on."""
    lock = read_lock(harbour.settings.lock_file)
    return [remote(harbour, server) for _, server in sorted(lock.items()) if server.remote]


def remote(harbour: Harbour, server: LockedServer) -> dict[str, Any]:
    """Nothing in it is a token."""
    spec = server.run["remote"]
    fixed = any(name.lower() == "authorization" for name in spec.get("headers") or {})
    grant = None if fixed else _grant(harbour.settings, server.name)
    return {
        "name": server.name,
        "url": spec["url"],
        "transport": spec["transport"],
        "enabled": server.enabled,
        "by_header": fixed,
        "login": grant_facts(grant) if grant and grant.url == spec["url"] else None,
        "going_on": harbour.logins.of(server.name),
    }


def _grant(settings: Settings, name: str) -> Grant | None:
    try:
        return Vault(lambda: SecretStore.of(settings), name).load()
    except HarbourError:
        return None  # a store that cannot be opened says so where a secret is needed


def grant_facts(grant: Grant) -> dict[str, Any]:
    return {
        "issuer": grant.client.issuer,
        "scopes": list(grant.scopes),
        "expires": datetime.fromtimestamp(grant.expires, UTC).isoformat(timespec="seconds") if grant.expires else "",
        "over": bool(grant.expires) and grant.expires <= time.time(),
        "renewed": bool(grant.refresh_token),
    }


def begin_login(harbour: Harbour, who: Who, name: str, origin: str) -> Login:
    """As `hm server login`; the browser comes back to the console.  Raises ``ServerUnknown``, ``FormInvalid``."""
    server = deeds.locked_server(harbour.settings, name)
    if not server.remote:
        raise FormInvalid(f"{name} runs here and has no login", remedy="give it secrets on its page")
    return _begin(harbour, who, name, origin, "login", harbour.log_in)


def begin_connect(harbour: Harbour, who: Who, name: str, origin: str) -> Login:
    """As `hm server add NAME` for a remote server of the catalog: connect, log in where it asks for it, list, lock.

    Nobody is shown what changed, so a server that is locked stays as it was agreed to.  Raises ``FormInvalid``."""
    if name in read_lock(harbour.settings.lock_file):
        raise FormInvalid(
            f"{name} is connected already",
            remedy=f"log in to it; what it changed is on its page, or: hm server add {name}",
        )
    return _begin(harbour, who, name, origin, "connect", harbour.connect)


def _begin(harbour: Harbour, who: Who, name: str, origin: str, what: str, work: Callable[[str, Login], None]) -> Login:
    uri = callback(origin)
    deeds.note(harbour, who, what, server=name)
    return harbour.logins.start(name, uri, lambda login: work(name, login))


def callback(origin: str) -> str:
    """Where the authorization server sends the browser back (RFC 8252 section 7.3: loopback, by number or name)."""
    parts = urlsplit(origin)
    if parts.hostname not in LOOPBACK:
        raise FormInvalid(
            "a login comes back to the machine that the console runs on, and this browser is on another",
            remedy="run there: hm server login NAME --no-browser",
        )
    return f"{parts.scheme}://{parts.netloc}{PATH}"


def log_out(harbour: Harbour, who: Who, name: str) -> str:
    """As `hm server logout`; what was done, in words."""
    deeds.locked_server(harbour.settings, name)
    deeds.note(harbour, who, "logout", server=name)
    return harbour.log_out(name)


# -- folders


@dataclass(frozen=True)
class Folder:
    """One path of the host.  ``asked``: the entry's reason, or empty where a person gave it; ``problem``: why a start
    would not mount it now."""

    host: str
    at: str
    write: bool
    asked: str
    given: bool
    problem: str = ""
    remedy: str = ""


def folders(settings: Settings) -> dict[str, list[Folder]]:
    """By server, those whose entry asks for a path of this machine, or that were given one."""
    found = {}
    for name, server in sorted(read_lock(settings.lock_file).items()):
        if not server.remote and (those := folders_of(settings, server)):
            found[name] = those
    return found


def folders_of(settings: Settings, server: LockedServer) -> list[Folder]:
    reason = str((server.run.get("asked") or {}).get("host_paths", {}).get("reason", ""))
    try:
        access = Access.parse(server.run, server.granted)
    except HarbourError as e:
        return [Folder("", "", False, reason, False, e.message, e.remedy)]
    own = {HostPath.parse(text).at for text in server.granted}
    return [_folder(settings, path, path.at in own, access, reason) for path in access.host_paths]


def _folder(settings: Settings, path: HostPath, own: bool, access: Access, reason: str) -> Folder:
    asked = "" if own else reason
    try:
        hostpaths.check(path, home=settings.home, named=path.host in access.granted)
    except HarbourError as e:
        return Folder(path.host, path.at, path.write, asked, False, e.message, e.remedy)
    return Folder(path.host, path.at, path.write, asked, True)


def give_folder(harbour: Harbour, who: Who, name: str, path: str, inside: str, *, write: bool) -> list[str]:
    """As `hm server enable NAME --allow PATH[:INSIDE][:rw]`.  Raises ``HostPathDenied``, ``SpecRefused``."""
    if ":" in path or ":" in inside:
        raise FormInvalid("a path with a colon cannot be given to a server", remedy="rename the folder, or link to it")
    text = ":".join([path, *([inside] if inside else []), *(["rw"] if write else [])])
    deeds.locked_server(harbour.settings, name)
    deeds.note(harbour, who, "folder_given", server=name, path=text[:500])
    return change_grants(harbour.settings, name, [text], [])


def take_folder(harbour: Harbour, who: Who, name: str, path: str) -> list[str]:
    """As `hm server enable NAME --revoke PATH`."""
    deeds.locked_server(harbour.settings, name)
    deeds.note(harbour, who, "folder_taken", server=name, path=path[:500])
    return change_grants(harbour.settings, name, [], [path])


def can_have_folders(settings: Settings) -> list[str]:
    """Names, in order: servers that run here."""
    return [name for name, server in sorted(read_lock(settings.lock_file).items()) if not server.remote]


def is_remote_entry(settings: Settings, name: str) -> bool:
    """Whether ``name`` is known here as a server that runs elsewhere."""
    try:
        return find_entry(settings, name).remote is not None
    except HarbourError:
        return False
