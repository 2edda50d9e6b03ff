"""What the clients of one profile see.  Clients hold the view, so a change reaches them without a new session."""

from __future__ import annotations

from typing import Final

from gateway.index import Index

DEFAULT: Final = "default"  # served at /mcp; every enabled server, unless a file of that name says otherwise


class View:
    """``index`` is replaced as a whole when the lock or the profile changes."""

    __slots__ = ("index", "name")

    def __init__(self, name: str, index: Index) -> None:
        self.name = name
        self.index = index
