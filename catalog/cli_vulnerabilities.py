"""``hm catalog vulnerabilities``: advisories, and what they mean for the servers here."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlmodel import func, select

from catalog.cli_output import console, first_line, print_json, table
from catalog.cli_store import Json, opened
from catalog.entries import find_entry
from catalog.models import Advisory
from catalog.service import utc_now
from catalog.sources.documents import parse_json
from catalog.vulnerabilities.advisories import import_advisories
from catalog.vulnerabilities.components import component_rows
from catalog.vulnerabilities.entries import EntryVulnerabilities, entries_with_sbom, vulnerabilities_of
from catalog.vulnerabilities.matching import Match, Package, match
from catalog.vulnerabilities.statements import JUSTIFICATIONS, state_not_affected, withdraw_statement

app = typer.Typer(no_args_is_help=True, help="Known vulnerabilities: OSV advisories matched against SBOMs.")


@app.command("import")
def import_(
    place: Annotated[Path, typer.Argument(help="a folder, zip or tar of OSV records (JSON or YAML)")],
    as_json: Json = False,
) -> None:
    """Read advisories; every entry is judged by them from then on, without building anything."""
    with opened() as (store, _):
        report = import_advisories(store, place)
    if as_json:
        print_json(report.as_dict())
        return
    out = console()
    out.print(
        f"{report.origin}: {report.added} new, {report.changed} changed, {report.unchanged} as before, "
        f"{report.older} older than what is here, {len(report.unread)} unreadable"
    )
    if report.unread:
        out.print(table(("UNREADABLE", "WHY"), list(report.unread.items())[:20]))


@app.command()
def ls(as_json: Json = False) -> None:
    """Every server whose packages are known, with what affects it."""
    with opened() as (store, _), store.reading() as session:
        found = [vulnerabilities_of(session, entry) for entry in entries_with_sbom(session)]
        advisories = session.exec(select(func.count()).select_from(Advisory)).one()
    if as_json:
        print_json({"advisories": advisories, "entries": [v.as_dict() for v in found]})
        return
    rows = [
        (v.entry, v.packages, len(v.affecting), _worst(v.affecting), len(v.matches) - len(v.affecting)) for v in found
    ]
    console().print(table(("SERVER", "PACKAGES", "AFFECTED BY", "WORST", "NOT AFFECTED, BECAUSE"), rows))
    console().print(f"\n{advisories} advisories")


@app.command()
def check(
    server: Annotated[str, typer.Argument(help="a server of the catalog")] = "",
    sbom: Annotated[Path | None, typer.Option("--sbom", help="a CycloneDX JSON file instead")] = None,
    as_json: Json = False,
) -> None:
    """Which known vulnerabilities affect one server, or what an SBOM lists.  Exit status 1 where one does."""
    with opened() as (store, _), store.reading() as session:
        if sbom is not None:
            rows = component_rows("", parse_json(sbom.read_bytes()))
            packages = [Package(*(r[k] for k in Package.__slots__)) for r in rows]
            found = EntryVulnerabilities(sbom.name, bool(packages), len(packages), match(session, packages))
        else:
            found = vulnerabilities_of(session, find_entry(session, server))
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    raise typer.Exit(1 if found.affecting else 0)


@app.command("not-affected")
def not_affected(
    server: str,
    vulnerability: Annotated[str, typer.Argument(help="CVE, GHSA or PYSEC identifier")],
    because: Annotated[str, typer.Option("--because", help=f"one of: {', '.join(JUSTIFICATIONS)}")],
    statement: Annotated[str, typer.Option("--statement", help="in a sentence")],
    author: Annotated[str, typer.Option("--author")] = "",
) -> None:
    """State that a vulnerability does not affect a server, and why."""
    with opened() as (store, _):
        state_not_affected(store, server, vulnerability, because, statement, author or getpass.getuser(), utc_now())
    console().print(f"{server}: not affected by {vulnerability}: {JUSTIFICATIONS[because]}")


@app.command()
def withdraw(server: str, vulnerability: str) -> None:
    """Take such a statement back."""
    with opened() as (store, _):
        withdraw_statement(store, server, vulnerability)
    console().print(f"{server}: {vulnerability} counts again")


def _worst(matches: list[Match]) -> str:
    return matches[0].severity if matches else "-"


def _print(found: EntryVulnerabilities) -> None:
    out = console()
    if not found.known:
        out.print(f"{found.entry}: no SBOM says what it holds, so nobody knows")
        return
    rows: list[tuple[Any, ...]] = [
        (
            m.ids[0],
            m.severity if m.score is None else f"{m.severity} {m.score}",
            f"{m.package.name} {m.package.version}",
            ", ".join(m.fixed_in) or "no fix",
            ("not affected: " + m.not_affected)
            if m.not_affected
            else first_line(m.summary, 60) + ("" if m.decided else " (version unclear)"),
        )
        for m in found.matches
    ]
    if rows:
        out.print(table(("VULNERABILITY", "SEVERITY", "PACKAGE", "FIXED IN", "WHAT"), rows))
    out.print(f"\n{found.entry}: {found.packages} packages, {len(found.affecting)} known vulnerabilities affect it")
