"""``hm sandbox``: see and stop what runs.  The engine's labels are the truth, so it works without a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from harbourmaster.core.secrets import SecretStore
from harbourmaster.core.secrets.delivery import stored_values
from harbourmaster.core.secrets.terminal import ask_passphrase
from harbourmaster.core.settings import Settings
from sandbox import containers
from sandbox.attach import attach
from sandbox.engine import Engine, failures
from sandbox.errors import SandboxUnknown
from sandbox.owner import LABEL_IMAGE, LABEL_OWNER, LABEL_SERVER, is_alive
from sandbox.reaper import ALL, list_sandboxes, reap
from sandbox.text import redact, secret_values, visible

app = typer.Typer(no_args_is_help=True, help="See and stop running sandboxes")
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]
MIB = 1024 * 1024
MAX_PENDING = 64 * 1024  # of a line that does not end, shown in pieces
MAX_QUEUED = 256  # chunks that wait for a slow reader of our output; more are dropped


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
def logs(name: Annotated[str, typer.Argument(help="name, server or ID of a sandbox")]) -> None:
    """Follow what a sandbox writes to stderr from now on, until it ends.  Nothing is kept on disk."""
    settings = Settings.load()
    engine = Engine.connect(settings)
    found = _find(engine, name)
    files = stored_values(SecretStore.of(settings, ask=ask_passphrase), found["Labels"].get(LABEL_SERVER, ""))
    asyncio.run(_follow(engine, found["Id"], files))


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
    containers.remove(engine, found["Id"])
    typer.echo(f"removed {_name(found)}")


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


def _find(engine: Engine, name: str) -> dict[str, Any]:
    """By exact name, by server if only one runs, or by the start of the ID."""
    everything = list_sandboxes(engine)
    by_name = [c for c in everything if _name(c) == name]
    found = by_name or [c for c in everything if c["Labels"].get(LABEL_SERVER) == name]
    found = found or [c for c in everything if len(name) >= 6 and c["Id"].startswith(name)]
    if len(found) == 1:
        return found[0]
    several = ", ".join(_name(c) for c in found)
    raise SandboxUnknown(
        f"{name!r} names {len(found)} sandboxes{': ' + several if several else ''}", remedy="see: hm sandbox ps"
    )


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


async def _follow(engine: Engine, container: str, more: tuple[str, ...] = ()) -> None:
    with failures("inspect the sandbox"):
        variables = engine.api.inspect_container(container)["Config"]["Env"] or ()
    secrets = secret_values([(v.partition("=")[0], v.partition("=")[2]) for v in variables], frozenset(), more)
    over = asyncio.Event()

    pending = bytearray()
    lines: queue.Queue[str | None] = queue.Queue(MAX_QUEUED)

    def show(chunk: bytes, *, last: bool = False) -> None:
        """Whole lines, so that a secret cut by a read is redacted too."""
        pending.extend(chunk)
        whole = len(pending) if last or len(pending) > MAX_PENDING else pending.rfind(b"\n") + 1
        text = pending[:whole].decode("utf-8", "backslashreplace")
        del pending[:whole]
        # A reader who stopped reading must not stop us: the engine would stall the server, and even its removal.
        with contextlib.suppress(queue.Full):
            lines.put_nowait(visible(redact(text, secrets)))

    threading.Thread(target=_write_all, args=(lines,), daemon=True).start()
    await attach(engine, container, on_line=lambda _: None, on_stderr=show, on_end=lambda _: over.set(), stdin=False)
    await over.wait()
    show(b"", last=True)
    await asyncio.to_thread(lines.put, None)
    await asyncio.to_thread(lines.join)


def _write_all(lines: queue.Queue[str | None]) -> None:
    """To stdout, at its reader's pace; what comes while the queue is full is dropped."""
    while (text := lines.get()) is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
        lines.task_done()
    lines.task_done()


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
