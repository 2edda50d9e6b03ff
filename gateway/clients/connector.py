"""Connect and disconnect: read a client's file, change our entry and nothing else, put the file back whole.

Every edit is checked before it is written: the new text must parse to the old content with only our entry different.
The file as it was is kept once beside it; its mode is kept, and narrowed to 0600 where a token is written.
"""

from __future__ import annotations

import copy
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.clients import jsonc, toml, yaml
from gateway.clients.entry import ENTRY_NAME, Endpoint, Transport, entry, merged
from gateway.clients.errors import ClientEditUnsafe, ClientFileMalformed, ClientFileUnwritable, ClientUnsupported
from gateway.clients.places import Places, Scope, file_of, path_of
from gateway.clients.table import Client, File
from harbourmaster.core.files import PUBLIC_MODE, SECRET_MODE, write_atomic

BACKUP_SUFFIX = ".before-harbourmaster"
MAX_FILE_BYTES = 64 << 20  # Claude Code's own file grows to megabytes; beyond this it is not a settings file
_ATTEMPTS = 3  # the client may rewrite its file while we read it


@dataclass(frozen=True)
class Change:
    """What was done to ``path``; ``backup`` when this was the first time."""

    path: Path
    changed: bool
    backup: Path | None = None


def choose_transport(client: Client, scope: Scope, wanted: Transport | None) -> Transport:
    """http unless the client has none; in a project stdio, because a token does not belong in a repository."""
    if wanted == "http" and client.http is None:
        raise ClientUnsupported(f"{client.title} takes no HTTP servers in its file", remedy="use --transport stdio")
    if wanted is not None:
        return wanted
    return "stdio" if client.http is None or scope == "project" else "http"


def snippet(client: Client, scope: Scope, transport: Transport, endpoint: Endpoint, token: str) -> str:
    """The least file that connects this client."""
    file = file_of(client, scope)
    return _put("", file, entry(client, transport, endpoint, token))


def current(client: Client, scope: Scope, places: Places) -> Any:
    """Our entry in the client's file, or None.  Raises ``ClientFileMalformed``, ``ClientFileUnwritable``."""
    path, file = path_of(client, scope, places), file_of(client, scope)
    return _entry_in(_loads(_read(path), file, path), file)


def connect(
    client: Client, scope: Scope, places: Places, transport: Transport, endpoint: Endpoint, token: str
) -> Change:
    path, file = path_of(client, scope, places), file_of(client, scope)
    wanted = entry(client, transport, endpoint, token)

    def edit(text: str) -> str:
        existing = _entry_in(_loads(text, file, path), file)
        value = merged(client, existing, wanted)
        return text if value == existing else _checked(text, _put(text, file, value), file, path, value)

    return _rewrite(path, edit, file, secret=transport == "http")


def disconnect(client: Client, scope: Scope, places: Places) -> Change:
    path, file = path_of(client, scope, places), file_of(client, scope)

    def edit(text: str) -> str:
        if _entry_in(_loads(text, file, path), file) is None:
            return text
        return _checked(text, _remove(text, file), file, path, None)

    return _rewrite(path, edit, file, secret=False)


def _rewrite(path: Path, edit: Callable[[str], str], file: File, *, secret: bool) -> Change:
    for _ in range(_ATTEMPTS):
        before = _read(path)
        after = edit(before)
        if after == before:
            return Change(path, changed=False)
        if _read(path) == before:
            backup = _back_up(path, before) if _entry_in(_loads(before, file, path), file) is None else None
            _write(path, after, secret=secret)
            return Change(path, changed=True, backup=backup)
    raise ClientFileUnwritable(f"{path} keeps changing while we edit it", remedy="close the client and try again")


def _back_up(path: Path, before: str) -> Path | None:
    """Keep the file as it was before we first touched it."""
    backup = path.with_name(path.name + BACKUP_SUFFIX)
    if not path.exists() or backup.exists():
        return None
    _replace(backup, before, _mode(path) & SECRET_MODE)
    return backup


def _write(path: Path, text: str, *, secret: bool) -> None:
    mode = _mode(path)
    _replace(path, text, mode & SECRET_MODE if secret else mode)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else PUBLIC_MODE


