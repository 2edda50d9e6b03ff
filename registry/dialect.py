"""Docker's form of ``server.yaml`` in the keys of ours, so that one schema and one set of checks read both.  Pure.

Format: ``pkg/servers/types.go`` of github.com/docker/mcp-registry at 818bf169.  Told by the lack of ``tier``, which ours has
always.  What that form leaves open is filled in, what ours cannot say is named as advice; nothing is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from registry import addresses
from registry.advice import Advice
from registry.docker_shape import unknown_keys
from registry.entry_file import Document, Path_
from registry.fields import CATEGORIES

MAX_LINE = 200  # fields.Line
UNKNOWN_LICENCE = "NOASSERTION"  # SPDX 2.3, section 7.13: nothing is claimed
DOCKER_BUILT = ("mcp/", "docker.io/mcp/")  # built and signed by Docker's pipeline from the commit that the entry names

_TEMPLATE = re.compile(r"\{\{\s*([^{}|]*?)\s*(\|[^{}]*)?\}\}")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_docker(data: dict[str, Any]) -> bool:
    return "tier" not in data and "name" in data and "type" in data


def from_docker(document: Document) -> tuple[Document, list[Advice]]:
    """Raises ``EntryInvalid`` for what could be read in no other way."""
    reader = _Reader(document)
    return Document(document.path, reader.entry(), reader.lines, foreign=True), reader.advice


def dialect_name(name: str) -> str:
    """Their names may have capitals, dots and underscores; ours are DNS labels."""
    return re.sub(r"[._]+", "-", name.lower())


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document, self._data = document, document.data
        self.lines: dict[Path_, int] = {(): 1}
        self.advice: list[Advice] = []
        for path in unknown_keys(self._data):
            self._say(_steps(path), "key.unknown", "no reader knows this key: it does nothing", "remove it")

    def entry(self) -> dict[str, Any]:
        name = self._name()
        body: dict[str, Any] = {"name": name, "type": self._data["type"], "tier": self._tier()}
        self._mark(("name",), ("name",))
        self._mark(("type",), ("type",))
        body["about"], body["meta"] = self._about(name), self._meta()
        parts = {
            "image": self._image(),
            "source": self._source(),
            "remote": self._remote(),
            "run": self._run(name),
            "config": self._config(name),
            "oauth": self._oauth(),
            "tools": self._tools(),
        }
        for key in ("requirement",):
            if key in self._data:
                self._say((key,), "key.ignored", "sidecar containers are not started here", "remove it")
        return body | {key: value for key, value in parts.items() if value not in (None, {}, [])}

    # -- the parts

    def _name(self) -> Any:
        name = self._data["name"]
        plain = dialect_name(name) if isinstance(name, str) else name
        if plain != name:
            self._say(("name",), "name.case", f"is read as {plain}", "use lower-case letters, digits and dashes")
        return plain

    def _tier(self) -> str:
        image = str(self._data.get("image", ""))
        built = self._data["type"] == "server" and image.startswith(DOCKER_BUILT) and "@" not in image
        return "built" if built else "community"

    def _about(self, name: Any) -> dict[str, Any]:
        said = self._mapping("about")
        self._mark_all(("about",), ("about",))
        title = _line(said.get("title")) or str(name)
        about = {"title": self._short(title, ("about", "title"))}
        about["description"] = _prose(said.get("description")) or title
        if icon := said.get("icon"):
            if reason := addresses.refusal(str(icon)):
                self._say(("about", "icon"), "address.refused", f"the icon {reason}", "write a public https address")
            else:
                about["icon"] = icon
        return about

    def _meta(self) -> dict[str, Any]:
        said = self._mapping("meta")
        self._mark_all(("meta",), ("meta",))
        category = str(said.get("category", "")).strip().lower().replace(" ", "-")
        if category not in CATEGORIES:
            self._say(
                ("meta", "category"), "category.unknown", f"{category[:60]!r} is read as other", "use a known one"
            )
            category = "other"
        tags = [re.sub(r"[^a-z0-9]+", "-", str(tag).lower()).strip("-")[:64] for tag in _list(said.get("tags"))]
        return {"category": category, "tags": list(dict.fromkeys(tag for tag in tags if tag))[:20]}

    def _image(self) -> str | None:
        image = self._data.get("image")
        if image is None or self._tier() == "built":
            return None
        self._mark(("image",), ("image",))
        return full_reference(str(image))

    def _source(self) -> dict[str, Any] | None:
        said = self._mapping("source")
        if not said:
            return None
        self._mark_all(("source",), ("source",))
        for ours, theirs in (("repository", "project"), ("url", "project")):
            self._mark(("source", theirs), ("source", ours))
        commit = said.get("commit")
        if self._tier() != "built" and not _COMMIT.fullmatch(str(commit)):
            self._say(("source",), "source.unpinned", "names no commit, so it proves nothing", "add source.commit")
            return None
        project = said.get("project") or said.get("upstream")
        body = {"kind": "git", "repository": project, "url": project, "commit": commit, "licence": UNKNOWN_LICENCE}
        body |= {key: said[key].strip("/") for key in ("directory", "dockerfile") if isinstance(said.get(key), str)}
        return {key: value for key, value in body.items() if value not in (None, "", ".")}

    def _remote(self) -> dict[str, Any] | None:
        said = self._mapping("remote")
        if not said:
            return None
        self._mark_all(("remote",), ("remote",))
        self._mark(("remote", "transport_type"), ("remote", "transport"))
        body = {"url": said.get("url"), "transport": said.get("transport_type", "streamable-http")}
        headers = said.get("headers") or {}
        body["headers"] = headers
        signs_in = isinstance(headers, dict) and not any(str(k).lower() == "authorization" for k in headers)
        return body | ({"oauth": {}} if self._data.get("oauth") and signs_in else {})

    def _run(self, name: Any) -> dict[str, Any]:
        said = self._mapping("run")
        self._mark_all(("run",), ("run",))
        self._mark(("run", "allowHosts"), ("run", "network", "hosts"))
        body: dict[str, Any] = {}
        for key in ("command", "volumes"):
            if key in said:
                body[key] = [self._text(name, text, ("run", key, i)) for i, text in enumerate(_list(said[key]))]
        env = said.get("env")
        if isinstance(env, dict):
            body["env"] = {key: self._text(name, text, ("run", "env", key)) for key, text in env.items()}
        if hosts := _list(said.get("allowHosts")):
            body["network"] = {"hosts": [str(host).lower().removesuffix("/tcp") for host in hosts]}
        if said.get("disableNetwork") is True and not hosts:
            body["offline"] = True
        if "user" in said:
            body |= self._user(said["user"])
        return body | ({"long_lived": True} if self._data.get("longLived") is True else {})

    def _user(self, user: Any) -> dict[str, Any]:
        if "{{" in str(user):
            self._say(("run", "user"), "user.ignored", "a user of a person's choice is not given", "name a number")
            return {}
        return {"user": str(user)}

    def _config(self, name: Any) -> dict[str, Any]:
        said = self._mapping("config")
        self._mark_all(("config",), ("config",))
        body: dict[str, Any] = {}
        if text := _line(said.get("description")):
            body["description"] = self._short(text, ("config", "description"))
        body["secrets"] = [self._secret(i, item) for i, item in enumerate(_mappings(said.get("secrets")))]
        body["env"] = [self._setting(name, i, item) for i, item in enumerate(_mappings(said.get("env")))]
        body["parameters"] = dict(self._parameters(said.get("parameters"), "", ("config", "parameters")))
        return {key: value for key, value in body.items() if value}

    def _secret(self, i: int, said: dict[str, Any]) -> dict[str, Any]:
        key: Path_ = ("config", "secrets", i, "description")
        body: dict[str, Any] = {k: said[k] for k in ("name", "env", "required") if k in said}
        if (
            isinstance(said.get("name"), str)
            and (plain := re.sub(r"[^a-z0-9._-]", "-", said["name"].lower())) != said["name"]
        ):
            self._say((*key[:-1], "name"), "name.case", f"is read as {plain}", "write it in lower case")
            body["name"] = plain
        body["description"] = self._short(_line(said.get("description")) or str(said.get("env", "a secret")), key)
        return body | ({"example": _line(said["example"])[:MAX_LINE]} if _line(said.get("example")) else {})

    def _setting(self, name: Any, i: int, said: dict[str, Any]) -> dict[str, Any]:
        value = said.get("value", "")
        body = {"name": said.get("name"), "value": self._text(name, value, ("config", "env", i, "value"))}
        body["description"] = self._short(str(said.get("name") or "a setting"), ("config", "env", i))
        return body | ({"example": _line(said["example"])[:MAX_LINE]} if _line(said.get("example")) else {})

    def _parameters(self, schema: Any, prefix: str, key: Path_) -> Iterator[tuple[str, dict[str, Any]]]:
        """Flat, with dots between an object and its members."""
        properties = schema.get("properties") if isinstance(schema, dict) else None
        required = _list(schema.get("required")) if isinstance(schema, dict) else []
        for name, said in (properties if isinstance(properties, dict) else {}).items():
            body = said if isinstance(said, dict) else {"type": said}
            here: Path_ = (*key, "properties", name)
            if isinstance(body.get("properties"), dict):
                yield from self._parameters(body, f"{prefix}{name}.", here)
                continue
            self._mark(here, ("config", "parameters", f"{prefix}{name}"))
            yield f"{prefix}{name}", self._parameter(name, body, here, name in required)

    def _parameter(self, name: str, said: dict[str, Any], key: Path_, required: bool) -> dict[str, Any]:
        kinds = [kind for kind in _list(said.get("type", "string")) if kind != "null"]
        text = _line(said.get("description")) or _line(said.get("title")) or name
        body: dict[str, Any] = {"type": kinds[0] if kinds else "string", "description": self._short(text, key)}
        body |= {k: said[k] for k in ("default", "items", "minimum", "maximum") if said.get(k) is not None}
        if isinstance(said.get("enum"), list):
            body["enum"] = [str(item) for item in said["enum"]]
        return body | {"required": required}

    def _oauth(self) -> list[dict[str, Any]]:
        self._mark_all(("oauth",), ("oauth",))
        found = [item for item in _mappings(self._data.get("oauth")) if item.get("secret") and item.get("env")]
        return [item | {"secret": str(item["secret"]).lower()} for item in found]

    def _tools(self) -> list[dict[str, Any]]:
        self._mark_all(("tools",), ("tools",))
        return [self._tool(item) for item in _mappings(self._data.get("tools"))]

    def _tool(self, said: dict[str, Any]) -> dict[str, Any]:
        body = {k: said[k] for k in ("name", "description", "parameters") if said.get(k)}
        container = said.get("container")
        if isinstance(container, dict):
            image = full_reference(str(container.get("image", "")))
            body["container"] = {k: v for k, v in container.items() if k in ("command", "volumes", "user")} | {
                "image": image
            }
        return body

    # -- texts and places

    def _text(self, name: Any, text: Any, key: Path_) -> str:
        """``{{server.parameter}}`` as ``{{parameter}}``; one that does not begin with the server's own name leads nowhere."""

        def own(match: re.Match[str]) -> str:
            prefix, _, rest = match[1].partition(".")
            if prefix not in (name, self._data["name"]) or not rest:
                problem = f"uses {{{{{match[1]}}}}}, which no parameter is called"
                raise self._document.at(key, problem, f"declare it in config.parameters, and write {{{{{name}.it}}}}")
            return f"{{{{{rest}{match[2] or ''}}}}}"

        return _TEMPLATE.sub(own, text if isinstance(text, str) else _plain(text))

    def _short(self, text: str, key: Path_) -> str:
        if len(text) <= MAX_LINE:
            return text
        self._say(key, "text.long", f"is {len(text)} characters long; {MAX_LINE} are kept", "shorten it")
        return text[: MAX_LINE - 1].rstrip() + "…"

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self._data.get(key)
        return value if isinstance(value, dict) else {}

    def _mark(self, theirs: Path_, ours: Path_) -> None:
        self.lines[ours] = self._document.line(theirs)

    def _mark_all(self, theirs: Path_, ours: Path_) -> None:
        for key, line in self._document.lines.items():
            if key[: len(theirs)] == theirs:
                self.lines[(*ours, *key[len(theirs) :])] = line

    def _say(self, key: Path_, code: str, message: str, remedy: str) -> None:
        self.advice.append(Advice.at(self._document, key, code, message, remedy))


def full_reference(image: str) -> str:
    """``alpine/curl`` is ``docker.io/alpine/curl``, ``busybox`` is ``docker.io/library/busybox``."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def _steps(path: str) -> Path_:
    return tuple(int(number) if number else name for number, name in _STEP.findall(path))


def _line(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _prose(value: Any) -> str:
    return value.strip()[:4000] if isinstance(value, str) else ""


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
