"""Where a client's files are on this machine.  Nothing here creates anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.clients.errors import ClientFileUnwritable, ClientUnknown, ClientUnsupported
from gateway.clients.table import CLIENTS, Client, File

Scope = Literal["user", "project"]


@dataclass(frozen=True)
class Places:
    home: Path
    cwd: Path
    environ: Mapping[str, str]
    mac: bool = False
    which: Callable[[str], str | None] = shutil.which

    @property
    def config(self) -> Path:
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config")

    @property
    def apps(self) -> Path:
        return self.home / "Library" / "Application Support" if self.mac else self.config

    def expand(self, path: str) -> Path:
        return Path(path.format(home=self.home, config=self.config, apps=self.apps))


def client_named(name: str) -> Client:
    found = next((c for c in CLIENTS if c.name == name), None)
    if found is None:
        known = ", ".join(c.name for c in CLIENTS)
        raise ClientUnknown(f"no client named {name!r}", remedy=f"one of: {known}")
    return found


def file_of(client: Client, scope: Scope) -> File:
    if scope == "user":
        return client.user
    if client.project is None:
        raise ClientUnsupported(f"{client.title} has no file per project", remedy="leave out --project")
    return client.project


def path_of(client: Client, scope: Scope, places: Places) -> Path:
    """The file to read and write, symlinks followed; a project's file must lie inside that project."""
    file = file_of(client, scope)
    if scope == "project":
        root = places.cwd.resolve()
        path = _existing(root / file.path, file).resolve()
        if not path.is_relative_to(root):
            raise ClientFileUnwritable(
                f"{file.path} leads out of this project, to {path}", remedy=f"replace the symlink {root / file.path}"
            )
        return path
    own = places.environ.get(file.override) if file.override else None
    path = Path(own) / Path(file.path).name if own else places.expand(file.path)
    return _existing(path, file).resolve()


def _existing(path: Path, file: File) -> Path:
    other = path.with_name(file.also) if file.also else path
    return other if other.exists() and not path.exists() else path


def is_installed(client: Client, places: Places) -> bool:
    return any(_present(sign, places) for sign in client.signs)


def _present(sign: str, places: Places) -> bool:
    return places.expand(sign).exists() if "/" in sign else places.which(sign) is not None
