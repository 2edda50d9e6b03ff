"""``hm verify``: the chain of an image's papers, link by link."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from harbourmaster.core.digests import is_digest
from harbourmaster.core.settings import Settings
from policies.evidence import Link
from policies.policy_set import PolicySet
from policies.trust import TrustPolicy
from registry.errors import ImageNotFound, OfflineRefused
from registry.oci.layout import OciLayout
from registry.places import entry_folder, entry_names
from registry.schema import ENTRY_FILE
from registry.target import Target, locked_image, target_of, target_of_ref
from registry.toolset import targets_of
from registry.verify import Verifier
from sandbox.engine import Engine

_WIDTH = 14  # of the longest link's name
_WIDE = 14 + _WIDTH + 1 + 71  # columns for mark, name and digest


def verify(
    image: Annotated[
        str,
        typer.Argument(
            metavar="NAME|IMAGE|FILE",
            help="a server, an image's tag or manifest digest, or an evidence statement",
            autocompletion=lambda incomplete: entry_names(Settings.load()),
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object with every link")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="use only what is on this machine")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="read the SBOM again from the layers and compare")] = False,
    engine: Annotated[bool, typer.Option(help="check that the container engine holds this very image")] = True,
    tier: Annotated[str, typer.Option(help="the tier to judge an IMAGE by: built or community")] = "built",
    layout: Annotated[Path | None, typer.Option(help="an OCI layout or an export, in place of HM_HOME's")] = None,
) -> None:
    """Check an image's papers, link by link; every byte that is vouched for is read."""
    settings = Settings.load()
    if image.endswith(".json") and Path(image).is_file():
        _verify_statement(settings, Path(image), as_json, offline)
        return
    images = OciLayout(layout_in(layout) if layout else settings.oci_dir)
    wanted = find_targets(settings, images, image, tier=tier, offline=offline)
    held = Engine.connect(settings) if engine and layout is None else None
    try:
        verifier = Verifier(images, held, TrustPolicy.load(settings), PolicySet.load(settings), offline=offline)
        for target in wanted:
            _verify(verifier, target, deep=deep, as_json=as_json)
    finally:
        if held:
            held.close()


def _verify(verifier: Verifier, target: Target, *, deep: bool, as_json: bool) -> None:
    """With ``as_json`` one line for each image: a server has one, or one for each of its tools."""
    show = None if as_json else _Printer(target)
    evidence = verifier.check(target, deep=deep, on_link=show).evidence
    if show is None:
        sys.stdout.write(json.dumps({"verified": True, **evidence.as_dict()}, ensure_ascii=False) + "\n")
        return
    show.reach(target.facts.hosts)
    show.end(f"{target.name} is {evidence.image}, and may run as tier {evidence.tier}")


def _verify_statement(settings: Settings, path: Path, as_json: bool, offline: bool) -> None:
    """The papers in an exported statement; the image's own bytes are not in it."""
    from registry.summary import MAX_BYTES, check

    with path.open("rb") as f:
        raw = f.read(MAX_BYTES + 1)
    show = None if as_json else _Printer(Target(path.name, "", "evidence statement"))
    summary = check(raw, TrustPolicy.load(settings), offline=offline, on_link=show)
    if as_json:
        sys.stdout.write(json.dumps({"verified": True, **summary.as_dict()}, ensure_ascii=False) + "\n")
    elif show:
        word = (
            f"{summary.name} is {summary.image} (tier {summary.tier}); the exporter admitted it {summary.verified_at}"
        )
        show.end(word, verdict="stands")


class _Printer:
    """Prints each link as it holds: a mark and a word, never colour alone."""

    def __init__(self, target: Target) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._narrow = self._console.is_terminal and self._console.width < _WIDE
        self._console.print(Text(f"{target.name} ({target.ref})", style="bold"))

    def __call__(self, link: Link) -> None:
        """A digest is never cut, and where it has no room beside the name it has a line of its own."""
        line = Text.assemble(("  ✔ verified  ", "green"), (f"{link.name:<{_WIDTH}}", "bold"))
        checked = f"{link.checked} · by {link.by}"
        if not self._narrow:
            self._console.print(line + Text(f" {link.digest}"))
            self._console.print(Text(f"{'':14}{'':{_WIDTH}} {checked}", style="dim"))
            return
        self._console.print(line)
        self._console.print(Text(f"    {link.digest}"))
        self._console.print(Padding(Text(checked, style="dim"), (0, 0, 0, 4)), soft_wrap=False)

    def reach(self, hosts: tuple[str, ...]) -> None:
        """Where it may connect, if it is a server with an entry."""
        if hosts:
            line = f"{'':14}{'network':<{_WIDTH}} {', '.join(hosts)}"
            self._console.print(Text(line))

    def end(self, message: str, *, verdict: str = "admitted") -> None:
        self._console.print(Text.assemble((f"  ✔ {verdict:<10}", "green"), message))


def find_targets(
    settings: Settings, layout: OciLayout, image: str, *, tier: str = "built", offline: bool = False
) -> list[Target]:
    """As ``find_target``; of a server whose tools have images of their own, each."""
    if "/" not in image and (entry_folder(settings, image) / ENTRY_FILE).is_file():
        return targets_of(settings, image, locked=True)
    return [find_target(settings, layout, image, tier=tier, offline=offline)]


def find_target(
    settings: Settings, layout: OciLayout, image: str, *, tier: str = "built", offline: bool = False
) -> Target:
    """A server's entry by name, else an image in the layout, else (unless ``offline``) one in a registry, pulled first."""
    if "/" not in image and (entry_folder(settings, image) / ENTRY_FILE).is_file():
        return target_of(settings, image, locked=locked_image(settings, image))
    try:
        layout.resolve(image)
    except ImageNotFound:
        if is_digest(image) or "/" not in image:
            raise
        if offline:
            raise OfflineRefused(
                f"{image} is not on this machine, and --offline was asked for",
                remedy="pull it first, or leave --offline out",
            ) from None
        image = _pulled(layout, image)
    return target_of_ref(image, tier=tier)


def _pulled(layout: OciLayout, image: str) -> str:
    from registry.oci.remote import Remote

    Remote().pull(image, layout, tag=image)
    return image


def layout_in(path: Path) -> Path:
    """The layout at ``path``, or inside the export at ``path``."""
    return path / "oci" if (path / "oci" / "index.json").is_file() else path


def verifier_of(settings: Settings, layout: OciLayout, *, offline: bool = True) -> Verifier:
    """Without an engine: for showing and exporting what is verified about an image."""
    return Verifier(layout, None, TrustPolicy.load(settings), PolicySet.load(settings), offline=offline)
