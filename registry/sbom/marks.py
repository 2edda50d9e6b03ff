"""Whose work an SBOM is, said in the document itself (CycloneDX 1.6, ``metadata.properties``)."""

from __future__ import annotations

from typing import Any

MARK = {
    "name": "harbourmaster:made-by",
    "value": "survey: read from the publisher's image, not stated by its publisher",
}


def marked(sbom: dict[str, Any]) -> dict[str, Any]:
    metadata = sbom.get("metadata", {})
    return {**sbom, "metadata": {**metadata, "properties": [*metadata.get("properties", []), MARK]}}


def is_marked(sbom: dict[str, Any]) -> bool:
    metadata = sbom.get("metadata")
    return isinstance(metadata, dict) and MARK in (metadata.get("properties") or [])
