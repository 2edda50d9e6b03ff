"""What people do on the pages, by the functions that the command line uses; each is on record before it is done.  Blocking."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from catalog.entries import find_entry
from gateway.authorization.errors import ApprovalUnknown
from gateway.authorization.held_calls import answer, held_calls
from gateway.cli_errors import ServerUnknown
from gateway.cli_profile_values import assigned
from gateway.lock import LockedServer, read_lock, update_lock
from gateway.profiles.files import ProfileFiles, section
from gateway.profiles.schema import EVERYTHING
from gateway.profiles.shown import load
from gateway.profiles.values import schemas
from gateway.profiles.view import DEFAULT
from harbourmaster.core.redaction import IN_USE
from harbourmaster.core.secrets import SecretId, SecretStore, declared_from
from harbourmaster.core.secrets.errors import SecretUnknown
from harbourmaster.core.settings import Settings
from web.errors import FormInvalid
from web.harbour import Harbour
from web.identity import Who
from web.jobs import Job


def locked_server(settings: Settings, name: str) -> LockedServer:
    """Raises ``ServerUnknown``."""
    found = read_lock(settings.lock_file).get(name)
    if found is None:
        raise _unknown(settings, name)
    return found


def _unknown(settings: Settings, name: str) -> ServerUnknown:
    if is_starter(settings, name):
        return ServerUnknown(f"{name} is in the starter catalog but not built", remedy=f"hm up --servers {name}")
    return ServerUnknown(f"no server named {name} in the lock", remedy="see: hm server ls")


def switch(harbour: Harbour, who: Who, name: str, *, on: bool) -> bool:
    """As `hm server enable|disable`; whether anything changed.  Raises ``ServerUnknown``."""
    changed: list[str] = []

    def change(lock: dict[str, LockedServer]) -> None:
        if name not in lock:
            raise _unknown(harbour.settings, name)
        if lock[name].enabled is not on:
            note(harbour, who, "enable" if on else "disable", server=name)
            lock[name] = dataclasses.replace(lock[name], enabled=on)
            changed.append(name)

    update_lock(harbour.settings.lock_file, change)
    return bool(changed)


def waiting(harbour: Harbour, who: Who) -> list[dict[str, Any]]:
    """Calls that a policy holds until a person says yes; what they carry is for those who may answer."""
    held = held_calls(harbour.settings.approvals_dir)
    return held if who.may("operator") else [{**call, "arguments": ""} for call in held]


def answer_call(harbour: Harbour, who: Who, identity: str, *, yes: bool) -> None:
    """As `hm approve yes|no ID`.  Raises ``ApprovalUnknown``."""
    if identity not in {call["id"] for call in held_calls(harbour.settings.approvals_dir)}:
        raise ApprovalUnknown("no such call waits", remedy="it was answered, or given up: see hm approve ls")
    note(harbour, who, "call_allowed" if yes else "call_refused", id=identity)
    answer(harbour.settings.approvals_dir, identity, yes)


def is_starter(settings: Settings, name: str) -> bool:
    return "/" not in name and (settings.servers_dir / name / "server.yaml").is_file()


def build(harbour: Harbour, who: Who, name: str) -> Job:
    """Begin to build a starter server.  Raises ``ServerUnknown``."""
    if not is_starter(harbour.settings, name):
        raise ServerUnknown(f"no starter server is named {name}", remedy="see: hm registry ls")
    note(harbour, who, "build", server=name)
    return harbour.jobs.start(name, "build", lambda say: harbour.build(name, say))


def adopt(harbour: Harbour, who: Who, name: str) -> Job:
    """Begin to take a server of the catalog over.  Raises ``EntryUnknown``."""
    with harbour.store.reading() as session:
        find_entry(session, name)
    note(harbour, who, "adopt", server=name)
    return harbour.jobs.start(name, "adopt", lambda say: harbour.adopt(name, say))


def set_secret(harbour: Harbour, who: Who, server: str, name: str, value: str) -> None:
    """As `hm secret set`.  The value goes into the store and nowhere else.  Raises ``SecretUnknown``, ``SecretInvalid``."""
    IN_USE.add([value])
    secret = _declared(harbour.settings, server, name)
    note(harbour, who, "secret_set", server=server, secret=name)
    SecretStore.of(harbour.settings).put(secret, value)


def forget_secret(harbour: Harbour, who: Who, server: str, name: str) -> None:
    secret = SecretId(server, name)
    note(harbour, who, "secret_removed", server=server, secret=name)
    SecretStore.of(harbour.settings).remove(secret)


def _declared(settings: Settings, server: str, name: str) -> SecretId:
    takes = [each.name for each in declared_from(locked_server(settings, server).run)]
    if name not in takes:
        raise SecretUnknown(
            f"{server} declares no secret of that name", remedy=f"it takes: {', '.join(takes) or 'none'}"
        )
    return SecretId(server, name)


def profile_config(settings: Settings, profile: str, server: str) -> dict[str, Any]:
    """The values that ``profile`` gives ``server``'s parameters.  Raises ``ProfileUnknown``, ``ProfileInvalid``."""
    return dict(load(settings, profile).rules(server).config)


def configure(harbour: Harbour, who: Who, profile: str, server: str, given: Mapping[str, str]) -> None:
    """As `hm profile config`; ``given`` is text, as forms give it, and a value that is left out is taken back.

    Raises ``ConfigInvalid``, ``ProfileInvalid``, ``UsageError``.
    """
    locked = locked_server(harbour.settings, server)
    values = assigned(locked, [_word(schemas(locked).get(name, {}), name, text) for name, text in given.items()])
    note(harbour, who, "configure", server=server, profile=profile, parameters=sorted(given))

    def change(body: Any) -> None:
        rules = section(body, "servers", server)
        rules.pop("config", None)
        if values:
            section(rules, "config").update(values)

    start = EVERYTHING if profile == DEFAULT else None
    ProfileFiles(harbour.settings.profiles_dir).edit(profile, change, start)


def _word(schema: Mapping[str, Any], name: str, text: str) -> str:
    """What one would type after `hm profile config`; a form gives a list one item to a line."""
    if schema.get("type") != "array" or text.lstrip().startswith("["):
        return f"{name}={text}"
    return f"{name}:=" + json.dumps([line.strip() for line in text.splitlines() if line.strip()])


def note(harbour: Harbour, who: Who, event: str, **facts: Any) -> None:
    harbour.record({"kind": "console", "event": event, "principal": who.token, "role": who.role, **facts})


def required(text: str, what: str) -> str:
    if not text:
        raise FormInvalid(f"{what} is missing from the form", remedy="load the page again")
    return text
