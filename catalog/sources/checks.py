"""Pure checks of a parsed ``server.yaml``: each yields findings.  An error means: cannot run safely as written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.records import Finding, Severity
from catalog.sources import images, templates
from catalog.text import hidden_characters
from registry import addresses, volumes
from registry.docker_shape import texts, unknown_keys
from registry.entry_checks import speaks_to_models

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TRANSPORTS = ("streamable-http", "sse")


def at(value: Any, path: str, default: Any = None) -> Any:
    """``at(document, "run.volumes")``; ``default`` where a step is missing or no mapping."""
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return default if value is None else value


def mappings(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    return [str(v) for v in value if v is not None] if isinstance(value, list) else []


def all_findings(document: Any, lines: Mapping[str, int]) -> list[Finding]:
    found = [*keys(document), *submission_pins(document), *safety(document)]
    return [Finding(f.code, f.severity, f.path, f.message, f.remedy, _line(f.path, lines)) for f in found]


def safety(document: Any) -> list[Finding]:
    """The checks that every form of entry shares, once it is written in the keys of a ``server.yaml``."""
    checks = (hidden_text, dangling_templates, binds, network, secrets, remote, imperatives)
    return [f for check in checks for f in check(document)]


def _line(path: str, lines: Mapping[str, int]) -> int | None:
    while path and path not in lines:
        path = path.rpartition("[")[0] if path.endswith("]") else path.rpartition(".")[0]
    return lines.get(path)


def keys(document: Any) -> Iterator[Finding]:
    for path in unknown_keys(document):
        yield _finding(
            "key.unknown", "warning", path, "no reader knows this key: it does nothing", "remove it or correct its name"
        )


def hidden_text(document: Any) -> Iterator[Finding]:
    for path, text in texts(document):
        if hidden := hidden_characters(text):
            message = f"holds characters that nobody sees ({', '.join(hidden[:5])})"
            yield _finding("text.hidden", "error", path, message, "remove them")


def submission_pins(document: Any) -> Iterator[Finding]:
    """As ``image_pins``, but an image that a pipeline builds has no digest yet: its source has a commit."""
    built = images.is_docker_built(str(at(document, "image", "")))
    for finding in image_pins(document):
        if not (built and finding.path == "image" and finding.code == "image.undigested"):
            yield finding
    if at(document, "type") == "server":
        yield from _source_pin(document)


def image_pins(document: Any) -> Iterator[Finding]:
    """What runs must be one thing for ever: an image by digest."""
    for path, reference in image_references(document):
        image = images.image_of(reference)
        if image is None:
            message = f"{reference[:120]!r} is no image reference"
            yield _finding("image.invalid", "error", path, message, "write name@sha256:...")
        elif not image.digest:
            message = f"{reference} has no digest: what runs can change behind its name"
            yield _finding("image.undigested", "error", path, message, "write name@sha256:...")


def _source_pin(document: Any) -> Iterator[Finding]:
    if not at(document, "image"):
        yield _finding("image.missing", "error", "image", "a server of this type names an image", "add image")
    elif images.is_docker_built(str(at(document, "image"))) and not COMMIT.fullmatch(
        str(at(document, "source.commit", ""))
    ):
        message = "it is built from a source that is not pinned to a commit"
        yield _finding("source.unpinned", "error", "source.commit", message, "write the 40-digit commit")


def image_references(document: Any) -> list[tuple[str, str]]:
    """Every image the document names, with where it stands."""
    found = [("image", str(at(document, "image")))] if at(document, "image") else []
    for i, tool in enumerate(at(document, "tools", []) if isinstance(at(document, "tools", []), list) else []):
        if reference := at(tool, "container.image"):
            found.append((f"tools[{i}].container.image", str(reference)))
    return found


def dangling_templates(document: Any) -> Iterator[Finding]:
    name = str(at(document, "name", ""))
    parameters = at(document, "config.parameters.properties", {})
    for path, text in _templated(document):
        inner = _tool_parameters(document, path)
        if templates.unfinished(text):
            yield _finding(
                "template.unfinished", "error", path, "opens {{ and never closes it", "write {{name.parameter}}"
            )
        for reference, functions in templates.references(text):
            if unknown := [f for f in functions if f not in templates.FUNCTIONS]:
                yield _finding(
                    "template.function", "error", path, f"no template function {unknown[0]!r}", "use a known one"
                )
            if not _declared(reference, name, parameters, inner):
                message = f"{{{{{reference}}}}} names no declared parameter: it would be empty"
                yield _finding(
                    "template.dangling", "error", path, message, f"declare it under config.parameters of {name}"
                )


def _declared(reference: str, name: str, parameters: Any, inner: Any) -> bool:
    if inner is not None and templates.resolves(reference, inner):
        return True
    prefix, _, rest = reference.partition(".")
    return prefix == name and bool(rest) and isinstance(parameters, Mapping) and templates.resolves(rest, parameters)


def _templated(document: Any) -> list[tuple[str, str]]:
    found = [(f"run.{p}", t) for p, t in texts(at(document, "run", {}))]
    found += [(f"config.env{p}", t) for p, t in texts(at(document, "config.env", [])) if p.endswith(".value")]
    found += [(f"tools{p}", t) for p, t in texts(at(document, "tools", [])) if ".container." in p]
    return [(p, t) for p, t in found if "{{" in t]


def _tool_parameters(document: Any, path: str) -> Any:
    match = re.match(r"tools\[(\d+)\]", path)
    return at(document["tools"][int(match[1])], "parameters.properties", {}) if match else None


def binds(document: Any) -> Iterator[Finding]:
    for path, volume in volume_list(document):
        if reason := volumes.refusal(volume):
            yield _finding(
                "volume.forbidden", "error", path, f"{volume} {reason}", "remove it, or choose another folder"
            )
        elif path.startswith("tools[") and volumes.host_path(volume).startswith("{{"):
            message = f"{volume}: whoever calls the tool chooses the folder of the host"
            yield _finding("volume.caller", "error", path, message, "let a parameter of the entry name the folder")
        elif not volumes.is_named(volume):
            message = f"{volume} gives it a folder of the host"
            yield _finding("volume.host", "warning", path, message, "a person must choose the folder and approve it")


def volume_list(document: Any) -> list[tuple[str, str]]:
    found = [(f"run.volumes[{i}]", v) for i, v in enumerate(strings(at(document, "run.volumes", [])))]
    for i, tool in enumerate(mappings(at(document, "tools", []))):
        found += [
            (f"tools[{i}].container.volumes[{j}]", v) for j, v in enumerate(strings(at(tool, "container.volumes", [])))
        ]
    return found


def network(document: Any) -> Iterator[Finding]:
    for i, rule in enumerate(strings(at(document, "run.allowHosts", []))):
        if reason := addresses.host_rule_refusal(rule):
            yield _finding("network.bad_host", "error", f"run.allowHosts[{i}]", f"{rule} {reason}", "write host:port")
    declared = at(document, "run.allowHosts") or at(document, "run.disableNetwork")
    if at(document, "type") != "remote" and not declared:
        message = "it does not say which hosts it needs, so it gets none"
        yield _finding("network.undeclared", "warning", "run.allowHosts", message, "run it once with: hm sandbox learn")
    for i, port in enumerate(strings(at(document, "run.ports", []))):
        yield _finding(
            "network.ports", "error", f"run.ports[{i}]", f"{port} would open a port on the host", "remove it"
        )


def secrets(document: Any) -> Iterator[Finding]:
    for i, secret in enumerate(mappings(at(document, "config.secrets", []))):
        if not ENV_NAME.fullmatch(str(secret.get("env", ""))):
            yield _finding(
                "secret.env", "error", f"config.secrets[{i}].env", "is no variable name", "write LETTERS_AND_DIGITS"
            )
    if at(document, "run.user") in ("root", "0", 0) or str(at(document, "run.user", "")).startswith("0:"):
        yield _finding("user.root", "error", "run.user", "asks to run as root", "remove it: 65532 is used")


def remote(document: Any) -> Iterator[Finding]:
    if at(document, "type") != "remote":
        return
    url = str(at(document, "remote.url", ""))
    if reason := addresses.refusal(url):
        yield _finding("remote.address", "error", "remote.url", f"{url[:200]} {reason}", "write a public https address")
    if (transport := at(document, "remote.transport_type")) not in TRANSPORTS:
        message = f"{transport!r} is no transport for a remote server"
        yield _finding("remote.transport", "error", "remote.transport_type", message, "write streamable-http or sse")
    known = {str(s.get("env")) for part in ("secrets", "env") for s in mappings(at(document, f"config.{part}", []))}
    known |= {str(s.get("env")) for s in mappings(at(document, "oauth", []))} | {
        str(s.get("name")) for s in mappings(at(document, "config.env", []))
    }
    for path, text in texts(at(document, "remote.headers", {})):
        for variable in templates.env_references(text):
            if variable not in known:
                message = f"${{{variable}}} names no declared secret"
                yield _finding(
                    "template.dangling", "error", f"remote.headers.{path}", message, "declare it under config.secrets"
                )


def imperatives(document: Any) -> Iterator[Finding]:
    parts = {"about.description": at(document, "about.description", "")}
    for i, tool in enumerate(mappings(at(document, "tools", []))):
        parts[f"tools[{i}].description"] = tool.get("description", "")
    for path, text in parts.items():
        if speaks_to_models(str(text)):
            yield _finding(
                "text.imperative", "warning", path, "gives orders to a model", "describe what it does instead"
            )


def _finding(code: str, severity: Severity, path: str, message: str, remedy: str) -> Finding:
    return Finding(code, severity, path, message, remedy)
