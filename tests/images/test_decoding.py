"""Decoding photos: every unusual kind gives the pixels that training saw, or a short reason."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from auditor.images import decoding, oddities
from auditor.images.decoding import AS_STORED, MAX_PIXELS, Decoding, UnreadablePhoto, decode

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixel(image: Image.Image, place: tuple[int, int]) -> tuple[int, ...]:
    """A colour, rounded to a strong one."""
    colour = image.getpixel(place)
    assert isinstance(colour, tuple)
    return tuple(round(v / 255) for v in colour)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours at the four corners, clockwise from top left, rounded to strong colours."""
    w, h = image.size
    places = [(1, 1), (w - 2, 1), (w - 2, h - 2), (1, h - 2)]
    return [pixel(image, place) for place in places]


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
    image = decode(encoded(four_colours(), kind)).image
    assert image.mode == "RGB"
    assert image.size == (48, 32)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(("size", "strip"), [((100, 1), False), ((1, 101), True)])
def test_strips_are_no_photos(size: tuple[int, int], strip: bool) -> None:
    data = encoded(Image.new("RGB", size), "PNG")
    if not strip:
        assert decode(data).image.size == size
        return
    with pytest.raises(UnreadablePhoto, match="one side is more than 100 times as long"):
        decode(data)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_reads_avif() -> None:
    assert corners(decode(encoded(four_colours(), "AVIF")).image) == [RED, GREEN, BLUE, WHITE]


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
    image = decode(encoded(stored, kind, exif=exif)).image
    assert image.size == (48, 32)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


def test_broken_exif_keeps_the_pixels() -> None:
    data = encoded(four_colours(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 30)
    assert corners(decode(data).image) == [RED, GREEN, BLUE, WHITE]


def half_red() -> Image.Image:
    """Left blue (its upper part half transparent black), right transparent over red."""
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 128), (0, 0, 4, 4))
    return image


def palette(**options: object) -> bytes:
    """A palette whose colour 0, (9, 0, 30), is transparent, and colour 1 is green."""
    image = Image.new("P", (8, 8), 0)
    image.putpalette([9, 0, 30, 0, 200, 0])
    image.paste(1, (0, 0, 4, 8))
    return encoded(image, "PNG", **options)


def keyed() -> bytes:
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    image.paste((200, 0, 0), (0, 0, 4, 8))
    return encoded(image, "PNG", transparency=(1, 2, 3))


def grey_with_alpha() -> bytes:
    image = Image.new("LA", (8, 8), (77, 0))
    image.paste((10, 255), (0, 0, 4, 8))
    return encoded(image, "PNG")


