"""``index.json`` of an OCI image layout (image-spec 1.1, image-layout.md): changed under a lock, written whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harbourmaster.core.files import file_lock, write_atomic
from registry.errors import LayoutInvalid, ManifestInvalid
from registry.oci import media
from registry.oci.descriptor import Descriptor, parse_object

LAYOUT_VERSION = "1.0.0"  # image-layout.md, "oci-layout file"


class Index:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "index.json"

    def create(self) -> None:
        """Write ``oci-layout`` and an empty ``index.json`` where they are missing."""
        with file_lock(self._root / "index.lock"):
            if not (self._root / "oci-layout").exists():
                write_atomic(self._root / "oci-layout", json.dumps({"imageLayoutVersion": LAYOUT_VERSION}).encode())
            if not self._file.exists():
                self._write([])

    def read(self) -> list[Descriptor]:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return []
        try:
            body = parse_object(data, "index.json", media.MAX_INDEX_BYTES)
            manifests = body.get("manifests")
            if body.get("schemaVersion") != 2 or not isinstance(manifests, list):
                raise LayoutInvalid(f"{self._file} is not an OCI image index", remedy=self._remedy)
            return [Descriptor.parse(m) for m in manifests]
        except ManifestInvalid as e:
            raise LayoutInvalid(f"{self._file}: {e.message}", remedy=self._remedy) from e

    @contextlib.contextmanager
    def change(self) -> Iterator[list[Descriptor]]:
        """The descriptors, to be changed in place; written on a clean exit when they differ."""
        with file_lock(self._root / "index.lock"):
            entries = self.read()
            before = list(entries)
            yield entries
            if [e.as_dict() for e in entries] != [e.as_dict() for e in before]:
                self._write(entries)

    def _write(self, entries: list[Descriptor]) -> None:
        body: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media.INDEX,
            "manifests": [e.as_dict() for e in entries],
        }
        write_atomic(self._file, json.dumps(body, indent=1, sort_keys=True).encode() + b"\n")

    @property
    def _remedy(self) -> str:
        return f"restore {self._file}, or remove {self._root} and build or pull the images again"
