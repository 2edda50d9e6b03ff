"""``hm registry publish``: images with all their papers, and a signed catalog that names them, into one registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harbourmaster.core.settings import Settings
from policies.keys import SigningKey
from registry import artifact
from registry.build.errors import EntryNotFound
from registry.build.records import BuildRecords
from registry.entry import ENTRY_FILE
from registry.errors import RemoteNotFound
from registry.oci.layout import OciLayout
from registry.oci.remote import Remote
from registry.schema import load_entry, parse_entry
from registry.target import target_of_entry
from registry.tile import tile_of_entry
from registry.verify import Verifier

CATALOG_NAME = "catalog"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Published:
    name: str
    image: str  # host/place/name:version@sha256:..., empty for a remote server
    item: artifact.Item


def publish_image(settings: Settings, folder: Path, place: str, verifier: Verifier) -> Published:
    """Push the image of the entry in ``folder`` as ``place/name:version`` with its papers, which must stand here first."""
    entry, document = load_entry(folder), (folder / ENTRY_FILE).read_bytes()
    if entry.type != "server":
        return Published(entry.name, "", artifact.item(entry.name, "", tile_of_entry(entry, ""), document))
    if entry.tier == "built" and entry.name not in BuildRecords(settings.home).all():
        raise EntryNotFound(
            f"{entry.name} is not built", remedy=f"run: hm registry build {entry.name}", name=entry.name
        )
    evidence = verifier.verify(target_of_entry(entry))
    reference = f"{place}/{entry.name}:{entry.version}"
    Remote().push(OciLayout(settings.oci_dir), evidence.image, reference)
    image = f"{reference}@{evidence.image}"
    if entry.image is not None:  # pinned where it lies now: the same bytes, by the manifest's own digest
        document = document.replace(entry.image.encode(), image.encode())
        parse_entry(folder / ENTRY_FILE, document)
    return Published(entry.name, image, artifact.item(entry.name, image, tile_of_entry(entry, image), document))


def publish_catalog(settings: Settings, reference: str, title: str, published: Iterable[Published]) -> str:
    """Put ``published`` into the catalog at ``reference``, beside what this installation published there before.

    Returns the catalog's manifest digest.  A catalog that another key signed is refused, not replaced.
    """
    key = SigningKey.load_or_create(settings.keys_dir)
    items = {artifact.name_of(item): item for item in _before(reference, key)}
    items |= {each.name: each.item for each in published}
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    data = artifact.layer(title, [items[name] for name in sorted(items)], created=created)
    return artifact.push(reference, title, data, key)


def _before(reference: str, key: SigningKey) -> list[artifact.Item]:
    try:
        items, _ = artifact.parse(artifact.own(reference, key).data)
    except RemoteNotFound:
        return []
    return items
