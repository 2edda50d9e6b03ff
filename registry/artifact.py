"""A catalog as an OCI artifact: Docker's media types (any reader of theirs can use it), signed as everything of ours is.

One JSON layer behind an empty config, as ``pkg/oci/artifacts.go`` of github.com/docker/mcp-gateway at 2bd20fe8 writes it:
``{title, servers: [{type, image|endpoint, snapshot: {server: tile}}]}``.  Ours adds a member that their reader passes over:
at the top when the catalog was made, beside each snapshot the entry itself.  The signature is a Sigstore bundle over the
manifest's digest, attached as a referrer; docs/submitting.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harbourmaster.core.canonical import canonical
from harbourmaster.core.errors import HarbourError
from policies.bundles import sign_statement, verify_bundle
from policies.errors import TrustEmpty
from policies.keys import SigningKey
from policies.statements import SIGNATURE, statement
from policies.trust import CATALOG, Requirement, TrustPolicy
from registry.errors import CatalogInvalid, SignatureMissing
from registry.oci import media
from registry.oci.descriptor import EMPTY_DESCRIPTOR, Descriptor
from registry.oci.layout import OciLayout
from registry.oci.reference import Reference
from registry.oci.remote import Remote

ARTIFACT_TYPE = "application/vnd.docker.mcp.catalog.v1+json"
LAYER_TYPE = "application/json"
OURS = "dev.harbourmaster"  # the member that is ours
MAX_LAYER_BYTES = 16 << 20  # Docker's whole catalog v3 with 320 servers is under 2 MiB
MAX_BUNDLES = 32
SCHEME = "oci://"  # as Helm and others write such addresses; optional

Item = dict[str, Any]


@dataclass(frozen=True)
class CatalogLayer:
    """``signer``: who signed it under which trust rule, empty for one that nobody signed."""

    digest: str
    data: bytes
    signer: str = ""


def item(name: str, image: str, tile: dict[str, Any], entry: bytes = b"") -> Item:
    """One server; ``entry``: its ``server.yaml``."""
    remote = tile.get("type") == "remote"
    place = {"endpoint": tile.get("remote", {}).get("url", "")} if remote else {"image": image}
    body = {"type": "remote" if remote else "image", **place, "snapshot": {"server": {"name": name, **tile}}}
    return body | ({OURS: {"entry": entry.decode()}} if entry else {})


def name_of(body: Any) -> str:
    snapshot = body.get("snapshot") if isinstance(body, dict) else None
    server = snapshot.get("server") if isinstance(snapshot, dict) else None
    name = server.get("name") if isinstance(server, dict) else None
    return name if isinstance(name, str) else ""


def layer(title: str, items: list[Item], *, created: str = "") -> bytes:
    """``created``: RFC 3339 in UTC; a catalog that goes back in time is refused by those who read it before."""
    body: dict[str, Any] = {"title": title, "servers": items}
    body |= {OURS: {"created": created}} if created else {}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def push(reference: str, title: str, data: bytes, key: SigningKey | None = None) -> str:
    """Push a catalog, signed where there is a key; returns its manifest digest."""
    reference = reference.removeprefix(SCHEME)
    with _scratch() as layout:
        body = layout.put_blob(data, LAYER_TYPE)
        layout.put_blob(media.EMPTY_BLOB, media.EMPTY)
        manifest = layout.put_manifest(canonical(_manifest(body))).digest
        if key is not None:
            bundle = sign_statement(statement(title, manifest, SIGNATURE, {}), key)
            layout.add_referrer(manifest, bundle, annotations={media.PREDICATE_TYPE_ANNOTATION: SIGNATURE})
        return Remote().push(layout, manifest, reference)


def pull(reference: str, trust: TrustPolicy) -> CatalogLayer:
    """The catalog's layer; raises what the registry, the artifact or its signature is refused for.

    A trust rule of tier ``catalog`` that matches ``host/repository`` must be met.  Without one only catalogs are read that hold
    no entries of ours: of Docker's nobody says who made them, and their images are judged one by one.
    """
    reference = reference.removeprefix(SCHEME)
    name = Reference.parse(reference)
    with _scratch() as layout:
        digest = Remote().pull(reference, layout)
        data = _layer(layout, digest)
        try:
            requirement = trust.for_server(f"{name.host}/{name.name}", CATALOG)
        except TrustEmpty:
            if OURS.encode() in data:
                raise
            return CatalogLayer(digest, data)
        return CatalogLayer(digest, data, _signer(layout, digest, requirement))


def own(reference: str, key: SigningKey) -> CatalogLayer:
    """A catalog that this installation signed before."""
    with _scratch() as layout:
        digest = Remote().pull(reference, layout)
        requirement = Requirement("the key of this installation", keys=(key.verifying,))
        return CatalogLayer(digest, _layer(layout, digest), _signer(layout, digest, requirement))


def parse(data: bytes) -> tuple[list[Item], str]:
    """The servers, and when the catalog was made (empty where it does not say)."""
    try:
        body = json.loads(data)
        servers, said = body.get("servers"), body.get(OURS)
    except (ValueError, RecursionError, AttributeError) as e:
        raise _invalid("its layer is not a JSON object") from e
    if not isinstance(servers, list) or not all(isinstance(server, dict) for server in servers):
        raise _invalid("its layer lists no servers")
    created = said.get("created", "") if isinstance(said, dict) else ""
    return servers, created if isinstance(created, str) else ""


def _signer(layout: OciLayout, digest: str, requirement: Requirement) -> str:
    """The first bundle that stands; when none does, the first one's error."""
    failures: list[HarbourError] = []
    for descriptor in layout.referrers(digest, media.SIGSTORE_BUNDLE)[:MAX_BUNDLES]:
        try:
            (blob,) = layout.read_manifest(descriptor.digest).layers
            bundle = layout.read_blob(blob.digest, media.MAX_BUNDLE_BYTES)
            verified = verify_bundle(bundle, replace(requirement, refresh=False), trusted_root=None, artifact=digest)
            return f"{verified.signature.signer} (trust rule {verified.rule!r})"
        except HarbourError as e:
            failures.append(e)
        except ValueError:
            failures.append(_invalid("a signature has not one layer"))
    if failures:
        raise failures[0]
    raise SignatureMissing(
        f"nobody has signed the catalog {digest}, and the trust policy asks for it ({requirement.rule!r})",
        remedy="ask its publisher to sign it (hm registry publish does), or do not use it",
        image=digest,
    )


def _layer(layout: OciLayout, digest: str) -> bytes:
    manifest = layout.read_manifest(digest)
    if manifest.artifact_type != ARTIFACT_TYPE or len(manifest.layers) != 1:
        raise _invalid(f"{digest} is of type {manifest.artifact_type[:100]!r}")
    return layout.read_blob(manifest.layers[0].digest, MAX_LAYER_BYTES)


def _manifest(body: Descriptor) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": EMPTY_DESCRIPTOR.as_dict(),
        "layers": [body.as_dict()],
    }


@contextmanager
def _scratch() -> Iterator[OciLayout]:
    with tempfile.TemporaryDirectory(prefix="hm-catalog-") as place:
        yield OciLayout(Path(place))


def _invalid(why: str) -> CatalogInvalid:
    return CatalogInvalid(f"this is no catalog: {why}", remedy="name a catalog artifact, or ask its publisher")
