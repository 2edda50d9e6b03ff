"""Models that other servers run (llama-server, vLLM, any that speaks OpenAI's API), under names like those of the store.

Written by the operator only (``hm model connect``): an address from the network is never connected to.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harbourmaster.core.files import SECRET_MODE, file_lock, make_private_dir, write_atomic
from runner.errors import ModelNotFound, RequestInvalid
from runner.store import reference

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True)
class Remote:
    name: str  # whole: ai/big:latest
    url: str  # of the OpenAI API, with its /v1
    model: str  # the other server's name for it
    key_env: str = ""  # environment variable that holds the key; the key itself is not kept
    context: int = 0  # tokens; 0: not known


class Remotes:
    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Remote]:
        try:
            rows = json.loads(self._path.read_bytes())
            return [Remote(**row) for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as e:
            raise RequestInvalid(
                f"{self._path} is damaged: {e}", remedy="remove it and connect the models again"
            ) from e

    def find(self, name: str) -> Remote | None:
        if reference.looks_like_id(name):
            return None
        whole = str(reference.parse(name))
        return next((r for r in self.all() if r.name == whole), None)

    def put(self, remote: Remote) -> Remote:
        """Raises ``RequestInvalid``."""
        parts = urlsplit(remote.url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise RequestInvalid(
                f"{remote.url!r} is no address of a server", remedy="write http://HOST:PORT/v1", param="url"
            )
        if remote.key_env and not _VARIABLE.fullmatch(remote.key_env):
            raise RequestInvalid("key-env should name an environment variable, not hold the key", param="key_env")
        whole = Remote(**{**asdict(remote), "name": str(reference.parse(remote.name))})
        self._write([r for r in self.all() if r.name != whole.name] + [whole])
        return whole

    def remove(self, name: str) -> None:
        known = self.find(name)
        if known is None:
            raise ModelNotFound(f"no other server's model is named {name}", remedy="see hm model ls", model=name)
        self._write([r for r in self.all() if r != known])

    def _write(self, remotes: list[Remote]) -> None:
        make_private_dir(self._path.parent)
        with file_lock(self._path.with_suffix(".lock")):
            rows = [asdict(r) for r in sorted(remotes, key=lambda r: r.name)]
            write_atomic(self._path, json.dumps(rows, indent=1).encode(), mode=SECRET_MODE)