TRANSPARENT = {
    "RGBA PNG": encoded(half_red(), "PNG"),
    "RGBA WebP": encoded(half_red(), "WEBP", lossless=True, exact=True),
    "RGBA TIFF": encoded(half_red(), "TIFF"),
    "grey with alpha": grey_with_alpha(),
    "palette with one transparent colour": palette(transparency=0),
    "palette with several alphas": palette(transparency=bytes([0, 255])),
    "colour key": keyed(),
    "GIF": encoded(Image.open(io.BytesIO(palette())), "GIF", transparency=0),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_shows_the_stored_colours_as_libraries_do(kind: str) -> None:
    photo = decode(TRANSPARENT[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = Image.open(io.BytesIO(TRANSPARENT[kind])).convert("RGB")
    np.testing.assert_array_equal(np.asarray(photo.image), np.asarray(expected))
    assert photo.notes == {"transparent"}
    assert photo.image.info == {}


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize(
    ("background", "colour"),
    [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("#0a141e", (10, 20, 30))],
)
def test_transparency_is_laid_on_a_stated_background(
    kind: str, background: str, colour: tuple[int, ...]
) -> None:
    photo = decode(TRANSPARENT[kind], Decoding(background=background))
    opaque = decode(TRANSPARENT[kind]).image.getpixel((1, 6))
    assert photo.image.getpixel((6, 6)) == colour
    assert photo.image.getpixel((1, 6)) == opaque


def test_a_half_transparent_pixel_is_mixed_with_the_background() -> None:
    out = decode(encoded(half_red(), "PNG"), Decoding(background="white")).image
    assert out.getpixel((2, 2)) == (127, 127, 127)
    assert decode(encoded(half_red(), "PNG")).image.getpixel((2, 2)) == (0, 0, 0)


def test_an_alpha_channel_that_hides_nothing_is_not_noted() -> None:
    assert decode(encoded(Image.new("RGBA", (8, 8), "red"), "PNG")).notes == frozenset()


def test_cmyk_jpeg_of_adobe_is_not_a_negative() -> None:
    data = encoded(four_colours().convert("CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    assert corners(decode(data).image) == [RED, GREEN, BLUE, WHITE]


def test_cmyk_tiff() -> None:
    assert corners(decode(encoded(four_colours().convert("CMYK"), "TIFF")).image) == [
        RED,
        GREEN,
        BLUE,
        WHITE,
    ]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled(kind: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16).repeat(3, 0)
    photo = decode(encoded(Image.fromarray(values), kind))
    out = np.asarray(photo.image)
    assert out[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (out == out[..., :1]).all()
    assert (set(photo.notes), photo.peak) == ({"sixteen-bit"}, 65535)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15])
def test_a_stated_bit_depth_scales_sixteen_bit_grey(kind: str, bits: int) -> None:
    top = 2**bits - 1
    values = np.array([[0, top // 2, top, 65535]], dtype=np.uint16).repeat(3, 0)
    photo = decode(encoded(Image.fromarray(values), kind), Decoding(bit_depth=bits))
    assert np.asarray(photo.image)[0, :, 0].tolist() == [0, round(top // 2 / top * 255), 255, 255]
    assert photo.notes == {"sixteen-bit", "clipped"}
    inside = decode(encoded(Image.fromarray(values[:, :3]), kind), Decoding(bit_depth=bits))
    assert inside.notes == {"sixteen-bit"}


def test_big_endian_sixteen_bit_grey() -> None:
    values = np.array([[0, 32768, 65535]], dtype=">u2")
    image = Image.frombytes("I;16B", (3, 1), values.tobytes())
    out = np.asarray(decode(encoded(image, "TIFF")).image)
    assert out[0, :, 0].tolist() == [0, 128, 255]


def deep_colour_png(value: int) -> bytes:
    """A PNG of 16 bits a colour, which Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    row = b"\0" + struct.pack(">6H", *[value] * 6)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")


def test_sixteen_bit_colours_are_noted_and_cannot_be_read_at_another_depth() -> None:
    photo = decode(deep_colour_png(4095))
    assert (set(photo.notes), photo.peak) == ({"sixteen-bit"}, 4095)
    with pytest.raises(UnreadablePhoto, match="16 bits a colour, of which only the upper 8"):
        decode(deep_colour_png(4095), Decoding(bit_depth=12))


def test_float_pixels_are_refused() -> None:
    with pytest.raises(UnreadablePhoto, match="range is unknown"):
        decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    photo = decode(data)
    assert pixel(photo.image, (4, 4)) == RED
    assert "animation" in photo.notes


def test_one_bit_image() -> None:
    image = Image.new("1", (8, 8), 1)
    image.putpixel((0, 0), 0)
    out = decode(encoded(image, "PNG")).image
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
            assert decode(bytes(data)).image.mode == "RGB"
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
    code = (
        "import auditor.images.decoding; from PIL import Image, ImageFile; "
        "assert not ImageFile.LOAD_TRUNCATED_IMAGES; assert Image.MAX_IMAGE_PIXELS == 89478485"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- EXIF, profiles and what is said of them -----------------------------------------------------


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(four_colours(), kind, exif=exif)


def test_photos_can_be_left_as_they_are_stored() -> None:
    stored = Decoding(orientation="stored")
    for orientation in range(1, 9):
        photo = decode(turned(orientation), stored)
        assert photo.image.size == (48, 32)
        assert photo.notes == (frozenset() if orientation == 1 else {"turned"})


@pytest.mark.parametrize("orientation", [0, 9, 274, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_odd_orientation_is_noted_and_turns_nothing(orientation: int, kind: str) -> None:
    photo = decode(turned(orientation, kind))
    assert photo.notes == {"odd-orientation"}
    assert corners(photo.image) == [RED, GREEN, BLUE, WHITE]


def test_a_profile_other_than_srgb_is_noted() -> None:
    from PIL import ImageCms

    image = four_colours()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode(encoded(image, "PNG", icc_profile=lab)).notes == {"profile"}
    assert decode(encoded(image, "PNG", icc_profile=srgb)).notes == frozenset()
    assert decode(encoded(image.convert("CMYK"), "JPEG")).notes == {"cmyk"}


@pytest.mark.parametrize(
    ("notes", "peak", "decoding", "words"),
    [
        ({"transparent"}, None, AS_STORED, "stored under them were taken.*--background"),
        ({"transparent"}, None, Decoding(background="black"), "laid on black"),
        ({"turned"}, None, AS_STORED, "turned upright.*--orientation stored"),
        ({"turned"}, None, Decoding(orientation="stored"), "left as they are stored"),
        ({"odd-orientation"}, None, AS_STORED, "none of 1 to 8"),
        ({"sixteen-bit"}, 4095, AS_STORED, "no value above 4095.*nearly black.*--bit-depth 12 if"),
        ({"sixteen-bit"}, 200, AS_STORED, "--bit-depth 8 if they hold 8 bits"),
        ({"sixteen-bit"}, 60000, AS_STORED, "65535 is white"),
        ({"sixteen-bit"}, 900, Decoding(bit_depth=10), "scaled by 2\\^10 - 1"),
        ({"clipped"}, 900, Decoding(bit_depth=8), "above the stated bit depth of 8"),
        ({"cmyk"}, None, AS_STORED, "without colour management"),
        ({"animation"}, None, AS_STORED, "the first was taken"),
        ({"profile"}, None, AS_STORED, "was not applied"),
    ],
)
def test_what_photos_hold_is_said_with_counts_and_examples(
    notes: set[decoding.Note], peak: int | None, decoding: Decoding, words: str
) -> None:
    noted = [(f"{i}.png", frozenset(notes), peak) for i in range(5)]
    (remark,) = oddities.remarks(noted, total=9, source="photos", decoding=decoding)
    assert remark.text.startswith("5 of the 9 photos of 'photos' (0.png, 1.png, 2.png, …) ")
    assert re.search(words, remark.text), remark.text
    assert not remark.serious


@pytest.mark.parametrize(
    "fields", [{"background": "grass"}, {"bit_depth": 7}, {"orientation": "up"}]
)
def test_a_decoding_is_checked(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is n"):
        Decoding(**fields)  # type: ignore[arg-type]


# --- work without end, lost parts, memory --------------------------------------------------------


def jpeg_of_scans(side: int, more: int) -> bytes:
    """A progressive JPEG whose last scan stands in it again and again."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * more + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    assert decode(jpeg_of_scans(64, 20)).image.size == (64, 64)
    for data in (jpeg_of_scans(64, 150), jpeg_of_scans(5000, 90), jpeg_of_scans(1000, 1500)):
        start = time.perf_counter()
        with pytest.raises(UnreadablePhoto, match="scans, which would take long"):
            decode(data)
        assert time.perf_counter() - start < 1


def test_scans_of_a_preview_or_of_what_follows_a_jpeg_are_not_counted() -> None:
    preview = b"Exif\0\0" + b"\xff\xda" * 150
    data = encoded(four_colours(), "JPEG", exif=preview) + b"\xff\xda" * 5000
    assert decode(data).image.size == (48, 32)


def noise(side: int = 200) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize("place", [0.3, 0.5, 0.8])
def test_a_lost_part_that_reads_as_zeros_is_found(kind: str, place: float) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    data = bytearray(encoded(noise(), kind))
    start = int(len(data) * place)
    data[start : start + len(data) // 6] = bytes(len(data) // 6)
    with pytest.raises(UnreadablePhoto, match="damaged"):
        decode(bytes(data))


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "JPEG"},
        {"kind": "JPEG", "optimize": True},
        {"kind": "JPEG", "progressive": True},
        {"kind": "JPEG", "quality": 5, "optimize": True, "restart_marker_blocks": 4},
        {"kind": "WEBP"},
        {"kind": "WEBP", "lossless": True},
        {"kind": "AVIF"},
    ],
    ids=str,
)
@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_flat_areas_and_padded_metadata_are_no_lost_part(
    options: dict[str, object], colour: str
) -> None:
    if options["kind"] == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    image = Image.new("RGB", (1200, 900), colour)
    image.paste(noise(), (0, 0))
    exif = Image.Exif()
    exif[0x010E] = "padding" + "\0" * 3000
    assert decode(encoded(image, **options, exif=exif)).image.size == (1200, 900)  # type: ignore[arg-type]


def test_decoding_is_strict_where_another_package_made_pillow_lenient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as WeasyPrint does
    for kind in ("PNG", "JPEG", "GIF"):
        data = encoded(noise(64), kind)
        with pytest.raises(UnreadablePhoto):
            decode(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_only_so_many_pixels_are_decoded_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PIXELS_AT_ONCE", 2500)
    data = encoded(Image.new("RGB", (32, 32)), "PNG")  # 1024 pixels
    inside, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with decoding.room(data):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == 2
    with decoding.room(b"no photo"), decoding.room(data):
        pass
