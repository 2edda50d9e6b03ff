"""The images of a tool-image entry (type ``poci``): each pulled by its digest, looked into, papered and verified by itself.

Whoever speaks of "the image" of such an entry means all of them: a digest over the sorted digests of its images stands for
the set, in the lock as in a build's result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from harbourmaster.core.canonical import canonical_digest
from harbourmaster.core.settings import Settings
from registry.build.errors import EntryNotFound, EntryUnbuildable
from registry.entry import Entry
from registry.entry_checks import is_script
from registry.oci import media
from registry.oci.layout import OciLayout
from registry.places import find_entry
from registry.target import Target, locked_image, locked_parts, locked_relaxations, target_of, target_of_entry
from registry.templates import templates
from registry.toolimages import ToolContainer


def is_toolset(entry: Entry) -> bool:
    return entry.type == "poci"


def containers(entry: Entry) -> dict[str, ToolContainer]:
    """By tool."""
    return {tool.name: tool.container for tool in entry.tools if tool.container is not None}


def parts(entry: Entry) -> dict[str, Entry]:
    """By name (``curl/4f2a91c03b7e``) one entry for each distinct image, as if its publisher's image were the server."""
    images = dict.fromkeys(container.image for container in containers(entry).values())
    return {part_name(entry.name, image): _part(entry, image) for image in images}


def part_name(server: str, image: str) -> str:
    return f"{server}/{image.partition('@')[2][7:19]}"


def _part(entry: Entry, image: str) -> Entry:
    return entry.model_copy(update={"type": "server", "image": image, "tools": [], "test": None})


def part_ref(entry: Entry, name: str) -> str:
    """The tag of one image in the layout."""
    return f"{entry.name}:tool-{name.partition('/')[2]}"


def targets(
    entry: Entry, *, locked: Mapping[str, str] | None = None, approved: tuple[str, ...] = (), own: tuple[str, ...] = ()
) -> list[Target]:
    """What is to be verified of each image; ``locked``: manifest by part name."""
    found = []
    for name, part in parts(entry).items():
        target = target_of_entry(part, locked=(locked or {}).get(name, ""), approved=approved, own=own)
        found.append(replace(target, ref=part_ref(entry, name), part=name))
    return found


def targets_of(settings: Settings, name: str, *, locked: bool = False, approved: tuple[str, ...] = ()) -> list[Target]:
    """What is to be verified of the server ``name``: its image, or each of its tools' images.

    ``locked``: held to what the lock names.  Raises ``EntryNotFound`` or ``EntryInvalid``.
    """
    entry = find_entry(settings, name)
    if not is_toolset(entry):
        image = locked_image(settings, name) if locked else ""
        return [target_of(settings, name, locked=image, approved=approved)]
    agreed = locked_relaxations(settings, name)
    own = tuple(each for each in agreed if each.startswith("host-path"))
    held = locked_parts(settings, name) if locked else {}
    return targets(entry, locked=held, approved=(*approved, *agreed), own=own)


def target_of_part(settings: Settings, name: str, *, locked: bool) -> Target:
    """One of ``targets_of``, by its name.  Raises ``EntryNotFound`` when the entry names no such image any more."""
    server = name.partition("/")[0]
    found = {target.part: target for target in targets_of(settings, server, locked=locked)}
    if name not in found:
        raise EntryNotFound(
            f"{server} has no tool image {name}", remedy=f"look at the change: hm lock diff {server}", name=name
        )
    return found[name]


def set_digest(digests: Iterable[str]) -> str:
    """What stands for several digests together."""
    return canonical_digest(sorted(set(digests)))


def require_fixed_programs(entry: Entry, part: Entry, layout: OciLayout, manifest: str) -> None:
    """A caller gives a program its arguments: never its name, never its text.  Raises ``EntryUnbuildable``."""
    config = layout.read_blob(layout.read_manifest(manifest).config.digest, media.MAX_CONFIG_BYTES)
    start = (json.loads(config).get("config") or {}).get("Entrypoint") or []
    for name, container in containers(entry).items():
        first = container.command[0] if container.image == part.image and container.command else ""
        if templates(first) and (not start or is_script(start)):
            what = "text of the script" if start else "program"
            raise EntryUnbuildable(
                f"{entry.name}: {name} lets its caller choose the {what}: its image begins with "
                f"{' '.join(start) or 'nothing'}, its command with {first}",
                remedy="begin the command with the program's name",
                server=entry.name,
            )
