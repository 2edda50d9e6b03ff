"""Tool images (type ``poci``): the tools as the entry lists them, a call's arguments as words, a program's end as a result.

Pure.  Docker's format (``tools[].container`` in catalog v2/v3; ``runToolContainer`` of github.com/docker/mcp-gateway at
2bd20fe8): one container per call, templates in its command, what it prints is the answer.  Words go to the engine as a list,
so no value can become an option of the engine; and none becomes an option of the program, unless the entry's own text is a
lone ``{{name|into}}``, by which its author hands all of a list's words to the program.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from registry.entry import Entry
from registry.errors import WordsRefused
from registry.templates import fill_argument, splices
from registry.toolimages import DeclaredTool

PROTOCOL_VERSION: Final = "2025-11-25"  # MCP; what we answer in their place
MAX_WORD: Final = 100_000  # bytes; Linux takes 131,072 for one (MAX_ARG_STRLEN, execve(2))
MAX_WORDS: Final = 1024
MAX_COMMAND: Final = 1_000_000  # bytes of all words; Linux takes 2 MiB with the environment
MAX_OUTPUT: Final = 1 << 20  # bytes of stdout: what a model could read of it is less
MAX_STDERR: Final = 4000  # characters of the end of stderr, in the result of a failure
_PICTURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_BINARY = "application/octet-stream"


def listing_of_tools(entry: Entry) -> dict[str, Any]:
    """What a server with these tools would say of itself: the form of the listing attestation's predicate."""
    return {
        "protocolVersion": PROTOCOL_VERSION,
        "serverInfo": {"name": entry.name, "title": entry.about.title, "version": entry.version},
        "capabilities": {"tools": {}},
        "tools": [_listed(tool) for tool in entry.tools],
        "prompts": [],
        "resources": [],
        "resourceTemplates": [],
    }


def _listed(tool: DeclaredTool) -> dict[str, Any]:
    schema = tool.parameters.model_dump(exclude_unset=True) if tool.parameters else {"type": "object"}
    return {"name": tool.name, "description": tool.description or "", "inputSchema": schema}


def words(command: list[str], arguments: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """``command`` with a call's ``arguments``, else what a person configured (``values``), in the templates' places.

    Raises ``WordsRefused``.
    """
    value = _lookup(arguments, values)
    found = [word for text in command for word in _filled(text, value)]
    if len(found) > MAX_WORDS or sum(len(word.encode()) for word in found) > MAX_COMMAND:
        raise WordsRefused(
            f"more than {MAX_WORDS} words or {MAX_COMMAND} bytes for one program", remedy="give it less at once"
        )
    return found


def _filled(text: str, value: Callable[[str], Any]) -> list[str]:
    found = fill_argument(text, value)
    for word in found:
        if word.startswith("-") and not text.startswith("-") and not splices(text):
            raise WordsRefused(f"{word:.80} would be taken for an option", remedy="give a value without a leading dash")
        if "\0" in word or len(word.encode("utf-8", "surrogatepass")) > MAX_WORD:
            raise WordsRefused(f"one argument holds a NUL character or more than {MAX_WORD} bytes", remedy="shorten it")
        if any("\ud800" <= c <= "\udfff" for c in word):
            raise WordsRefused("one argument holds half a character (a lone surrogate)", remedy="send whole ones")
    return found


def _lookup(arguments: Mapping[str, Any], values: Mapping[str, Any]) -> Callable[[str], Any]:
    """A call's own argument, else a setting; dots lead into objects.  What is an object itself cannot be a word."""

    def value(name: str) -> Any:
        found: Any = values.get(name) if name.partition(".")[0] not in arguments else arguments
        if found is arguments:
            for part in name.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
        for item in found if isinstance(found, list) else [found]:
            if isinstance(item, Mapping | list):
                raise WordsRefused(f"{name} holds what cannot be one word", remedy="give text or a number")
        return found

    return value


class Output:
    """What a program prints, up to ``MAX_OUTPUT``.  ``full`` is called once, when there is more."""

    def __init__(self, full: Callable[[], None]) -> None:
        self._full, self._lines, self._size = full, list[bytes](), 0
        self.overflowed = False

    def line(self, line: bytes) -> None:
        self._size += len(line) + 1
        if self.overflowed:
            return
        if self._size > MAX_OUTPUT + 1:  # the last newline may be ours
            self.overflowed = True
            self._full()
            return
        self._lines.append(line)

    def result(self, status: int | None, reason: str, stderr: str) -> dict[str, Any]:
        """A ``CallToolResult``: what it printed, and an error unless it ended with status 0.  ``reason``: of an end without
        a status."""
        printed = b"\n".join(self._lines)
        if self.overflowed:
            return _said(f"it printed more than {MAX_OUTPUT} bytes and was stopped; ask for less", error=True)
        if status == 0:
            return {"content": _content(printed or stderr.encode()), "isError": False}
        why = f"it ended with status {status}" if status is not None else f"it ended: {reason}"
        parts = (printed.decode("utf-8", "replace"), stderr[-MAX_STDERR:].strip(), why)
        return _said("\n".join(part for part in parts if part), error=True)


def _said(text: str, *, error: bool) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": error}


def _content(printed: bytes) -> list[dict[str, Any]]:
    """Text, a picture, or other bytes as they are (MCP 2025-11-25, "Tool Result")."""
    for start, kind in _PICTURES:
        if printed.startswith(start):
            return [{"type": "image", "data": base64.b64encode(printed).decode(), "mimeType": kind}]
    try:
        return [{"type": "text", "text": printed.decode()}]
    except UnicodeDecodeError:
        blob = {"uri": "file:///stdout", "mimeType": _BINARY, "blob": base64.b64encode(printed).decode()}
        return [{"type": "resource", "resource": blob}]
