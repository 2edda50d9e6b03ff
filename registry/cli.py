"""``hm registry``: from an entry to a signed image, and on to a registry."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import Settings
from registry.cli_publish import publish
from registry.cli_submit import check, new, update
from registry.places import writable_dir
from registry.schema import Entry, known_folder, load_entries

app = typer.Typer(no_args_is_help=True)
for command in (new, check, update, publish):
    app.command(command.__name__)(command)

_WIDE = 120  # columns; in fewer the listing does without where a server comes from

Names = Annotated[list[str] | None, typer.Argument(help="Servers; all when none is named.")]
Name = Annotated[str, typer.Argument(help="A server.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of entries, instead of the starter catalog.")]


@app.command("ls")
def ls(as_json: Json = False, root: Root = None) -> None:
    """The servers of the starter catalog, and which are built."""
    from registry.build.records import BuildRecords

    settings = Settings.load()
    records = BuildRecords(settings.home).all()
    rows = [_row(entry, bool(records.get(entry.name))) for entry in _entries(settings, root, None)]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    console = Console()
    wide = console.width >= _WIDE
    table = _table("Server", "Version", *(("From", "Category") if wide else ()), "Built", "What it does")
    for row in rows:
        built = "[green]✓ built[/]" if row["built"] else "not yet"
        origin = (row["source"], row["category"]) if wide else ()
        table.add_row(row["name"], row["version"], *origin, built, escape(row["description"]))
    console.print(table)


def _row(entry: Entry, built: bool) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.about.title,
        "version": entry.version,
        "source": entry.origin.removesuffix(f" {entry.version}"),
        "category": entry.meta.category,
        "tags": entry.meta.tags,
        "built": built,
        "description": entry.about.description.strip(),
    }


@app.command("lint")
def lint(names: Names = None, as_json: Json = False, root: Root = None) -> None:
    """Check entries and their locks; every problem names file, line, key and remedy.  Exit status 1 when there is one."""
    from registry.lint import Linted
    from registry.lint import lint as lint_folder
    from sandbox.profile import Profile

    settings, profile = Settings.load(), Profile.load()
    place = root or settings.servers_dir
    known = names or sorted(p.parent.name for p in place.glob("*/server.yaml"))
    found: list[Linted] = [lint_folder(known_folder(place, name), profile) for name in known]
    problems, advice = [p for f in found for p in f.problems], [a for f in found for a in f.advice]
    if as_json:
        body = {"checked": len(found), "problems": [e.as_dict() for e in problems]}
        print(json.dumps(body | {"advice": [a.as_dict() for a in advice]}, indent=2))
    else:
        for each in advice:
            sys.stderr.write(f"{each}\n  consider: {each.remedy}\n")
        for problem in problems:
            sys.stderr.write(as_typed(f"{problem.message}\n  what to do: {problem.remedy}\n"))
        counted = f"{len(found)} entries checked, {sum(1 for f in found if f.problems)} with problems"
        print(counted + (f", {len(advice)} remarks" if advice else ""))
    if problems:
        raise typer.Exit(1)


@app.command("build")
def build(
    names: Names = None,
    as_json: Json = False,
    root: Root = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Make the base images anew, with today's packages.")
    ] = False,
) -> None:
    """Build, paper and sign servers; what is up to date is left alone.  Exit status 1 when one fails."""
    from registry.cli_progress import progress_view
    from registry.pipeline import build_all
    from sandbox.engine import Engine

    settings = Settings.load()
    entries = _entries(settings, root, names)
    engine = Engine.connect(settings)
    try:
        with progress_view(quiet=as_json) as view:
            results = build_all(settings, engine, entries, view, root=root, refresh=refresh)
    finally:
        engine.close()
    _print_results(list(results.values()), as_json)
    if any(r.error for r in results.values()):
        raise typer.Exit(1)


def _print_results(results: list[Any], as_json: bool) -> None:
    if as_json:
        rows = [
            {"name": r.name, "version": r.version}
            | (
                {"error": r.error.as_dict()}
                if r.error
                else {"manifest": r.manifest, "image_id": r.image_id, "fresh": r.fresh}
            )
            for r in results
        ]
        print(json.dumps(rows, indent=2))
        return
    table = _table("Server", "Version", "Manifest", "")
    for r in results:
        state = "[red]✗ failed[/]" if r.error else "[green]✓ built[/]" if r.fresh else "✓ up to date"
        table.add_row(r.name, r.version, r.manifest, state)
    Console().print(table)
    for r in results:
        if r.error:
            sys.stderr.write(as_typed(f"error [{r.error.code}]: {r.error.message}\n  what to do: {r.error.remedy}\n"))


@app.command("test")
def test(name: Name, as_json: Json = False, root: Root = None) -> None:
    """Build a server if needed and make the calls its entry promises, in a sandbox without a network."""
    from harbourmaster.core.secrets import SecretStore
    from registry.build.container import printable
    from registry.cli_progress import progress_view
    from registry.pipeline import build_all
    from registry.trial import own_secrets, try_calls
    from sandbox.engine import Engine

    settings = Settings.load()
    entries = _entries(settings, root, [name])
    engine = Engine.connect(settings)
    try:
        with progress_view(quiet=as_json) as view:
            result = build_all(settings, engine, entries, view, root=root)[name]
        if result.error:
            raise result.error
        secrets = own_secrets(entries[0], SecretStore.of(settings))
        timeout = settings.call_timeout_s
        place = (engine, entries[0], result.image_id, result.manifest)
        outcomes = try_calls(*place, timeout_s=timeout, secrets=secrets, parts=result.parts)
    finally:
        engine.close()
    if as_json:
        print(json.dumps([vars(o) for o in outcomes], indent=2, ensure_ascii=False))
    else:
        for o in outcomes:
            said = printable(" ".join(o.text.split()))[:120]
            print(f"{'✓' if o.passed else '✗'} {o.tool}: {o.problem or said}")
    if not all(o.passed for o in outcomes):
        raise typer.Exit(1)


@app.command("lock")
def lock(name: Name, root: Root = None) -> None:
    """Resolve a server's dependencies anew and pin them with hashes, in the files beside its server.yaml."""
    from registry import locker

    settings = Settings.load()
    (entry,) = _entries(settings, root, [name])
    for path in locker.lock(entry, writable_dir(settings, root) / name):
        print(path)


