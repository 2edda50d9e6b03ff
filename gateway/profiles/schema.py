"""The form of ``HM_HOME/profiles/<name>.yaml``.  Strict: what is not in it is refused, with file, line, key and remedy.

docs/profiles.md explains every field.  JSON is read as well, being YAML.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from gateway.profiles.errors import ProfileInvalid
from harbourmaster.core.errors import HarbourError
from registry.entry_file import Document, dotted, parse_document

NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # as a server's: it becomes a path and a file's name
DEFAULT: Final = "default"  # served at /mcp; every enabled server, unless a file of that name says otherwise
REMEDY: Final = "docs/profiles.md shows every field"

Glob = Annotated[
    str, StringConstraints(pattern=r"^[!-~]+$", max_length=128)
]  # visible ASCII; *, ? and [...] as in fnmatch
UriGlob = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=512)]
ServerGlob = Annotated[str, StringConstraints(pattern=r"^[a-z0-9*?\[\]!-]+$", max_length=64)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=128)]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=128)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NameRules(_Strict):
    """Names as the server itself says them.  What they name is served when an ``allow`` matches and no ``deny`` does."""

    allow: list[Glob] = Field(default=["*"], max_length=500)
    deny: list[Glob] = Field(default=[], max_length=500)


class ToolRules(NameRules):
    """Of tools."""


class PromptRules(NameRules):
    """Of prompts."""


class ResourceRules(_Strict):
    """Of resources, by URI; a template also by its own text, which then stands for all of its URIs."""

    allow: list[UriGlob] = Field(default=["*"], max_length=500)
    deny: list[UriGlob] = Field(default=[], max_length=500)


class ServerRules(_Strict):
    """``secrets``: a secret that the server declares -> the stored one (of the same server) that it gets here."""

    tools: ToolRules = ToolRules()
    prompts: PromptRules = PromptRules()
    resources: ResourceRules = ResourceRules()
    config: dict[Key, Any] = {}
    secrets: dict[SecretName, SecretName] = {}
    limits: dict[Key, bool | int | float] = {}


class Dynamic(_Strict):
    """``persist``: what a client adds or configures is written into this file, for later sessions too.  ``code``: offer
    ``mcp-code``.  ``servers``: which of those that this profile does not list a client may add.  ``consent``: with
    ``elicitation`` only a client that shows a person the question may add them, and no second call counts."""

    persist: bool = False
    code: bool = True
    servers: list[ServerGlob] = Field(default=["*"], max_length=500)
    consent: Literal["any", "elicitation"] = "any"


class Profile(_Strict):
    """``servers``: exact names, or globs over the enabled servers; the first that fits decides, exact names first."""

    version: Literal[1] = 1
    title: Line | None = None
    description: Line | None = None
    dynamic: bool | Dynamic = False
    servers: dict[ServerGlob, ServerRules | None] = {}
    exclude: list[ServerGlob] = Field(default=[], max_length=500)

    @model_validator(mode="after")
    def only_exact_names_have_settings(self) -> Profile:
        for name, rules in self.servers.items():
            if is_glob(name) and rules is not None and (rules.config or rules.secrets):
                raise ValueError(f"servers.{name}: config and secrets belong to one server; name it")
        return self

    @property
    def dynamics(self) -> Dynamic | None:
        """How dynamic tools behave, or None where they are off."""
        if isinstance(self.dynamic, Dynamic):
            return self.dynamic
        return Dynamic() if self.dynamic else None

    def rules(self, server: str) -> ServerRules:
        return self.servers.get(server) or ServerRules()


def is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


EVERYTHING: Final = Profile(servers={"*": None})  # the profile `default` where no file says otherwise


def parse(path: Path, raw: bytes) -> Profile:
    """Raises ``ProfileInvalid`` naming file, line and key."""
    try:
        document = parse_document(path, raw)
    except HarbourError as e:
        raise ProfileInvalid(e.message, remedy=REMEDY, **e.details) from e
    if not isinstance(document.data, dict):
        raise _at(document, (), "a profile is a mapping")
    try:
        return Profile.model_validate(document.data)
    except ValidationError as e:
        raise _explain(document, e) from e


def body_of(profile: Profile) -> dict[str, Any]:
    """As plain data, without what is at its default."""
    body = profile.model_dump(exclude_defaults=True)
    servers = {
        name: rules.model_dump(exclude_defaults=True) if rules else {} for name, rules in profile.servers.items()
    }
    return {"version": 1, **body, "servers": servers}


def _explain(document: Document, error: ValidationError) -> ProfileInvalid:
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo may also be a wrong type
    key = tuple(part for part in first["loc"] if part not in ("bool", "Dynamic", "[key]"))
    if first["type"] == "extra_forbidden":
        return _at(document, key, "no such key")
    message = str(first["msg"]).removeprefix("Value error, ")
    shown = "" if first["type"] == "value_error" else f" (found {first['input']!r:.80})"
    return _at(document, key, message + shown)


def _at(document: Document, key: tuple[str | int, ...], problem: str) -> ProfileInvalid:
    line = document.line(key)
    where = f"{document.path}:{line}: " + (f"{dotted(key)}: " if key else "")
    return ProfileInvalid(where + problem, remedy=REMEDY, file=str(document.path), line=line, key=dotted(key))
