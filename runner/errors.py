"""What the model runner refuses, and how it says so.

HarbourError
|-- UsageError
|   |-- RequestInvalid       runner.request_invalid        a field of a request is wrong
|   `-- ImageInvalid         runner.image_invalid          a picture's file is damaged, hostile or too large
|-- NotFoundError
|   |-- ModelNotFound        runner.model_not_found        no model of that name or digest in the store
|   |-- ResponseNotFound     runner.not_found              nothing at that path
|   `-- RunUnknown           runner.run_unknown            no transcript of that name
|-- IntegrityError
|   |-- GgufInvalid          runner.gguf_invalid           a GGUF file is truncated, corrupt or hostile
|   |-- ModelInvalid         runner.model_invalid          a model's manifest or config is not what its format says
|   `-- TranscriptInvalid    runner.transcript_invalid     a transcript is not what this version wrote
|-- RefusedError
|   |-- PromptTooLong        runner.prompt_too_long        the prompt does not fit the context; nothing was cut
|   |-- TemplateRefused      runner.template_refused       the chat template fails, or does what templates may not
|   |-- SchemaImpossible     runner.schema_impossible      no JSON value satisfies the schema, or we cannot enforce it
|   |-- GrammarInvalid       runner.grammar_invalid        the grammar does not parse
|   |-- ToolCallInvalid      runner.tool_call_invalid      the model's tool call does not fit the tool, also after a repair
|   |-- ModelInUse           runner.model_in_use           the model answers requests or carries other tags
|   |-- Unsupported          runner.unsupported            the model or this build cannot do that
|   |-- TokenRefused         runner.token_refused          no token, or a wrong one
|   |-- ToolsRefused         runner.tools_refused          a gateway refuses the agent's token
|   |-- ToolServerRefused    runner.tool_server_refused    a request names an MCP server that the operator did not allow
|   `-- HostRefused          runner.host_refused           a browser's page or another host name asks
|-- UnavailableError
|   |-- EngineMissing        runner.engine_missing         llama-cpp-python is not installed
|   |-- RunnerDown           runner.down                   no runner answers at the address
|   |-- EngineDied           runner.engine_died            a model's process ended
|   |-- EngineFailed         runner.engine_failed          a model's process answered with a failure
|   |-- LoadFailed           runner.load_failed            the model cannot be loaded
|   |-- ToolsUnavailable     runner.tools_unavailable      no gateway answers, or it went away
|   `-- Cancelled            runner.cancelled              the request was cancelled
`-- LimitError
    |-- QueueFull            runner.queue_full             too many requests wait
    |-- QueueDeadline        runner.queue_deadline         no room for the model within the time a request may wait
    |-- DiskFull             runner.disk_full              no space for a model's files
    |-- NoRoom               runner.no_room                the model does not fit in memory even alone
    `-- RequestTooLarge      runner.request_too_large      a request's body is over the limit
"""

from __future__ import annotations

from harbourmaster.core.errors import (
    HarbourError,
    IntegrityError,
    LimitError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UsageError,
)


class RequestInvalid(UsageError):
    """``param`` in the details names the field."""

    code = "runner.request_invalid"


class ImageInvalid(UsageError):
    code = "runner.image_invalid"


class ModelNotFound(NotFoundError):
    code = "runner.model_not_found"


class ResponseNotFound(NotFoundError):
    code = "runner.not_found"


class GgufInvalid(IntegrityError):
    code = "runner.gguf_invalid"


class ModelInvalid(IntegrityError):
    code = "runner.model_invalid"


class PromptTooLong(RefusedError):
    """Details: ``prompt_tokens``, ``context_tokens``."""

    code = "runner.prompt_too_long"


class TemplateRefused(RefusedError):
    code = "runner.template_refused"


class SchemaImpossible(RefusedError):
    code = "runner.schema_impossible"


class GrammarInvalid(RefusedError):
    code = "runner.grammar_invalid"


class ToolCallInvalid(RefusedError):
    code = "runner.tool_call_invalid"


class ModelInUse(RefusedError):
    code = "runner.model_in_use"


class Unsupported(RefusedError):
    code = "runner.unsupported"


class TokenRefused(RefusedError):
    code = "runner.token_refused"


class HostRefused(RefusedError):
    code = "runner.host_refused"


class SandboxRefused(RefusedError):
    code = "runner.sandbox_refused"


class ToolsRefused(RefusedError):
    code = "runner.tools_refused"


class ToolServerRefused(RefusedError):
    code = "runner.tool_server_refused"


class ToolsUnavailable(UnavailableError):
    code = "runner.tools_unavailable"


class RunUnknown(NotFoundError):
    code = "runner.run_unknown"


class TranscriptInvalid(IntegrityError):
    code = "runner.transcript_invalid"


class EngineMissing(UnavailableError):
    code = "runner.engine_missing"


class RunnerDown(UnavailableError):
    code = "runner.down"


class EngineDied(UnavailableError):
    code = "runner.engine_died"


class EngineFailed(UnavailableError):
    code = "runner.engine_failed"


class LoadFailed(UnavailableError):
    code = "runner.load_failed"


class Cancelled(UnavailableError):
    code = "runner.cancelled"


class QueueFull(LimitError):
    """Details: ``retry_after_s``."""

    code = "runner.queue_full"


class QueueDeadline(LimitError):
    """Details: ``retry_after_s``."""

    code = "runner.queue_deadline"


class DiskFull(LimitError):
    code = "runner.disk_full"


class NoRoom(LimitError):
    code = "runner.no_room"


class RequestTooLarge(LimitError):
    code = "runner.request_too_large"


_BY_CODE: dict[str, type[HarbourError]] = {
    c.code: c
    for c in (
        RequestInvalid, ImageInvalid, ModelNotFound, ResponseNotFound, GgufInvalid, ModelInvalid, PromptTooLong, TemplateRefused,
        SchemaImpossible, GrammarInvalid, ToolCallInvalid, ModelInUse, Unsupported, HostRefused, EngineMissing,
        EngineDied, EngineFailed, LoadFailed, Cancelled, QueueFull, QueueDeadline, DiskFull, NoRoom, RequestTooLarge,
    )
}  # fmt: skip


def from_dict(body: dict[str, object]) -> HarbourError:
    """The error that ``as_dict`` described in another process."""
    kind = _BY_CODE.get(str(body.get("code")), EngineFailed)
    details = body.get("details")
    return kind(
        str(body.get("message") or "the engine failed"),
        remedy=str(body.get("remedy") or ""),
        **(details if isinstance(details, dict) else {}),
    )
