"""Settings: environment (``HM_*``) over ``HM_HOME/config.toml`` over the defaults here.

``Settings.load()`` is called once, in the composition root or a command, and handed down; nothing else reads the
environment.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from harbourmaster.core.errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEFAULT_HOME = Path("~/.harbourmaster")

GATEWAY_PORT = 8811  # contract: other people's clients are configured with it
CONSOLE_PORT = 8810
RUNNER_PORT = 12434  # the port Docker Model Runner made customary


class _ConfigFile(PydanticBaseSettingsSource):
    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """The base class wants it; ``__call__`` gives all fields at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        path = _home_from_environment() / "config.toml"
        try:
            return tomllib.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path} is not valid TOML: {e}", remedy=f"mend or remove {path}") from e


def _home_from_environment() -> Path:
    return Path(os.environ.get("HM_HOME") or DEFAULT_HOME).expanduser().absolute()


class Settings(BaseSettings):
    """Every setting, flat; ``HM_GATEWAY_PORT=9000`` or ``gateway_port = 9000`` in config.toml."""

    model_config = SettingsConfigDict(env_prefix="HM_", extra="forbid", frozen=True, validate_default=True)

    home: Path = Field(default_factory=_home_from_environment)
    engine_url: str = Field(default="", description="Docker API address; empty: DOCKER_HOST, then the usual sockets")
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=GATEWAY_PORT, ge=0, le=65535)
    gateway_allowed_origins: tuple[str, ...] = Field(default=(), description="beside loopback origins")
    gateway_allowed_hosts: tuple[str, ...] = Field(default=(), description="beside loopback host names")
    console_port: int = Field(default=CONSOLE_PORT, ge=1, le=65535)
    runner_port: int = Field(default=RUNNER_PORT, ge=1, le=65535)
    gateway_limits: tuple[dict[str, Any], ...] = Field(
        default=(), description="rules of gateway/authorization/quotas.py"
    )
    approval_deadline_s: float = Field(default=300.0, gt=0, description="a held call is refused after this")
    interceptors: dict[str, Any] = Field(default={}, description="as gateway/interceptors/config.py reads it")
    oauth: dict[str, Any] = Field(default={}, description="as gateway/authorization/oauth.py reads it")
    telemetry: dict[str, Any] = Field(default={}, description="as gateway/telemetry/config.py reads it")
    build_jobs: int = Field(default=2, ge=1, le=32, description="servers built at the same time")
    sandbox_idle_s: float = Field(default=300.0, gt=0, description="an idle sandbox stops after this many seconds")
    call_timeout_s: float = Field(default=120.0, gt=0, description="a server must answer a call within this")
    start_timeout_s: float = Field(default=60.0, gt=0, description="a server must finish its handshake within this")
    max_sandboxes: int = Field(default=64, ge=1)
    max_sandboxes_per_server: int = Field(default=32, ge=1)
    sandbox_queue: int = Field(default=256, ge=0, description="calls that may wait for a place; one more is refused")
    sandbox_wait_s: float = Field(default=15.0, gt=0, description="how long each of them waits")
    pool_memory_mb: int = Field(
        default=0, ge=0, description="for all sandboxes together; 0: a quarter of the machine's"
    )
    pool_spares: int = Field(default=4, ge=0, description="ready sandboxes of one kind; 0: none are made ahead")
    runner_gateways: dict[str, str] = Field(
        default_factory=dict, description="MCP servers that apps may name to the model runner: label -> address"
    )
    runner_lends_token: bool = Field(
        default=False, description="apps without a token of their own use the gateway's tools through the runner"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(lambda given: given.lower() if isinstance(given, str) else given),
    ] = "info"
    secrets_backend: Literal["auto", "keyring", "age"] = Field(
        default="auto", description="auto: keyring, else age file"
    )
    secrets_passphrase: SecretStr = Field(
        default=SecretStr(""), description="opens the age file's key; environment only"
    )
    database_url: str = Field(default="", description="postgresql://...; empty: SQLite in HM_HOME/harbour.db")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _ConfigFile(settings_cls)

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        try:
            return cls(**overrides)
        except ValidationError as e:
            first = e.errors()[0]
            name = ".".join(str(p) for p in first["loc"])
            if first["type"] == "extra_forbidden":
                place = _home_from_environment() / "config.toml"
                raise ConfigError(f"there is no setting {name}", remedy=f"correct or remove it in {place}") from e
            raise ConfigError(
                f"setting {name}: {first['msg']} (got {first.get('input')!r})",
                remedy=f"correct HM_{name.upper()} or {name} in config.toml",
            ) from e

    # Where things live (DESIGN section 2).  Paths only; nobody creates anything by reading a setting.
    @property
    def oci_dir(self) -> Path:
        return self.home / "oci"

    @property
    def keys_dir(self) -> Path:
        return self.home / "keys"

    @property
    def audit_dir(self) -> Path:
        return self.home / "audit"

    @property
    def secrets_dir(self) -> Path:
        return self.home / "secrets"

    @property
    def run_dir(self) -> Path:
        """Process ids and sockets of what is running now."""
        return self.home / "run"

    @property
    def approvals_dir(self) -> Path:
        """Calls that wait for a person's yes."""
        return self.run_dir / "approvals"

    @property
    def log_dir(self) -> Path:
        return self.home / "logs"

    @property
    def database_file(self) -> Path:
        return self.home / "harbour.db"

    @property
    def lock_file(self) -> Path:
        return self.home / "harbour.lock"

    @property
    def held_dir(self) -> Path:
        """How running servers differ from the lock, for people to review."""
        return self.home / "held"

    @property
    def profiles_dir(self) -> Path:
        return self.home / "profiles"

    @property
    def tokens_file(self) -> Path:
        return self.secrets_dir / "tokens.json"

    @property
    def trust_file(self) -> Path:
        return self.home / "trust.yaml"

    @property
    def servers_dir(self) -> Path:
        """The starter catalog: ``registry/servers/<name>/server.yaml``."""
        return PROJECT_ROOT / "registry" / "servers"
