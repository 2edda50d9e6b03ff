"""One ``server.json`` of the official MCP registry -> a record.  Pure.

Source: the ``ServerDetail`` schema of github.com/modelcontextprotocol/registry, docs/reference/api/openapi.yaml (2025-12-01).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from catalog.categories import category_of
from catalog.errors import EntryUnreadable
from catalog.records import EntryRecord, Finding, ImageRecord, Permissions, Status
from catalog.sources import images, serverfile
from catalog.sources.checks import ENV_NAME, at, mappings, strings
from catalog.sources.rawjson import Raw, members
from catalog.text import hidden_characters, many_lines, one_line
from harbourmaster.core.digests import sha256
from registry import addresses
from registry.docker_shape import texts

READER = 1
MEDIA_TYPE = "application/vnd.modelcontextprotocol.server+json"
OFFICIAL = "io.modelcontextprotocol.registry/official"
MAX_SERVER_CHARS = 1 << 20
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]*/[a-zA-Z0-9._-]+")  # the schema's, without a leading dash or dot
MAX_NAME_CHARS = 200
_RANGE = re.compile(r"latest|.*[\^~<>*=|].*|.*\.x|x", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
# Flags of container engines that take the sandbox away; runtimeArguments come from whoever published the server.
_ESCAPES = re.compile(
    r"--?(?:privileged|v|volume|mount|net|network|pid|ipc|uts|userns|cap-add|security-opt|device|group-add|u|user|entrypoint|add-host"
    r"|p|publish|runtime|cgroup-parent|volumes-from)(?:=.*)?"
)
_STATUSES = ("active", "deprecated", "deleted")


def read_item(item: Raw) -> EntryRecord:
    """One element of ``servers``: ``{server, _meta}``; raises ``EntryUnreadable``."""
    parts = members(item)
    server = parts.get("server")
    if server is None or not isinstance(server.value, dict):
        raise EntryUnreadable("an item has no server object", remedy="ask the registry's operator")
    meta = parts.get("_meta")
    return read_server(server, meta)


def read_server(server: Raw, meta: Raw | None = None) -> EntryRecord:
    value, official = server.value, _official(meta)
    name = server_name(value)
    if len(server.text) > MAX_SERVER_CHARS:
        raise EntryUnreadable(f"its object is larger than {MAX_SERVER_CHARS} characters", remedy="ask its publisher")
    notes = serverfile.Notes()
    findings = [*_findings(value), *_hidden(value)]
    packages, remotes = mappings(at(value, "packages", [])), mappings(at(value, "remotes", []))
    return EntryRecord(
        name=name,
        title=one_line(at(value, "title", "") or name.rpartition("/")[2], serverfile.MAX_TITLE_CHARS),
        description=many_lines(at(value, "description", ""), serverfile.MAX_DESCRIPTION_CHARS, notes.at("description")),
        kind="server" if packages else "remote",
        category=category_of(""),
        tags=(),
        tier="community",
        version=_version(value),
        document=server.data,
        media_type=MEDIA_TYPE,
        digest=sha256(f"{READER}\0{meta.text if meta else ''}\0".encode() + server.data),
        publisher=publisher_of(name),
        homepage=serverfile.address(at(value, "websiteUrl"), "websiteUrl", notes),
        repository=serverfile.address(at(value, "repository.url"), "repository.url", notes),
        icon=_icon(value, notes),
        status=cast(Status, official["status"]),
        status_message=official["statusMessage"],
        published_at=official["publishedAt"],
        updated_at=official["updatedAt"],
        is_latest=official["isLatest"],
        upstream_meta=meta.data if meta else b"",
        keywords=_keywords(packages, remotes),
        images=_images(packages),
        permissions=_permissions(packages, remotes),
        findings=tuple([*findings, *notes.findings]),
    )


def server_name(value: Any) -> str:
    name = at(value, "name")
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not NAME.fullmatch(name) or ".." in name:
        shown = one_line(name, 80)
        raise EntryUnreadable(
            f"{shown!r} is no name in reverse-DNS form", remedy="a name is like com.example/my-server"
        )
    return name


def publisher_of(name: str) -> str:
    """``io.github.someone/x`` -> ``someone``; ``com.example/x`` -> ``example.com``."""
    space = name.partition("/")[0]
    if space.startswith("io.github."):
        return space.removeprefix("io.github.")
    return ".".join(reversed(space.split(".")))


def _version(value: Any) -> str:
    version = one_line(at(value, "version"), 255)
    if not version or any(c.isspace() for c in version):
        raise EntryUnreadable("it has no version", remedy="ask its publisher")
    return version


def _official(meta: Raw | None) -> dict[str, Any]:
    """The registry's own facts; a server without them is active and the latest that we know."""
    block = meta.value.get(OFFICIAL) if meta and isinstance(meta.value, dict) else None
    facts = block if isinstance(block, dict) else {}
    status = facts.get("status", "active")
    if status not in _STATUSES:
        raise EntryUnreadable(f"status {one_line(status, 40)!r} is unknown", remedy="ask the registry's operator")
    return {
        "status": status,
        "statusMessage": one_line(facts.get("statusMessage"), 500),
        "publishedAt": one_line(facts.get("publishedAt"), 40),
        "updatedAt": one_line(facts.get("updatedAt") or facts.get("publishedAt"), 40),
        "isLatest": facts.get("isLatest", True) is True,
    }


