"""`hm audit`: look at the record of admissions and calls, and check that nobody changed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harbourmaster.core import audit, audit_trail, audit_verify
from harbourmaster.core.errors import UsageError
from harbourmaster.core.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The hash-chained record of admissions and calls.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON record per line.")]
FOLLOW_S = 0.25  # how often a followed trail is looked at
_CHAIN = ("seq", "ts", "kind", "prev", "hash")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command("tail")
def show_tail(
    count: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many records.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on showing records as they are written.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the newest records."""
    directory = Settings.load().audit_dir
    # Where to go on is noted first: a record written meanwhile is then shown, at worst twice, never missed.
    places = _ends(directory)
    shown = audit.tail(directory, count)
    _print(shown, as_json=as_json)
    if follow:
        newest = shown[-1]["seq"] if shown else 0
        for record in _written_after(directory, places):
            if record["seq"] > newest:
                _print([record], as_json=as_json)


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
    matches = _matcher([*(terms or []), *([f"kind={kind}"] if kind else [])], _moment(since, datetime.now(UTC)))
    found: list[dict[str, Any]] = []
    for path in reversed(audit_trail.files(Settings.load().audit_dir)):
        found = [record for _, record in audit_verify.records(path) if matches(record)] + found
        if len(found) >= limit:
            break
    _print(found[-limit:], as_json=as_json)


def _matcher(terms: list[str], since: str) -> Callable[[dict[str, Any]], bool]:
    pairs = [term.partition("=") for term in terms]

    def matches(record: dict[str, Any]) -> bool:
        if record["ts"] < since:
            return False
        for name, equals, value in pairs:
            values = [record.get(name)] if equals else list(record.values())
            texts = [_text(found) for found in values if found is not None]
            if not any(value == text if equals else name in text for text in texts):
                return False
        return True

    return matches


def _moment(since: str, now: datetime) -> str:
    """``since`` in the form of a record's ``ts``, which sorts as text."""
    if not since:
        return ""
    if since[:-1].isdigit() and since[-1] in _UNITS:
        moment = now - timedelta(seconds=int(since[:-1]) * _UNITS[since[-1]])
    else:
        try:
            moment = datetime.fromisoformat(since)
        except ValueError as e:
            raise UsageError(f"--since {since}: {e}", remedy="write 2026-11-21T12:00, or an age such as 15m") from e
        moment = moment.astimezone(UTC)  # a time without a zone is the machine's own
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _ends(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in audit_trail.files(directory)}


def _written_after(directory: Path, places: dict[Path, int]) -> Iterator[dict[str, Any]]:
    """Records as they are written, for ever."""
    while True:
        for path in audit_trail.files(directory):
            for offset, record in audit_verify.records(path, places.get(path, 0)):
                places[path] = offset
                yield record
        time.sleep(FOLLOW_S)


def _print(records: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for record in records:
            _write(record)
        return
    if not records:
        typer.echo("nothing recorded")
    table = Table.grid(padding=(0, 2))
    for record in records:
        rest = "  ".join(f"{name}={_text(value)}" for name, value in record.items() if name not in _CHAIN)
        # Text, not markup: a server chooses its tools' names, and must not choose colours or links here.
        table.add_row(
            Text(str(record["seq"])), Text(record["ts"]), Text(_visible(record["kind"])), Text(_visible(rest))
        )
    if records:
        Console(soft_wrap=True).print(table)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _visible(text: str) -> str:
    """Control characters as escapes: a terminal must not obey a record."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _write(body: dict[str, Any]) -> None:
    typer.echo(orjson.dumps(body).decode())
