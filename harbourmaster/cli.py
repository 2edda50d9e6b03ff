"""The root of the command line.  Each package brings its own group in ``<package>/cli.py``; groups load when used."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from harbourmaster.cli_completion import VARIABLE, words_typed
from harbourmaster.cli_help import in_words
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.program import as_typed
from harbourmaster.core.program import name as program_name
from harbourmaster.core.redaction import IN_USE

# name -> (module:attribute, one line of help).  A group's module is imported only when that group is used, so that
# `hm call` does not pay for the builder's imports.
GROUPS: dict[str, tuple[str, str]] = {
    "catalog": ("catalog.cli:app", "Find servers, and say where entries come from"),
    "registry": ("registry.cli:app", "Lint, build, paper, sign and publish servers"),
    "gateway": ("gateway.cli:app", "Run the gateway"),
    "tools": ("gateway.cli_tools:app", "List and inspect tools"),
    "profile": ("gateway.cli_profile:app", "Which servers and tools a client sees"),
    "server": ("gateway.cli_server:app", "Enable, disable and inspect servers"),
    "secret": ("gateway.cli_secret:app", "The secrets that servers get"),
    "token": ("gateway.cli_token:app", "The bearer tokens clients use"),
    "client": ("gateway.cli_client:app", "Connect Claude, Cursor, VS Code and other clients"),
    "lock": ("gateway.cli_lock:app", "The file of digests and pins"),
    "model": ("runner.cli:app", "Local models: store, run, serve"),
    "agent": ("runner.cli_agent:app", "A model that uses the gateway's tools"),
    "sandbox": ("sandbox.cli:app", "See and stop running sandboxes"),
    "policy": ("gateway.cli_policy:app", "The policies that decide what may run, and who may call what"),
    "approve": ("gateway.cli_approve:app", "Calls that wait for a person's yes"),
    "audit": ("harbourmaster.cli_audit:app", "The hash-chained record of admissions and calls"),
    "evidence": ("registry.cli_evidence:app", "What was verified about an image"),
    "console": ("web.cli:app", "The web console"),
}

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("harbourmaster.cli_up:up", "Set up everything that is missing, then run"),
    "down": ("harbourmaster.cli_up:down", "Stop what `up --detach` started"),
    "status": ("harbourmaster.cli_up:status", "What runs, and how to connect"),
    "doctor": ("harbourmaster.cli_up:doctor", "Name each missing or odd thing and its remedy"),
    "call": ("gateway.cli_call:call", "Call a tool: hm call SERVER.TOOL key=value ..."),
    "verify": ("registry.cli_verify:verify", "Check an image's papers, link by link"),
    "test": ("harbourmaster.cli_test:test", "Run the project's own tests"),
    "completion": ("harbourmaster.cli_completion:completion", "Let your shell complete commands, servers and tools"),
    "version": ("harbourmaster.cli_up:version", "Print the version"),
}


def build_app(argv: Sequence[str]) -> typer.Typer:
    """The command line with the one group or command that ``argv`` names imported, and the others as lines of help."""
    app = typer.Typer(
        name="hm",
        no_args_is_help=True,
        add_completion=False,
        help="Harbourmaster: MCP servers, checked, locked down and called.",
        pretty_exceptions_enable=False,
    )
    wanted = next((a for a in argv if not a.startswith("-")), "")
    for name, (target, line) in COMMANDS.items():
        extra = {"allow_extra_args": True, "ignore_unknown_options": True} if name == "test" else None
        app.command(name=name, help=line if name != wanted else None, context_settings=extra)(
            _load(target) if name == wanted else _unused
        )
    for name, (target, line) in GROUPS.items():
        group = _load(target) if name == wanted else typer.Typer(no_args_is_help=True)
        app.add_typer(group, name=name, help=line)
    return app


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _unused() -> None:
    """Stands in for a command that this invocation did not name."""


def print_error(error: HarbourError, *, as_json: bool = False) -> None:
    if as_json:
        sys.stderr.write(IN_USE.redact(json.dumps({"error": error.as_dict()}, ensure_ascii=False)) + "\n")
        return
    sys.stderr.write(f"error [{error.code}]: {IN_USE.redact(as_typed(error.message))}\n")
    if error.remedy:
        sys.stderr.write(f"  what to do: {as_typed(error.remedy)}\n")


class SystemRefused(HarbourError):
    """The machine said no, where no package knows better what that means."""

    code = "system.refused"


_SPACE = "free some space on that disk (df -h), or set HM_HOME to a larger one"
_ACCESS = "give this user access to it, or set HM_HOME to a folder of your own"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EROFS: _ACCESS,
    errno.ENOTDIR: "a file is in the place of a folder: move it away, or set HM_HOME to another folder",
    errno.EEXIST: "a file is in the place of a folder: move it away, or set HM_HOME to another folder",
    errno.EISDIR: "a folder is in the place of a file: move it away, or set HM_HOME to another folder",
    errno.EMFILE: "allow more open files (ulimit -n), then try again",
}


def refused_by_system(error: OSError) -> SystemRefused:
    """What went wrong with which file, in the words of the system, and what to do where that is plain."""
    where = f"{error.filename}: " if error.filename else ""
    remedy = _REMEDIES.get(error.errno or 0, "see: hm doctor; HM_LOG_LEVEL=debug shows where it happened")
    return SystemRefused(f"{where}{error.strerror or error}", remedy=remedy)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exit status 0 done, 1 refused or failed, 2 usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        command = in_words(typer.main.get_command(build_app(_named(arguments))))
        command(args=arguments, prog_name=program_name(), complete_var=VARIABLE)
    except HarbourError as e:
        print_error(e, as_json="--json" in arguments)
        sys.exit(e.exit_status)
    except BrokenPipeError:
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as e:
        if os.environ.get("HM_LOG_LEVEL", "").lower() == "debug":
            traceback.print_exc()
        print_error(refused_by_system(e), as_json="--json" in arguments)
        sys.exit(1)


def _named(arguments: list[str]) -> list[str]:
    """The words to find the group in: the command line's own, or those that a shell asks completions for."""
    if VARIABLE not in os.environ:
        return arguments
    from typer._completion_classes import completion_init

    completion_init()
    return words_typed()
