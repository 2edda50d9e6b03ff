"""``hm catalog``: find servers, and say where entries come from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from catalog import service
from catalog.cli_adopt import add
from catalog.cli_output import console, print_details, print_json, print_page, print_report, table
from catalog.cli_output import page_dict as page_as_dict
from catalog.cli_store import Json, opened
from catalog.cli_vulnerabilities import app as vulnerabilities_app
from catalog.entries import find_entry
from catalog.errors import SourceExists
from catalog.evidence import verify_entries
from catalog.export import export_tiles
from catalog.search.embedder import HttpEmbedder
from catalog.search.searcher import DEFAULT_LIMIT, Searcher, SearchRequest
from catalog.show import entry_details
from catalog.sources.docker_catalog import catalog_yaml
from catalog.sources.oci_artifact import push_artifact
from catalog.store import Store
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.files import write_atomic
from harbourmaster.core.running import runner_url
from harbourmaster.core.settings import Settings
from policies.keys import SigningKey

app = typer.Typer(no_args_is_help=True, help="Find servers, and say where entries come from.")
source_app = typer.Typer(no_args_is_help=True, help="Places that entries come from.")
app.add_typer(source_app, name="source")
app.add_typer(vulnerabilities_app, name="vulnerabilities")
app.command("add")(add)

Many = list[str]
Category = Annotated[Many | None, typer.Option("--category", help="only this category; repeat for more")]
Tier = Annotated[Many | None, typer.Option("--tier", help="built or community")]
Type = Annotated[Many | None, typer.Option("--type", help="server, remote or poci")]
Evidence = Annotated[Many | None, typer.Option("--evidence", help="signed, sbom, provenance, no-known-vulnerabilities")]
Permission = Annotated[Many | None, typer.Option("--permission", help="no-network, no-secrets, read-only")]
Licence = Annotated[Many | None, typer.Option("--licence", help="an SPDX identifier")]
SourceOption = Annotated[Many | None, typer.Option("--source", help="only entries of this source")]
RegistryOption = Annotated[str, typer.Option("--registry", help="only what this registry shows")]
Sort = Annotated[str, typer.Option("--sort", help="relevance, name, updated or tools")]
Offset = Annotated[int, typer.Option("--offset", min=0)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200)]


@app.command()
def search(
    text: Annotated[list[str], typer.Argument(help="what it should do, or its name")],
    category: Category = None,
    tier: Tier = None,
    type_: Type = None,
    evidence: Evidence = None,
    permission: Permission = None,
    licence: Licence = None,
    source: SourceOption = None,
    sort: Sort = "relevance",
    offset: Offset = 0,
    limit: Limit = DEFAULT_LIMIT,
    registry: RegistryOption = service.DEFAULT_REGISTRY,
    facets: Annotated[bool, typer.Option("--facets", help="show the counts of each filter")] = False,
    as_json: Json = False,
) -> None:
    """Find servers by what they do; misspelled words and abbreviations are understood."""
    filters = _filters(
        category=category,
        tier=tier,
        type=type_,
        evidence=evidence,
        permission=permission,
        licence=licence,
        source=source,
    )
    _search(SearchRequest(" ".join(text), filters, sort, offset, limit), registry, facets, as_json)


@app.command("ls")
def list_entries(
    category: Category = None,
    tier: Tier = None,
    type_: Type = None,
    source: SourceOption = None,
    held: Annotated[bool, typer.Option("--held", help="only what cannot run safely as written")] = False,
    sort: Sort = "name",
    offset: Offset = 0,
    limit: Limit = 50,
    registry: RegistryOption = service.DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """List servers by name."""
    filters = _filters(category=category, tier=tier, type=type_, source=source, state=["held"] if held else None)
    _search(SearchRequest("", filters, sort, offset, limit), registry, False, as_json)


def _filters(**given: list[str] | None) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in given.items() if values}


def _search(request: SearchRequest, registry: str, facets: bool, as_json: bool) -> None:
    with opened() as (store, settings):
        page = Searcher(store, registry, _embedder(settings) if request.text else None).search(request)
    if as_json:
        print_json(page_as_dict(page))
    else:
        print_page(page, request.offset, with_facets=facets)


def _embedder(settings: Settings) -> HttpEmbedder:
    return HttpEmbedder(f"{runner_url(settings)}/v1")


@app.command()
def learn(registry: RegistryOption = service.DEFAULT_REGISTRY) -> None:
    """Make the vectors that let search find by meaning, with the embedding model of the running model runner."""
    with opened() as (store, settings):
        searcher = Searcher(store, registry, _embedder(settings))
        for left in searcher.learn():
            sys.stderr.write(f"\r{left} entries to go ")
        sys.stderr.write("\rsearch finds by meaning now\n")


@app.command()
def show(
    name: str,
    source: Annotated[str, typer.Option("--source", help="that source's entry")] = "",
    as_json: Json = False,
) -> None:
    """Everything that is known of one server."""
    with opened() as (store, _), store.reading() as session:
        details = entry_details(session, find_entry(session, name, source=source))
    if as_json:
        print_json(details)
    else:
        print_details(details)


@app.command("import")
def import_(
    location: Annotated[str, typer.Argument(help="a folder, file, address or OCI reference")],
    kind: Annotated[str, typer.Option("--kind", help=f"one of: {', '.join(service.KINDS)}")] = "docker-catalog",
    name: Annotated[str, typer.Option("--name", help="what to call the source")] = "imported",
    as_json: Json = False,
) -> None:
    """Read a catalog once more or for the first time; the same as a source of that name."""
    with opened() as (store, settings):
        known = {s.name: s for s, _ in service.list_sources(store)}
        if name not in known:
            service.add_source(store, name, kind, location)
            _first_sync(store, settings, name, as_json)
        elif known[name].location != service.absolute(kind, location):
            raise SourceExists(f"the source {name} is {known[name].location}", remedy="choose another --name")
        else:
            _sync(store, settings, [name], as_json)


@app.command()
def export(
    place: Annotated[
        str, typer.Argument(help="a file to write, or an OCI reference with --push; - for standard output")
    ] = "-",
    name: Annotated[str, typer.Option("--name", help="the catalog's identifier")] = "harbourmaster",
    title: Annotated[str, typer.Option("--title")] = "Harbourmaster",
    held: Annotated[bool, typer.Option("--held", help="also what cannot run safely as written")] = False,
    push: Annotated[
        bool, typer.Option("--push", help="push it as an OCI catalog artifact, signed by this installation")
    ] = False,
) -> None:
    """Write the catalog in Docker's form; what that form cannot say is named on standard error."""
    with opened() as (store, settings), store.reading() as session:
        exported = export_tiles(session, held=held)
    if push:
        key = SigningKey.load_or_create(settings.keys_dir)
        console().print(push_artifact(place, title, exported.tiles, key))
    else:
        data = catalog_yaml(name, title, exported.tiles.items())
        write_atomic(Path(place), data) if place != "-" else sys.stdout.buffer.write(data)
    for left, why in exported.left_out.items():
        sys.stderr.write(f"left out: {left}: {why}\n")