@app.command("schema")
def schema() -> None:
    """Print the form of server.yaml as JSON Schema."""
    from registry.json_schema import document

    sys.stdout.write(document().decode())


@app.command("show")
def show(name: Name, as_json: Json = False, root: Root = None) -> None:
    """An entry as it is read, with what it is allowed and what was built of it."""
    from registry.build.records import BuildRecords

    settings = Settings.load()
    (entry,) = _entries(settings, root, [name])
    record = BuildRecords(settings.home).all().get(name)
    image = {"manifest": record.manifest, "config": record.config, "built": record.finished} if record else None
    body = {"entry": entry.model_dump(mode="json", exclude_unset=True), "image": image}
    if as_json:
        print(json.dumps(body, indent=2, ensure_ascii=False))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in _facts(entry).items():
        table.add_row(key, escape(value))
    for key, value in (image or {"image": as_typed(f"not built; run: hm registry build {name}")}).items():
        table.add_row(key, value)
    Console().print(table)


def _facts(entry: Entry) -> dict[str, str]:
    relaxed = [f"{k} {v.value} ({v.reason})" for k, v in entry.run.sandbox if v is not None]
    return {
        "server": f"{entry.about.title} ({entry.name})",
        "what it does": entry.about.description.strip(),
        "from": ", ".join(filter(None, (entry.origin, entry.licence))),
        "project": entry.homepage,
        "command": " ".join(entry.command()),
        "hosts": ", ".join(entry.run.network.hosts) or "none",
        "relaxations": "; ".join(relaxed) or "none",
        "secrets": ", ".join(s.name for s in entry.config.secrets) or "none",
    }


def _entries(settings: Settings, root: Path | None, names: list[str] | None) -> list[Entry]:
    return load_entries(root or settings.servers_dir, tuple(names or ()))


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
