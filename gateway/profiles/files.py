"""Profiles on disk: ``HM_HOME/profiles/<name>.yaml``, written whole, edited without losing a person's comments."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from gateway.profiles.errors import ProfileExists, ProfileInvalid, ProfileUnknown
from gateway.profiles.schema import DEFAULT, EVERYTHING, NAME, Profile, body_of, parse
from harbourmaster.core.errors import UsageError
from harbourmaster.core.files import file_lock, write_atomic
from registry.entry_file import MAX_ENTRY_BYTES

log = logging.getLogger("gateway.profiles")

SUFFIX = ".yaml"
Stamp = tuple[tuple[str, int, int, int], ...]


class ProfileFiles:
    """The profiles in one folder; it need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stamp: Stamp = ()

    def load_all(self) -> dict[str, Profile | ProfileInvalid]:
        """Every profile by name; one that cannot be read is there as its error."""
        self._stamp = self._stat()
        found: dict[str, Profile | ProfileInvalid] = {}
        for path in self._paths():
            try:
                found[path.stem] = self.load(path.stem)
            except ProfileInvalid as e:
                found[path.stem] = e
            except ProfileUnknown:  # removed meanwhile
                continue
        return found

    def changed(self) -> dict[str, Profile | ProfileInvalid] | None:
        """As ``load_all`` when a file changed since it was last called, else None; complains about what it cannot read."""
        if self._stat() == self._stamp:
            return None
        found = self.load_all()
        for name, profile in found.items():
            if isinstance(profile, ProfileInvalid):
                log.error("%s [%s]; profile %s stays as it was", profile.message, profile.code, name)
        return found

    def exists(self, name: str) -> bool:
        return self.path(name).is_file()

    def path(self, name: str) -> Path:
        """Where the profile ``name`` is.  Raises ``UsageError`` for what cannot be a name."""
        if not NAME.fullmatch(name):
            raise UsageError(
                f"not a profile name: {name!r}", remedy="lower-case letters, digits and dashes, at most 63"
            )
        return self.folder / f"{name}{SUFFIX}"

    def load(self, name: str) -> Profile:
        """Raises ``ProfileUnknown``, ``ProfileInvalid``."""
        path = self.path(name)
        return parse(path, self._read(path, name))

    def create(self, name: str, profile: Profile) -> Path:
        """Raises ``ProfileExists``."""
        path = self.path(name)
        with self._exclusive():
            if path.exists():
                raise ProfileExists(f"there is a profile {name} already: {path}", remedy=f"see: hm profile show {name}")
            write_atomic(path, dumped(profile))
        return path

    def put(self, name: str, profile: Profile) -> Path:
        """Create or replace."""
        path = self.path(name)
        with self._exclusive():
            write_atomic(path, dumped(profile))
        return path

    def edit(self, name: str, change: Callable[[CommentedMap], None], start: Profile | None = None) -> Profile:
        """Let ``change`` alter the file's content in place, comments kept; what it would say must be valid.

        ``start``: what the profile is where it has no file yet.  Raises ``ProfileUnknown``, ``ProfileInvalid``.
        """
        path = self.path(name)
        with self._exclusive():
            raw = dumped(start) if start is not None and not path.exists() else self._read(path, name)
            parse(path, raw)
            body = _editor().load(raw.decode())
            change(body)
            written = _written(body)
            profile = parse(path, written)
            write_atomic(path, written)
        return profile

    def keep(self, name: str, server: str, values: Mapping[str, Any]) -> None:
        """Add ``server`` with these values to the profile, as a client of it wished and its operator allows."""

        def change(body: CommentedMap) -> None:
            rules = section(body, "servers", server)
            if values:
                section(rules, "config").update(values)

        self.edit(name, change, EVERYTHING if name == DEFAULT else None)

    def remove(self, name: str) -> None:
        """Raises ``ProfileUnknown``."""
        path = self.path(name)
        with self._exclusive():
            try:
                path.unlink()
            except FileNotFoundError:
                raise _unknown(name) from None

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with file_lock(self.folder / ".guard"):
            yield

    def _paths(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return [p for p in sorted(self.folder.iterdir()) if p.suffix == SUFFIX and NAME.fullmatch(p.stem)]
        return []

    def _stat(self) -> Stamp:
        """Changes when a file does: whole files are renamed into place, so the inode is part of it."""
        found = []
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)

    def _read(self, path: Path, name: str) -> bytes:
        try:
            with path.open("rb") as f:
                return f.read(MAX_ENTRY_BYTES + 1)
        except FileNotFoundError:
            raise _unknown(name) from None
        except OSError as e:
            raise ProfileInvalid(f"{path} cannot be read: {e.strerror}", remedy="check who owns it") from e


def dumped(profile: Profile) -> bytes:
    return _written(body_of(profile))


def section(body: CommentedMap, *keys: str) -> CommentedMap:
    """The mapping at ``keys``, made where there is none."""
    for key in keys:
        if not isinstance(body.get(key), Mapping):
            body[key] = CommentedMap()
        body = body[key]
    return body


def _written(body: Any) -> bytes:
    out = io.BytesIO()
    _editor().dump(body, out)
    return out.getvalue()


def _editor() -> YAML:
    editor = YAML(typ="rt")
    editor.preserve_quotes = True
    editor.indent(mapping=2, sequence=4, offset=2)
    editor.width = 120
    return editor


def _unknown(name: str) -> ProfileUnknown:
    return ProfileUnknown(
        f"there is no profile {name}", remedy=f"see: hm profile ls; make it: hm profile create {name}"
    )
