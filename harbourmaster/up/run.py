"""`hm up` and `hm down`, step by step."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import typer

from harbourmaster.cli import print_error
from harbourmaster.core import program
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.files import file_lock, is_locked, make_private_dir
from harbourmaster.core.program import as_typed
from harbourmaster.core.running import dialled, listening, the_gateway
from harbourmaster.core.settings import Settings
from harbourmaster.up.engine import ensure_engine
from harbourmaster.up.errors import NoServerBuilt
from harbourmaster.up.models import models_can_be_prepared
from harbourmaster.up.processes import Service, services
from harbourmaster.up.room import engine_root, require_room
from harbourmaster.up.servers import Prepared, prepare
from harbourmaster.up.starting import READY_TIMEOUT_S, is_healthy, start_detached, stop, with_a_place
from harbourmaster.up.state import read_state
from harbourmaster.up.supervisor import Supervisor, gateway_url
from runner.setup import state as model_state

DEMO = ("time.get_current_time", {"timezone": "UTC"})

MARGIN = " " * 23  # below the second column of what is said when all runs; 80 columns are enough for it

Say = Callable[[str], None]


def bring_up(
    settings: Settings,
    *,
    yes: bool,
    detach: bool,
    only: tuple[str, ...],
    models: bool = True,
    console: bool = True,
    say: Say,
) -> None:
    """Everything that is missing, then run.  Raises ``NoServerBuilt`` when nothing can be served; exits 1 when some failed."""
    make_private_dir(settings.home)
    with contextlib.ExitStack() as turn:
        turn.enter_context(_turn(settings, say))
        begun = time.monotonic()
        prepared = _prepared(settings, only, yes=yes, say=say)
        models = models and models_can_be_prepared(settings, yes=yes, say=say)
        wanted = services(settings, models=models, console=console)
        running = read_state(settings.run_dir)
        if running is None and not detach:
            _run_in_foreground(settings, wanted, begun, say, turn.close)
        else:
            start_detached(settings, wanted, say)
            turn.close()
            _welcome(settings, begun, say)
            if running is not None and not detach:
                say("it was running already; end it with: hm down")
    if prepared.failed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _turn(settings: Settings, say: Say) -> Iterator[None]:
    """One `hm up` at a time: the second one would build the same, and want the same ports."""
    guard = settings.run_dir / "up.lock"
    if is_locked(guard):
        say("another hm up is at work here; waiting for it")
    with file_lock(guard):
        yield


def _prepared(settings: Settings, only: tuple[str, ...], *, yes: bool, say: Say) -> Prepared:
    engine = ensure_engine(settings, yes=yes, say=say)
    try:
        require_room(settings, engine_root(engine), say)
        prepared = prepare(settings, engine, only, yes=yes, say=say)
    finally:
        engine.close()
    _report(prepared, say)
    return prepared


def _report(prepared: Prepared, say: Say) -> None:
    for name, error in prepared.failed.items():
        say(f"{name} is left out:")
        print_error(error)
    if not prepared.ready:
        raise NoServerBuilt("no server is ready to run", remedy="mend what is said above, or run: hm doctor")
    cached = sum(1 for a in prepared.ready.values() if a.cached)
    say(
        f"{len(prepared.ready)} server{'' if len(prepared.ready) == 1 else 's'} verified and admitted"
        + (f", {len(prepared.fresh)} built now" if prepared.fresh else "")
        + (f", {cached} by a verdict that still stands" if cached else "")
    )


def _run_in_foreground(
    settings: Settings, wanted: list[Service], begun: float, say: Say, published: Callable[[], None]
) -> None:
    supervisor = Supervisor(settings, with_a_place(settings, wanted, say))
    threading.Thread(target=_welcome_when_ready, args=(settings, begun, say), daemon=True).start()
    supervisor.run(published)
    say("stopped")


def _welcome_when_ready(settings: Settings, begun: float, say: Say) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not is_healthy(gateway_url(settings)):
        if time.monotonic() > deadline:
            say(f"the gateway does not answer; read {settings.log_dir / 'gateway.log'}")
            return
        time.sleep(0.05)
    _welcome(settings, begun, say)
    say("press Ctrl-C to stop")


def _welcome(settings: Settings, begun: float, say: Say) -> None:
    state = read_state(settings.run_dir)
    url = state.url if state else gateway_url(settings)
    say(f"the gateway is ready at {url} ({time.monotonic() - begun:.1f} s)")
    sys.stderr.write(
        as_typed(
            f"\n  Connect a client     hm client connect claude-code\n"
            f"{MARGIN}(also cursor, vscode, ...: hm client ls)\n"
            f"  or by hand           {url}\n"
            f"{MARGIN}Authorization: Bearer $(hm token show clients)\n"
            f"  See the tools        hm tools ls\n"
            f"{_also(settings)}\n"
        )
    )
    _show_one_call(settings, say)


def _also(settings: Settings) -> str:
    """A line for each other process that runs."""
    state = read_state(settings.run_dir)
    addresses = state.addresses if state else {}
    lines = ""
    if console := addresses.get("console"):
        lines += f"  Look around          http://{console}/\n{MARGIN}(log in once with the link of: hm console link)\n"
    if runner := addresses.get("runner"):
        soon = "" if model_state(settings) == "ready" else f"{MARGIN}(in some minutes: hm model status)\n"
        lines += f'  Ask a local model    hm model run ai/smollm2 "..."\n{soon}'
        lines += f"{MARGIN}(OpenAI's API: http://{runner}/v1)\n"
    return lines


def _show_one_call(settings: Settings, say: Say) -> None:
    name, arguments = DEMO
    from gateway.cli_lookup import find
    from gateway.cli_result import text_of
    from gateway.lock import read_lock

    try:
        tool = find(read_lock(settings.lock_file), name)
        begun = time.monotonic()
        result = _call(settings, tool, arguments)
    except HarbourError as e:
        say(f"the first call did not work: [{e.code}] {e.message}")
        return
    words = " ".join(f"{k}={v}" for k, v in arguments.items())
    sys.stderr.write(f"  $ {program.name()} call {name} {words}      ({(time.monotonic() - begun) * 1000:.0f} ms)\n")
    for line in text_of(result).splitlines():
        sys.stderr.write(f"  {line}\n")
    sys.stderr.write("\n")


def _call(settings: Settings, tool: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    from gateway.cli_connection import call_tool, running_gateway
    from gateway.tokens import TokenStore
    from harbourmaster.up.errors import GatewayDidNotStart

    token = TokenStore(settings.tokens_file).default()
    timeout = settings.call_timeout_s + settings.start_timeout_s
    here = the_gateway(settings, tool.server)
    host, port = (here.host, here.port) if here is not None else (settings.gateway_host, settings.gateway_port)
    gateway = running_gateway(dialled(host), port, token, timeout, lambda method, params: None)
    if gateway is None:
        raise GatewayDidNotStart("the gateway does not listen", remedy="run: hm doctor")
    try:
        return call_tool(gateway, tool.wire_name, arguments, tool.schema)
    finally:
        gateway.close()


def bring_down(settings: Settings, *, say: Say) -> None:
    """End the supervisor and its processes, then remove every sandbox of this home."""
    from sandbox.engine import Engine
    from sandbox.reaper import ALL, GONE, reap

    say("stopped" if stop(settings) else "nothing was running")
    others = listening(settings.run_dir)
    for gateway in others:
        say(f"a gateway that was started by hand runs on: {gateway.url}; end it there, or: kill {gateway.pid}")
    try:
        engine = Engine.connect(settings)
    except HarbourError:
        return  # no engine, no sandboxes
    try:
        left = reap(engine, owner=GONE if others else ALL)
    finally:
        engine.close()
    if left:
        say(f"removed {left} sandboxes that were left")
