"""``hm sandbox``: see and stop what runs.  The engine's labels are the truth, so it works without a gateway."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.secrets.delivery import stored_values
from harbourmaster.core.secrets.terminal import ask_passphrase
from harbourmaster.core.settings import Settings
from sandbox import containers
from sandbox.engine import Engine, failures
from sandbox.errors import SandboxUnknown
from sandbox.following import follow
from sandbox.owner import LABEL_IMAGE, LABEL_OWNER, LABEL_SERVER, is_alive
from sandbox.reaper import ALL, list_sandboxes, reap

app = typer.Typer(no_args_is_help=True, help="See and stop running sandboxes")
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]
MIB = 1024 * 1024


@app.command()
def ps(as_json: AsJson = False) -> None:
    """List this home's sandboxes."""
    rows = [_row(c) for c in list_sandboxes(_engine())]
    _show(rows, ("name", "server", "state", "age_s", "owner", "relaxed"), as_json, "no sandbox is running")


@app.command()
def stats(as_json: AsJson = False) -> None:
    """Memory, processor time and processes of each sandbox, once."""
    engine = _engine()
    running = [c for c in list_sandboxes(engine) if c["State"] == "running"]
    rows = list(engine.workers.map(lambda c: _usage(engine, c), running))
    _show(rows, ("name", "server", "memory_mib", "memory_limit_mib", "cpu_s", "pids"), as_json, "no sandbox is running")


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="name or ID of a sandbox, or a server: all of its sandboxes")],
) -> None:
    """Follow what a sandbox writes to stderr from now on, until it ends.  Nothing is kept on disk."""
    settings = Settings.load()
    engine = Engine.connect(settings)
    found = _find(engine, name)
    files = stored_values(SecretStore.of(settings, ask=ask_passphrase), found[0]["Labels"].get(LABEL_SERVER, ""))
    asyncio.run(follow(engine, {c["Id"]: _name(c) for c in found}, files))


@app.command()
def stop(
    name: Annotated[str, typer.Argument(help="name, server or ID of a sandbox")] = "",
    everything: Annotated[bool, typer.Option("--all", help="every sandbox of this home")] = False,
) -> None:
    """Kill and remove one sandbox, or all of this home."""
    if bool(name) == everything:
        raise typer.BadParameter("give a name or --all")
    engine = _engine()
    if everything:
        typer.echo(f"removed {reap(engine, owner=ALL)}")
        return
    found = _find(engine, name)
    if len(found) > 1:
        several = ", ".join(_name(c) for c in found)
        raise SandboxUnknown(f"{name!r} names {len(found)} sandboxes: {several}", remedy="name one of them")
    containers.remove(engine, found[0]["Id"])
    typer.echo(f"removed {_name(found[0])}")


@app.command()
def learn(
    name: Annotated[str, typer.Argument(metavar="SERVER", help="a built server")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- TOOL key=value ...", help="calls to make; none: those that its entry tests"),
    ] = None,
    simulate: Annotated[Path | None, typer.Option(help="answer its connections from this recording")] = None,
    record: Annotated[Path | None, typer.Option(help="write what its hosts answered into this file")] = None,
    private: Annotated[bool, typer.Option("--private", help="let it reach private addresses in this run")] = False,
    port: Annotated[list[int] | None, typer.Option(help="listen on this port too, beside the customary ones")] = None,
    drop_unused: Annotated[
        bool, typer.Option("--drop-unused", help="leave out listed hosts that it did not use")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="folder of entries, instead of the starter catalog")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="put the proposal into the entry")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a server once with nothing forbidden but harm, and propose the least profile as a patch of its entry."""
    from harbourmaster.learn.command import Wishes, learn_now

    wishes = Wishes(name, words or [], simulate, record, private, tuple(port or ()), drop_unused, root, yes, as_json)
    learn_now(Settings.load(), wishes)


def _engine() -> Engine:
    return Engine.connect(Settings.load())


def _name(container: dict[str, Any]) -> str:
    return str(container["Names"][0]).lstrip("/")


def _find(engine: Engine, name: str) -> list[dict[str, Any]]:
    """The one of that exact name, all of that server, or the only one whose ID begins so."""
    everything = list_sandboxes(engine)
    by_name = [c for c in everything if _name(c) == name]
    found = by_name or [c for c in everything if c["Labels"].get(LABEL_SERVER) == name]
    if not found:
        found = [c for c in everything if len(name) >= 6 and c["Id"].startswith(name)]
        found = found if len(found) == 1 else []
    if not found:
        raise SandboxUnknown(f"{name!r} names no sandbox", remedy="see: hm sandbox ps")
    return found


def _row(container: dict[str, Any]) -> dict[str, Any]:
    labels = container["Labels"]
    owner = labels.get(LABEL_OWNER, "")
    return {
        "name": _name(container),
        "id": container["Id"],
        "server": labels.get(LABEL_SERVER, ""),
        "state": container["State"],
        "age_s": max(0, int(time.time() - container["Created"])),
        "owner": owner.partition("-")[0] + ("" if is_alive(owner) else " (gone)"),
        "image": labels.get(LABEL_IMAGE, ""),
        "relaxed": labels.get("harbourmaster.relaxed", ""),
    }


def _usage(engine: Engine, container: dict[str, Any]) -> dict[str, Any]:
    with failures(f"measure {_name(container)}"):
        now = containers.stats(engine, container["Id"])
    memory = now.get("memory_stats") or {}
    return {
        "name": _name(container),
        "server": container["Labels"].get(LABEL_SERVER, ""),
        "memory_mib": round(memory.get("usage", 0) / MIB, 1),
        "memory_limit_mib": round(memory.get("limit", 0) / MIB, 1),
        "cpu_s": round(((now.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage", 0) / 1e9, 3),
        "pids": (now.get("pids_stats") or {}).get("current", 0),
    }


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool, empty: str) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        typer.echo(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.upper().replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    Console(markup=False, highlight=False).print(table)
