"""``[interceptors]`` of config.toml: strict, because a misspelt check is no check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gateway.interceptors.errors import InterceptorsInvalid

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Hook(BaseModel):
    """One ``[[interceptors.custom]]``.  Exactly one of ``python``, ``http`` and ``server`` says what it is.

    ``python``: ``package.module:function``.  ``http``: a URL that is posted to; https, or http on this machine.
    ``server``: a locked MCP server whose tool ``intercept`` is called in a sandbox of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    when: Literal["before", "after", "both"]
    python: str = Field(default="", pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")
    http: str = ""
    server: str = ""
    servers: tuple[str, ...] = ("*",)  # whose calls it sees
    methods: tuple[Literal["tools/call", "prompts/get", "resources/read", "completion/complete"], ...] = ("tools/call",)
    timeout_s: float = Field(default=2.0, gt=0, le=60)
    on_error: Literal["refuse", "pass"] = "refuse"

    @model_validator(mode="after")
    def _is_one_thing(self) -> Hook:
        if sum(map(bool, (self.python, self.http, self.server))) != 1:
            raise ValueError("write exactly one of python, http and server")
        if self.http:
            where = urlsplit(self.http)
            if where.scheme != "https" and not (where.scheme == "http" and where.hostname in LOOPBACK):
                raise ValueError("http must be an https URL, or an http one on this machine")
        return self


class InterceptorsConfig(BaseModel):
    """``off`` switches a check off; the rest says what a finding means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secrets_in_arguments: Literal["block", "report", "off"] = "block"
    secrets_in_results: Literal["redact", "block", "report", "off"] = "redact"
    arguments_schema: Literal["enforce", "lenient", "off"] = (
        "enforce"  # lenient: schemas that cannot be used are skipped
    )
    output_schema: Literal["enforce", "lenient", "off"] = "enforce"
    injection_marks: Literal["annotate", "block", "off"] = "annotate"
    max_arguments_bytes: int = Field(default=4 << 20, ge=1)  # as a request body over HTTP
    max_result_bytes: int = Field(default=32 << 20, ge=1)
    custom: tuple[Hook, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> InterceptorsConfig:
        names = [hook.name for hook in self.custom]
        if len(set(names)) != len(names):
            raise ValueError("two custom interceptors have the same name")
        return self

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> InterceptorsConfig:
        """Raises ``InterceptorsInvalid`` naming the first thing that is wrong."""
        try:
            return cls.model_validate(dict(table))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InterceptorsInvalid(
                f"interceptors{'.' if where else ''}{where}: {first['msg']}",
                remedy="correct [interceptors] in config.toml",
            ) from e
