"""``hm registry publish``: images, papers and a signed catalog into one registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harbourmaster.core.settings import Settings


def publish(
    names: Annotated[list[str] | None, typer.Argument(help="Servers; all that are built when none is named.")] = None,
    to: Annotated[str, typer.Option("--to", help="host[:port]/path in an OCI registry")] = "",
    catalog: Annotated[str, typer.Option("--catalog", help="the catalog's name[:tag] there; empty: none")] = "catalog",
    title: Annotated[str, typer.Option("--title", help="what the catalog calls itself")] = "Harbourmaster",
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder of entries, instead of the starter catalog.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Push built servers with all their papers, and a signed catalog that names them."""
    from harbourmaster.core.errors import UsageError
    from policies.policy_set import PolicySet
    from policies.trust import TrustPolicy
    from registry.build.records import BuildRecords
    from registry.oci.layout import OciLayout
    from registry.oci.reference import Reference
    from registry.places import entry_folder
    from registry.publish import publish_catalog, publish_image
    from registry.verify import Verifier

    if not to:
        raise UsageError("publish where?", remedy="name a registry: --to registry.example.org/team")
    place = to.removeprefix("oci://").rstrip("/")
    Reference.parse(f"{place}/name")
    settings = Settings.load()
    chosen = names or sorted(BuildRecords(settings.home).all())
    trust, policies = TrustPolicy.load(settings), PolicySet.load(settings)
    verifier = Verifier(OciLayout(settings.oci_dir), None, trust, policies, offline=True)
    folders = [root / name if root else entry_folder(settings, name) for name in chosen]
    done = [publish_image(settings, folder, place, verifier) for folder in folders]
    reference = f"{place}/{catalog}" if catalog else ""
    digest = publish_catalog(settings, reference, title, done) if reference else ""
    if as_json:
        images = [{"name": each.name, "image": each.image} for each in done]
        print(json.dumps({"images": images, "catalog": reference, "manifest": digest}, indent=2))
        return
    for each in done:
        print(each.image or f"{each.name} (remote, in the catalog only)")
    if reference:
        print(f"{reference}@{digest}")
