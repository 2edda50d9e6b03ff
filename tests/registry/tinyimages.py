"""Images small enough to make in a test: a few files, a config, a manifest in a layout."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harbourmaster.core.digests import sha256
from registry.oci import OciLayout, media
from registry.oci.descriptor import image_manifest


@dataclass
class Layer:
    """Members in order; ``str`` contents are links, ``None`` directories, ``bytes`` files."""

    entries: list[tuple[str, bytes | str | None]] = field(default_factory=list)
    hard: dict[str, str] = field(default_factory=dict)

    def tar(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in self.entries:
                info = tarfile.TarInfo(name)
                if content is None:
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(info)
                elif isinstance(content, str):
                    info.type, info.linkname = tarfile.SYMTYPE, content
                    tar.addfile(info)
                else:
                    info.size, info.mode = len(content), 0o755
                    tar.addfile(info, io.BytesIO(content))
            for name, target in self.hard.items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.LNKTYPE, target
                tar.addfile(info)
        return buffer.getvalue()


def files(**contents: bytes | str | None) -> Layer:
    """``files(etc__passwd=b"...")``: two underscores are a slash."""
    return Layer([(name.replace("__", "/"), content) for name, content in contents.items()])


def tree(contents: dict[str, bytes | str | None]) -> Layer:
    return Layer(list(contents.items()))


def put_image(layout: OciLayout, *layers: Layer | bytes, tag: str = "", config: dict[str, Any] | None = None) -> str:
    """Store an image; returns its manifest digest."""
    tars = [layer.tar() if isinstance(layer, Layer) else layer for layer in layers]
    descriptors = [layout.put_blob(t, media.LAYER_TAR) for t in tars]
    body = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {"Cmd": ["/hello"], "User": "65532"},
        "rootfs": {"type": "layers", "diff_ids": [sha256(t) for t in tars]},
    }
    stored = layout.put_blob(json.dumps(body, sort_keys=True).encode(), media.CONFIG)
    return layout.put_manifest(image_manifest(stored, descriptors), tag=tag).digest


def flip_byte(path: Path, at: int = 700) -> None:
    """Change one bit of one byte, keeping size and (as an attacker would) the time stamps."""
    import os

    before = path.stat()
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
