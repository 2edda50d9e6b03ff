"""Where entries lie: the starter catalog's folder, and those that were taken from another catalog."""

from __future__ import annotations

from pathlib import Path

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


def find_entry(settings: Settings, name: str) -> Entry:
    """Raises ``EntryInvalid``."""
    return load_entry(entry_folder(settings, name))
