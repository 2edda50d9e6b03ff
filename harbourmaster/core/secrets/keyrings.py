"""The system's keyring: Secret Service or KWallet on Linux, Keychain, Windows Credential Locker.

Only the stores that ``keyring`` itself ships count: a third-party backend may keep values in a plain file.
"""

from __future__ import annotations

from typing import Any

from harbourmaster.core.secrets.errors import KeyringFailed

TRUSTED = ("SecretService", "kwallet", "libsecret", "macOS", "Windows")  # modules of keyring.backends


def usable_keyring() -> Any:
    """The keyring of this session, or None where there is no real one (a server without a desktop)."""
    import keyring
    from keyring.backends.chainer import ChainerBackend

    try:
        found = keyring.get_keyring()
        candidates = list(found.backends) if isinstance(found, ChainerBackend) else [found]
    except Exception:  # a broken desktop bus raises whatever it likes, and means the same
        return None
    return next((each for each in candidates if _is_trusted(each)), None)


def _is_trusted(backend: Any) -> bool:
    package, _, rest = type(backend).__module__.partition("keyring.backends.")
    return package == "" and rest.split(".")[0] in TRUSTED


class Keyring:
    """Values under one service name per home, so that two installations of one user stay apart."""

    def __init__(self, backend: Any, service: str) -> None:
        self._backend = backend
        self._service = service

    def get(self, key: str) -> str | None:
        """None where the keyring has none.  Raises ``KeyringFailed``, as all here."""
        value = self._call("get_password", key)
        return None if value is None else str(value)

    def put(self, key: str, value: str) -> None:
        self._call("set_password", key, value)
        if self.get(key) != value:  # some cut long values short
            raise KeyringFailed("the keyring did not keep the value whole", remedy="set HM_SECRETS_BACKEND=age")

    def drop(self, key: str) -> None:
        if self.get(key) is not None:
            self._call("delete_password", key)

    def _call(self, method: str, *arguments: str) -> Any:
        from keyring.errors import KeyringError

        try:
            return getattr(self._backend, method)(self._service, *arguments)
        except KeyringError as e:
            kind = type(e).__name__
        except Exception as e:  # errors of the bus, of which there are many kinds
            kind = type(e).__name__
        raise KeyringFailed(
            f"the system's keyring did not answer ({kind})",
            remedy="unlock it; a machine without a desktop uses a file: HM_SECRETS_BACKEND=age",
        )
