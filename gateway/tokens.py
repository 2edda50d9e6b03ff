"""Bearer tokens: who is calling.

``HM_HOME/secrets/tokens.json`` (0600) keeps the sha256 of each token and, for two alone, the token itself, because they are
told again: the operator's (``hm token show``) and the one that connected clients share.  A token is 256 random bits, so an unsalted hash gives nothing away, and a
lookup by hash compares in time that says nothing about the token.  Beside the hash is what its holder may do: scopes,
profiles, servers, and when it ends.  The default token is the operator's own and may do everything.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.errors import TokenExists, TokenFileInvalid, TokenUnknown
from gateway.principals import ALL_SCOPES, CLIENT_SCOPES, SCOPES, Principal
from harbourmaster.core.errors import UsageError
from harbourmaster.core.files import SECRET_MODE, file_lock, make_private_dir, write_atomic

DEFAULT = "default"
CLIENTS = "clients"  # what `hm client connect` writes into other people's programs: a client's usual rights, no more
KEPT = (DEFAULT, CLIENTS)  # in the clear, because they must be told again
PREFIX = "hm_"  # lets secret scanners recognise a leaked token
TOKEN_BYTES = 32
FILE_VERSION = 1

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")


@dataclass(frozen=True)
class TokenInfo:
    name: str
    sha256: str
    created: str  # RFC 3339, UTC
    token: str = ""  # only those of KEPT are kept in the clear
    scopes: tuple[str, ...] = ()  # none: a client's usual ones
    profiles: tuple[str, ...] = ()  # none: any
    servers: tuple[str, ...] = ()  # none: any
    expires: str = ""  # RFC 3339, UTC; empty: never

    @property
    def principal(self) -> Principal:
        usual = ALL_SCOPES if self.name == DEFAULT else CLIENT_SCOPES
        return Principal(
            self.name,
            self.sha256,
            frozenset(self.scopes) or usual,
            frozenset(self.profiles) or None,
            frozenset(self.servers) or None,
            expires=_moment(self.expires).timestamp() if self.expires else None,
        )


class TokenStore:
    """The tokens in one file; ``principal`` is the hot path and touches no file for a token that it knows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.revision = 0
        """Raised whenever other tokens are known than before."""
        self._stamp: tuple[int, int] | None = None
        self._tokens: dict[str, TokenInfo] = {}
        self._principals: dict[bytes, Principal] = {}
        self.refresh()

    def principal(self, token: bytes) -> Principal | None:
        """Whose ``token`` it is, or None when nobody holds it.  One that has ended is still told; see its ``expires``."""
        digest = hashlib.sha256(token).digest()
        found = self._principals.get(digest)
        if found is None and self._look():  # made a moment ago, perhaps: whoever made it uses it at once
            return self._principals.get(digest)
        return found

    def _look(self) -> bool:
        try:
            return self.refresh()
        except TokenFileInvalid:
            return False  # `refresh` is called now and then too, and what it raises is complained about

    def holds(self, key: str) -> bool:
        """Whether the token behind ``Principal.key`` is still good."""
        return any(token.sha256 == key for token in self._tokens.values())

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
        return self.kept(DEFAULT)

    def kept(self, name: str) -> str:
        """The token ``name``, one of ``KEPT``; made on first use."""
        with self._exclusive():
            known = self._tokens.get(name)
            if known is None or not known.token:
                return self._add(name, keep=True)
            return known.token

    def create(
        self,
        name: str,
        *,
        scopes: Collection[str] = (),
        profiles: Collection[str] = (),
        servers: Collection[str] = (),
        expires: str = "",
    ) -> str:
        """A new token, shown this once; ``expires`` in RFC 3339.  Raises ``TokenExists``, ``UsageError``."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"not a token name: {name!r}", remedy="letters, digits, '.', '_' and '-', at most 64")
        if unknown := sorted(set(scopes) - SCOPES.keys()):
            raise UsageError(f"not a scope: {unknown[0]!r}", remedy=f"scopes are {', '.join(SCOPES)}")
        limits = {"scopes": scopes, "profiles": profiles, "servers": servers}
        with self._exclusive():
            if name in self._tokens:
                raise TokenExists(
                    f"there is a token named {name}", remedy=f"choose another name, or: hm token revoke {name}"
                )
            given = {key: tuple(sorted(set(values))) for key, values in limits.items()}
            return self._add(name, keep=name in KEPT, expires=expires, **given)

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

    def _add(self, name: str, *, keep: bool, **limits: Any) -> str:
        token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        info = TokenInfo(name, hashlib.sha256(token.encode()).hexdigest(), created, token if keep else "", **limits)
        self._save({**self._tokens, name: info})
        return token

    def _save(self, tokens: dict[str, TokenInfo]) -> None:
        rows = [{k: v for k, v in vars(t).items() if v} for t in sorted(tokens.values(), key=lambda t: t.name)]
        body = json.dumps({"version": FILE_VERSION, "tokens": rows}, indent=2).encode() + b"\n"
        write_atomic(self._path, body, mode=SECRET_MODE)
        self._load(tokens)
        self._stamp = self._stat()

    def _load(self, tokens: dict[str, TokenInfo]) -> None:
        self.revision += 1
        self._tokens = tokens
        self._principals = {bytes.fromhex(t.sha256): t.principal for t in tokens.values()}

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


def _info(row: dict[str, Any]) -> TokenInfo:
    lists: dict[str, tuple[str, ...]] = {
        key: tuple(row[key]) for key in ("scopes", "profiles", "servers") if key in row
    }
    fields: dict[str, Any] = {**row, **lists}
    info = TokenInfo(**fields)
    if not all(isinstance(each, str) for values in lists.values() for each in values):
        raise ValueError("a scope, profile or server is not text")
    if unknown := set(info.scopes) - SCOPES.keys():
        raise ValueError(f"{sorted(unknown)[0]!r} is not a scope")
    if info.expires:
        _moment(info.expires)
    return info


def _moment(text: str) -> datetime:
    """RFC 3339, UTC where it names no zone.  Raises ``ValueError``."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _read(path: Path) -> dict[str, TokenInfo]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        body = json.loads(raw)
        if body["version"] != FILE_VERSION:
            raise ValueError(f"version {body['version']!r}")
        tokens = [_info(row) for row in body["tokens"]]
        if any(len(bytes.fromhex(t.sha256)) != hashlib.sha256().digest_size for t in tokens):
            raise ValueError("a hash is not a sha256")
    except (ValueError, KeyError, TypeError) as e:
        raise TokenFileInvalid(
            f"{path} cannot be read: {e}", remedy="mend it, or remove it and run: hm token show"
        ) from e
    return {t.name: t for t in tokens}
