"""Docker's ``server.yaml`` with its ``tools.json`` and readme -> one record.  Pure: bytes in, record out.

Format: ``pkg/servers/types.go`` of github.com/docker/mcp-registry at 818bf169.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, cast, get_args

from catalog.categories import category_of
from catalog.errors import EntryUnreadable
from catalog.records import EntryRecord, Finding, ImageRecord, Kind, Permissions, ToolRecord
from catalog.sources import checks, images
from catalog.sources.checks import at, mappings, strings
from catalog.sources.documents import parse_json, parse_yaml
from catalog.text import many_lines, one_line
from harbourmaster.core.digests import sha256
from registry import addresses
from registry.entry_checks import speaks_to_models

# Where code and images live says nothing about what they do
_FORGES = re.compile(
    r"https?://(?:www\.)?(?:github|gitlab)\.com/|\b(?:ghcr\.io|docker\.io|mcr\.microsoft\.com)/|\bmcp/"
)

READER = 2
"""Raised when the same bytes would give another record: they are then imported again."""
MEDIA_TYPE = "application/vnd.docker.mcp-registry.server+yaml"
MAX_NAME_CHARS = 128
MAX_TITLE_CHARS = 120
MAX_DESCRIPTION_CHARS = 4000
MAX_TOOL_TEXT_CHARS = 4000
MAX_TOOLS = 2000
MAX_README_CHARS = 100_000
MAX_TAGS = 40


class Notes:
    """Collects findings that cleaning makes."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def at(self, path: str) -> Any:
        def note(code: str, message: str) -> None:
            severity: Any = "error" if code == "text.hidden" and path != "readme" else "warning"
            self.findings.append(
                Finding(code, severity, path, message, "shorten it" if code == "text.long" else "remove them")
            )

        return note


def read_server(document: bytes, tools: bytes = b"", readme: bytes = b"") -> EntryRecord:
    """One record; raises ``EntryUnreadable`` when there is no entry to speak of."""
    parsed = parse_yaml(document)
    entry_name(parsed.value)
    findings = checks.all_findings(parsed.value, parsed.lines)
    record = record_of(parsed.value, document, findings, tools, readme)
    return dataclasses.replace(record, version=_version(parsed.value, document))


def record_of(
    value: Any, document: bytes, findings: list[Finding], tools: bytes = b"", readme: bytes = b""
) -> EntryRecord:
    """A parsed entry in the keys of a ``server.yaml``, cleaned and bounded; it has no version yet."""
    name = entry_name(value)
    notes = Notes()
    recorded = tool_records(_tools_of(value, tools, notes), notes)
    return EntryRecord(
        name=name,
        title=one_line(at(value, "about.title", name), MAX_TITLE_CHARS, None) or name,
        description=many_lines(
            at(value, "about.description", ""), MAX_DESCRIPTION_CHARS, notes.at("about.description")
        ),
        kind=_kind(value),
        category=category_of(str(at(value, "meta.category", ""))),
        tags=tags_of(at(value, "meta.tags", [])),
        tier="built" if images.is_docker_built(str(at(value, "image", ""))) else "community",
        version="",
        document=document,
        media_type=MEDIA_TYPE,
        digest=sha256(b"\0".join([str(READER).encode(), document, tools, readme])),
        publisher=_publisher(value),
        homepage=address(at(value, "remote.url") or at(value, "source.upstream"), "homepage", notes),
        repository=address(at(value, "source.project"), "source.project", notes),
        icon=address(at(value, "about.icon"), "about.icon", notes),
        readme=many_lines(_decoded(readme), MAX_README_CHARS, notes.at("readme")),
        keywords=_keywords(value),
        tools=recorded,
        images=_images(value),
        permissions=permissions_of(value),
        findings=tuple(_without_twins([*findings, *notes.findings])),
    )


def entry_name(value: Any) -> str:
    if not isinstance(value, dict):
        raise EntryUnreadable("an entry is a mapping of keys", remedy="start with: name: my-server")
    name = value.get("name")
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not checks.NAME.fullmatch(name.lower()):
        shown = one_line(name, 80)
        raise EntryUnreadable(f"{shown!r} is no name for a server", remedy="use a-z, 0-9 and single . _ - between them")
    return name


def _kind(value: Any) -> Kind:
    kind = at(value, "type")
    if kind not in get_args(Kind):
        raise EntryUnreadable(f"type {one_line(kind, 40)!r} is not server, remote or poci", remedy="write one of these")
    return cast(Kind, kind)


def _version(value: Any, document: bytes) -> str:
    """A commit where there is one; else what the bytes are."""
    commit = str(at(value, "source.commit", ""))
    return commit[:12] if checks.COMMIT.fullmatch(commit) else sha256(document)[7:19]


def _publisher(value: Any) -> str:
    project = str(at(value, "source.project", "") or at(value, "remote.url", ""))
    found = addresses.publisher_of(project) or images.namespace_of(str(at(value, "image", "")))
    return one_line(found, 100)


def address(url: Any, path: str, notes: Notes) -> str:
    """``url`` where it is public https; else nothing, and a finding: no page of ours ever points a browser elsewhere."""
    if not url:
        return ""
    if reason := addresses.refusal(str(url)):
        notes.findings.append(
            Finding(
                "address.refused", "warning", path, f"{one_line(url, 120)} {reason}", "write a public https address"
            )
        )
        return ""
    return str(url)


