"""The smallest picture and the smallest sound, made here from their formats' definitions; and ways to say text."""

from __future__ import annotations

import base64
import struct
import zlib

from mcp_types import AudioContent, CallToolResult, ContentBlock, ImageContent, TextContent


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def red_dot() -> bytes:
    """A PNG of one red pixel (W3C PNG, sections 5 and 11)."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def silence() -> bytes:
    """A WAV with one silent sample: PCM, mono, 8 bits, 8 kHz (RIFF)."""
    form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", 1) + b"\x80\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


PNG = base64.b64encode(red_dot()).decode()
WAV = base64.b64encode(silence()).decode()


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def picture() -> ImageContent:
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def sound() -> AudioContent:
    return AudioContent(type="audio", data=WAV, mime_type="audio/wav")


def said(*content: ContentBlock | str) -> CallToolResult:
    return CallToolResult(content=[text(c) if isinstance(c, str) else c for c in content])
