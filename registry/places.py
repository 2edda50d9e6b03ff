"""Where entries lie: the starter catalog's folder, and those that were taken from another catalog."""

from __future__ import annotations

from pathlib import Path

from harbourmaster.core.errors import UsageError
from harbourmaster.core.program import is_clone
from harbourmaster.core.settings import Settings
from registry.entry import ENTRY_FILE, Entry
from registry.schema import load_entry


def adopted_dir(settings: Settings) -> Path:
    """Entries of other catalogs that a person took over; their images were pulled and are never built here."""
    return settings.home / "servers"


def entry_folder(settings: Settings, name: str) -> Path:
    """The folder of ``name``: the starter catalog's where it has one (no other catalog may take its place)."""
    own = settings.servers_dir / name
    adopted = adopted_dir(settings) / name
    return adopted if not (own / ENTRY_FILE).is_file() and (adopted / ENTRY_FILE).is_file() else own


def writable_dir(settings: Settings, root: Path | None) -> Path:
    """The folder that entries are written to: the one that was named, else the clone's own.  Raises ``UsageError``."""
    if root is None and not is_clone():
        raise UsageError(
            f"{settings.servers_dir} belongs to the installed package and is not written to",
            remedy="name a folder of your own: --root DIRECTORY",
        )
    return root or settings.servers_dir


def entry_names(settings: Settings) -> list[str]:
    """Every name that has an entry, in order."""
    places = (settings.servers_dir, adopted_dir(settings))
    return sorted({path.parent.name for place in places for path in place.glob(f"*/{ENTRY_FILE}")})


def find_entry(settings: Settings, name: str) -> Entry:
    """Raises ``EntryInvalid``."""
    return load_entry(entry_folder(settings, name))
