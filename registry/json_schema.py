"""The form of ``server.yaml`` as JSON Schema, for editors; docs/schema/server.schema.json holds it.

Editors that speak YAML find it by a first line ``# yaml-language-server: $schema=...``.  What a JSON Schema cannot say
(parts that belong together, templates, addresses) is said by ``hm registry lint`` alone.
"""

from __future__ import annotations

import json
from typing import Any

from registry.entry import Entry

DIALECT = "https://json-schema.org/draft/2020-12/schema"  # what pydantic writes
ID = "https://harbourmaster.dev/schema/server.schema.json"


def document() -> bytes:
    body: dict[str, Any] = {"$schema": DIALECT, "$id": ID} | Entry.model_json_schema(by_alias=True)
    body["title"] = "Harbourmaster server.yaml"
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()