def _icon(value: Any, notes: serverfile.Notes) -> str:
    found = mappings(at(value, "icons", []))
    return serverfile.address(found[0].get("src"), "icons[0].src", notes) if found else ""


def _images(packages: list[dict[str, Any]]) -> tuple[ImageRecord, ...]:
    found = (images.image_of(_reference(p)) for p in packages if p.get("registryType") == "oci")
    return tuple(i for i in found if i)


def _reference(package: dict[str, Any]) -> str:
    """An OCI package's image: since 2025-12 the identifier holds the tag or digest, before that ``version`` did."""
    identifier, version = str(package.get("identifier", "")), str(package.get("version") or "")
    tagged = ":" in identifier.rpartition("/")[2] or "@" in identifier
    return identifier if tagged or not version else f"{identifier}:{version}"


def _permissions(packages: list[dict[str, Any]], remotes: list[dict[str, Any]]) -> Permissions:
    inputs = [(i.get("name"), i) for p in packages for i in mappings(p.get("environmentVariables"))]
    inputs += [(i.get("name"), i) for r in [*remotes, *packages] for i in _headers(r)]
    inputs += [(n, v) for r in remotes for n, v in _variables(r).items()]
    arguments = [a for p in packages for k in ("runtimeArguments", "packageArguments") for a in mappings(p.get(k))]
    return Permissions(
        network="remote" if remotes and not packages else "undeclared",
        hosts=(),
        secrets=tuple(one_line(n, 120) for n, i in inputs if at(i, "isSecret") is True),
        parameters=tuple(one_line(n, 120) for n, i in inputs if at(i, "isSecret") is not True),
        command=tuple(one_line(a.get("name") or a.get("value") or a.get("valueHint"), 300) for a in arguments),
        volumes=tuple(one_line(n, 300) for n, i in inputs if at(i, "format") == "filepath"),
    )


def _headers(transport: dict[str, Any]) -> list[dict[str, Any]]:
    inner = transport.get("transport")
    return mappings((inner if isinstance(inner, dict) else transport).get("headers"))


def _variables(remote: dict[str, Any]) -> dict[str, Any]:
    found = remote.get("variables")
    return found if isinstance(found, dict) else {}


def _keywords(packages: list[dict[str, Any]], remotes: list[dict[str, Any]]) -> str:
    parts = [str(p.get(k, "")) for p in packages for k in ("registryType", "identifier")]
    parts += [
        str(i.get(k, ""))
        for p in packages
        for i in mappings(p.get("environmentVariables"))
        for k in ("name", "description")
    ]
    return one_line(" ".join(parts + [str(r.get("url", "")) for r in remotes]), 4000)


