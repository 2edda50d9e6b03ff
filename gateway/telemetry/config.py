"""``[telemetry]`` of config.toml.  Nothing is sent anywhere unless an address is written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harbourmaster.core.errors import ConfigError


class TelemetryInvalid(ConfigError):
    code = "telemetry.config_invalid"


class TelemetryConfig(BaseModel):
    """``otlp_endpoint``: the base address of an OTLP/HTTP collector, such as http://127.0.0.1:4318; ``/v1/traces`` is added.
    ``arguments``: whether spans carry the calls' arguments, without the secrets in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    otlp_endpoint: str = ""
    otlp_headers: dict[str, str] = Field(default={})
    sample: float = Field(default=1.0, ge=0, le=1)  # of traces that begin here; a caller's own decision is followed
    arguments: bool = False
    service_name: str = "harbourmaster"

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        where = urlsplit(url)
        if url and (where.scheme not in ("http", "https") or not where.hostname or where.query or where.fragment):
            raise ValueError("it must be an http or https address without a query")
        return url.rstrip("/")

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> TelemetryConfig:
        try:
            return cls.model_validate(dict(table))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise TelemetryInvalid(
                f"telemetry{'.' if where else ''}{where}: {first['msg']}", remedy="correct [telemetry] in config.toml"
            ) from e
