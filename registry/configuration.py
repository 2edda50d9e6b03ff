"""What a person may or must give before a server runs: ``config`` and ``oauth`` of a ``server.yaml``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from registry.fields import Argument, EnvName, Line, Name, Parameter, SecretName, Strict

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class Secret(Strict):
    model_config = ConfigDict(serialize_by_alias=True)

    name: SecretName
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
    example: Line | None = None


class ParameterSpec(Strict):
    """A subset of JSON Schema 2020-12, with ``required`` at the parameter itself."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"]
    description: Line
    title: Line | None = None
    default: str | int | float | bool | list[Any] | dict[str, Any] | None = None
    example: Line | None = None
    enum: list[str] = Field(default=[], max_length=100)
    items: dict[str, Any] | None = Field(default=None, description="array: the JSON Schema of an item")
    properties: dict[str, Any] | None = Field(default=None, description="object: the JSON Schema of its members")
    minimum: int | float | None = None
    maximum: int | float | None = None
    required: bool = True

    @model_validator(mode="after")
    def default_fits(self) -> ParameterSpec:
        if self.default is None:
            return self
        is_bool = isinstance(self.default, bool)
        if not isinstance(self.default, _TYPES[self.type]) or is_bool != (self.type == "boolean"):
            raise ValueError(f"default is not of type {self.type}")
        words = self.default if isinstance(self.default, list) else [self.default]
        if any(str(word).startswith("-") for word in words):
            raise ValueError("default starts with a dash: a program could take it for an option")
        if self.enum and self.default not in self.enum:
            raise ValueError("default is not in enum")
        return self

    @property
    def must_be_given(self) -> bool:
        return self.required and self.default is None

    def json_schema(self) -> dict[str, Any]:
        """As a member of a JSON Schema's ``properties``; forms and clients read it."""
        body = self.model_dump(mode="json", exclude_unset=True, exclude={"required", "example"})
        return body | ({"examples": [self.example]} if self.example else {})


class Settings(Strict):
    """What a person may or must give before the server runs."""

    description: Line | None = None
    secrets: list[Secret] = Field(default=[], max_length=50)
    env: list[EnvSetting] = Field(default=[], max_length=100)
    parameters: dict[Parameter, ParameterSpec] = Field(default={}, max_length=200)

    @model_validator(mode="after")
    def secrets_are_distinct(self) -> Settings:
        pairs = [(secret.name, secret.env) for secret in self.secrets]
        for i, what in enumerate(("name", "env")):
            values = [pair[i] for pair in pairs]
            if len(set(values)) != len(values):
                raise ValueError(f"two secrets have the same {what}")
        return self

    def json_schema(self) -> dict[str, Any]:
        """One JSON Schema of all parameters."""
        return {
            "type": "object",
            "properties": {name: spec.json_schema() for name, spec in self.parameters.items()},
            "required": [name for name, spec in self.parameters.items() if spec.must_be_given],
        }


class OAuthProvider(Strict):
    """A token that a person gets from ``provider``; the server finds it in ``env``, kept as the secret ``secret``."""

    provider: Name
    secret: SecretName
    env: EnvName
