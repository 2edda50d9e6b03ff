"""The form of ``registry/servers/<name>/server.yaml``.  Strict: what is not in it is refused, with file, line, key and remedy.

docs/adding-a-server.md explains every field to authors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from harbourmaster.core.secrets import DeclaredSecret
from registry.build.errors import EntryInvalid, EntryNotFound
from registry.entry_file import Document, Path_, dotted, parse_document, read_document, refuse
from sandbox.egress.errors import RuleInvalid
from sandbox.egress.rules import Rules

ENTRY_FILE = "server.yaml"
CATEGORIES = (
    "data",
    "developer-tools",
    "files",
    "finance",
    "knowledge",
    "productivity",
    "reasoning",
    "reference",
    "search",
    "utilities",
    "web",
)
MAX_SERVERS = 10_000
PLACEHOLDER = "placeholder"

_TEMPLATE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_BRACES = re.compile(r"\{\{|\}\}")

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
Parameter = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Argument = Annotated[str, StringConstraints(max_length=4096)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Integrity = Annotated[str, StringConstraints(pattern=r"^sha512-[A-Za-z0-9+/]{86}==$")]  # W3C Subresource Integrity
WebAddress = Annotated[str, StringConstraints(pattern=r"^https://[^\s<>\"']+$", max_length=500)]
# Exact host, literal IPv4 address, or *.suffix; docs/egress.md
Host = Annotated[str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*:[0-9]{1,5}$", max_length=260)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class About(Strict):
    title: Line
    description: Prose
    icon: WebAddress | None = None


class Meta(Strict):
    category: Literal[CATEGORIES]  # type: ignore[valid-type]
    tags: list[Name] = Field(default=[], max_length=20)


class Source(Strict):
    """Where the server comes from: one package, by version and by hash of the very file that is installed."""

    kind: Literal["pypi", "npm"]
    package: Package
    version: Word
    sha256: Sha256 | None = None  # pypi: of the wheel
    integrity: Integrity | None = None  # npm: of the tarball
    url: WebAddress
    licence: Line

    @model_validator(mode="after")
    def hash_of_its_kind(self) -> Source:
        if self.kind == "pypi" and (self.sha256 is None or self.integrity):
            raise ValueError("a pypi source has sha256 (of the wheel) and no integrity")
        if self.kind == "npm" and (self.integrity is None or self.sha256):
            raise ValueError("an npm source has integrity (sha512) and no sha256")
        return self


class Build(Strict):
    runtime: Literal["python", "node"]
    packages: list[Debian] = Field(default=[], max_length=20, description="Debian packages needed at run time")
    constraints: list[Line] = Field(default=[], max_length=20, description='PEP 508, for the lock: "mcp<2"')


class Relaxation(Strict):
    """An override of one limit of the sandbox profile; the profile's own bounds are checked where it is applied."""

    value: int | float | bool
    reason: Annotated[str, StringConstraints(min_length=10, max_length=300)]


class Limits(Strict):
    """Names as in policies/profiles/default.yaml."""

    memory_mb: Relaxation | None = None
    cpus: Relaxation | None = None
    pids: Relaxation | None = None
    nofile: Relaxation | None = None
    file_mb: Relaxation | None = None
    tmp_mb: Relaxation | None = None
    tmp_exec: Relaxation | None = None


class Network(Strict):
    """Where it may connect (docs/egress.md).  ``private``: those of ``hosts`` that may have a private address."""

    hosts: list[Host] = Field(default=[], max_length=100)
    private: list[Host] = Field(default=[], max_length=100)

    @model_validator(mode="after")
    def can_be_served(self) -> Network:
        try:
            Rules.parse({"hosts": self.hosts, "private": self.private})
        except RuleInvalid as e:
            raise ValueError(e.message) from e
        return self


class Run(Strict):
    command: list[Argument] = Field(min_length=1, max_length=64)
    env: dict[EnvName, Argument] = {}
    user: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}(:[1-9][0-9]{0,8})?$")] | None = None
    network: Network = Network()
    sandbox: Limits = Limits()
    volumes: list[Line] = Field(default=[], max_length=0, description="kept for later: no sandbox has volumes yet")

    @model_validator(mode="after")
    def program_is_named(self) -> Run:
        if not re.match(r"^[A-Za-z0-9/][A-Za-z0-9._/-]*$", self.command[0]):
            raise ValueError("the first word of command is a program's name or absolute path, without a leading dash")
        return self


