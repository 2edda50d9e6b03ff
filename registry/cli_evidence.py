"""``hm evidence``: what was verified about an image, to read and to take along."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from harbourmaster.core.files import write_atomic
from harbourmaster.core.program import as_typed
from harbourmaster.core.settings import Settings
from policies.evidence import Evidence
from policies.keys import SigningKey
from registry.cli_verify import find_target, verifier_of
from registry.export import export as export_to
from registry.export import statement_of
from registry.oci.layout import OciLayout

_WORD = re.compile(r"[A-Za-z0-9.+-]+")

app = typer.Typer(no_args_is_help=True, help="What was verified about an image.")

Image = Annotated[str, typer.Argument(metavar="NAME|IMAGE", help="a server, or an image's tag or manifest digest")]


@app.command()
def show(
    image: Image,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, predicates included")] = False,
) -> None:
    """Who signed it, what is in it, where it came from, what it offers: verified facts only."""
    settings = Settings.load()
    layout = OciLayout(settings.oci_dir)
    evidence = verifier_of(settings, layout).verify(find_target(settings, layout, image, offline=True))
    if as_json:
        sys.stdout.write(json.dumps(evidence.as_dict() | _predicates(evidence), ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False, soft_wrap=True)  # digests are never cut
    for name, value in facts(evidence):
        console.print(Text.assemble((f"{name:<12}", "bold"), value))


@app.command()
def export(
    image: Image,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="a directory that does not exist yet, or a .json file")
    ],
) -> None:
    """Write image, papers and keys into a directory, or the papers alone into one signed statement: checked offline by anyone."""
    settings = Settings.load()
    layout = OciLayout(settings.oci_dir)
    target = find_target(settings, layout, image, offline=True)
    verifier = verifier_of(settings, layout)
    evidence = verifier.verify(target)
    key = SigningKey.load_or_create(settings.keys_dir)
    statement = statement_of(layout, evidence, verifier.policies.digest, key)
    if output.suffix == ".json":
        write_atomic(output, statement)
        typer.echo(
            as_typed(f"{output}: {evidence.name}, image {evidence.image}; check it with: hm verify --offline {output}")
        )
        return
    export_to(layout, evidence, verifier.requirement(target), output, tag=target.ref, statement=statement)
    typer.echo(f"{output}: {evidence.name}, image {evidence.image}; {output / 'README.txt'} says how to check it")


def facts(evidence: Evidence) -> list[tuple[str, str]]:
    """The page of a ship's papers, as rows."""
    rows = [
        ("server", f"{evidence.name} (tier {evidence.tier})"),
        ("image", evidence.image),
        ("config", evidence.config_digest),
        ("signed by", evidence.signature.signer if evidence.signature else "nobody"),
    ]
    if evidence.sbom:
        rows.append(("SBOM", _sbom_line(evidence.sbom.predicate)))
        rows.append(("licences", ", ".join(_licences(evidence.sbom.predicate)) or "none named"))
    if evidence.provenance:
        builder = evidence.provenance.predicate.get("runDetails", {}).get("builder", {}).get("id", "unknown")
        rows.append(("built by", str(builder)))
    if evidence.listing:
        tools = [str(t.get("name")) for t in evidence.listing.predicate.get("tools", [])]
        rows.append(("tools", f"{len(tools)}: {', '.join(tools)}" if tools else "none"))
    rows.append(("admitted by", evidence.links[-1].by))
    return rows


def _predicates(evidence: Evidence) -> dict[str, Any]:
    papers = {"sbom": evidence.sbom, "provenance": evidence.provenance, "listing": evidence.listing}
    return {"predicates": {name: paper.predicate for name, paper in papers.items() if paper}}


def _sbom_line(sbom: dict[str, Any]) -> str:
    kinds: dict[str, int] = {}
    for component in sbom.get("components", []):
        kind = str(component.get("purl", component.get("type", "?"))).removeprefix("pkg:").partition("/")[0]
        kinds[kind] = kinds.get(kind, 0) + 1
    parts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    return f"CycloneDX {sbom.get('specVersion', '?')}: {sum(kinds.values())} components ({parts})"


def _licences(sbom: dict[str, Any]) -> list[str]:
    """Distinct SPDX ids, also those inside expressions; licences without one are counted."""
    found: set[str] = set()
    unnamed: set[str] = set()
    for component in sbom.get("components", []):
        for choice in component.get("licenses", []):
            licence = choice.get("license", {})
            found |= set(_WORD.findall(choice.get("expression") or licence.get("id") or "")) - {"AND", "OR", "WITH"}
            unnamed |= {licence["name"]} if "name" in licence else set()
    more = [f"and {len(unnamed)} texts without an SPDX name"] if unnamed else []
    return sorted(found) + more
