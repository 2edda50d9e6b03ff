"""The form of ``registry/servers/<name>/server.yaml``: what an entry can say.  ``registry.schema`` reads and checks one.

docs/adding-a-server.md explains every field to authors; docs/schema/ holds it as JSON Schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.secrets import DeclaredSecret
from registry import volumes
from registry.build.errors import EntryUnbuildable
from registry.configuration import OAuthProvider, Settings
from registry.entry_file import Path_
from registry.fields import CATEGORIES, Argument, EnvName, Host, Line, Name, Prose, Strict, WebAddress
from registry.origins import Build, PinnedImage, Source
from registry.remotes import Remote
from registry.templates import fill, fill_argument, templates
from registry.toolimages import DeclaredTool, NumericUser, ToolName
from registry.vex import NotAffected
from sandbox.access import Access
from sandbox.egress.errors import RuleInvalid
from sandbox.egress.rules import Rules
from sandbox.errors import SpecRefused

ENTRY_FILE = "server.yaml"
PLACEHOLDER = "placeholder"


class About(Strict):
    title: Line
    description: Prose
    icon: WebAddress | None = None


class Meta(Strict):
    category: Literal[CATEGORIES]  # type: ignore[valid-type]
    tags: list[Name] = Field(default=[], max_length=20)


Reason = Annotated[str, StringConstraints(min_length=10, max_length=300)]


class Relaxation(Strict):
    """An override of one limit of the sandbox profile; the profile's own bounds are checked where it is applied."""

    value: int | float | bool
    reason: Reason


class Places(Strict):
    """Something beyond numbers, as texts; ``sandbox.access`` says what each may be."""

    value: list[Annotated[str, StringConstraints(min_length=1, max_length=300)]] = Field(min_length=1, max_length=8)
    reason: Reason


class Choice(Strict):
    value: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    reason: Reason


class Limits(Strict):
    """Numbers are named as in policies/profiles/default.yaml; the rest is docs/security.md, "Relaxing it"."""

    memory_mb: Relaxation | None = None
    cpus: Relaxation | None = None
    pids: Relaxation | None = None
    nofile: Relaxation | None = None
    file_mb: Relaxation | None = None
    tmp_mb: Relaxation | None = None
    tmp_exec: Relaxation | None = None
    writable: Places | None = None
    volumes: Places | None = None
    host_paths: Places | None = None
    capabilities: Places | None = None
    user: Choice | None = None
    runtime: Choice | None = None

    @model_validator(mode="after")
    def can_be_given(self) -> Limits:
        try:
            Access.parse({"asked": self.asked()})
        except SpecRefused as e:
            raise ValueError(f"{e.message}; {e.remedy}".rstrip("; ")) from e
        return self

    def asked(self) -> dict[str, dict[str, Any]]:
        """Each relaxation with its reason, as the lock keeps it."""
        return {name: item.model_dump() for name, item in self if item is not None}


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
    """``command`` may be empty where an image brings its own.  ``volumes`` are read and shown; what is given is asked for in ``sandbox``."""

    command: list[Argument] = Field(default=[], max_length=64)
    env: dict[EnvName, Argument] = Field(default={}, max_length=100)
    user: NumericUser | None = None
    network: Network = Network()
    sandbox: Limits = Limits()
    volumes: list[Argument] = Field(default=[], max_length=20)
    long_lived: bool = False
    ephemeral: Literal["call", "session"] = Field(
        default="session", description="how long a sandbox lives: for one call, or as long as its client's session"
    )
    stateless: bool = Field(
        default=False, description="it remembers nothing and asks its clients nothing: they may share a sandbox"
    )
    offline: bool = Field(default=False, description="it needs no network, and says so")

    @model_validator(mode="after")
    def one_lifetime(self) -> Run:
        if self.ephemeral == "call" and (self.stateless or self.long_lived):
            raise ValueError("ephemeral: call, and stateless or long_lived: a sandbox of one call serves no other")
        return self

    @model_validator(mode="after")
    def offline_has_no_hosts(self) -> Run:
        if self.offline and self.network.hosts:
            raise ValueError("offline: true, and hosts that it needs: remove one of them")
        return self

    @field_validator("volumes")
    @classmethod
    def host_stays_out(cls, found: list[str]) -> list[str]:
        for volume in found:
            if reason := volumes.refusal(volume):
                raise ValueError(f"{volume} {reason}")
        return found


class Expect(Strict):
    contains: str | None = None
    is_error: bool = False

    @model_validator(mode="after")
    def says_something(self) -> Expect:
        if self.contains is None and not self.is_error:
            raise ValueError("expect names contains, is_error: true, or both")
        return self


class Call(Strict):
    tool: ToolName
    arguments: dict[str, Any] = Field(default={})
    expect: Expect
    needs_internet: bool = False


class Test(Strict):
    __test__ = False  # not a test of pytest's

    calls: list[Call] = Field(min_length=1, max_length=50)