class Secret(Strict):
    model_config = ConfigDict(serialize_by_alias=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=128)]
    env: EnvName
    description: Line
    example: Line | None = None
    required: bool = True
    as_: Literal["env", "file"] = Field(
        default="env", alias="as", description="file: below /run/secrets, with its path in env + _FILE"
    )


class EnvSetting(Strict):
    name: EnvName
    value: Argument
    description: Line


class ParameterSpec(Strict):
    type: Literal["string", "integer", "number", "boolean"]
    description: Line
    default: str | int | float | bool | None = None
    enum: list[str] = Field(default=[], max_length=100)

    @model_validator(mode="after")
    def default_fits(self) -> ParameterSpec:
        kinds: dict[str, tuple[type, ...]] = {
            "string": (str,),
            "integer": (int,),
            "number": (int, float),
            "boolean": (bool,),
        }
        if self.default is None:
            return self
        is_bool = isinstance(self.default, bool)
        if not isinstance(self.default, kinds[self.type]) or is_bool != (self.type == "boolean"):
            raise ValueError(f"default is not of type {self.type}")
        if str(self.default).startswith("-"):
            raise ValueError("default starts with a dash: a program could take it for an option")
        if self.enum and self.default not in self.enum:
            raise ValueError("default is not in enum")
        return self


class Settings(Strict):
    """What a person may or must give before the server runs."""

    secrets: list[Secret] = Field(default=[], max_length=50)
    env: list[EnvSetting] = Field(default=[], max_length=50)
    parameters: dict[Parameter, ParameterSpec] = {}

    @model_validator(mode="after")
    def secrets_are_distinct(self) -> Settings:
        for what in ("name", "env"):
            values = [getattr(secret, what) for secret in self.secrets]
            if len(set(values)) != len(values):
                raise ValueError(f"two secrets have the same {what}")
        return self


class Expect(Strict):
    contains: str | None = None
    is_error: bool = False

    @model_validator(mode="after")
    def says_something(self) -> Expect:
        if self.contains is None and not self.is_error:
            raise ValueError("expect names contains, is_error: true, or both")
        return self


class Call(Strict):
    tool: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]+$", max_length=128)]
    arguments: dict[str, Any] = {}
    expect: Expect
    needs_internet: bool = False


class Test(Strict):
    __test__ = False  # not a test of pytest's

    calls: list[Call] = Field(min_length=1, max_length=50)


class Entry(Strict):
    """One server.  ``load_entry`` reads it."""

    name: Name
    type: Literal["server"]
    tier: Literal["built"]
    about: About
    meta: Meta
    source: Source
    build: Build
    run: Run
    config: Settings = Settings()
    test: Test

    @property
    def ref(self) -> str:
        """The tag of its image in the layout."""
        return f"{self.name}:{self.source.version}"

    @property
    def needs_configuration(self) -> bool:
        """Whether a person must give something before the server can run."""
        missing = any(p.default is None for p in self.config.parameters.values())
        return missing or any(s.required for s in self.config.secrets)

    def secrets(self) -> tuple[DeclaredSecret, ...]:
        """What its sandbox gets, and no other's."""
        return tuple(DeclaredSecret(s.name, s.env, s.as_ == "file", s.required) for s in self.config.secrets)

    def placeholders(self) -> dict[DeclaredSecret, str]:
        """Values that stand in for the required secrets where the real ones have no business, as in listing the tools."""
        examples = {s.name: s.example for s in self.config.secrets}
        return {each: examples[each.name] or PLACEHOLDER for each in self.secrets() if each.required}

    def templates(self) -> Iterator[tuple[Path_, str]]:
        """Each ``{{name}}`` in the command and environment, with where it stands."""
        for key, text in self._texts():
            for match in _TEMPLATE.finditer(text):
                yield key, match[1]

    def _texts(self) -> Iterator[tuple[Path_, str]]:
        yield from ((("run", "command", i), text) for i, text in enumerate(self.run.command))
        yield from ((("run", "env", name), text) for name, text in self.run.env.items())
        yield from ((("config", "env", i, "value"), item.value) for i, item in enumerate(self.config.env))

    def command(self, values: dict[str, Any] | None = None) -> list[str]:
        """The command with ``values`` (else defaults) in the templates' places."""
        return [self._fill(text, values or {}) for text in self.run.command]

    def environment(self, values: dict[str, Any] | None = None) -> dict[str, str]:
        texts = self.run.env | {item.name: item.value for item in self.config.env}
        return {name: self._fill(text, values or {}) for name, text in texts.items()}

    def limits(self) -> dict[str, int | float | bool]:
        """Overrides of the sandbox profile's limits, for ``SandboxSpec.limits``."""
        return {name: item.value for name, item in self.run.sandbox if item is not None}

    def _fill(self, text: str, values: dict[str, Any]) -> str:
        def value(match: re.Match[str]) -> str:
            given = values.get(match[1], self.config.parameters[match[1]].default)
            return "" if given is None else (str(given).lower() if isinstance(given, bool) else str(given))

        return _TEMPLATE.sub(value, text)


