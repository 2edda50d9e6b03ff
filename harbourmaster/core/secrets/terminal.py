"""Asking a person, without showing what is typed."""

from __future__ import annotations

import sys
from getpass import getpass


def can_ask() -> bool:
    return sys.stdin.isatty()


def ask(question: str) -> str:
    """One line, not echoed; the question goes to the terminal, never to stdout."""
    return getpass(f"{question}: ")


def ask_passphrase() -> str:
    """``""`` where nobody can be asked."""
    return ask("Passphrase of the secrets") if can_ask() else ""
