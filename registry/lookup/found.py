"""What a look-up brings home: enough for a first ``server.yaml``.  Texts are strangers' and are cleaned before use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from registry.entry_file import hidden_characters


@dataclass(frozen=True)
class Found:
    """``source``: the entry's ``source`` as it stands in the file; ``command``: what starts the server, as far as is known."""

    name: str
    title: str
    description: str
    licence: str = ""
    homepage: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    runtime: str = ""
    command: tuple[str, ...] = ()
    image: str = ""
    remote: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a person should look at


def slug(text: str) -> str:
    """``@scope/mcp-server-time`` -> ``time``: a folder's name without the words that every such package has."""
    words = [w for w in re.split(r"[^a-z0-9]+", text.rpartition("/")[2].lower()) if w]
    own = [w for w in words if w not in ("mcp", "server")] or words or ["server"]
    return "-".join(own)[:64].strip("-")


def title_of(name: str) -> str:
    return " ".join(word.capitalize() for word in name.split("-"))


def clean(text: object, limit: int) -> str:
    """One visible line of at most ``limit`` characters."""
    line = " ".join(text.split()) if isinstance(text, str) else ""
    line = "".join(c for c in line if not hidden_characters(c))
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def web_address(*candidates: object) -> str:
    """The first that is a plain https address; git's own spellings are turned into one."""
    for text in candidates:
        if not isinstance(text, str):
            continue
        url = re.sub(r"^git\+|#.*$", "", text.strip()).removesuffix(".git")
        url = re.sub(r"^(?:git|ssh|http)://(?:git@)?", "https://", url)
        if re.fullmatch(r"https://[^\s<>\"']{3,490}", url):
            return url
    return ""
