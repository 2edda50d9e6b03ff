"""What one sandbox gets: the secrets that its entry declares, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harbourmaster.core.redaction import IN_USE
from harbourmaster.core.secrets.errors import SecretMissing
from harbourmaster.core.secrets.model import SecretId
from harbourmaster.core.secrets.store import SecretStore

PLACE = "/run/secrets"  # where Docker and Compose put secrets; images know it
FILE_SUFFIX = "_FILE"  # the official images' convention: POSTGRES_PASSWORD_FILE names the file


@dataclass(frozen=True)
class DeclaredSecret:
    """One of ``config.secrets``: ``env`` gets the value, or ``env`` + ``_FILE`` the path of a file that holds it."""

    name: str
    env: str
    as_file: bool = False
    required: bool = True
    stored: str = ""  # which of the server's secrets it gets, where a profile names another; empty: the one of its name

    def id_for(self, server: str) -> SecretId:
        return SecretId(server, self.stored or self.name)

    def as_dict(self) -> dict[str, Any]:
        """Its form in ``harbour.lock``, under ``run.secrets``."""
        return {"name": self.name, "env": self.env, "as": "file" if self.as_file else "env", "required": self.required}

    @property
    def variable(self) -> str:
        if not self.as_file or self.env.endswith(FILE_SUFFIX):
            return self.env
        return self.env + FILE_SUFFIX


@dataclass(frozen=True)
class Delivery:
    """``env``: variables, paths of files included.  ``secret_env``: those that hold values.  ``files``: name to value."""

    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_env: frozenset[str] = frozenset()
    files: Mapping[str, str] = field(default_factory=dict, repr=False)


def declared_from(run: Mapping[str, Any]) -> tuple[DeclaredSecret, ...]:
    """From ``LockedServer.run``; a lock that is older than secrets has none."""
    return tuple(
        DeclaredSecret(s["name"], s["env"], s.get("as") == "file", bool(s.get("required", True)), s.get("from", ""))
        for s in run.get("secrets", ())
    )


def missing(store: SecretStore, server: str, declared: Iterable[DeclaredSecret]) -> list[SecretId]:
    """Required and never set; opens nothing."""
    wanted = [each.id_for(server) for each in declared if each.required]
    if not wanted:
        return []
    known = {held.id for held in store.list()}
    return [each for each in wanted if each not in known]


def deliver(store: SecretStore, server: str, declared: Iterable[DeclaredSecret]) -> Delivery:
    """Read the values for a sandbox of ``server``, and have them redacted in this process from now on.

    Raises ``SecretMissing`` for a required one that was never set, and what the store raises.
    """
    declared = tuple(declared)
    if not declared:
        return Delivery()
    _require(server, missing(store, server, declared))
    known = {held.id for held in store.list()}
    values = {each: store.get(each.id_for(server)) for each in declared if each.id_for(server) in known}
    IN_USE.add(values.values())
    return delivery_of(values)


def stored_values(store: SecretStore, server: str) -> tuple[str, ...]:
    """Every value that ``server`` may have, for whoever shows its words."""
    return tuple(store.get(held.id) for held in store.list() if held.id.server == server)


def delivery_of(values: Mapping[DeclaredSecret, str]) -> Delivery:
    return Delivery(
        env={each.variable: f"{PLACE}/{each.name}" if each.as_file else value for each, value in values.items()},
        secret_env=frozenset(each.variable for each in values if not each.as_file),
        files={each.name: value for each, value in values.items() if each.as_file},
    )


def _require(server: str, absent: list[SecretId]) -> None:
    if absent:
        names = ", ".join(each.name for each in absent)
        raise SecretMissing(
            f"{server} needs {'the secret' if len(absent) == 1 else 'the secrets'} {names}",
            remedy="run: " + " && ".join(each.set_command for each in absent),
            server=server,
            secrets=[each.name for each in absent],
        )
