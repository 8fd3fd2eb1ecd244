"""Decoding photos: every unusual kind gives the pixels a viewer would show, or a short reason."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, features

from auditor.photos import MAX_PIXELS, UnreadablePhoto, decode

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours at the four corners, clockwise from top left, rounded to strong colours."""
    w, h = image.size
    places = [(1, 1), (w - 2, 1), (w - 2, h - 2), (1, h - 2)]
    return [tuple(round(v / 255) for v in image.getpixel(place)) for place in places]


def four_colours() -> Image.Image:
    """Red, green, blue, white, clockwise from top left."""
    image = Image.new("RGB", (48, 32))
    for box, colour in (
        ((0, 0, 24, 16), (255, 0, 0)),
        ((24, 0, 48, 16), (0, 255, 0)),
        ((24, 16, 48, 32), (0, 0, 255)),
        ((0, 16, 24, 32), (255, 255, 255)),
    ):
        image.paste(colour, box)
    return image


RED, GREEN, BLUE, WHITE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_reads_each_format(kind: str) -> None:
    image = decode(encoded(four_colours(), kind))
    assert image.mode == "RGB"
    assert image.size == (48, 32)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(("size", "strip"), [((100, 1), False), ((1, 101), True)])
def test_strips_are_no_photos(size: tuple[int, int], strip: bool) -> None:
    data = encoded(Image.new("RGB", size), "PNG")
    if not strip:
        assert decode(data).size == size
        return
    with pytest.raises(UnreadablePhoto, match="one side is more than 100 times as long"):
        decode(data)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_reads_avif() -> None:
    assert corners(decode(encoded(four_colours(), "AVIF"))) == [RED, GREEN, BLUE, WHITE]


# What each EXIF orientation does to the stored picture (EXIF 2.32, section 4.6.5).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_upright(kind: str, orientation: int) -> None:
    upright = np.asarray(four_colours())
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decode(encoded(stored, kind, exif=exif))
    assert image.size == (48, 32)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


def test_broken_exif_keeps_the_pixels() -> None:
    data = encoded(four_colours(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 30)
    assert corners(decode(data)) == [RED, GREEN, BLUE, WHITE]


def test_lays_transparency_on_white() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 128), (0, 0, 4, 4))
    out = decode(encoded(image, "PNG"))
    assert out.getpixel((6, 6)) == (255, 255, 255)
    assert out.getpixel((2, 6)) == (0, 0, 255)
    assert out.getpixel((2, 2)) == (127, 127, 127)


def test_lays_grey_with_alpha_on_white() -> None:
    image = Image.new("LA", (4, 4), (0, 0))
    image.putpixel((0, 0), (10, 255))
    out = decode(encoded(image, "PNG"))
    assert out.getpixel((0, 0)) == (10, 10, 10)
    assert out.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency(kind: str) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 0, 200, 0])
    image.paste(1, (0, 0, 4, 8))
    out = decode(encoded(image, kind, transparency=0))
    assert out.getpixel((1, 1)) == (0, 200, 0)
    assert out.getpixel((6, 6)) == (255, 255, 255)


def test_palette_with_several_alphas() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 0, 200, 0])
    image.putpixel((0, 0), 1)
    out = decode(encoded(image, "PNG", transparency=bytes([0, 255])))
    assert out.getpixel((0, 0)) == (0, 200, 0)
    assert out.getpixel((3, 3)) == (255, 255, 255)


def test_colour_key_transparency() -> None:
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    image.putpixel((0, 0), (200, 0, 0))
    out = decode(encoded(image, "PNG", transparency=(1, 2, 3)))
    assert out.getpixel((0, 0)) == (200, 0, 0)
    assert out.getpixel((3, 3)) == (255, 255, 255)


def test_cmyk_jpeg_of_adobe_is_not_a_negative() -> None:
    data = encoded(four_colours().convert("CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    assert corners(decode(data)) == [RED, GREEN, BLUE, WHITE]


def test_cmyk_tiff() -> None:
    assert corners(decode(encoded(four_colours().convert("CMYK"), "TIFF"))) == [
        RED,
        GREEN,
        BLUE,
        WHITE,
    ]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled(kind: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16).repeat(3, 0)
    out = np.asarray(decode(encoded(Image.fromarray(values), kind)))
    assert out[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (out == out[..., :1]).all()


def test_big_endian_sixteen_bit_grey() -> None:
    values = np.array([[0, 32768, 65535]], dtype=">u2")
    image = Image.frombytes("I;16B", (3, 1), values.tobytes())
    out = np.asarray(decode(encoded(image, "TIFF")))
    assert out[0, :, 0].tolist() == [0, 128, 255]


def test_float_pixels_are_refused() -> None:
    with pytest.raises(UnreadablePhoto, match="range is unknown"):
        decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert tuple(round(v / 255) for v in decode(data).getpixel((4, 4))) == RED


def test_one_bit_image() -> None:
    image = Image.new("1", (8, 8), 1)
    image.putpixel((0, 0), 0)
    out = decode(encoded(image, "PNG"))
    assert out.getpixel((0, 0)) == (0, 0, 0)
    assert out.getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_cut_off_files_are_refused(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(UnreadablePhoto):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"\xff\xd8\xff\xe0 nothing more", "damaged|not an image"),
    ],
)
def test_no_photo(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePhoto, match=reason):
        decode(data)


def test_formats_outside_the_list_are_refused() -> None:
    # a reader that photos never need is one more parser for hostile bytes
    with pytest.raises(UnreadablePhoto, match="not an image"):
        decode(encoded(four_colours(), "PPM"))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not hold."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    rest = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return b"\x89PNG\r\n\x1a\n" + chunk + rest


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 30_000])
def test_decompression_bombs_are_refused_without_a_warning(side: int) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(UnreadablePhoto, match="more than 100 million pixels"):
            decode(png_of_size(side, side))
    assert not seen


def test_altered_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    seeds = [encoded(noise, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")]
    reasons: list[str] = []
    for _ in range(600):
        data = bytearray(seeds[rng.integers(len(seeds))])
        for place in rng.integers(0, len(data), rng.integers(1, 12)):
            data[place] = rng.integers(256)
        try:
            assert decode(bytes(data)).mode == "RGB"
        except UnreadablePhoto as error:
            reasons.append(str(error))
    assert len(reasons) > 100
    assert all(0 < len(reason) < 140 for reason in reasons)


def test_warning_filters_are_left_as_they_were() -> None:
    data = encoded(four_colours(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_importing_leaves_pillow_alone() -> None:
    from PIL import ImageFile

    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert Image.MAX_IMAGE_PIXELS == 89478485
