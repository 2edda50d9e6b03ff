"""``hm call SERVER.TOOL key=value ...``: one tool call from a terminal or a script."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli_arguments import arguments
from gateway.cli_complete import tools
from gateway.cli_connection import Gateway, call_tool, own_gateway, running_gateway
from gateway.cli_errors import ArgumentsInvalid, ToolFailed
from gateway.cli_lookup import Tool, find, tools_of_profile
from gateway.cli_output import visible
from gateway.cli_result import text_of
from gateway.lock import read_lock
from gateway.tokens import TokenStore
from harbourmaster.core.program import as_typed
from harbourmaster.core.running import dialled, the_gateway
from harbourmaster.core.settings import Settings

STDIN = "-"
_UNREACHED = re.compile(r"connection|connect|resolve|network|unreachable|ENOTFOUND|ECONN|EAI_AGAIN", re.IGNORECASE)
_NO_HOSTS = "{server} may reach no host, as its entry lists none; to find out what it needs: hm sandbox learn {server}"
_SLACK_S = 15.0  # the gateway times calls out itself; this is for a gateway that does not answer at all


def call(
    tool: Annotated[
        str,
        typer.Argument(
            metavar="SERVER.TOOL", help="or the tool's name alone where only one has it", autocompletion=tools
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="key=value", help="key:=JSON for raw JSON; - reads a JSON object"),
    ] = None,
    args_file: Annotated[str, typer.Option(help="a file with the arguments as a JSON object")] = "",
    profile: Annotated[str, typer.Option(help="as this profile's clients would: its tools, values and limits")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the result as the server sent it")] = False,
) -> None:
    """Call a tool through the running gateway, else through one that starts for this call alone."""
    settings = Settings.load()
    lock = read_lock(settings.lock_file)
    wanted = find(lock, tool, tools_of_profile(settings, profile) if profile else None)
    given = _given(wanted, words or [], args_file)
    typed = arguments(wanted.dotted, wanted.schema, [w for w in words or [] if w != STDIN], given)
    with _gateway(settings, wanted, profile) as gateway:
        result = call_tool(gateway, wanted.wire_name, typed, wanted.schema)
    server = lock.get(wanted.server)
    show(wanted, result, as_json=as_json, alone=server is not None and not (server.remote or server.run.get("network")))


def show(tool: Tool, result: dict[str, Any], *, as_json: bool, alone: bool = False) -> None:
    """Print the result; raises ``ToolFailed`` when it is an error.  ``alone``: the server may reach no host at all."""
    text = text_of(result)
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    elif not result.get("isError"):
        sys.stdout.write((visible(text) if sys.stdout.isatty() else text) + "\n")
    if result.get("isError"):
        raise ToolFailed(
            f"{tool.dotted}: {visible(text) or 'it gave no reason'}",
            remedy=_NO_HOSTS.format(server=tool.server) if alone and _UNREACHED.search(text) else "",
        )


def _given(tool: Tool, words: list[str], args_file: str) -> dict[str, Any] | None:
    """The object on stdin or in the file, if either is named."""
    if STDIN not in words and not args_file:
        return None
    if STDIN in words and args_file:
        raise ArgumentsInvalid("both - and --args-file", remedy="give one of them")
    source = args_file or "stdin"
    try:
        body = json.loads(Path(args_file).read_bytes() if args_file else sys.stdin.buffer.read())
    except OSError as e:
        raise ArgumentsInvalid(f"{source} cannot be read: {e.strerror}", remedy="name a readable file") from e
    except ValueError as e:
        raise ArgumentsInvalid(f"{source} is not JSON: {e}", remedy='write an object: {"key": "value"}') from e
    if not isinstance(body, dict):
        raise ArgumentsInvalid(f"{source} is not a JSON object", remedy='write {"key": "value"}')
    return body


@contextlib.contextmanager
def _gateway(settings: Settings, tool: Tool, profile: str) -> Iterator[Gateway]:
    timeout = settings.call_timeout_s + settings.start_timeout_s + _SLACK_S
    gateway = _running(settings, tool, timeout, profile)
    if gateway is None:
        if sys.stderr.isatty():
            sys.stderr.write(as_typed("no gateway is running (hm up --detach starts one); one starts for this call\n"))
        gateway = own_gateway(tool.server, timeout, _notice, profile)
    try:
        yield gateway
    finally:
        gateway.close()


def _running(settings: Settings, tool: Tool, timeout: float, profile: str) -> Gateway | None:
    """This home's own, or the one at an address that a person set.  Not whoever listens at the usual one: that may be
    another home's, or another person's, and is not to be shown our token."""
    here = the_gateway(settings, tool.server)
    if here is None and not settings.model_fields_set & {"gateway_host", "gateway_port"}:
        return None
    host, port = (here.host, here.port) if here is not None else (settings.gateway_host, settings.gateway_port)
    token = TokenStore(settings.tokens_file).default()
    return running_gateway(dialled(host), port, token, timeout, _notice, profile)


def _notice(method: str, params: dict[str, Any]) -> None:
    """Progress, while a person watches."""
    if method == "notifications/progress" and sys.stderr.isatty():
        done, total = params.get("progress"), params.get("total")
        said = visible(str(params.get("message") or ""))
        sys.stderr.write(f"  {done}{f'/{total}' if total is not None else ''} {said}\n")
