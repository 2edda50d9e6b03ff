"""A picture's file into pixels.  Files come from strangers: the size is read and judged before anything is unpacked."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.errors import ImageInvalid, Unsupported

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # Pillow's names; no other of its readers runs
MAX_PIXELS = 50_000_000  # what cameras of phones take; 150 MB when unpacked
MAX_RATIO = 100  # of the longer side to the shorter: projectors divide the sides into patches
MAX_SCANS = 100  # of a JPEG: each goes over all of its pixels again, whatever it weighs; encoders write a dozen
MAX_SIDE = 4096  # larger ones are made smaller first: no projector looks closer

Pixels = npt.NDArray[np.uint8]


def decode(data: bytes) -> Pixels:
    """Red, green and blue of the first frame, shape (height, width, 3); raises ``ImageInvalid``."""
    image_module = _pillow()
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise ImageInvalid(f"a JPEG with over {MAX_SCANS} scans is not read", remedy="save it again")
    try:
        with image_module.open(BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            image.draft("RGB", (MAX_SIDE, MAX_SIDE))
            return _pixels(image)
    except image_module.UnidentifiedImageError:
        raise ImageInvalid("a picture is no PNG, JPEG, WebP, GIF or BMP file", remedy=_REMEDY) from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        struct.error,
    ) as e:
        raise ImageInvalid(f"a picture's file is damaged: {e}", remedy=_REMEDY) from None
    except MemoryError:
        raise ImageInvalid("a picture needs more memory than there is", remedy="send a smaller one") from None


_REMEDY = "send the file again"


def _pixels(image: Any) -> Pixels:
    from PIL import Image, ImageOps

    image.load()
    upright = ImageOps.exif_transpose(image)
    upright.thumbnail((MAX_SIDE, MAX_SIDE))
    if upright.has_transparency_data:
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright.convert("RGBA"))
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"), np.uint8))


def _check_size(width: int, height: int) -> None:
    shape = f"a picture of {width} x {height} pixels"
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ImageInvalid(f"{shape}: at most {MAX_PIXELS:,} are taken", remedy="send a smaller one")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ImageInvalid(f"{shape}: no side may be over {MAX_RATIO} times the other", remedy="cut it")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise Unsupported(
            "nothing here reads pictures: Pillow is not installed", remedy="run: hm model install"
        ) from None
    Image.MAX_IMAGE_PIXELS = None  # we judge the size: its own limit would warn first
    return Image
