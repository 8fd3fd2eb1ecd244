"""Copies among photos are found, told and counted once; different photos are not called copies."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from auditor.errors import ImagesError
from auditor.images import image_set
from auditor.images.copies import NEIGHBOURS, Looks, firsts, look
from auditor.images.image_set import ImageSet
from auditor.lab import training
from auditor.lab.plans import Plan, Shortcut
from auditor.prototypes.constraints import known_labels

NAMES = ("hen", "cat", "dog")


def scene(seed: int, *, side: int = 160) -> Image.Image:
    """A ground of soft colours with discs: as unlike others as photos are."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(40, 215, (5, 5, 3), dtype=np.uint8))
    image = ground.resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, r = rng.uniform(0.1, 0.9) * side, rng.uniform(0.1, 0.7) * side, side * 0.1
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(0, 256, 3).tolist()))
    noise = rng.normal(0, 3, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(root: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".png").write_bytes(data)
    return root


def load(root: Path, *, labelled: bool = True) -> ImageSet:
    return image_set.load(str(root), class_names=NAMES, class_ids=None, labelled=labelled)


def codes(images: ImageSet) -> list[tuple[str, bool]]:
    return [(remark.code, remark.serious) for remark in images.remarks]


def halved(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR)


SAME: dict[str, Callable[[Image.Image], bytes]] = {
    "the same bytes": saved,
    "the same pixels in a BMP": lambda image: saved(image, "BMP"),
    "the same pixels in a lossless WebP": lambda image: saved(image, "WEBP", lossless=True),
    "JPEG at 75": lambda image: saved(image, "JPEG", quality=75),
    "JPEG at 30": lambda image: saved(image, "JPEG", quality=30),
    "WebP at 50": lambda image: saved(image, "WEBP", quality=50),
    "half the size": lambda image: saved(halved(image)),
    "half the size as JPEG at 90": lambda image: saved(halved(image), "JPEG", quality=90),
    "twice the size": lambda image: saved(image.resize((320, 240), Image.Resampling.BICUBIC)),
    "squeezed to a square": lambda image: saved(image.resize((120, 120))),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_a_copy_within_a_class_counts_once(
    tmp_path: Path, change: Callable[[Image.Image], bytes]
) -> None:
    image = scene(0)
    put(tmp_path, hen__a=saved(image), hen__b=change(image), hen__c=saved(scene(1)))
    put(tmp_path, cat__d=saved(scene(2)))
    images = load(tmp_path)
    assert images.ids == ("cat/d.png", "hen/a.png", "hen/c.png")
    assert images.labels == (1, 0, 0)
    assert codes(images) == [("copies-within-a-class", False)]
    (remark,) = images.remarks
    assert "hen/b.png of hen/a.png" in remark.text
    assert "3 of 4 are left" in remark.text


def stamped(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).text((90, 100), "2019-05-12", fill=(255, 200, 0))
    return image


def moved(image: Image.Image) -> Image.Image:
    image = image.copy()
    fill = "black" if np.asarray(image)[56, 76, 0] > 127 else "white"
    ImageDraw.Draw(image).rectangle((70, 50, 82, 62), fill=fill)
    return image


OTHER: dict[str, Callable[[Image.Image], Image.Image]] = {
    "stamped": stamped,
    "with a small object": moved,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "lit": lambda image: image.point(lambda value: value * 0.8),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_another_photo_of_the_same_place_is_no_copy(
    tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    put(tmp_path, hen__a=saved(scene(0)), hen__b=saved(change(scene(0))))
    images = load(tmp_path)
    assert len(images) == 2
    assert images.remarks == ()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photo_in_two_classes_leaves_both_and_is_named(tmp_path: Path, kind: str) -> None:
    put(tmp_path, **{f"hen__{k}": saved(scene(k)) for k in range(30)})
    put(tmp_path, cat__stray=saved(scene(3), kind), cat__own=saved(scene(99)))
    images = load(tmp_path)
    assert len(images) == 30
    assert "hen/3.png" not in images.ids
    assert images.labels is not None
    assert images.labels.count(1) == 1
    (remark,) = images.remarks
    assert (remark.code, remark.serious) == ("one-photo-in-two-classes", True)
    assert "One picture stands in two classes" in remark.text
    assert "(2 of 32 photos): cat/stray.png = hen/3.png." in remark.text


def test_few_photos_in_two_classes_are_not_serious(tmp_path: Path) -> None:
    put(tmp_path, **{f"hen__{k}": saved(scene(k, side=48)) for k in range(60)})
    put(tmp_path, cat__stray=saved(scene(3, side=48)))
    assert codes(load(tmp_path)) == [("one-photo-in-two-classes", False)]


def test_copies_of_a_photo_in_two_classes_leave_with_it(tmp_path: Path) -> None:
    first = saved(scene(0))
    put(tmp_path, hen__a=first, hen__b=first, cat__c=first, dog__d=saved(scene(1)))
    assert load(tmp_path).ids == ("dog/d.png",)
    (tmp_path / "dog/d.png").unlink()
    with pytest.raises(ImagesError, match=r"Every photo of .* stands in two classes or more"):
        load(tmp_path)


def test_a_pool_holds_each_picture_once(tmp_path: Path) -> None:
    put(tmp_path, a__x=saved(scene(0)), b__x=saved(scene(0), "JPEG"), c__x=saved(scene(1)))
    pool = load(tmp_path, labelled=False)
    assert pool.ids == ("a/x.png", "c/x.png")
    assert codes(pool) == [("copies-within-the-pool", False)]


def test_audited_photos_in_the_pool_are_known_in_another_file(tmp_path: Path) -> None:
    put(tmp_path / "photos", hen__a=saved(scene(0)), cat__b=saved(scene(1)))
    put(tmp_path / "pool", p=saved(scene(5)), q=saved(scene(1), "JPEG"), r=saved(scene(0)))
    images, pool = load(tmp_path / "photos"), load(tmp_path / "pool", labelled=False)
    known = image_set.recognised(pool, images)
    assert known_labels(images, known, np.arange(3)).tolist() == [-1, 1, 0]
    assert set(known.identities) & set(images.identities) == set(images.digests)
    assert known.digests == pool.digests
    assert known.digest == pool.digest
    assert codes(known) == [("copies-between-pool-and-photos", False)]
    assert "2 of 3 photos of the pool are audited photos too (1 of them in another file)" in (
        known.remarks[0].text
    )
    assert known.subset([1]).identities == (images.digests[0],)
    assert image_set.recognised(images, images) is images


def test_a_pool_of_other_photos_is_left_as_it_is(tmp_path: Path) -> None:
    put(tmp_path / "photos", hen__a=saved(scene(0)))
    put(tmp_path / "pool", p=saved(scene(5)))
    pool = load(tmp_path / "pool", labelled=False)
    assert image_set.recognised(pool, load(tmp_path / "photos")) is pool


def test_flat_pictures_are_copies_only_with_equal_pixels(tmp_path: Path) -> None:
    for k in range(6):
        put(tmp_path, **{f"hen__{k}": saved(Image.new("RGB", (40, 30), (k // 2, 0, 200)))})
    rng = np.random.default_rng(0)
    for k in range(6):
        dark = rng.integers(0, 4, (60, 80, 3), dtype=np.uint8)
        dark[:6] = dark[-6:] = 255  # the white border of a scan
        put(tmp_path, **{f"cat__{k}": saved(Image.fromarray(dark))})
    assert load(tmp_path).ids == (*(f"cat/{k}.png" for k in range(6)), "hen/0.png",
                                  "hen/2.png", "hen/4.png")  # fmt: skip


def test_drawn_scenes_with_common_grounds_are_no_copies() -> None:
    grounds = ("plain", "snow", "stripes", "black border", "circular mask", "fog")
    names = ("car", "key", "cup", "aeroplane", "house", "star")
    shortcuts = tuple(Shortcut(k, name, 1.0) for k, name in enumerate(grounds))
    plan = Plan(classes=names, shortcuts=shortcuts, seed=3)
    looks = [look(Image.fromarray(training.pixels(s, 64))) for _, s in training.held_out(plan, 8)]
    assert firsts(Looks.of(looks)).tolist() == list(range(48))


def test_frames_of_a_still_scene_count_once() -> None:
    rng = np.random.default_rng(0)
    frame = np.asarray(scene(0), np.float64)
    frames = [frame + rng.normal(0, 4, frame.shape) for _ in range(NEIGHBOURS + 20)]
    looks = [look(Image.fromarray(each.clip(0, 255).astype(np.uint8))) for each in frames]
    looks.append(look(scene(1)))
    assert firsts(Looks.of(looks)).tolist() == [0] * (NEIGHBOURS + 20) + [NEIGHBOURS + 20]


def test_a_copy_of_a_copy_that_is_no_copy_of_the_first_stays() -> None:
    still = np.asarray(scene(0), np.float64)
    fading = [still * (1 - 0.025 * k) for k in range(4)]
    looks = [look(Image.fromarray(each.astype(np.uint8))) for each in fading]
    assert firsts(Looks.of(looks)).tolist() == [0, 0, 2, 2]


def test_candidates_hold_all_copies_of_many() -> None:
    """Against all pairs: those that are sorted out beforehand are no copies."""
    looks = [look(scene(k, side=96)) for k in range(700)]
    looks += [look(halved(scene(k, side=96))) for k in range(0, 700, 70)]
    first = firsts(Looks.of(looks))
    assert first[:700].tolist() == list(range(700))
    assert first[700:].tolist() == list(range(0, 700, 70))
