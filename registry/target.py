"""What is to be verified: a name, and what the entry and the lock say about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from harbourmaster.core.digests import is_digest
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


def target_of(settings: Settings, name: str, *, locked: str = "") -> Target:
    """The target of a server in ``settings.servers_dir``.  Raises ``EntryNotFound`` or ``EntryInvalid``."""
    entry = load_entry(settings.servers_dir / name)
    return Target(entry.name, entry.tier, entry.ref, locked, EntryFacts(relaxations=tuple(sorted(entry.limits()))))


def target_of_ref(ref: str, *, tier: str = "built") -> Target:
    """The target of an image that is named by its tag or digest in the layout."""
    name = "image" if is_digest(ref) else ref.rpartition("/")[2].partition(":")[0].partition("@")[0]
    return Target(name, tier, ref)
