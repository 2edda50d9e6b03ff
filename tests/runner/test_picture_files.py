"""Files of pictures, and pictures in requests, before any model sees them."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runner.api.chat_request import parse_messages
from runner.chat.pictures import MAX_BYTES, MAX_PICTURES, lift
from runner.engine.pictures import Picture, Prompt, glance, join, row_ids
from runner.engine.pixels import MAX_PIXELS, MAX_SCANS, MAX_SIDE, decode
from runner.engine.session import check_pictures, picture_parts
from runner.errors import HarbourError, ImageInvalid, RequestInvalid, RequestTooLarge, TemplateRefused, Unsupported
from tests.runner.visionfiles import png


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asked(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return parse_messages([{"role": "user", "content": list(parts)}])


def picture(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


RED = Image.new("RGB", (6, 4), (255, 0, 0))


def png_of_size(width: int, height: int) -> bytes:
    """A file of a few bytes that says it is that large, and unpacks to nothing but zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_pictures_of_every_form_become_pixels(form: str) -> None:
    pixels = decode(saved(RED, form))
    assert pixels.shape == (4, 6, 3)
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() < 12  # JPEG is not exact


def test_a_photo_stands_upright_as_its_file_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter (Exif 2.32, Orientation)
    assert decode(saved(RED, "JPEG", exif=exif)).shape == (6, 4, 3)


def test_what_is_transparent_lies_on_white() -> None:
    assert (decode(saved(Image.new("RGBA", (3, 3), (0, 0, 0, 0)), "PNG")) == 255).all()


def test_an_animation_is_its_first_frame() -> None:
    data = saved(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (6, 4), (0, 0, 255))])
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


def test_a_large_picture_is_made_smaller() -> None:
    assert max(decode(saved(Image.new("L", (MAX_SIDE + 900, 600)), "PNG")).shape) == MAX_SIDE


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png_of_size(60_000, 60_000), f"60000 x 60000 pixels: at most {MAX_PIXELS:,}"),
        (png_of_size(4, 4_000), "no side may be over 100 times"),
        (png_of_size(800, 800)[:-1000], "damaged"),
        (png_of_size(900, 900), "damaged"),  # fewer rows than the head says
        (png(1)[:60], "damaged"),
        (saved(RED, "JPEG")[:200], "damaged"),
        (b"GIF89a\xff\xff\xff\xff\x00\x00\x00", ""),
        (b"RIFF\xff\xff\xff\x7fWEBPVP8 ", ""),
        (b"BM" + bytes(50), ""),
        (b"%PDF-1.7", "no PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG"),
        (b"", "no PNG"),
    ],
    ids=["bomb", "needle", "cut", "few-rows", "head", "jpeg", "gif", "webp", "bmp", "pdf", "svg", "nothing"],
)
def test_hostile_and_damaged_files_are_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises(ImageInvalid) as e:
        decode(data)
    assert said in e.value.message


def test_a_jpeg_of_endless_scans_keeps_no_engine_busy_for_hours() -> None:
    whole = saved(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    assert decode(whole).shape == (4000, 4000, 3)
    scan = whole[whole.rindex(b"\xff\xda") : -2]  # some bytes, and all the pixels again
    began = time.perf_counter()
    with pytest.raises(ImageInvalid, match=f"over {MAX_SCANS} scans"):
        decode(whole[:-2] + scan * 1000 + b"\xff\xd9")
    assert time.perf_counter() - began < 1


def test_bytes_changed_anywhere_in_a_picture_give_pixels_or_a_clear_error() -> None:
    drawn = np.random.default_rng(3)
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        whole = saved(Image.open(io.BytesIO(png(5))), form)
        for _ in range(60):
            data = bytearray(whole)
            for place in drawn.integers(0, len(data), 3):
                data[place] = drawn.integers(0, 256)
            with contextlib.suppress(ImageInvalid):
                assert decode(bytes(data)).ndim == 3


# -- in requests


def test_a_picture_is_a_part_of_its_message_in_order() -> None:
    messages = asked({"type": "text", "text": "this"}, picture(png(1)), {"type": "text", "text": "or that?"})
    texts, pictures = lift(messages)
    mark = pictures[0]["mark"]
    assert texts[0]["content"] == f"this\n{mark}\nor that?"
    assert base64.b64decode(pictures[0]["data"]) == png(1)


def test_messages_that_were_read_can_be_read_again() -> None:
    once = asked(picture(png(1)), {"type": "text", "text": "what?"})
    assert parse_messages(once) == once


def test_marks_cannot_be_guessed() -> None:
    messages = asked(picture(png(1)))
    assert lift(messages)[1][0]["mark"] != lift(messages)[1][0]["mark"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/latest/meta-data", "fetches no pictures"),
        ("https://example.com/a.png", "fetches no pictures"),
        ("file:///etc/passwd", "fetches no pictures"),
        ("/etc/passwd", "fetches no pictures"),
        ("data:text/html;base64,AAAA", "should be data:image/TYPE"),
        ("data:image/png,AAAA", "should be data:image/TYPE"),
        ("data:image/png;base64,AA!A", "is not base64"),
        ("data:image/png;base64,", "has 0 bytes"),
        (data_url(bytes(MAX_BYTES + 1)), f"1 to {MAX_BYTES} are taken"),
    ],
    ids=lambda value: value[:30],
)
def test_only_files_that_come_with_the_request_are_taken(url: str, said: str) -> None:
    with pytest.raises((RequestInvalid, Unsupported)) as e:
        asked({"type": "image_url", "image_url": {"url": url}})
    assert said in e.value.message
    assert e.value.details["param"] == "messages"


