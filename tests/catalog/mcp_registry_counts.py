"""Counts over an mcp-registry folder made another way: PyYAML and regular expressions, none of the catalog's code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

TOP = [
    "name",
    "image",
    "type",
    "longLived",
    "requirement",
    "dynamic",
    "meta",
    "about",
    "source",
    "remote",
    "run",
    "config",
    "oauth",
    "tools",
]
INNER = {
    "dynamic": "tools",
    "meta": "category tags",
    "about": "title description icon",
    "source": "project upstream branch commit directory dockerfile buildTarget",
    "remote": "transport_type url headers",
    "run": "command volumes user env allowHosts disableNetwork",
    "config": "description secrets env parameters anyOf",
}
ITEMS = {"secrets": "name env example description required", "env": "name example value"}
SCHEMA = ["type", "description", "properties", "required", "items", "anyOf", "default"]


def unknown_keys(path: Path) -> list[str]:
    entry = yaml.safe_load(path.read_text())
    found = [k for k in entry if k not in TOP]
    for section, known in INNER.items():
        found += [f"{section}.{k}" for k in entry.get(section) or {} if k not in known.split()]
    config = entry.get("config") or {}
    for section, known in ITEMS.items():
        for i, item in enumerate(config.get(section) or []):
            found += [f"config.{section}[{i}].{k}" for k in item if k not in known.split()]
    found += _schema_keys("config.parameters", config.get("parameters") or {})
    return found


def _schema_keys(path: str, schema: dict[str, Any]) -> list[str]:
    found = [f"{path}.{k}" for k in schema if k not in SCHEMA]
    for name, inner in (schema.get("properties") or {}).items():
        found += _schema_keys(f"{path}.properties.{name}", inner)
    return found


def dangling_templates(path: Path) -> list[str]:
    text = path.read_text()
    entry = yaml.safe_load(text)
    declared = _paths((entry.get("config") or {}).get("parameters") or {})
    declared |= {p for tool in entry.get("tools") or [] for p in _paths(tool.get("parameters") or {})}
    used = [m.split("|")[0].strip() for m in re.findall(r"\{\{(.+?)\}\}", text)]
    prefix = entry["name"] + "."
    return [u for u in used if u.removeprefix(prefix) not in declared]


def _paths(schema: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, inner in (schema.get("properties") or {}).items():
        found |= {prefix + name} | _paths(inner, f"{prefix}{name}.")
    return found


def undigested_images(path: Path) -> list[str]:
    lines = re.findall(r"^\s*image:\s*(\S+)", path.read_text(), re.MULTILINE)
    return [i for i in lines if "@sha256:" not in i and not i.startswith("mcp/")]
