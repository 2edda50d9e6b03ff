"""`hm audit`: look at the record of admissions and calls, and check that nobody changed it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harbourmaster.core import audit
from harbourmaster.core.audit_search import CHAIN, as_text, ends, matcher, moment, written_after
from harbourmaster.core.audit_search import search as search_in
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The hash-chained record of admissions and calls.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON record per line.")]
FOLLOW_S = 0.25  # how often a followed trail is looked at


@app.command("tail")
def show_tail(
    count: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many records.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on showing records as they are written.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the newest records."""
    directory = Settings.load().audit_dir
    # Where to go on is noted first: a record written meanwhile is then shown, at worst twice, never missed.
    places = ends(directory)
    shown = audit.tail(directory, count)
    _print(shown, as_json=as_json)
    if follow:
        newest = shown[-1]["seq"] if shown else 0
        while True:
            for record in written_after(directory, places):
                if record["seq"] > newest:
                    _print([record], as_json=as_json)
            time.sleep(FOLLOW_S)


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Check every record against the chain; exit status 1 names the first place that does not fit."""
    summary = audit.verify(Settings.load().audit_dir)
    if as_json:
        _write(summary.as_dict())
        return
    span = f", {summary.first} to {summary.last}" if summary.records else ""
    typer.echo(f"✔ intact: {summary.records} records in {summary.files} files{span}")
    typer.echo(f"  head {summary.head}")
    for file, line, size in summary.torn:
        typer.echo(f"! {file}, line {line}: {size} bytes half-written by a crash; no confirmed record was in them")


@app.command()
def search(
    terms: Annotated[list[str] | None, typer.Argument(help="field=value, or text found in any value.")] = None,
    kind: Annotated[str, typer.Option(help="admission, call, sandbox or gateway.")] = "",
    since: Annotated[str, typer.Option(help="A time (2026-11-21T12:00) or an age (90s, 15m, 2h, 7d).")] = "",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most this many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the newest records that match all of the terms."""
    matches = matcher([*(terms or []), *([f"kind={kind}"] if kind else [])], moment(since, datetime.now(UTC)))
    _print(search_in(Settings.load().audit_dir, matches, limit), as_json=as_json, none="no record matches")


def _print(records: list[dict[str, Any]], *, as_json: bool, none: str = "nothing recorded") -> None:
    if as_json:
        for record in records:
            _write(record)
        return
    if not records:
        typer.echo(none)
    table = Table.grid(padding=(0, 2))
    for record in records:
        rest = "  ".join(f"{name}={as_text(value)}" for name, value in record.items() if name not in CHAIN)
        # Text, not markup: a server chooses its tools' names, and must not choose colours or links here.
        table.add_row(
            Text(str(record["seq"])), Text(record["ts"]), Text(_visible(record["kind"])), Text(_visible(rest))
        )
    if records:
        Console(soft_wrap=True).print(table)


def _visible(text: str) -> str:
    """Control characters as escapes: a terminal must not obey a record."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _write(body: dict[str, Any]) -> None:
    typer.echo(orjson.dumps(body).decode())
