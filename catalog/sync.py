"""One sync of a source, by its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from catalog.errors import SourceCursorInvalid, SourceUnreadable
from catalog.importer import ImportReport, Offer, import_offers
from catalog.models import Source
from catalog.sources.docker_catalog import read_catalog_file
from catalog.sources.folder import read_folder
from catalog.sources.oci_artifact import read_artifact
from catalog.sources.ours import read_servers
from catalog.sources.registry_client import MAX_PAGES, Backoff, RegistryClient
from catalog.store import Store
from harbourmaster.core.errors import HarbourError
from harbourmaster.core.settings import Settings
from policies.trust import TrustPolicy
from registry.oci.layout import OciLayout

KINDS = {
    "mcp-registry": "a folder servers/<name>/server.yaml of Docker's form",
    "docker-catalog": "a catalog file of Docker's form (YAML)",
    "servers": "a folder registry/servers of this project's form",
    "registry-api": "the address of an MCP registry (API v0.1)",
    "published": "what is published to this catalog; nothing is read from elsewhere",
    "oci": "an OCI reference of a catalog artifact, by tag or digest; its signature is checked",
}
FILES = frozenset({"mcp-registry", "docker-catalog", "servers"})


def sync(store: Store, settings: Settings, source: Source, now: str, backoff: Backoff | None = None) -> ImportReport:
    """Read ``source`` and import what it offers; raises what the reader raises, with what came before it imported."""
    assert source.id is not None
    if source.kind == "published":
        return ImportReport(source.name)
    if source.kind == "registry-api":
        return _sync_api(store, source, now, backoff)
    if source.kind == "oci":
        return _sync_artifact(store, settings, source, now)
    return import_offers(store, source.id, _offers(source, settings), complete=True, now=now)


def _offers(source: Source, settings: Settings) -> Iterable[Offer]:
    """What a source that is read in one go offers, one by one."""
    place = Path(source.location)
    if source.kind == "mcp-registry":
        return read_folder(place)
    if source.kind == "docker-catalog":
        return read_catalog_file(place)
    if source.kind == "servers":
        return read_servers(place, _digest_in(OciLayout(settings.oci_dir)))
    raise SourceUnreadable(f"no reader for {source.kind}", remedy="remove the source")


def _sync_artifact(store: Store, settings: Settings, source: Source, now: str) -> ImportReport:
    """Signed catalogs do not go back in time: when the last one was made is kept."""
    assert source.id is not None
    newest = str(dict(source.position).get("created", ""))
    offers, created = read_artifact(source.location, TrustPolicy.load(settings), newest=newest)
    report = import_offers(store, source.id, offers, complete=True, now=now)
    _keep(store, source.id, {"created": created})
    return report


def _digest_in(layout: OciLayout) -> Callable[[str], str]:
    def digest(ref: str) -> str:
        try:
            return layout.resolve(ref)
        except (HarbourError, FileNotFoundError):
            return ""

    return digest


def _sync_api(store: Store, source: Source, now: str, backoff: Backoff | None) -> ImportReport:
    """Page by page; after each page the place is kept, so that a broken sync goes on where it stopped."""
    assert source.id is not None
    report, place = ImportReport(source.name), dict(source.position)
    restarted = False
    with RegistryClient(source.location, backoff=backoff) as client:
        for _ in range(MAX_PAGES):
            cursor = str(place.get("cursor", ""))
            try:
                page = client.page(cursor=cursor, updated_since=str(place.get("updated_since", "")))
            except SourceCursorInvalid:
                if restarted or not cursor:
                    raise
                place, restarted = {"updated_since": place.get("updated_since", "")}, True
                continue
            import_offers(store, source.id, page.offers, complete=False, now=now, report=report)
            newest = max(str(place.get("newest", "")), page.newest)
            if not page.next_cursor:
                _keep(store, source.id, {"updated_since": newest or place.get("updated_since", "")})
                return report
            if page.next_cursor == cursor:
                raise SourceUnreadable("the registry's pages run in a circle", remedy="ask the registry's operator")
            place = place | {"cursor": page.next_cursor, "newest": newest}
            _keep(store, source.id, place)
    raise SourceUnreadable(f"the registry has more than {MAX_PAGES} pages", remedy="ask the registry's operator")


def _keep(store: Store, source_id: int, place: dict[str, object]) -> None:
    with store.writing() as session:
        session.get_one(Source, source_id).position = place