def test_too_many_pictures_are_refused() -> None:
    with pytest.raises(RequestInvalid, match=f"at most {MAX_PICTURES}"):
        asked(*(picture(png(i)) for i in range(MAX_PICTURES + 1)))


def test_a_conversation_of_many_large_pictures_is_refused() -> None:
    large = {"type": "image_url", "image_url": {"url": data_url(bytes(7 << 20))}}
    with pytest.raises(RequestTooLarge):
        asked(*[large] * 4)


def test_sound_and_files_are_refused_by_name() -> None:
    for kind in ("input_audio", "file"):
        with pytest.raises(Unsupported, match=kind):
            asked({"type": kind})


# -- in prompts


def test_a_template_must_use_each_picture_once() -> None:
    images = [{"mark": "[1]", "data": base64.b64encode(b"one").decode()}]
    assert picture_parts([("see [1] there", True)], images) == [("see ", True), b"one", (" there", True)]
    for text in ("no picture", "[1] twice [1]"):
        with pytest.raises(TemplateRefused):
            picture_parts([(text, True)], images)


def seen(count: int, span: int = 0, *, causal: bool = True) -> Picture:
    return Picture(np.zeros((count, 4), np.float32), row_ids(b"x", 0, count), span or count, causal=causal)


def words(count: int) -> Any:
    return np.arange(count, dtype=np.int32)


def test_rows_and_words_have_their_places() -> None:
    prompt = join([words(5), seen(9, span=3), words(4)])
    assert len(prompt.tokens) == 18
    assert [prompt.position(i) for i in (0, 5, 14, 17)] == [0, 5, 8, 11]  # the picture takes three positions
    assert [prompt.text_after(i, 18) for i in (0, 4, 5, 8, 14, 16)] == [5, 1, 0, 0, 4, 2]
    assert [prompt.whole(i) for i in (3, 5, 6, 13, 14, 16)] == [3, 5, 5, 5, 14, 16]


def test_a_picture_is_computed_in_parts_only_where_rows_see_what_came_before() -> None:
    prompt = join([words(2), seen(9), words(1)])
    assert glance(0, prompt, 1, 4) is None
    first, last = glance(0, prompt, 2, 4), glance(0, prompt, 10, 4)
    assert first is not None
    assert last is not None
    assert (first.count, first.positions.tolist()) == (4, [[2, 3, 4, 5]])
    assert (last.count, last.positions.tolist()) == (1, [[10]])
    whole = glance(0, join([words(2), seen(9, causal=False), words(1)]), 2, 4)
    assert whole is not None
    assert whole.count == 9


def test_ids_of_rows_are_no_tokens_and_the_same_for_the_same_picture() -> None:
    assert (row_ids(b"a", 0, 1000) < 0).all()
    assert row_ids(b"a", 0, 8).tolist() == row_ids(b"a", 0, 8).tolist()
    assert row_ids(b"a", 0, 8).tolist() != row_ids(b"a", 1, 8).tolist()


@pytest.mark.parametrize(
    "prompt",
    [join([words(2), seen(3)]), join([words(2), seen(600, causal=False), words(1)])],
    ids=["at-end", "too-large"],
)
def test_prompts_that_cannot_be_computed_are_refused(prompt: Prompt) -> None:
    with pytest.raises(HarbourError):
        check_pictures(prompt, 512)
