"""The kinds of text and number that a ``server.yaml`` is made of, and the fixed list of categories."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from registry import addresses

CATEGORIES = (
    "ai",
    "analytics",
    "blockchain",
    "cloud",
    "commerce",
    "communication",
    "content",
    "crm",
    "data",
    "database",
    "design",
    "developer",
    "developer-tools",
    "devops",
    "documents",
    "education",
    "files",
    "finance",
    "games",
    "health",
    "iot",
    "knowledge",
    "maps",
    "monitoring",
    "other",
    "productivity",
    "reasoning",
    "reference",
    "search",
    "security",
    "utilities",
    "web",
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
Prose = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
# No leading dash: these become arguments of pip, npm and apt
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$", max_length=128)]
Debian = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$", max_length=64)]  # Debian Policy 5.6.1
Package = Annotated[
    str, StringConstraints(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=214)
]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
# Dots lead into objects, as in Docker's {{server.object.member}}
Parameter = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*$", max_length=64)
]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=128)]
Argument = Annotated[str, StringConstraints(max_length=4096)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]  # git's SHA-1 object name
Integrity = Annotated[str, StringConstraints(pattern=r"^sha512-[A-Za-z0-9+/]{86}==$")]  # W3C Subresource Integrity
WebAddress = Annotated[
    str, StringConstraints(pattern=r"^https://[^\s<>\"']+$", max_length=500), AfterValidator(lambda url: _public(url))
]
Folder = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")]
# Exact host, literal IPv4 address, or *.suffix; docs/egress.md
Host = Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*:[0-9]{1,5}$", max_length=260)]


def _public(url: str) -> str:
    """Icons are shown and repositories fetched: neither may lead into the network of whoever does it."""
    if reason := addresses.refusal(url):
        raise ValueError(f"{url[:200]} {reason}")
    return url


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