class Entry(Strict):
    """One server.  ``load_entry`` reads it.

    ``type`` server: one container, built from ``source`` (tier ``built``) or its publisher's ``image`` (tier ``community``);
    remote: it runs elsewhere; poci: each of its ``tools`` is a container image of its own.
    """

    name: Name
    type: Literal["server", "remote", "poci"]
    tier: Literal["built", "community"]
    about: About
    meta: Meta
    image: PinnedImage | None = None
    source: Source | None = None
    build: Build | None = None
    remote: Remote | None = None
    run: Run = Run()
    config: Settings = Settings()
    oauth: list[OAuthProvider] = Field(default=[], max_length=10)
    tools: list[DeclaredTool] = Field(default=[], max_length=2000)
    not_affected: list[NotAffected] = Field(default=[], max_length=200)
    test: Test | None = None

    @property
    def version(self) -> str:
        """The source's; of a community image its tag, or the digest's first twelve digits; of a remote server ``remote``; of
        tool images twelve digits over all of their digests."""
        if self.tier == "built" and self.source is not None:
            return self.source.label
        if self.type == "poci":
            images = {tool.container.image.partition("@")[2] for tool in self.tools if tool.container}
            return canonical_digest(sorted(images))[7:19]
        name, _, digest = (self.image or "").partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        return tag or digest[7:19] or ("remote" if self.remote else "unversioned")

    @property
    def ref(self) -> str:
        """The tag of its image in the layout."""
        return f"{self.name}:{self.version}"

    @property
    def pinned(self) -> str:
        """The digest that ``image`` names: a manifest's or, more often, that of an index over several platforms."""
        return (self.image or "").partition("@")[2]

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        if self.tier == "built" and self.source is not None:
            return self.source.words
        return f"image {self.image}" if self.image else f"remote {self.remote.url}" if self.remote else "tool images"

    @property
    def licence(self) -> str:
        return self.source.licence if self.source else ""

    @property
    def homepage(self) -> str:
        return self.source.url if self.source else ""

    def recipe(self) -> tuple[Source, Build]:
        """What it is built from and how; raises ``EntryUnbuildable`` for what is not built here."""
        if self.tier == "built" and self.source is not None and self.build is not None:
            return self.source, self.build
        raise EntryUnbuildable(
            f"{self.name} is not built from source here ({self.type}, tier {self.tier})",
            remedy="name tier: built with source and build, or use it as it is published",
            server=self.name,
        )

    @property
    def needs_configuration(self) -> bool:
        """Whether a person must give something before the server can run."""
        missing = any(p.must_be_given for p in self.config.parameters.values())
        return missing or any(s.required for s in self.config.secrets)

    def secrets(self) -> tuple[DeclaredSecret, ...]:
        """What its sandbox gets, and no other's; tokens of ``oauth`` too, which a server may do without."""
        own = [DeclaredSecret(s.name, s.env, s.as_ == "file", s.required) for s in self.config.secrets]
        known = {secret.name for secret in own} | {secret.env for secret in own}
        more = [o for o in self.oauth if o.secret not in known and o.env not in known]
        return (*own, *(DeclaredSecret(o.secret, o.env, False, False) for o in more))

    def placeholders(self) -> dict[DeclaredSecret, str]:
        """Values that stand in for the required secrets where the real ones have no business, as in listing the tools."""
        examples = {s.name: s.example for s in self.config.secrets}
        return {each: examples[each.name] or PLACEHOLDER for each in self.secrets() if each.required}

    def texts(self) -> Iterator[tuple[Path_, str]]:
        """Every text that may hold ``{{name}}``, with where it stands."""
        for part in ("command", "volumes"):
            yield from ((("run", part, i), text) for i, text in enumerate(getattr(self.run, part)))
        yield from ((("run", "env", name), text) for name, text in self.run.env.items())
        yield from ((("config", "env", i, "value"), item.value) for i, item in enumerate(self.config.env))

    def templates(self) -> Iterator[tuple[Path_, str]]:
        """Each name in ``{{name}}``, with where it stands."""
        yield from ((key, found.name) for key, text in self.texts() for found in templates(text))

    def command(self, values: dict[str, Any] | None = None) -> list[str]:
        """The command with ``values`` (else defaults) in the templates' places."""
        return [word for text in self.run.command for word in fill_argument(text, self._value(values))]

    def environment(self, values: dict[str, Any] | None = None) -> dict[str, str]:
        settings = self.run.env | {item.name: item.value for item in self.config.env}
        return {name: fill(text, self._value(values)) for name, text in settings.items()}

    def limits(self) -> dict[str, int | float | bool]:
        """Overrides of the sandbox profile's limits, for ``SandboxSpec.limits``."""
        return {name: item.value for name, item in self.run.sandbox if isinstance(item, Relaxation)}

    def access(self) -> Access:
        """What it asks for beyond numbers, for ``SandboxSpec.access``."""
        return Access.parse({"asked": self.run.sandbox.asked()})

    def _value(self, values: dict[str, Any] | None) -> Any:
        given = values or {}
        return lambda name: given.get(name, self.config.parameters[name].default)
