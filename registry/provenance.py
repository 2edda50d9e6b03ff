"""SLSA v1 provenance (https://slsa.dev/spec/v1.0/provenance): what was built, from what, by which builder.  Pure."""

from __future__ import annotations

from typing import Any

from harbourmaster.core.digests import hex_of
from registry.build.records import BuildRecord
from registry.schema import Entry

BUILD_TYPE = "https://harbourmaster.dev/build/v1"
BUILDER_ID = "https://harbourmaster.dev/builder/local/v1"


def provenance(
    entry: Entry, record: BuildRecord, *, versions: dict[str, str], invocation: str, architecture: str
) -> dict[str, Any]:
    """The predicate.  ``versions``: of the builder's parts; ``invocation``: unique to the build."""
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"entry": entry.model_dump(mode="json", exclude_unset=True)},
            "internalParameters": {"inputs": record.inputs, "architecture": architecture},
            "resolvedDependencies": _dependencies(record),
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID, "version": versions},
            "metadata": {
                "invocationId": invocation,
                "startedOn": record.started,
                "finishedOn": record.finished,
            },
        },
    }


def _dependencies(record: BuildRecord) -> list[dict[str, Any]]:
    """ResourceDescriptors: each package that was installed, then the bases, by digest."""
    packages = [{"uri": purl, "digest": {algorithm: value}} for purl, algorithm, value in record.materials]
    bases = [
        {"name": "runtime base", "uri": record.base_origin, "digest": {"sha256": hex_of(record.base)}},
        {"name": "builder base", "uri": record.base_origin, "digest": {"sha256": hex_of(record.builder)}},
    ]
    return packages + bases
