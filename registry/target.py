"""What is to be verified: a name, and what the entry and the lock say about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from harbourmaster.core.digests import is_digest
from harbourmaster.core.errors import ConfigError
from harbourmaster.core.settings import Settings
from policies.admission import EntryFacts
from registry.schema import load_entry


@dataclass(frozen=True)
class Target:
    """``ref``: what the layout calls the image (``time:1.0``, or a manifest digest); ``locked``: the manifest digest that
    the lock names, empty without a lock."""

    name: str
    tier: str
    ref: str
    locked: str = ""
    facts: EntryFacts = field(default_factory=EntryFacts)
    relaxed: bool = False  # ``facts`` name more relaxations than the entry does


def locked_image(settings: Settings, name: str) -> str:
    """The manifest digest that ``harbour.lock`` names for a server; empty where it names none.

    The gateway owns that file and reads it strictly; here an unreadable one counts as a refusal, never as no lock.
    """
    try:
        servers = json.loads(settings.lock_file.read_bytes())["servers"]
        digest = servers[name]["image"] if name in servers else ""
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError(
            f"{settings.lock_file} cannot be read: {e}", remedy="restore it, or write it anew: hm lock update"
        ) from e
    return digest if isinstance(digest, str) else "unreadable"


def target_of(settings: Settings, name: str, *, locked: str = "") -> Target:
    """The target of a server in ``settings.servers_dir``.  Raises ``EntryNotFound`` or ``EntryInvalid``."""
    entry = load_entry(settings.servers_dir / name)
    facts = EntryFacts(relaxations=tuple(sorted(entry.limits())), hosts=tuple(sorted(entry.run.network.hosts)))
    return Target(entry.name, entry.tier, entry.ref, locked, facts)


def target_of_ref(ref: str, *, tier: str = "built") -> Target:
    """The target of an image that is named by its tag or digest in the layout."""
    name = "image" if is_digest(ref) else ref.rpartition("/")[2].partition(":")[0].partition("@")[0]
    return Target(name, tier, ref)
