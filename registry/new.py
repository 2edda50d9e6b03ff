"""``hm registry new``: a first ``server.yaml`` from what a look-up found and its author wished.  Pure: values in, text out.

What nobody can know but its author is left as words that say so, and lint names them until they are written.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from registry.lookup.found import Found

if TYPE_CHECKING:
    from registry.wizard import Wishes

UNWRITTEN = "describe what it does in one sentence"
UNWRITTEN_TOOL = "name_a_tool"
UNWRITTEN_PROGRAM = "name-the-program"

_FLOW = ("tags", "command", "hosts", "arguments", "expect")


def draft(found: Found, wishes: Wishes) -> bytes:
    """The file.  Built servers have one call to write; images and remote servers need none."""
    body: dict[str, Any] = {"name": wishes.name or found.name}
    body |= {"type": "remote" if found.remote else "server", "tier": "built" if found.runtime else "community"}
    body["about"] = {"title": found.title, "description": found.description or UNWRITTEN}
    body["meta"] = {"category": wishes.category or "utilities"} | ({"tags": list(wishes.tags)} if wishes.tags else {})
    if found.image:
        body["image"] = found.image
    if found.source:
        url = found.homepage or "https://example.com/"
        body["source"] = {**found.source, "url": url, "licence": found.licence or "NOASSERTION"}
    if found.runtime:
        body["build"] = {"runtime": found.runtime}
    if run := _run(found, wishes):
        body["run"] = run
    if found.remote:
        body["remote"] = found.remote
    if found.runtime or wishes.tool:
        call = {"tool": wishes.tool or UNWRITTEN_TOOL, "arguments": wishes.arguments}
        body["test"] = {"calls": [{**call, "expect": {"contains": wishes.expect or "what it answers"}}]}
    stream = io.StringIO()
    _yaml().dump(_plain(body), stream)
    return stream.getvalue().encode()


def _run(found: Found, wishes: Wishes) -> dict[str, Any]:
    run: dict[str, Any] = {}
    if found.runtime or found.command:
        run["command"] = list(found.command or (UNWRITTEN_PROGRAM,))
    if wishes.hosts:
        run["network"] = {"hosts": list(wishes.hosts)}
    return run


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _plain(value: Any, key: str = "") -> Any:
    """Short lists and mappings on one line, as people write them; versions quoted, so that 1.10 stays text."""
    if isinstance(value, dict):
        mapping = CommentedMap({k: _plain(v, str(k)) for k, v in value.items()})
        if key in _FLOW or not value:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq([_plain(item) for item in value])
        if key in _FLOW or not value:
            sequence.fa.set_flow_style()
        return sequence
    return DoubleQuotedScalarString(value) if isinstance(value, str) and _is_ambiguous(value) else value


def _is_ambiguous(text: str) -> bool:
    """A commit of digits, a version such as 1.10, ``yes``: quoted, so that every YAML version reads text."""
    return text[:1].isdigit() or text.lower() in ("yes", "no", "on", "off", "true", "false", "null", "~", "")
