"""Why an interceptor stopped a call or an answer.

SecretInArguments, SecretInResult     a credential where none belongs
ArgumentsInvalid, OutputInvalid       not what the tool's locked schema says; SchemaUnusable: the schema itself is none
ArgumentsTooLarge, ResultTooLarge     a size limit of config.toml
Lookalikes                            a message made of beginnings of credentials
InjectionMarked                       an answer with marks, where config.toml says to block those
HookRefused, HookFailed               a custom interceptor said no, or did not answer as it must
InterceptorsInvalid                   config.toml
"""

from __future__ import annotations

from typing import Any, ClassVar

from gateway.errors import INVALID_PARAMS
from harbourmaster.core.errors import ConfigError, LimitError, RefusedError


class SecretInArguments(RefusedError):
    code = "secret.in_arguments"


class SecretInResult(RefusedError):
    code = "secret.in_result"


class Lookalikes(LimitError):
    """So much of it begins like a credential that looking at all of it would keep everybody else waiting."""

    code = "limit.lookalikes"


class ArgumentsInvalid(RefusedError):
    """Told to the model as a tool's own error, so that it can correct itself (2025-11-25, tools, "Error Handling")."""

    code = "schema.arguments"
    rpc: ClassVar[int] = INVALID_PARAMS

    def result(self) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": f"{self.message} [{self.code}]: {self.remedy}"}], "isError": True}


class OutputInvalid(RefusedError):
    code = "schema.output"


class SchemaUnusable(RefusedError):
    code = "schema.unusable"


class ArgumentsTooLarge(LimitError):
    code = "limit.arguments"


class ResultTooLarge(LimitError):
    code = "limit.result"


class InjectionMarked(RefusedError):
    code = "injection.marked"


class HookRefused(RefusedError):
    code = "hook.refused"


class HookFailed(RefusedError):
    code = "hook.failed"


class InterceptorsInvalid(ConfigError):
    code = "interceptors.config_invalid"
