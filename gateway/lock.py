"""``harbour.lock``: what each enabled server is, pinned by digest, and what it said it offers.

JSON, keys sorted, written atomically: ``{"version": 1, "servers": {name: LockedServer}}``.  Reading is strict: a lock
that cannot be understood completely is refused, because it decides what runs.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.errors import LockInvalid
from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.digests import is_digest
from harbourmaster.core.files import file_lock, write_atomic

LOCK_VERSION = 1
SERVER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # a DNS label: it becomes host names and labels

# The closed set a pin covers (DESIGN section 6): hashing each tool alone would let a rename defeat it.
PINNED = ("tools", "prompts", "resources", "resourceTemplates", "instructions")


@dataclass(frozen=True)
class LockedServer:
    name: str
    tier: str
    version: str
    image: str  # manifest digest
    image_id: str  # what the engine runs: config digest, or manifest digest with the containerd store
    signer: str
    sbom: str  # digest of the SBOM's bundle
    profile: str  # digest of the sandbox profile
    pin: str
    enabled: bool
    listing: dict[str, Any]
    run: dict[str, Any] = field(
        default_factory=dict
    )  # {command, env, user, limits, asked, ...}, or {remote, network, secrets}
    granted: list[str] = field(default_factory=list)  # paths of the host that a person allowed: "/srv/docs:/docs:ro"

    @property
    def relaxed(self) -> tuple[str, ...]:
        """Limits that a profile raises beyond the entry's, ``memory_mb=1024`` each: admission decides about them."""
        return tuple(self.run.get("relaxed", ()))

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its images where each tool has one (registry.toolset); its sandbox then lives for a call."""
        tools = self.run.get("tools")
        return tuple(sorted({tool["part"] for tool in tools.values()})) if tools else ()

    @property
    def remote(self) -> bool:
        """It runs elsewhere: no image, no sandbox (gateway/remote)."""
        return "remote" in self.run


Lock = Mapping[str, LockedServer]

_TEXT = ("tier", "version", "signer", "sbom", "profile")
_DIGESTS = ("image", "image_id", "pin")


def pin_of(listing: Mapping[str, Any]) -> str:
    """The canonical digest of the closed set in ``listing``; absent and empty parts are the same."""
    return canonical_digest({part: listing[part] for part in PINNED if listing.get(part)})


def read_lock(path: Path) -> dict[str, LockedServer]:
    """The lock at ``path``; an absent file is an empty lock.  Raises ``LockInvalid``."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        return dict(_parsed(raw))
    except (ValueError, KeyError, TypeError) as e:
        raise LockInvalid(
            f"{path} is not a lock this version understands: {e}",
            remedy="restore it, or move it away and run hm up, which verifies everything and writes it anew",
        ) from e


def write_lock(path: Path, lock: Lock) -> None:
    body = {"version": LOCK_VERSION, "servers": {n: _as_dict(s) for n, s in sorted(lock.items())}}
    write_atomic(path, json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")


def update_lock(path: Path, change: Callable[[dict[str, LockedServer]], None]) -> dict[str, LockedServer]:
    """Read, let ``change`` alter the mapping in place, write; other processes wait their turn."""
    with file_lock(path.with_suffix(".lock.guard")):
        lock = read_lock(path)
        change(lock)
        write_lock(path, lock)
    return lock


def enabled(lock: Lock, only: tuple[str, ...] = ()) -> dict[str, LockedServer]:
    """The servers that are served, in name order; ``only`` narrows them.  Raises ``LockInvalid`` for an unknown name."""
    unknown = sorted(set(only) - set(lock))
    if unknown:
        raise LockInvalid(f"no such server in the lock: {', '.join(unknown)}", remedy="see: hm lock show")
    return {n: s for n, s in sorted(lock.items()) if (n in only if only else s.enabled)}


def _as_dict(server: LockedServer) -> dict[str, Any]:
    body = dataclasses.asdict(server)
    del body["name"]
    return body


@functools.lru_cache(maxsize=2)
def _parsed(raw: bytes) -> dict[str, LockedServer]:
    """Remembered for these very bytes: several parts of one process read the same lock, and its pins are many hashes."""
    body = orjson.loads(raw)
    if body["version"] != LOCK_VERSION:
        raise ValueError(f"version {body['version']!r}, expected {LOCK_VERSION}")
    return {name: _server(name, fields) for name, fields in body["servers"].items()}


def _server(name: str, fields: dict[str, Any]) -> LockedServer:
    if not SERVER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a server name")
    server = LockedServer(name=name, **fields)
    for key in _TEXT:
        if not isinstance(getattr(server, key), str):
            raise ValueError(f"{name}.{key} must be text")
    if not isinstance(server.granted, list) or not all(isinstance(path, str) for path in server.granted):
        raise ValueError(f"{name}.granted must be a list of text")
    if not isinstance(server.enabled, bool) or not isinstance(server.run, dict):
        raise ValueError(f"{name}: enabled must be true or false, run an object")
    elsewhere = ("image", "image_id") if server.remote else ()
    for key in _DIGESTS:
        if not (getattr(server, key) == "" if key in elsewhere else is_digest(getattr(server, key))):
            raise ValueError(f"{name}.{key} must be {'empty' if key in elsewhere else 'a sha256 digest'}")
    _check_listing(name, server.listing)
    if pin_of(server.listing) != server.pin:
        raise ValueError(f"{name}: the listing does not match its pin (edited by hand?)")
    return server


def _check_listing(name: str, listing: Any) -> None:
    if not isinstance(listing, dict) or not isinstance(listing.get("protocolVersion"), str):
        raise ValueError(f"{name}.listing must be an object with a protocolVersion")
    for part, key in (
        ("tools", "name"),
        ("prompts", "name"),
        ("resources", "uri"),
        ("resourceTemplates", "uriTemplate"),
    ):
        items = listing.get(part, [])
        if not isinstance(items, list) or not all(isinstance(i, dict) and isinstance(i.get(key), str) for i in items):
            raise ValueError(f"{name}.listing.{part} must be a list of objects with a {key}")
