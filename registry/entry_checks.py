"""What pydantic cannot say of an entry: parts that belong together, templates that lead nowhere, and advice.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from registry import volumes
from registry.advice import Advice
from registry.entry import Entry
from registry.entry_file import Document, Path_
from registry.templates import FUNCTIONS, splices, templates, unfinished

LONG_TOOL_TEXT = 1000  # characters; nine in ten real tool descriptions have fewer, and models read every one of them
# Words that speak to a model instead of describing a tool.  Advice only: one real server in ten uses some of them.
_IMPERATIVE = re.compile(
    r"(?:ignore|disregard|forget) (?:all |any |the )?(?:previous|prior|above|other) |<\s*(?:important|system|instructions?)\s*>"
    r"|do not (?:tell|mention|inform|reveal)|(?:you must|always) (?:call|use|run|invoke) this",
    re.IGNORECASE,
)
_INTERPRETER = re.compile(
    r"(?:.*/)?(?:(?:ba|da|a|z|k)?sh|busybox|python[0-9.]*|node|deno|bun|perl|ruby|php|lua[0-9.]*)"
)
_SCRIPT_FLAGS = ("-c", "-ec", "-lc", "-e", "-r", "-p", "--eval", "--print")
_PARTS = {  # (type, tier) -> what it must have, what it may not have
    ("server", "built"): (("source", "test"), ("image", "remote")),
    ("server", "community"): (("image",), ("build", "remote")),
    ("remote", "community"): (("remote",), ("image", "build")),
    ("poci", "community"): (("tools",), ("image", "build", "remote")),
}


def speaks_to_models(text: str) -> bool:
    """Whether ``text`` gives orders to a model instead of describing something to a person."""
    return _IMPERATIVE.search(text) is not None


def refuse_what_cannot_be(document: Document, entry: Entry) -> None:
    """Raise ``EntryInvalid`` for parts that do not belong together and for templates that lead nowhere."""
    for check in (_parts, _templates, _recipe, _variables, _headers, _tool_images):
        check(document, entry)


def advice(document: Document, entry: Entry) -> list[Advice]:
    return [
        *_orders(document, entry),
        *_undeclared_network(document, entry),
        *_volumes(document, entry),
        *_callers_words(document, entry),
    ]


# -- refusals


def _parts(document: Document, entry: Entry) -> None:
    needed, foreign = _PARTS.get((entry.type, entry.tier), ((), ()))
    if not needed:
        raise document.at(("tier",), f"type {entry.type} is never of tier built", "write tier: community")
    for part in needed:
        if not getattr(entry, part) and not _is_read_only(document, entry, part):
            problem = f"is missing; type {entry.type} of tier {entry.tier} has it"
            raise document.at((part,), problem, "add it; docs/adding-a-server.md shows every field")
    for part in foreign:
        if getattr(entry, part):
            raise document.at((part,), f"does not belong to type {entry.type} of tier {entry.tier}", "remove it")
    if entry.build:
        _program(document, entry)


def _program(document: Document, entry: Entry) -> None:
    """Images made here have no entry point: the command is all of it."""
    if not entry.run.command:
        raise document.at(("run", "command"), "is missing", "name the program that the package installs")
    if not re.match(r"^[A-Za-z0-9/][A-Za-z0-9._/-]*$", entry.run.command[0]):
        problem = "the first word is a program's name or absolute path, without a leading dash"
        raise document.at(("run", "command", 0), problem, "name the program that the package installs")


def _is_read_only(document: Document, entry: Entry, part: str) -> bool:
    """Another registry's entry, which no one builds here, promises no calls."""
    return part == "test" and entry.build is None and document.foreign


def _templates(document: Document, entry: Entry) -> None:
    for key, text in entry.texts():
        if unfinished(text):
            raise document.at(key, "has braces that are not a {{parameter}}", "write {{name_of_a_parameter}}")
        for found in templates(text):
            if found.name not in entry.config.parameters:
                problem = f"uses {{{{{found.name}}}}}, which no parameter is called"
                raise document.at(key, problem, "declare it in config.parameters")
            for function, _ in found.functions:
                if function not in FUNCTIONS:
                    raise document.at(key, f"no template function {function!r}", f"known: {', '.join(FUNCTIONS)}")


def _recipe(document: Document, entry: Entry) -> None:
    if entry.source is None or entry.build is None:
        if entry.tier == "built" and entry.build is None and not document.foreign:
            raise document.at(("build",), "is missing", "name the runtime: python or node")
        return
    wanted = {"pypi": "python", "npm": "node"}.get(entry.source.kind, entry.build.runtime)
    if entry.build.runtime != wanted:
        problem = f"a {entry.source.kind} package runs on {wanted}"
        raise document.at(("build", "runtime"), problem, f"write {wanted}")
    if entry.build.constraints and entry.build.runtime == "node":
        raise document.at(("build", "constraints"), "only Python packages have constraints", "pin it in package.json")


def _variables(document: Document, entry: Entry) -> None:
    declared = {secret.env for secret in entry.config.secrets}
    declared |= {secret.variable for secret in entry.secrets()}
    for name in entry.run.env:
        if name in declared:
            raise document.at(("run", "env", name), "is a secret's variable too", "a secret is never in the entry")


