"""Bearer tokens: who is calling.

``HM_HOME/secrets/tokens.json`` (0600) keeps the sha256 of each token and, for the default one alone, the token itself,
because ``hm token show`` must print it again.  A token is 256 random bits, so an unsalted hash gives nothing away, and a
lookup by hash compares in time that says nothing about the token.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import TokenExists, TokenFileInvalid, TokenUnknown
from harbourmaster.core.errors import UsageError
from harbourmaster.core.files import SECRET_MODE, file_lock, make_private_dir, write_atomic

DEFAULT = "default"
PREFIX = "hm_"  # lets secret scanners recognise a leaked token
TOKEN_BYTES = 32
FILE_VERSION = 1

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")


@dataclass(frozen=True)
class TokenInfo:
    name: str
    sha256: str
    created: str  # RFC 3339, UTC
    token: str = ""  # only the default one is kept in the clear


class TokenStore:
    """The tokens in one file; ``principal`` is the hot path and touches no file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._tokens: dict[str, TokenInfo] = {}
        self._principals: dict[bytes, str] = {}
        self.refresh()

    def principal(self, token: bytes) -> str | None:
        """The name of ``token``, or None when nobody holds it."""
        return self._principals.get(hashlib.sha256(token).digest())

    def refresh(self) -> bool:
        """Read the file again if it changed on disk; True when it did."""
        stamp = self._stat()
        if stamp == self._stamp:
            return False
        self._load(_read(self._path))
        self._stamp = stamp
        return True

    def default(self) -> str:
        """The default token; made on first use."""
        with self._exclusive():
            known = self._tokens.get(DEFAULT)
            if known is None or not known.token:
                return self._add(DEFAULT, keep=True)
            return known.token

    def create(self, name: str) -> str:
        """A new token, shown this once.  Raises ``TokenExists``, ``UsageError``."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"not a token name: {name!r}", remedy="letters, digits, '.', '_' and '-', at most 64")
        with self._exclusive():
            if name in self._tokens:
                raise TokenExists(
                    f"there is a token named {name}", remedy=f"choose another name, or: hm token revoke {name}"
                )
            return self._add(name, keep=name == DEFAULT)

    def revoke(self, name: str) -> None:
        """Forget ``name``; running gateways refuse it within a second.  Raises ``TokenUnknown``."""
        with self._exclusive():
            if name not in self._tokens:
                raise TokenUnknown(f"no token named {name}", remedy="see: hm token ls")
            self._save({n: t for n, t in self._tokens.items() if n != name})

    def list(self) -> list[TokenInfo]:
        return sorted(self._tokens.values(), key=lambda t: t.name)

    def _exclusive(self) -> _Exclusive:
        return _Exclusive(self, self._path)

    def _add(self, name: str, *, keep: bool) -> str:
        token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        info = TokenInfo(name, hashlib.sha256(token.encode()).hexdigest(), created, token if keep else "")
        self._save({**self._tokens, name: info})
        return token

    def _save(self, tokens: dict[str, TokenInfo]) -> None:
        rows = [{k: v for k, v in vars(t).items() if v} for t in sorted(tokens.values(), key=lambda t: t.name)]
        body = json.dumps({"version": FILE_VERSION, "tokens": rows}, indent=2).encode() + b"\n"
        write_atomic(self._path, body, mode=SECRET_MODE)
        self._load(tokens)
        self._stamp = self._stat()

    def _load(self, tokens: dict[str, TokenInfo]) -> None:
        self._tokens = tokens
        self._principals = {bytes.fromhex(t.sha256): t.name for t in tokens.values()}

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino


class _Exclusive:
    """Hold the file's lock and see what others wrote before changing it."""

    def __init__(self, store: TokenStore, path: Path) -> None:
        make_private_dir(path.parent)
        self._store = store
        self._lock = file_lock(path.with_suffix(".guard"))

    def __enter__(self) -> None:
        self._lock.__enter__()
        self._store.refresh()

    def __exit__(self, *exc: Any) -> None:
        self._lock.__exit__(*exc)


def _read(path: Path) -> dict[str, TokenInfo]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        body = json.loads(raw)
        if body["version"] != FILE_VERSION:
            raise ValueError(f"version {body['version']!r}")
        tokens = [TokenInfo(**row) for row in body["tokens"]]
        if any(len(bytes.fromhex(t.sha256)) != hashlib.sha256().digest_size for t in tokens):
            raise ValueError("a hash is not a sha256")
    except (ValueError, KeyError, TypeError) as e:
        raise TokenFileInvalid(
            f"{path} cannot be read: {e}", remedy="mend it, or remove it and run: hm token show"
        ) from e
    return {t.name: t for t in tokens}