def _hidden(value: Any) -> Iterator[Finding]:
    for path, text in texts(value):
        if hidden := hidden_characters(text):
            message = f"holds characters that nobody sees ({', '.join(hidden[:5])})"
            yield Finding("text.hidden", "error", one_line(path, 200), message, "remove them")


def _findings(value: Any) -> Iterator[Finding]:
    packages, remotes = mappings(at(value, "packages", [])), mappings(at(value, "remotes", []))
    if not packages and not remotes:
        yield Finding("server.nothing_to_run", "error", "packages", "names neither a package nor a remote", "add one")
    for i, package in enumerate(packages):
        yield from _package_findings(f"packages[{i}]", package)
    for i, remote in enumerate(remotes):
        yield from _remote_findings(f"remotes[{i}]", remote)


def _package_findings(path: str, package: dict[str, Any]) -> Iterator[Finding]:
    kind = package.get("registryType")
    if kind == "oci":
        yield from _image_findings(path, package)
    else:
        message = f"is a package ({one_line(kind, 20)}), not an image: it runs only after it was built into one"
        yield Finding("package.not_an_image", "error", path, message, "submit it: hm registry new")
        if _RANGE.fullmatch(str(package.get("version") or "latest")):
            yield Finding(
                "package.unpinned", "error", f"{path}.version", "names no single version", "write one version"
            )
    if kind == "mcpb" and not _SHA256.fullmatch(str(package.get("fileSha256", ""))):
        yield Finding(
            "package.unhashed", "error", f"{path}.fileSha256", "a bundle must have its file's hash", "add fileSha256"
        )
    for j, argument in enumerate(mappings(package.get("runtimeArguments"))):
        for word in strings([argument.get("name"), argument.get("value"), argument.get("default")]):
            if _ESCAPES.match(word):
                message = f"{one_line(word, 80)} would loosen the sandbox"
                yield Finding("arguments.dangerous", "error", f"{path}.runtimeArguments[{j}]", message, "remove it")
    for j, variable in enumerate(mappings(package.get("environmentVariables"))):
        if not ENV_NAME.fullmatch(str(variable.get("name", ""))):
            yield Finding(
                "secret.env", "error", f"{path}.environmentVariables[{j}]", "is no variable name", "rename it"
            )


def _image_findings(path: str, package: dict[str, Any]) -> Iterator[Finding]:
    reference = _reference(package)
    image = images.image_of(reference)
    if image is None:
        message = f"{one_line(reference, 120)!r} is no image reference"
        yield Finding("image.invalid", "error", f"{path}.identifier", message, "write name@sha256:...")
    elif not image.digest:
        message = f"{reference} has no digest: what runs can change behind its name"
        yield Finding("image.undigested", "error", f"{path}.identifier", message, "write name@sha256:...")


def _remote_findings(path: str, remote: dict[str, Any]) -> Iterator[Finding]:
    url, variables = str(remote.get("url", "")), _variables(remote)
    for name in _VARIABLE.findall(url):
        if name not in variables:
            message = f"{{{name}}} names no declared variable"
            yield Finding("template.dangling", "error", f"{path}.url", message, "declare it under variables")
    if _VARIABLE.search(url.partition("://")[2].partition("/")[0]):
        message = "a variable chooses the host"
        yield Finding("remote.address", "error", f"{path}.url", message, "write the host out")
    elif reason := addresses.refusal(_VARIABLE.sub("x", url)):
        yield Finding(
            "remote.address", "error", f"{path}.url", f"{one_line(url, 200)} {reason}", "write a public https address"
        )
    if remote.get("type") not in ("streamable-http", "sse"):
        message = f"{one_line(remote.get('type'), 40)!r} is no transport for a remote server"
        yield Finding("remote.transport", "error", f"{path}.type", message, "write streamable-http or sse")