def _replace(path: Path, text: str, mode: int) -> None:
    try:
        write_atomic(path, text.encode(), mode=mode)
    except OSError as e:
        raise ClientFileUnwritable(f"{path} cannot be written: {e.strerror}", remedy="check who owns it") from e


def _read(path: Path) -> str:
    """The text of ``path`` exactly as it is, line ends included; an absent file is empty."""
    try:
        if path.exists() and not path.is_file():
            raise ClientFileUnwritable(f"{path} is not a file", remedy="move it away")
        if path.exists() and path.stat().st_size > MAX_FILE_BYTES:
            raise ClientFileUnwritable(f"{path} is larger than {MAX_FILE_BYTES} bytes", remedy="look what fills it")
        return path.read_bytes().decode() if path.exists() else ""
    except UnicodeDecodeError as e:
        raise ClientFileMalformed(f"{path} is not UTF-8 text", remedy=f"mend {path} in the client") from e
    except OSError as e:
        raise ClientFileUnwritable(f"{path} cannot be read: {e.strerror}", remedy="check who owns it") from e


def _loads(text: str, file: File, path: Path) -> Any:
    readers: dict[str, Callable[[str], Any]] = {"json": jsonc.loads, "toml": toml.loads, "yaml": yaml.loads}
    try:
        body = readers[file.format](text)
        servers = _servers(body, file)
    except jsonc.Malformed as e:
        raise ClientFileMalformed(
            f"{path} is not valid {file.format.upper()}: {e}", remedy="mend it (we left it as it was) and try again"
        ) from e
    if not isinstance(servers, list if file.list_key else dict):
        raise ClientFileMalformed(
            f"{path}: {'.'.join(file.key)} is not a {'list' if file.list_key else 'mapping'}",
            remedy="mend it (we left it as it was) and try again",
        )
    return body


def _servers(body: Any, file: File) -> Any:
    for key in file.key:
        if not isinstance(body, dict):
            raise jsonc.Malformed(f"expected a mapping that holds {key!r}")
        body = body.get(key)
        if body is None:
            return [] if file.list_key else {}
    return body


def _entry_in(body: Any, file: File) -> Any:
    servers = _servers(body, file)
    if file.list_key:
        return next((s for s in servers if isinstance(s, dict) and s.get(file.list_key) == ENTRY_NAME), None)
    return servers.get(ENTRY_NAME)


def _put(text: str, file: File, value: dict[str, Any]) -> str:
    path = (*file.key, ENTRY_NAME)
    if file.format == "toml":
        return toml.put(text, path, value)
    if file.format == "yaml":
        text = text if text.strip() else yaml.document(file.head)
        return yaml.put(text, path, value, list_key=file.list_key)
    if not text.strip():
        for key, said in file.head.items():
            text = jsonc.put(text, (key,), said)
    return jsonc.put(text, path, value)


def _remove(text: str, file: File) -> str:
    path = (*file.key, ENTRY_NAME)
    if file.format == "yaml":
        return yaml.remove(text, path, list_key=file.list_key)
    return toml.remove(text, path) if file.format == "toml" else jsonc.remove(text, path)


def _checked(before: str, after: str, file: File, path: Path, value: dict[str, Any] | None) -> str:
    """``after``, when it says what ``before`` said plus our entry; else raise, with the file as it was."""
    expected, actual = _loads(before, file, path), _loads(after, file, path)
    if _entry_in(actual, file) != value or _without(actual, file) != _without(expected, file, new=not before.strip()):
        raise ClientEditUnsafe(
            f"{path} is written in a way that we cannot edit without changing more than our entry",
            remedy="add it by hand; --print shows what",
        )
    return after


def _without(body: Any, file: File, *, new: bool = False) -> Any:
    """The document less our entry, and less an empty place for servers, which an edit may make or leave."""
    rest = {**copy.deepcopy(file.head), **body} if new else copy.deepcopy(body)
    servers = _servers(rest, file)
    if file.list_key:
        servers[:] = [s for s in servers if not (isinstance(s, dict) and s.get(file.list_key) == ENTRY_NAME)]
    else:
        servers.pop(ENTRY_NAME, None)
    if not servers:
        _parent(rest, file).pop(file.key[-1], None)
    return rest


def _parent(body: Any, file: File) -> Any:
    for key in file.key[:-1]:
        body = body.get(key, {})
    return body
