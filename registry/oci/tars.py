"""Tar streams from elsewhere: read member by member, nothing unpacked, headers bounded."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import IO, cast

MAX_HEADER_BYTES = 1 << 20  # a pax or long-name header; paths end at 4096 bytes (PATH_MAX), xattrs at 64 KiB each

_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _BoundedTarInfo(tarfile.TarInfo):
    """``tarfile`` reads a header's body into memory whatever its size says; this stops at ``MAX_HEADER_BYTES``."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedTarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _HEADERS and info.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info


def members(stream: IO[bytes] | io.RawIOBase) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Each member with the open tar; raises ``tarfile.TarError`` for all that is wrong with it.

    Sparse files are refused: no engine writes them, and a small one may expand without end.
    """
    try:
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_BoundedTarInfo) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every member it saw
                if member.issparse():
                    raise tarfile.ReadError(f"{member.name!r} is sparse")
                yield member, tar
    except (EOFError, RecursionError, ValueError, OverflowError) as e:
        raise tarfile.ReadError(str(e) or type(e).__name__) from e