def _headers(document: Document, entry: Entry) -> None:
    if entry.remote is None:
        return
    known = {s.env for s in entry.secrets()} | {item.name for item in entry.config.env}
    for variable in entry.remote.variables:
        if variable not in known:
            problem = f"uses ${{{variable}}}, which no secret or setting is called"
            raise document.at(("remote", "headers"), problem, "declare it in config.secrets")


def _tool_images(document: Document, entry: Entry) -> None:
    names: set[str] = set()
    for i, tool in enumerate(entry.tools):
        key: Path_ = ("tools", i)
        if tool.name in names:
            raise document.at((*key, "name"), f"{tool.name} is there twice", "rename one of them")
        names.add(tool.name)
        if (tool.container is None) == (entry.type == "poci"):
            problem = "has no container" if entry.type == "poci" else "has a container, which only type poci has"
            raise document.at(key, problem, "give each tool its image, or choose another type")
        if tool.container:
            _tool_image(document, (*key, "container"), entry, i)


def _tool_image(document: Document, key: Path_, entry: Entry, number: int) -> None:
    container, parameters = entry.tools[number].container, entry.tools[number].parameters
    assert container is not None
    own = set(parameters.properties) if parameters else set()
    for i, text in enumerate(container.command):
        if unfinished(text):
            raise document.at((*key, "command", i), "has braces that are not a {{parameter}}", "write {{its_name}}")
        if templates(text) and is_script(container.command[:i]):
            problem = "a caller's value would be read as part of a script"
            remedy = """pass it as an argument: [sh, -c, 'test -f "$1"', sh, '{{path}}']"""
            raise document.at((*key, "command", i), problem, remedy)
        for found in templates(text):
            if found.name.partition(".")[0] not in own and found.name not in entry.config.parameters:
                problem = f"uses {{{{{found.name}}}}}, which no parameter is called"
                raise document.at((*key, "command", i), problem, "declare it in the tool's parameters")
            for function, _ in found.functions:
                if function not in FUNCTIONS:
                    raise document.at(
                        (*key, "command", i), f"no template function {function!r}", f"known: {', '.join(FUNCTIONS)}"
                    )
    for i, volume in enumerate(container.volumes):
        if reason := volumes.refusal(volume):
            raise document.at((*key, "volumes", i), f"{volume} {reason}", "remove it, or choose another folder")
        if volumes.host_path(volume).startswith("{{"):
            problem = f"{volume}: whoever calls the tool chooses the folder of the host"
            raise document.at((*key, "volumes", i), problem, "name the folder in a parameter of the entry")


def is_script(before: list[str]) -> bool:
    """Whether the word after these is a program text: ``sh -c``, ``python3 -c``, ``node -e``."""
    return bool(before) and before[-1] in _SCRIPT_FLAGS and any(_INTERPRETER.fullmatch(word) for word in before[:-1])


# -- advice


def _orders(document: Document, entry: Entry) -> Iterator[Advice]:
    texts: list[tuple[Path_, str]] = [(("about", "description"), entry.about.description)]
    texts += [(("tools", i, "description"), tool.description or "") for i, tool in enumerate(entry.tools)]
    for key, text in texts:
        if speaks_to_models(text):
            yield Advice.at(document, key, "text.imperative", "gives orders to a model", "describe what it does")
        if key[0] == "tools" and len(text) > LONG_TOOL_TEXT:
            problem = f"is {len(text)} characters long, and every model reads all of it"
            yield Advice.at(document, key, "text.long", problem, f"say it in {LONG_TOOL_TEXT}")


def _undeclared_network(document: Document, entry: Entry) -> Iterator[Advice]:
    """A built server was tried without a network; of a publisher's image nobody knows."""
    if entry.type == "server" and entry.tier == "community" and not entry.run.network.hosts and not entry.run.offline:
        problem = "it does not say which hosts it needs, so it gets none"
        remedy = "list them, found with: hm sandbox learn; or say run.offline: true"
        yield Advice.at(document, ("run", "network"), "network.undeclared", problem, remedy)


def _callers_words(document: Document, entry: Entry) -> Iterator[Advice]:
    for i, tool in enumerate(entry.tools):
        for j, text in enumerate(tool.container.command if tool.container else ()):
            if splices(text):
                problem = f"whoever calls {tool.name} chooses all of its program's options"
                key: Path_ = ("tools", i, "container", "command", j)
                yield Advice.at(document, key, "tool.options", problem, "name the parameters that it needs, if you can")


def _volumes(document: Document, entry: Entry) -> Iterator[Advice]:
    found: list[tuple[Path_, str]] = [(("run", "volumes", i), volume) for i, volume in enumerate(entry.run.volumes)]
    for i, tool in enumerate(entry.tools):
        given = tool.container.volumes if tool.container else []
        found += [(("tools", i, "container", "volumes", j), volume) for j, volume in enumerate(given)]
    for key, volume in found:
        problem = f"{volume} is not given: what lasts, or is the host's, is asked for with a reason"
        remedy = "let it work in /tmp, or ask under run.sandbox: volumes or host_paths"
        yield Advice.at(document, key, "volume.not_given", problem, remedy)
