"""``hm registry new``: a first ``server.yaml`` from what a look-up found.  Pure: text in, text out.

What nobody can know but its author is left as a line that says so, and lint names it until it is written.
"""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from registry.lookup.found import Found

UNWRITTEN = "describe what it does in one sentence"
TEST_TOOL = "name_a_tool"  # no server has one of this name, so the calls fail until they are written

_FLOW = ("tags", "command", "hosts", "arguments", "expect")


def draft(found: Found, *, name: str = "", category: str = "utilities", tags: tuple[str, ...] = ()) -> bytes:
    """The file.  Built servers have one call to write; images and remote servers need none."""
    body: dict[str, Any] = {"name": name or found.name}
    body |= {"type": "remote" if found.remote else "server", "tier": "built" if found.runtime else "community"}
    body["about"] = {"title": found.title, "description": found.description or UNWRITTEN}
    body["meta"] = {"category": category} | ({"tags": list(tags)} if tags else {})
    if found.image:
        body["image"] = found.image
    if found.source:
        body["source"] = {
            **found.source,
            "url": found.homepage or "https://",
            "licence": found.licence or "NOASSERTION",
        }
    if found.runtime:
        body["build"] = {"runtime": found.runtime}
        body["run"] = {"command": list(found.command or ("name-the-program",))}
        body["test"] = {"calls": [{"tool": TEST_TOOL, "arguments": {}, "expect": {"contains": "what it answers"}}]}
    if found.remote:
        body["remote"] = found.remote
    return dumped(body)


def with_call(document: bytes, tool: str, arguments: dict[str, Any], contains: str) -> bytes:
    """``document`` with its one call written."""
    yaml = _yaml()
    body = yaml.load(document.decode())
    body["test"] = {"calls": [_flowing({"tool": tool, "arguments": arguments, "expect": {"contains": contains}})]}
    stream = io.StringIO()
    yaml.dump(_flowing(body), stream)
    return stream.getvalue().encode()


def dumped(body: dict[str, Any]) -> bytes:
    stream = io.StringIO()
    _yaml().dump(_flowing(body), stream)
    return stream.getvalue().encode()


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _flowing(value: Any, key: str = "") -> Any:
    """Short lists and mappings on one line, as people write them; versions quoted, so that 1.10 stays text."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, dict):
        mapping = CommentedMap({k: _flowing(v, str(k)) for k, v in value.items()})
        if key in _FLOW or not value:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq([_flowing(item) for item in value])
        if key in _FLOW or not value:
            sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, str) and _looks_like_something_else(value):
        return DoubleQuotedScalarString(value)
    return value


def _looks_like_something_else(text: str) -> bool:
    """A commit of digits, a version such as 1.10 or 2026.10.19, ``yes``: quoted in every YAML version."""
    return text[:1].isdigit() or text.lower() in ("yes", "no", "on", "off", "true", "false", "null", "~", "")
