"""An image's file system as it is after all layers, in memory: names, types, hashes, and the few contents that readers need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_SYMLINKS = 40  # Linux: MAXSYMLINKS
MAX_DEPTH = 256


@dataclass(slots=True)
class Node:
    kind: str  # "dir" | "file" | "link" | "other"
    layer: int  # index of the layer that brought it
    size: int = 0
    sha256: str = ""  # hex, files only
    target: str = ""  # links only
    mode: int = 0
    data: bytes | None = None  # contents, where a reader may want them
    marks: dict[str, bytes] = field(default_factory=dict)  # what was found inside while hashing (see overlay.py)
    children: dict[str, Node] = field(default_factory=dict)


class FileSystem:
    """Paths have no leading slash; symbolic links are followed inside the tree only."""

    def __init__(self) -> None:
        self.root = Node("dir", 0)

    # -- building

    def put(self, parts: list[str], node: Node) -> None:
        """Add or replace; a parent that is no directory becomes one, a directory over a directory keeps its children."""
        parent = self.root
        for name in parts[:-1]:
            child = parent.children.get(name)
            if child is None or child.kind != "dir":
                child = parent.children[name] = Node("dir", node.layer)
            parent = child
        old = parent.children.get(parts[-1])
        if node.kind == "dir" and old is not None and old.kind == "dir":
            node.children = old.children
        parent.children[parts[-1]] = node

    def hide(self, parts: list[str], below: int) -> None:
        """A whiteout: remove what layers before ``below`` brought at this path."""
        parent = self._exact(parts[:-1])
        node = parent.children.get(parts[-1]) if parent else None
        if parent is None or node is None:
            return
        _remove_older(node, below)
        if node.layer < below and not node.children:
            del parent.children[parts[-1]]

    def hide_children(self, parts: list[str], below: int) -> None:
        """An opaque directory: remove its contents from layers before ``below``."""
        if node := self._exact(parts):
            _remove_older(node, below)

    def _exact(self, parts: list[str]) -> Node | None:
        node: Node | None = self.root
        for name in parts:
            node = node.children.get(name) if node else None
        return node

    # -- reading

    def at(self, path: str) -> Node | None:
        """The node at exactly ``path``; links are not followed."""
        return self._exact([p for p in path.split("/") if p])

    def find(self, path: str) -> Node | None:
        """The node at ``path``, links followed; None when there is none or the links go in circles."""
        resolved = self.resolve(path)
        return self._exact(resolved.split("/")) if resolved else None

    def resolve(self, path: str, *, follow_last: bool = True) -> str | None:
        """``path`` without links in it, or None."""
        pending = [p for p in path.split("/") if p not in ("", ".")][::-1]
        done: list[str] = []
        hops = 0
        while pending:
            name = pending.pop()
            if name == "..":
                done = done[:-1]
                continue
            parent = self._exact(done)
            node = parent.children.get(name) if parent else None
            if node is None:
                return None
            if node.kind == "link" and (pending or follow_last):
                hops += 1
                if hops > MAX_SYMLINKS:
                    return None
                if node.target.startswith("/"):
                    done = []
                pending += [p for p in node.target.split("/") if p not in ("", ".")][::-1]
            else:
                done.append(name)
        return "/".join(done)

    def read(self, path: str) -> bytes | None:
        node = self.find(path)
        return node.data if node else None

    def files(self, under: str = "") -> Iterator[tuple[str, Node]]:
        """Regular files with their paths, sorted; links are not followed."""
        start = self._exact([p for p in under.split("/") if p])
        if start is not None:
            yield from _files(start, under.strip("/"))

    def listdir(self, path: str) -> list[str]:
        node = self.find(path)
        return sorted(node.children) if node else []


def _files(node: Node, prefix: str) -> Iterator[tuple[str, Node]]:
    for name in sorted(node.children):
        child = node.children[name]
        path = f"{prefix}/{name}" if prefix else name
        if child.kind == "file":
            yield path, child
        elif child.kind == "dir":
            yield from _files(child, path)


def _remove_older(node: Node, below: int) -> None:
    for name, child in list(node.children.items()):
        _remove_older(child, below)
        if child.layer < below and not child.children:
            del node.children[name]
