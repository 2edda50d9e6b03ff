"""What is to be verified: a name, and what the entry and the lock say about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harbourmaster.core.digests import is_digest
from harbourmaster.core.errors import ConfigError
from harbourmaster.core.settings import Settings
from policies.admission import EntryFacts
from registry.build.errors import EntryUnbuildable
from registry.entry import Entry
from registry.places import find_entry
from sandbox.access import Access
from sandbox.errors import SpecRefused

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """``part``: of an entry with several images (``registry.toolset``), which one.  ``ref``: what the layout calls the image (``time:1.0``, or a manifest digest); ``locked``: the manifest digest that
    the lock names, empty without a lock; ``pinned``: the digest that the entry names, the manifest's or that of an index."""

    name: str
    tier: str
    ref: str
    locked: str = ""
    pinned: str = ""
    facts: EntryFacts = field(default_factory=EntryFacts)
    part: str = ""
    relaxed: bool = False  # ``facts`` name more relaxations than the entry does


def locked_image(settings: Settings, name: str) -> str:
    """The manifest digest that ``harbour.lock`` names for a server; empty where it names none.

    The gateway owns that file and reads it strictly; here an unreadable one counts as a refusal, never as no lock.
    """
    return _locked(settings, name, lambda server: server["image"], "")


def locked_parts(settings: Settings, name: str) -> dict[str, str]:
    """Of a server with several images (``registry.toolset``): manifest digest by part, as the lock names them."""
    return _locked(settings, name, lambda s: {t["part"]: t["image"] for t in s["run"].get("tools", {}).values()}, {})


def _locked(settings: Settings, name: str, read: Callable[[Any], Any], absent: T) -> T:
    try:
        servers = json.loads(settings.lock_file.read_bytes())["servers"]
        found = read(servers[name]) if name in servers else absent
    except FileNotFoundError:
        return absent
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigError(
            f"{settings.lock_file} cannot be read: {e}", remedy="restore it, or move it away and run hm up"
        ) from e
    if not isinstance(found, type(absent)):
        raise ConfigError(
            f"{settings.lock_file}: {name} names no image", remedy="restore it, or move it away and run hm up"
        )
    return found


def target_of(settings: Settings, name: str, *, locked: str = "", approved: tuple[str, ...] = ()) -> Target:
    """The target of a server by its entry; ``approved``: relaxations that a person agreed to just now.

    What the lock has was agreed to before.  Raises ``EntryNotFound`` or ``EntryInvalid``.
    """
    entry = find_entry(settings, name)
    agreed = locked_relaxations(settings, name)
    own = tuple(each for each in agreed if each.startswith("host-path"))
    return target_of_entry(entry, locked=locked, approved=(*approved, *agreed), own=own)


def target_of_entry(
    entry: Entry, *, locked: str = "", approved: tuple[str, ...] = (), own: tuple[str, ...] = ()
) -> Target:
    """``own``: what a person gave it beyond what the entry asks for.  Raises ``EntryUnbuildable``: no image of its own."""
    if entry.type == "poci":
        raise EntryUnbuildable(
            f"{entry.name} has an image for each tool, not one of its own",
            remedy=f"verify each of them: hm verify {entry.name}",
            server=entry.name,
        )
    facts = EntryFacts(
        relaxations=tuple(sorted({*asked(entry), *own})),
        approved_relaxations=tuple(sorted({*approved})),
        digest_pinned=bool(entry.pinned),
        licences=(entry.licence,) if entry.licence else (),
        hosts=tuple(sorted(entry.run.network.hosts)),
    )
    return Target(entry.name, entry.tier, entry.ref, locked, entry.pinned, facts)


def asked(entry: Entry) -> tuple[str, ...]:
    """The names of all relaxations that ``entry`` asks for, as policies see them."""
    return tuple(sorted({*entry.limits(), *entry.access().relaxations()}))


def locked_relaxations(settings: Settings, name: str) -> tuple[str, ...]:
    try:
        server = json.loads(settings.lock_file.read_bytes())["servers"][name]
        access = Access.parse(server["run"], server.get("granted", ()))
        return (*(str(limit) for limit in server["run"].get("limits", {})), *access.relaxations())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SpecRefused):
        return ()  # then nothing was agreed to


def target_of_ref(ref: str, *, tier: str = "built") -> Target:
    """The target of an image that is named by its tag or digest in the layout."""
    name = "image" if is_digest(ref) else ref.rpartition("/")[2].partition(":")[0].partition("@")[0]
    return Target(name, tier, ref)