def load_entry(directory: Path) -> Entry:
    """Read ``directory/server.yaml``; raises ``EntryInvalid`` that names file, line and key."""
    entry = _validate(read_document(directory / ENTRY_FILE))
    if entry.name != directory.name:
        path = directory / ENTRY_FILE
        raise refuse(path, 1, ("name",), f"is {entry.name!r}, but the folder is {directory.name!r}", "make them equal")
    return entry


def parse_entry(path: Path, raw: bytes) -> Entry:
    """As ``load_entry``, from bytes; ``path`` only names them in errors."""
    return _validate(parse_document(path, raw))


def load_entries(root: Path, names: tuple[str, ...] = ()) -> list[Entry]:
    """Every entry below ``root``, or those that ``names`` asks for, by name.  Raises ``EntryNotFound``."""
    known = sorted(p.parent.name for p in root.glob(f"*/{ENTRY_FILE}"))[:MAX_SERVERS]
    for name in names:
        if name not in known:
            raise EntryNotFound(f"no server {name!r} in {root}", remedy=f"known: {', '.join(known)}", name=name)
    return [load_entry(root / name) for name in (names or known)]


def _validate(document: Document) -> Entry:
    if not isinstance(document.data, dict):
        raise refuse(document.path, 1, (), "an entry is a mapping", "start from another server's server.yaml")
    try:
        entry = Entry.model_validate(document.data)
    except ValidationError as e:
        raise _explain(document, e) from e
    _check_templates(document, entry)
    _check_runtime(document, entry)
    return entry


def _check_templates(document: Document, entry: Entry) -> None:
    for key, text in entry._texts():
        rest = _TEMPLATE.sub("", text)
        if _BRACES.search(rest):
            raise _at(document, key, "has braces that are not a {{parameter}}", "write {{name_of_a_parameter}}")
        for match in _TEMPLATE.finditer(text):
            name = match[1]
            if name not in entry.config.parameters:
                raise _at(
                    document,
                    key,
                    f"uses {{{{{name}}}}}, which no parameter is called",
                    "declare it in config.parameters",
                )


def _check_runtime(document: Document, entry: Entry) -> None:
    wanted = {"pypi": "python", "npm": "node"}[entry.source.kind]
    if entry.build.runtime != wanted:
        raise _at(document, ("build", "runtime"), f"a {entry.source.kind} package runs on {wanted}", f"write {wanted}")
    if entry.build.constraints and wanted == "node":
        raise _at(document, ("build", "constraints"), "only pypi sources have constraints", "pin it in package.json")
    declared = {secret.env for secret in entry.config.secrets}
    declared |= {secret.variable for secret in entry.secrets()}
    for name in entry.run.env:
        if name in declared:
            raise _at(document, ("run", "env", name), "is a secret's variable too", "a secret is never in the entry")


def _at(document: Document, key: Path_, problem: str, remedy: str) -> EntryInvalid:
    return refuse(document.path, document.line(key), key, problem, remedy)


def _explain(document: Document, error: ValidationError) -> EntryInvalid:
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a typo is both unknown and missing
    key: Path_ = tuple(first["loc"])
    if first["type"] == "extra_forbidden":
        return _at(document, key, "no such key", f"remove it; {_siblings(key)}")
    if first["type"] == "missing":
        return _at(document, key, "is missing", "add it; docs/adding-a-server.md shows every field")
    message = str(first["msg"]).removeprefix("Value error, ")
    shown = repr(first["input"])[:80]
    problem = message if first["type"] == "value_error" else f"{message} (found {shown})"
    return _at(document, key, problem, "docs/adding-a-server.md shows what belongs there")


def _siblings(key: Path_) -> str:
    model: Any = Entry
    for part in key[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = getattr(field, "annotation", None)
    names = getattr(model, "model_fields", None)
    return (
        f"known under {dotted(key[:-1]) or 'the top'}: {', '.join(names)}" if names else "see docs/adding-a-server.md"
    )
