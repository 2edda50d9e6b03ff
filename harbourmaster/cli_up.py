"""`hm up`, `down`, `status`, `doctor`, `version`."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import harbourmaster
from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import Settings

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to installing what is missing.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

MARKS = {"ok": "[green]✓ ok[/]", "odd": "[yellow]! odd[/]", "missing": "[red]✗ missing[/]"}


def say(line: str) -> None:
    sys.stderr.write(f"hm: {as_typed(line)}\n")


def up(
    yes: Yes = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when it runs; `hm down` ends it.")] = False,
    servers: Annotated[str, typer.Option(help="Only these servers, separated by commas.")] = "",
    models: Annotated[bool, typer.Option(help="Serve local models too; their engine is compiled on first use.")] = True,
    console: Annotated[bool, typer.Option(help="Serve the web console too.")] = True,
) -> None:
    """Set up everything that is missing, verify the starter servers, run gateway, console and models, show one call."""
    from harbourmaster.up.run import bring_up

    names = tuple(n.strip() for n in servers.split(",") if n.strip())
    try:
        bring_up(Settings.load(), yes=yes, detach=detach, only=names, models=models, console=console, say=say)
    except KeyboardInterrupt:
        say("broken off; what was finished stays, and hm up goes on from there")
        raise


def down() -> None:
    """Stop the gateway and every sandbox.  The container engine is left running."""
    from harbourmaster.up.run import bring_down

    bring_down(Settings.load(), say=say)


def status(as_json: Json = False) -> None:
    """What runs, and how to connect.  Exit status 1 when nothing runs."""
    from harbourmaster.up.report import status_report

    report = status_report(Settings.load())
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print_status(report)
    if not report["running"]:
        raise typer.Exit(1)


def _print_status(report: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")  # a path is cut nowhere
    for name, text in _status_rows(report):
        table.add_row(name, escape(text))
    Console(highlight=False).print(table)
    if not report["running"]:
        say("nothing runs; start it with: hm up --detach")
        if report["healthy"]:
            say(f"what answers at {report['url']} is no gateway of this HM_HOME")


def _status_rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    gateway = "not running" if not report["running"] else "" if report["healthy"] else "does not answer"
    since = f"since {report['since']}" if "since" in report else "started by hand" if report["running"] else ""
    yield "gateway", ", ".join(filter(None, (report["url"], gateway, since)))
    for other in report.get("gateways", ()):
        yield "", f"{other}, started by hand"
    for name, address in report.get("addresses", {}).items():
        if name != "gateway":
            models = f", local models: {report['models']}" if name == "runner" else ""
            yield name, f"http://{address}{models}"
    yield "servers", f"{report['servers']['enabled']} enabled of {report['servers']['locked']} locked"
    if pool := report.get("pool"):
        spares = pool["spares"] if isinstance(pool["spares"], int) else len(pool["spares"])
        room = f"{pool['memory_mb']:.0f} of {pool['memory_budget_mb']:.0f} MB"
        yield "sandboxes", f"{pool['sandboxes']} of {pool['max_sandboxes']} ({spares} spare), {room}"
        yield "sessions", str(pool["sessions"])
    if "processes" in report:
        yield "processes", ", ".join(f"{name} {pid}" for name, pid in report["processes"].items())
    yield "home", report["home"]


def doctor(as_json: Json = False) -> None:
    """Name each missing or odd thing and its remedy.  Exit status 1 when something needed is missing."""
    from harbourmaster.up.doctor import examine

    findings = examine(Settings.load())
    if as_json:
        print(json.dumps([f.as_dict() for f in findings], indent=2))
    else:
        # The remedy below what was found, not beside it: both are sentences, and 80 columns are not wide.
        table = Table.grid(padding=(0, 2, 0, 0))
        for overflow in ("ignore", "ignore", "fold"):
            table.add_column(overflow=overflow)
        for f in findings:
            remedy = f"\n[bold]→[/] {escape(as_typed(f.remedy))}" if f.remedy else ""
            table.add_row(MARKS[f.level], f.name, f"{escape(f.text)}{remedy}")
        Console(highlight=False).print(table)
        odd = sum(1 for f in findings if f.level != "ok")
        say("everything is as it should be" if not odd else f"{odd} of {len(findings)} things to look at")
    if any(f.level == "missing" for f in findings):
        raise typer.Exit(1)


def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        print(json.dumps({"harbourmaster": harbourmaster.__version__, "python": platform.python_version()}))
    else:
        print(f"harbourmaster {harbourmaster.__version__} (Python {platform.python_version()})")