def tags_of(value: Any) -> tuple[str, ...]:
    cleaned = (one_line(t, 60).lower() for t in strings(value)[:MAX_TAGS])
    return tuple(dict.fromkeys(t for t in cleaned if t))


def _tools_of(value: Any, tools: bytes, notes: Notes) -> list[dict[str, Any]]:
    listed = mappings(at(value, "tools", []))
    if not tools:
        return listed
    try:
        recorded = parse_json(tools)
    except EntryUnreadable as e:
        notes.findings.append(Finding("tools.unreadable", "warning", "tools.json", e.message, e.remedy))
        return listed
    if not isinstance(recorded, list):
        notes.findings.append(
            Finding("tools.unreadable", "warning", "tools.json", "is no list of tools", "write a list")
        )
        return listed
    return [*listed, *mappings(recorded)]


def tool_records(listed: list[dict[str, Any]], notes: Notes) -> tuple[ToolRecord, ...]:
    if len(listed) > MAX_TOOLS:
        notes.findings.append(
            Finding("tools.many", "warning", "tools", f"{len(listed)} tools; {MAX_TOOLS} are kept", "split it")
        )
    return tuple(_tool(i, tool, notes) for i, tool in enumerate(listed[:MAX_TOOLS]))


def _tool(position: int, tool: dict[str, Any], notes: Notes) -> ToolRecord:
    path = f"tools[{position}]"
    description = many_lines(tool.get("description", ""), MAX_TOOL_TEXT_CHARS, notes.at(f"{path}.description"))
    if speaks_to_models(description):
        notes.findings.append(
            Finding(
                "text.imperative", "warning", f"{path}.description", "gives orders to a model", "describe what it does"
            )
        )
    return ToolRecord(
        name=one_line(tool.get("name", ""), 200, notes.at(f"{path}.name")),
        description=description,
        arguments=arguments_of(tool),
        annotations={k: v for k, v in at(tool, "annotations", {}).items() if isinstance(v, bool | str)}
        if isinstance(at(tool, "annotations", {}), dict)
        else {},
    )


def arguments_of(tool: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Arguments from Docker's list, a tool image's ``parameters`` or MCP's ``inputSchema``, in one form."""
    listed = mappings(tool.get("arguments", []))
    if listed:
        return tuple(
            _argument(a.get("name"), a.get("type"), a.get("desc") or a.get("description"), not a.get("optional"))
            for a in listed
        )
    for key in ("parameters", "inputSchema"):
        properties, required = at(tool, f"{key}.properties", {}), strings(at(tool, f"{key}.required", []))
        if isinstance(properties, dict) and properties:
            return tuple(
                _argument(n, at(p, "type"), at(p, "description"), n in required)
                for n, p in list(properties.items())[:200]
            )
    return ()


def _argument(name: Any, kind: Any, description: Any, required: bool) -> dict[str, Any]:
    return {
        "name": one_line(name, 120),
        "type": one_line(kind if not isinstance(kind, list) else "|".join(map(str, kind)), 40),
        "description": one_line(description, 1000),
        "required": bool(required),
    }


def _images(value: Any) -> tuple[ImageRecord, ...]:
    found = (images.image_of(reference) for _, reference in checks.image_references(value))
    return tuple(image for image in found if image is not None)


def permissions_of(value: Any) -> Permissions:
    hosts = tuple(one_line(h, 260) for h in strings(at(value, "run.allowHosts", [])))
    parameters = at(value, "config.parameters.properties", {})
    return Permissions(
        network="remote"
        if at(value, "type") == "remote"
        else "none"
        if at(value, "run.disableNetwork") is True
        else "hosts"
        if hosts
        else "undeclared",
        hosts=hosts,
        secrets=tuple(one_line(s.get("name"), 120) for s in mappings(at(value, "config.secrets", []))),
        volumes=tuple(one_line(v, 300) for _, v in checks.volume_list(value)),
        user=one_line(at(value, "run.user", ""), 80),
        command=tuple(one_line(c, 1000) for c in strings(at(value, "run.command", []))),
        parameters=tuple(one_line(p, 120) for p in parameters) if isinstance(parameters, dict) else (),
        oauth=tuple(one_line(o.get("provider"), 120) for o in mappings(at(value, "oauth", []))),
        long_lived=at(value, "longLived") is True,
    )


def _keywords(value: Any) -> str:
    words = [
        str(at(value, p, ""))
        for p in ("image", "source.project", "source.directory", "config.description", "requirement")
    ]
    words = [_FORGES.sub(" ", word) for word in words]
    words += [str(s.get("description", "")) for s in mappings(at(value, "config.secrets", []))]
    parameters = at(value, "config.parameters.properties", {})
    if isinstance(parameters, dict):
        words += [f"{n} {at(p, 'description', '')}" for n, p in parameters.items()]
    return one_line(" ".join(words), 4000)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _without_twins(findings: list[Finding]) -> list[Finding]:
    """Cleaning and checking may see the same thing; once is enough."""
    first: dict[tuple[str, str, str], Finding] = {}
    for f in findings:
        key = (f.code, f.path, f.message if f.code == "template.dangling" else "")
        first.setdefault(key, f)
    return list(first.values())
