"""Layers as plain tars, whether they come plain or gzipped."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from harbourmaster.core.digests import CHUNK
from registry.oci.media import MAX_LAYER_BYTES

_GZIP = b"\x1f\x8b"  # RFC 1952
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878


class NotReadable(ValueError):
    """A compressed stream is broken, cut short, or of another kind; callers turn it into their own error."""


def uncompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A layer's tar whether it came plain or gzipped; zstd raises ``NotReadable`` (no engine saves it)."""
    first = next(chunks, b"")
    while len(first) < 4 and (more := next(chunks, b"")):
        first += more
    if first.startswith(_ZSTD):
        raise NotReadable("a layer is compressed with zstd")
    if not first.startswith(_GZIP):
        yield first
        yield from chunks
        return
    yield from _gunzip(first, chunks)


def within(chunks: Iterator[bytes], limit: int = MAX_LAYER_BYTES) -> Iterator[bytes]:
    """``chunks``, for those who only hash them: raises ``NotReadable`` beyond ``limit`` bytes, which a bomb reaches early."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise NotReadable(f"a layer unpacks to more than {limit} bytes")
        yield chunk


def _gunzip(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Every member of a gzip stream, in pieces of at most ``CHUNK`` so that a bomb meets the size limit early."""
    engine, data = zlib.decompressobj(wbits=31), first
    while data:
        try:
            yield engine.decompress(data, CHUNK)
        except zlib.error as e:
            raise NotReadable(f"a compressed layer is broken: {e}") from e
        if engine.eof:
            data = engine.unused_data or next(chunks, b"")
            engine = zlib.decompressobj(wbits=31) if data else engine
        else:
            data = engine.unconsumed_tail or next(chunks, b"")
    if not engine.eof:
        raise NotReadable("a compressed layer ends too early")
