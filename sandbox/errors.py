"""Errors of the sandbox.

EngineError
|-- EngineMissing        nothing answers at any engine address           engine.missing
|-- EnginePermission     the socket is there but not for us              engine.permission
|-- EngineFailed         the engine refused or broke                     engine.failed
|-- EngineWeak           the engine cannot enforce a setting we need     engine.weak
|   `-- RuntimeMissing   the engine has no runtime of that name          engine.runtime_missing
`-- StartFailed          a container could not be made or started        sandbox.start_failed
ConfigError
`-- ProfileInvalid       a profile or seccomp file is wrong              profile.invalid
RefusedError
|-- SpecRefused          what was asked for weakens the profile          sandbox.refused
|-- HostPathDenied       a path of the host that is not given            sandbox.path_denied
`-- HostPathMoved        a path of the host is no longer what it was     sandbox.path_moved
UnavailableError
`-- SandboxClosed        a write after the sandbox has ended             sandbox.closed
LimitError
|-- StdinFull            the server does not read its input              sandbox.stdin_full
`-- LimitReached         a server ran into a limit of its sandbox; ``details`` name the entry's field
    |-- MemoryLimit      sandbox.memory
    |-- PidsLimit        sandbox.pids
    |-- TmpFull          sandbox.tmp_full
    |-- FileTooLarge     sandbox.file_size
    |-- FilesLimit       sandbox.open_files
    `-- CpuStarved       sandbox.cpu
NotFoundError
`-- SandboxUnknown       no such sandbox                                 sandbox.unknown
"""

from __future__ import annotations

from harbourmaster.core.errors import (
    ConfigError,
    EngineError,
    LimitError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)


class EngineMissing(EngineError):
    code = "engine.missing"


class EnginePermission(EngineError):
    code = "engine.permission"


class EngineFailed(EngineError):
    code = "engine.failed"


class EngineWeak(EngineError):
    code = "engine.weak"


class RuntimeMissing(EngineWeak):
    code = "engine.runtime_missing"


class StartFailed(EngineError):
    code = "sandbox.start_failed"


class ProfileInvalid(ConfigError):
    code = "profile.invalid"


class SpecRefused(RefusedError):
    code = "sandbox.refused"


class SandboxClosed(UnavailableError):
    code = "sandbox.closed"


class HostPathDenied(RefusedError):
    code = "sandbox.path_denied"


class HostPathMoved(RefusedError):
    code = "sandbox.path_moved"


class StdinFull(LimitError):
    code = "sandbox.stdin_full"


class LimitReached(LimitError):
    code = "sandbox.limit"


class MemoryLimit(LimitReached):
    code = "sandbox.memory"


class PidsLimit(LimitReached):
    code = "sandbox.pids"


class TmpFull(LimitReached):
    code = "sandbox.tmp_full"


class FileTooLarge(LimitReached):
    code = "sandbox.file_size"


class FilesLimit(LimitReached):
    code = "sandbox.open_files"


class CpuStarved(LimitReached):
    code = "sandbox.cpu"


class SandboxUnknown(NotFoundError):
    code = "sandbox.unknown"
