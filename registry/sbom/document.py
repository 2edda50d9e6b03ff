"""Packages -> CycloneDX 1.6 JSON.  Pure: the same packages give the same bytes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from harbourmaster.core.digests import hex_of
from registry.oci.descriptor import Manifest
from registry.sbom.distro import Distro
from registry.sbom.licences import licences
from registry.sbom.package import Package, file_set_digest
from registry.sbom.tree import FileSystem

PREFIX = "harbourmaster:"
SBOM_VERSION = "2"  # raise it when the same image gets another document: signed ones then differ for a known reason
_TOOL = Component(type=ComponentType.APPLICATION, name="harbourmaster-sbom", version=SBOM_VERSION)
FILE_SET = "sha256 over the lines '<sha256>  <path>' of the package's regular files, sorted by path"


def document(
    manifest: Manifest,
    fs: FileSystem,
    packages: Iterable[Package],
    distro: Distro | None,
    loose: Iterable[str],
    timestamp: datetime | None,
) -> dict[str, Any]:
    """``loose``: executables that no package owns.  Without ``timestamp`` the document has none."""
    found = sorted(packages, key=lambda p: (str(p.purl), p.location))
    layers = [layer.digest for layer in manifest.layers]
    refs = _references(found)
    components = [_component(fs, p, ref, layers) for p, ref in zip(found, refs, strict=True)]
    components += [_file(fs, path, layers) for path in sorted(loose)]
    if distro:
        components.append(_system(distro))
    image = _image(manifest)
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, f"oci:{manifest.digest}"),
        metadata=BomMetaData(component=image, timestamp=timestamp, tools=ToolRepository(components=[_TOOL])),
        components=components,
        dependencies=_graph(image, components, found, refs),
    )
    body: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if timestamp is None:
        del body["metadata"]["timestamp"]
    return body


def _references(packages: list[Package]) -> list[str]:
    """The purl; with the place where one purl is there more than once."""
    counts = Counter(str(p.purl) for p in packages)
    return [str(p.purl) if counts[str(p.purl)] == 1 else f"{p.purl}#{p.location}" for p in packages]


def _image(manifest: Manifest) -> Component:
    title = manifest.annotations.get("org.opencontainers.image.title", "image")
    return Component(
        type=ComponentType.CONTAINER,
        name=title,
        version=manifest.digest,
        bom_ref=manifest.digest,
        purl=PackageURL("oci", None, re.sub(r"[^a-z0-9._-]+", "-", title.lower()), manifest.digest),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hex_of(manifest.digest))],
        properties=[
            Property(name=PREFIX + "config.digest", value=manifest.config.digest),
            *(Property(name=f"{PREFIX}layer.{i}", value=d.digest) for i, d in enumerate(manifest.layers)),
        ],
    )


def _component(fs: FileSystem, package: Package, ref: str, layers: list[str]) -> Component:
    hashes, properties = _hashes(fs, package)
    properties += [("location", "/" + package.location), ("layer.digest", layers[package.layer]), *package.notes]
    return Component(
        type=ComponentType.PLATFORM if package.kind == "generic" else ComponentType.LIBRARY,
        group=package.purl.namespace if package.kind in ("npm", "golang") else None,
        name=package.purl.name if package.kind in ("npm", "golang") else package.name,
        version=package.version or None,
        bom_ref=ref,
        purl=package.purl,
        description=package.description[:1000] or None,
        supplier=OrganizationalEntity(name=package.supplier[:300]) if package.supplier else None,
        licenses=licences(package.licences),
        hashes=hashes,
        external_references=_links(package),
        properties=[Property(name=PREFIX + name, value=value) for name, value in properties],
    )


def _hashes(fs: FileSystem, package: Package) -> tuple[list[HashType], list[tuple[str, str]]]:
    hashes, notes = [], []
    if digest := file_set_digest(fs, package.files):
        hashes.append(HashType(alg=HashAlgorithm.SHA_256, content=digest))
        notes += [("hash.sha256", FILE_SET), ("files", str(len(package.files)))]
    if package.sha512:
        hashes.append(HashType(alg=HashAlgorithm.SHA_512, content=package.sha512))
        notes.append(("hash.sha512", "of the published archive, from the lock's integrity field"))
    return hashes, notes


def _links(package: Package) -> list[ExternalReference]:
    if not package.homepage.startswith(("https://", "http://")) or any(c.isspace() for c in package.homepage):
        return []
    return [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(package.homepage))]


def _file(fs: FileSystem, path: str, layers: list[str]) -> Component:
    node = fs.at(path)
    assert node is not None  # listed from the same tree
    return Component(
        type=ComponentType.FILE,
        name="/" + path,
        bom_ref=f"file:/{path}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=node.sha256)],
        properties=[Property(name=PREFIX + "layer.digest", value=layers[node.layer])],
    )


def _system(distro: Distro) -> Component:
    return Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=distro.id,
        version=distro.version or None,
        bom_ref=f"os:{distro.qualifier}",
        description=distro.pretty,
        properties=[Property(name=PREFIX + "location", value="/" + distro.location)],
    )


def _graph(image: Component, components: list[Component], packages: list[Package], refs: list[str]) -> list[Dependency]:
    by_key = {p.key: ref for p, ref in zip(packages, refs, strict=True) if p.key}
    graph = [Dependency(image.bom_ref, [Dependency(c.bom_ref) for c in components])]
    for package, ref in zip(packages, refs, strict=True):
        wanted = sorted({by_key[key] for key in package.needs if key in by_key} - {ref})
        graph.append(Dependency(BomRef(ref), [Dependency(BomRef(w)) for w in wanted]))
    return graph
