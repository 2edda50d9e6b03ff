"""Evidence as files that anyone can check on another machine, without Harbourmaster too.

oci/                 the image with all its referrers, an OCI layout
bundles/*.json       the Sigstore bundles as they are attached
sbom.cdx.json ...    what they say, unpacked for reading
keys/*.pub           the trusted keys that signed them
evidence.json        the chain, link by link
evidence.intoto.json the same with the bundles, as one signed in-toto statement (registry/summary.py)
README.txt           how to check
"""

from __future__ import annotations

import json
from pathlib import Path

from harbourmaster.core.digests import hex_of
from harbourmaster.core.errors import UsageError
from harbourmaster.core.files import write_atomic
from policies.evidence import AttestationFact, Evidence
from policies.keys import SigningKey
from policies.trust import Requirement
from registry.oci.layout import OciLayout
from registry.oci.transfer import copy_image
from registry.summary import summarise

_README = """Evidence for {name}
image {image}

Check it with Harbourmaster, offline:

    hm verify --layout . --offline --no-engine {image}

(its trust.yaml must name the signer: {signer})

Check the papers alone, without the image, offline:

    hm verify --offline evidence.intoto.json

Check it with cosign 3, offline, for instance the SBOM:

    cosign verify-blob-attestation --key keys/{key}.pub --bundle bundles/sbom.json \\
        --insecure-ignore-tlog --type cyclonedx oci/blobs/sha256/{hex}

Look at the image itself:

    skopeo inspect --raw oci:oci:{tag} | sha256sum
"""


def statement_of(layout: OciLayout, evidence: Evidence, policy_set: str, key: SigningKey) -> bytes:
    """All that was verified about an image as one signed in-toto statement, its papers' bundles inside."""
    papers = {"sbom": evidence.sbom, "provenance": evidence.provenance, "listing": evidence.listing}
    bundles = {name: _bundle(layout, paper) for name, paper in papers.items() if paper}
    signatures = [link.digest for link in evidence.links if link.name == "signature"]
    if evidence.signature and evidence.signature.kind != "cosign" and signatures:
        bundles["signature"] = layout.read_blob(signatures[0])
    return summarise(evidence, bundles, policy_set, key)


def export(
    layout: OciLayout,
    evidence: Evidence,
    requirement: Requirement,
    directory: Path,
    *,
    tag: str,
    statement: bytes = b"",
) -> list[Path]:
    """Write the export into ``directory``, which must be empty or absent; returns the files written beside ``oci/``."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not an empty directory", remedy="name a new one")
    copy_image(layout, OciLayout(directory / "oci"), evidence.image, tag=tag)
    written = [_write(directory / "evidence.json", _json(evidence.as_dict()))]
    if statement:
        written.append(_write(directory / "evidence.intoto.json", statement))
    papers = {"sbom.cdx": evidence.sbom, "provenance": evidence.provenance, "listing": evidence.listing}
    for name, paper in papers.items():
        if paper:
            written.append(_write(directory / f"{name}.json", _json(paper.predicate)))
            written.append(_write(directory / "bundles" / f"{name.partition('.')[0]}.json", _bundle(layout, paper)))
    for key in requirement.keys:
        written.append(_write(directory / "keys" / f"{hex_of(key.key_id)[:16]}.pub", key.pem.encode()))
    written.append(_write(directory / "README.txt", _readme(evidence, requirement, tag).encode()))
    return written


def _readme(evidence: Evidence, requirement: Requirement, tag: str) -> str:
    return _README.format(
        name=evidence.name,
        image=evidence.image,
        hex=hex_of(evidence.image),
        signer=evidence.signature.signer if evidence.signature else "nobody",
        key=hex_of(requirement.keys[0].key_id)[:16] if requirement.keys else "KEY",
        tag=tag,
    )


def _bundle(layout: OciLayout, paper: AttestationFact) -> bytes:
    return layout.read_blob(paper.digest)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _write(path: Path, data: bytes) -> Path:
    write_atomic(path, data)
    return path
