"""Which server a secret's name means: the lock says what its servers declare, the starter catalog what others would."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.lock import read_lock
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.secrets import DeclaredSecret, SecretId, declared_from
from harbourmaster.core.secrets.errors import SecretInvalid, SecretUnknown
from harbourmaster.core.settings import Settings


def declarations(settings: Settings) -> dict[str, tuple[DeclaredSecret, ...]]:
    """By server; the lock's word counts, and an entry's only where the lock does not know the server.

    Of a remote server the entry counts too: it must have its secrets before it can be connected to, and locked.
    """
    lock = read_lock(settings.lock_file)
    locked = {name: declared_from(server.run) for name, server in lock.items()}
    found = _starters(settings, {name for name, server in lock.items() if not server.remote})
    return {name: tuple(dict.fromkeys((*locked.get(name, ()), *found.get(name, ())))) for name in {*found, *locked}}


def _starters(settings: Settings, known: set[str]) -> dict[str, tuple[DeclaredSecret, ...]]:
    from registry.places import adopted_dir
    from registry.schema import (  # a third of a second, and most commands name a server of the lock
        ENTRY_FILE,
        load_entry,
    )

    found = {}
    for path in (*adopted_dir(settings).glob(f"*/{ENTRY_FILE}"), *settings.servers_dir.glob(f"*/{ENTRY_FILE}")):
        if path.parent.name in known or b"secrets:" not in path.read_bytes():
            continue
        try:
            found[path.parent.name] = load_entry(path.parent).secrets()
        except HarbourError:
            continue  # hm registry lint is where a broken entry is explained
    return found


def _of_profiles(settings: Settings) -> set[SecretId]:
    """What profiles give servers in the place of the secrets they declare."""
    from gateway.profiles.files import ProfileFiles
    from gateway.profiles.schema import Profile

    profiles = ProfileFiles(settings.profiles_dir).load_all().values()
    rules = [(s, r) for p in profiles if isinstance(p, Profile) for s, r in p.servers.items() if r is not None]
    return {SecretId(server, name) for server, each in rules for name in each.secrets.values()}


def server_of(settings: Settings, name: str, server: str, held: Iterable[SecretId] = ()) -> str:
    """``server`` if given, else the one that declares (or holds) ``name``.  Raises ``SecretInvalid``, ``SecretUnknown``."""
    holders = sorted({each.server for each in held if each.name == name})
    if server:
        if server not in holders:
            _check_declared(settings, SecretId(server, name))
        return server
    SecretId("any", name)  # a bad name is the first thing to say
    found = holders or sorted(s for s, each in declarations(settings).items() if any(d.name == name for d in each))
    if len(found) == 1:
        return found[0]
    if found:
        raise SecretInvalid(f"{', '.join(found)} all have a secret {name}", remedy=f"say which: --server {found[0]}")
    raise SecretUnknown(
        f"no server declares a secret {name}", remedy="see: hm secret ls; or name the server: --server NAME"
    )


def _check_declared(settings: Settings, secret: SecretId) -> None:
    """A server that is not known yet may get its secrets first; one that is known says what it takes."""
    known = declarations(settings).get(secret.server)
    if known is None or any(each.name == secret.name for each in known) or secret in _of_profiles(settings):
        return
    takes = ", ".join(each.name for each in known) or "none"
    raise SecretUnknown(f"{secret.server} declares no secret {secret.name}", remedy=f"it takes: {takes}")