@source_app.command("add")
def source_add(
    name: str,
    kind: Annotated[str, typer.Argument(help=f"one of: {', '.join(service.KINDS)}")],
    location: Annotated[str, typer.Argument(help="a folder, file or address")],
    registry: Annotated[
        str, typer.Option("--registry", help="the view that shows it; a new one is made")
    ] = service.DEFAULT_REGISTRY,
    sync: Annotated[bool, typer.Option(help="read it now")] = True,
    as_json: Json = False,
) -> None:
    """Remember a source and read it."""
    with opened() as (store, settings):
        service.add_source(store, name, kind, location, registry)
        if sync:
            _first_sync(store, settings, name, as_json)


@source_app.command("ls")
def source_ls(as_json: Json = False) -> None:
    with opened() as (store, _):
        rows = [
            {
                "name": s.name,
                "kind": s.kind,
                "location": s.location,
                "entries": n,
                "synced_at": s.synced_at,
                "last_error": s.last_error,
            }
            for s, n in service.list_sources(store)
        ]
    if as_json:
        print_json(rows)
    else:
        keys = ("name", "kind", "entries", "synced_at", "last_error", "location")
        console().print(table([k.upper() for k in keys], ([r[k] or "-" for k in keys] for r in rows)))


@source_app.command("show-in")
def source_show_in(name: str, registry: str) -> None:
    """Show a source in one more registry: a view that searches can be limited to."""
    with opened() as (store, _):
        service.show_in(store, registry, name)
    console().print(f"{name} is in {registry}")


@source_app.command("rm")
def source_rm(name: str) -> None:
    """Forget a source and everything that came from it alone."""
    with opened() as (store, _):
        service.remove_source(store, name)
    console().print(f"removed {name}")


@source_app.command("sync")
def source_sync(
    names: Annotated[list[str] | None, typer.Argument()] = None,
    due: Annotated[bool, typer.Option("--due", help="only those whose next sync is due, as for a timer")] = False,
    as_json: Json = False,
) -> None:
    """Read sources again: all of them, or those named."""
    with opened() as (store, settings):
        if due:
            names = service.due_sources(store, service.utc_now())
        elif not names:
            names = [s.name for s, _ in service.list_sources(store)]
        _sync(store, settings, names, as_json)


def _first_sync(store: Store, settings: Settings, name: str, as_json: bool) -> None:
    """A source that cannot be read at all is not kept."""
    try:
        _sync(store, settings, [name], as_json)
    except HarbourError:
        service.remove_source(store, name)
        raise


def _sync(store: Store, settings: Settings, names: list[str], as_json: bool) -> None:
    reports = [service.sync_source(store, settings, name) for name in names]
    kinds = {s.name: s.kind for s, _ in service.list_sources(store)}
    verified = {name: verify_entries(store, settings, name) for name in names if kinds.get(name) == "servers"}
    if as_json:
        print_json([r.as_dict() for r in reports])
    else:
        for report in reports:
            print_report(report)
        for outcome in verified.values():
            refused = ", ".join(f"{n} ({code})" for n, code in outcome.items() if code)
            console().print(
                f"{sum(not code for code in outcome.values())} images verified"
                + (f"; refused: {refused}" if refused else "")
            )
