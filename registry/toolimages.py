"""``tools`` of a ``server.yaml``: what a server was recorded to offer; for type ``poci``, one container image per tool."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from registry.fields import Argument, Prose, Strict
from registry.origins import PinnedImage

ToolName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]+$", max_length=128)
]  # MCP 2025-11-25, Tool Names
NumericUser = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}(:[1-9][0-9]{0,8})?$")]


class ToolContainer(Strict):
    """The image that one call of the tool runs, and with which arguments."""

    image: PinnedImage
    command: list[Argument] = Field(default=[], max_length=64)
    volumes: list[Argument] = Field(default=[], max_length=20)
    user: NumericUser | None = None


class ToolParameters(Strict):
    """JSON Schema of the arguments, at its top; what stands below is not looked into here."""

    type: Literal["object"]
    properties: dict[str, dict[str, Any]] = Field(default={}, max_length=200)
    required: list[str] = Field(default=[], max_length=200)

    @model_validator(mode="after")
    def required_exist(self) -> ToolParameters:
        for name in self.required:
            if name not in self.properties:
                raise ValueError(f"requires {name!r}, which is not in properties")
        return self


class DeclaredTool(Strict):
    name: ToolName
    description: Prose | None = None
    parameters: ToolParameters | None = None
    container: ToolContainer | None = None
