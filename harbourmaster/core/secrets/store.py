"""All secrets of one home.  Writers take turns; a value is written before the index names it, and forgotten after."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harbourmaster.core.files import file_lock, make_private_dir
from harbourmaster.core.secrets.agefile import AgeFile
from harbourmaster.core.secrets.errors import KeyringFailed, SecretInvalid, SecretMissing, SecretUnknown
from harbourmaster.core.secrets.index import Held, Index, read_index, write_index
from harbourmaster.core.secrets.keyrings import Keyring, usable_keyring
from harbourmaster.core.secrets.model import STORED, Kind, SecretId, Source, checked_value
from harbourmaster.core.secrets.process import keep_no_traces
from harbourmaster.core.secrets.sources import read_source
from harbourmaster.core.settings import Settings

KEYRING_SERVICE = "harbourmaster"


class SecretStore:
    """Blocking; for threads.  ``ask``: asks a person for the passphrase; called only when the settings have none."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        ask: Callable[[], str] = str,
        keyring: Callable[[], Keyring | None],
    ) -> None:
        self._folder = settings.secrets_dir
        self._index_path = self._folder / "index.json"
        self._backend = settings.secrets_backend
        self._environ = environ
        self._find_keyring = keyring
        given = settings.secrets_passphrase.get_secret_value()
        self._age = AgeFile(self._folder / "secrets.age", settings.keys_dir / "secrets.key", given, ask)

    @classmethod
    def of(cls, settings: Settings, *, ask: Callable[[], str] = str) -> SecretStore:
        """The store of this home, with this process's environment and this session's keyring."""
        keep_no_traces()
        return cls(settings, environ=os.environ, ask=ask, keyring=lambda: _keyring_of(settings.home))

    # -- names

    def list(self) -> list[Held]:
        """Everything that was set, by server and name; opens nothing.  Raises as ``read_index``."""
        return [held for _, held in sorted(self._index().items())]

    def has(self, secret: SecretId) -> bool:
        return secret in self._index()

    # -- values

    def get(self, secret: SecretId) -> str:
        """The value now.  Raises ``SecretMissing``, or what its backend raises."""
        held = self._index().get(secret)
        value = None if held is None else self._value(held)
        if value is None:
            raise SecretMissing(f"{secret.server} needs the secret {secret.name}", remedy=f"run: {secret.set_command}")
        return value

    def put(self, secret: SecretId, value: str) -> Held:
        """Set or replace; it says where the value went.  Raises ``SecretInvalid``, or what the backend raises."""
        checked_value(value)
        with self._turn() as index:
            source = Source(self._kind())
            self._store(source.kind, str(secret), value)
            return self._record(index, secret, source)

    def refer(self, secret: SecretId, source: Source) -> Held:
        """Remember where the value lives, instead of the value."""
        with self._turn() as index:
            return self._record(index, secret, source)

    def rotate(self, secret: SecretId, value: str) -> Held:
        """Replace a value that is kept here, where it is kept.  Raises ``SecretUnknown``, ``SecretInvalid``."""
        checked_value(value)
        with self._turn() as index:
            held = self._known(index, secret)
            if held.source.kind not in STORED:
                raise SecretInvalid(
                    f"{secret.name} of {secret.server} is read from {held.source}",
                    remedy=f"change it there; or keep it here: {secret.set_command}",
                )
            self._store(held.source.kind, str(secret), value)
            return self._record(index, secret, held.source)

    def remove(self, secret: SecretId) -> None:
        """Forget it.  Raises ``SecretUnknown``."""
        with self._turn() as index:
            held = self._known(index, secret)
            write_index(self._index_path, {i: h for i, h in index.items() if i != secret})
            self._drop(held.source.kind, str(secret))

    # -- the passphrase of the age file's key

    def seal(self, passphrase: str) -> None:
        """Guard the key with ``passphrase``; "" takes the guard away."""
        with self._turn():
            self._age.seal(passphrase)

    @property
    def sealed(self) -> bool:
        return self._age.sealed

    # -- inside

    def _index(self) -> Index:
        return read_index(self._index_path)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[Index]:
        make_private_dir(self._folder)
        with file_lock(self._folder / "secrets.guard"):
            yield self._index()

    def _known(self, index: Index, secret: SecretId) -> Held:
        if secret in index:
            return index[secret]
        raise SecretUnknown(f"{secret.server} has no secret {secret.name}", remedy="see: hm secret ls")

    def _record(self, index: Index, secret: SecretId, source: Source) -> Held:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        before = index.get(secret)
        held = Held(secret, source, before.created if before else now, now)
        write_index(self._index_path, index | {secret: held})
        if before is not None and before.source.kind != source.kind:
            self._drop(before.source.kind, str(secret))
        return held

    def _kind(self) -> Kind:
        if self._backend == "age" or (self._backend == "auto" and self._find_keyring() is None):
            return "age"
        return "keyring"

    def _keyring(self) -> Keyring:
        found = self._find_keyring()
        if found is None:
            raise KeyringFailed(
                "no system keyring is usable here",
                remedy="log in to the desktop that has it, or keep secrets in a file: HM_SECRETS_BACKEND=age",
            )
        return found

    def _value(self, held: Held) -> str | None:
        match held.source.kind:
            case "keyring":
                return self._keyring().get(str(held.id))
            case "age":
                return self._age.read().get(str(held.id))
        return read_source(held.source, self._environ)

    def _store(self, kind: Kind, key: str, value: str) -> None:
        if kind == "keyring":
            self._keyring().put(key, value)
        else:
            self._age.write(self._age.read() | {key: value})

    def _drop(self, kind: Kind, key: str) -> None:
        if kind == "keyring":
            self._keyring().drop(key)
        elif kind == "age":
            self._age.write({k: v for k, v in self._age.read().items() if k != key})


def _keyring_of(home: Path) -> Keyring | None:
    backend = usable_keyring()
    if backend is None:
        return None
    return Keyring(backend, f"{KEYRING_SERVICE}:{hashlib.sha256(str(home).encode()).hexdigest()[:16]}")
