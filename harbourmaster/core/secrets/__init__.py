"""Secrets of servers: kept by the system's keyring or an age file, or read from where they live; never shown again.

Usage: ``store = SecretStore.of(settings)``; ``store.put(SecretId("github", "github.token"), "...")``;
``deliver(store, "github", declared)`` gives what one sandbox gets.
"""

from harbourmaster.core.secrets.delivery import DeclaredSecret, Delivery, declared_from, deliver, missing
from harbourmaster.core.secrets.model import SecretId
from harbourmaster.core.secrets.store import SecretStore

__all__ = ["DeclaredSecret", "Delivery", "SecretId", "SecretStore", "declared_from", "deliver", "missing"]
