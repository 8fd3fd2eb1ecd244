from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image, ImageFont
from scipy.ndimage import binary_dilation
from torch import Tensor
from torch.nn.functional import interpolate

from auditor.drawing import defects, markings, weather, writing
from auditor.drawing.drawings import DRAWINGS, draw, draw_pair
from auditor.drawing.layers import Sheet, scrambled
from auditor.drawing.lettering import CHARACTERS, Face, _font, date_and_time, text_stamp
from auditor.errors import ConceptsError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "imagenet-ccby"
OVERLAYS = sorted(name for name, drawing in DRAWINGS.items() if drawing.kind == "overlay")


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """Something with the spectrum of a photo: coloured noise at every scale, few extremes."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.full((1, 3, height, width), 0.45)
    for cells, weight in ((2, 0.13), (5, 0.09), (12, 0.06), (24, 0.04), (96, 0.025)):
        noise = torch.randn(1, 3, cells, cells, generator=rng)
        image += weight * interpolate(noise, size=(height, width), mode="bilinear")
    return image[0].clamp(0, 1)


def draw_control(name: str, image: Tensor, *, seed: int) -> Tensor:
    return draw_pair(name, image, seed=seed)[1]


def energy(change: Tensor) -> float:
    return float(change.square().mean().sqrt())


def roughness(image: Tensor) -> float:
    return energy(image.diff(dim=1)) + energy(image.diff(dim=2))


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (150, 224)])
@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing_and_control_are_images_of_the_same_shape(name: str, size: tuple[int, int]) -> None:
    image = photo(*size)
    before = image.clone()
    for function in (draw, draw_control):
        result = function(name, image, seed=3)
        assert result.shape == image.shape
        assert result.dtype == torch.float32
        assert 0 <= result.min() <= result.max() <= 1
        assert energy(result - image) > 0.003
    assert torch.equal(image, before)


@pytest.mark.parametrize("size", [(32, 32), (96, 128)])
@pytest.mark.parametrize("name", DRAWINGS)
def test_control_has_the_energy_of_the_drawing(name: str, size: tuple[int, int]) -> None:
    for seed in range(4):
        image = photo(*size, seed)
        drawn = draw(name, image, seed=seed)
        control = draw_control(name, image, seed=seed)
        assert energy(control - image) == pytest.approx(energy(drawn - image), rel=0.15)
        assert energy(control - drawn) > 0.3 * energy(drawn - image)


@pytest.mark.parametrize("name", DRAWINGS)
def test_seed_decides(name: str) -> None:
    image = photo(96, 96)
    assert torch.equal(draw_pair(name, image, seed=7)[0], draw(name, image, seed=7))
    assert torch.equal(draw(name, image, seed=7), draw(name, image, seed=7))
    assert torch.equal(draw_control(name, image, seed=7), draw_control(name, image, seed=7))
    others = [draw(name, image, seed=seed) for seed in (-1, 8, 9, 10, 11, 2**40)]
    differ = [not torch.equal(other, draw(name, image, seed=7)) for other in others]
    assert any(differ) == (name != "greyscale")


@pytest.mark.parametrize("name", OVERLAYS)
def test_control_of_an_overlay_keeps_its_place_and_ink(name: str) -> None:
    make = next(getattr(m, name) for m in (writing, markings, weather, defects) if hasattr(m, name))
    image = photo(128, 128).numpy()
    sheet = Sheet.over(image, default_rng(5), default_rng(1))
    make(sheet)
    drawn, control = sheet.layer().alpha, sheet.control().alpha
    assert 0.003 < drawn.mean() < 0.5
    assert control.mean() == pytest.approx(drawn.mean(), rel=0.12)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    inside = control[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].sum()
    assert inside > 0.75 * control.sum()  # corners of what is rotated stick out


@pytest.mark.parametrize("name", ["hair_strands", "adhesive_tape", "rain", "spider_web"])
def test_a_control_does_not_follow_the_lines_that_it_replaces(name: str) -> None:
    image = torch.full((3, 128, 128), 0.5)
    apart, room = [], []
    for seed in range(8):
        drawn, control = (f(name, image, seed=seed) - image for f in (draw, draw_control))
        changed, instead = (change.abs().amax(0).numpy() > 0.05 for change in (drawn, control))
        near = binary_dilation(changed, iterations=4)
        apart.append((instead & ~near).sum() / instead.sum())
        room.append((~near).mean())
    assert np.mean(apart) > 0.7 * np.mean(room), "it lies where the drawing lies"


def test_scrambling_keeps_every_pixel_and_loses_the_text() -> None:
    stamp = text_stamp("PREVIEW 42", "latin", height=40, colour=(250, 200, 10), outline=(0, 0, 0))
    result = scrambled(stamp, default_rng(0))
    before, after = (np.asarray(each).reshape(-1, 4) for each in (stamp, result))
    assert np.array_equal(before[np.lexsort(before.T)], after[np.lexsort(after.T)])
    assert abs(np.corrcoef(before[:, 3], after[:, 3])[0, 1]) < 0.15


def test_scrambled_bars_are_no_bars() -> None:
    bars = np.zeros((40, 120, 4), np.uint8)
    bars[..., 3] = 255
    bars[:, default_rng(1).random(120) < 0.5, :3] = 255
    tones = np.asarray(scrambled(Image.fromarray(bars), default_rng(0)), np.float64)[..., 0]
    assert tones.mean(axis=0).std() < 0.6 * tones.std()  # columns no longer agree
    assert tones.mean() == bars[..., 0].mean()


@pytest.mark.parametrize("face", CHARACTERS)
def test_every_character_has_a_glyph_and_the_font_its_own_name(face: Face) -> None:
    font = _font(face, 40)
    missing = bytes(font.getmask("\ufffe"))
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert str(font.getname()[0]).startswith("Auditor")
    for character in CHARACTERS[face].replace(" ", ""):
        glyph = bytes(font.getmask(character))
        assert any(glyph), character
        assert glyph != missing, character


def test_fonts_stand_beside_their_licences() -> None:
    folder = Path(__file__).parents[2] / "auditor" / "data" / "fonts"
    assert "SIL OPEN FONT LICENSE" in (folder / "auditor-sans-sc.LICENSE.txt").read_text()
    assert "Bitstream Vera Fonts Copyright" in (folder / "auditor-sans.LICENSE.txt").read_text()
    assert all(path.stat().st_size < 60_000 for path in folder.glob("*.ttf"))


def test_text_keeps_to_its_characters() -> None:
    rng = default_rng(0)
    for _ in range(100):
        assert set(date_and_time(rng, brief=rng.random() < 0.5)) <= set(CHARACTERS["mono"])


def test_tiny_text_keeps_its_ink() -> None:
    def share(height: float) -> float:
        alpha = text_stamp("SAMPLE", "latin", height=height).getchannel("A")
        return float(np.asarray(alpha).mean() / 255)

    assert share(5) == pytest.approx(share(60), rel=0.25)


@pytest.mark.parametrize(
    ("name", "tone"), [("black_border", 0.0), ("white_border", 1.0), ("letterbox", 0.0)]
)
def test_borders_cover_the_edge_alone(name: str, tone: float) -> None:
    image = photo(100, 100)
    result = draw(name, image, seed=0)
    assert torch.all(result[:, :3] == tone)
    assert torch.all(result[:, -3:] == tone)
    assert torch.equal(result[:, 20:80, 20:80], image[:, 20:80, 20:80])


def test_control_of_a_border_leaves_the_middle_alone() -> None:
    image = photo(100, 100)
    control = draw_control("black_border", image, seed=0)
    assert torch.equal(control[:, 30:70, 30:70], image[:, 30:70, 30:70])
    assert control[:, 1:4].std() > 0.1  # neither black nor plain


def test_control_reaches_the_energy_even_on_a_bright_photo() -> None:
    image = photo(96, 96) * 0.2 + 0.78
    for name in ("black_border", "underexposure", "circular_mask", "vignette"):
        target = energy(draw(name, image, seed=1) - image)
        reached = energy(draw_control(name, image, seed=1) - image)
        assert reached == pytest.approx(target, rel=0.15)


def test_nothing_drawn_needs_no_control() -> None:
    white = torch.ones(3, 64, 64)
    assert torch.equal(draw("white_border", white, seed=0), white)
    assert torch.equal(draw_control("white_border", white, seed=0), white)


@pytest.mark.parametrize("name", ["time_stamp", "logo", "web_address", "radiograph_marker"])
def test_marks_at_the_margin_leave_the_middle_alone(name: str) -> None:
    image = photo(120, 120)
    for seed in range(8):
        middle = (draw(name, image, seed=seed) - image)[:, 45:75, 45:75]
        assert float(middle.abs().max()) == 0


def test_watermark_can_be_seen_through() -> None:
    image = photo(128, 128)
    result = draw("chinese_watermark", image, seed=0)
    covered = (result - image).abs().amax(dim=0) > 0.1
    assert 0.03 < float(covered.float().mean()) < 0.4
    assert np.corrcoef(image[:, covered].ravel(), result[:, covered].ravel())[0, 1] > 0.8


def test_colours() -> None:
    image = photo(64, 64)
    grey = draw("greyscale", image, seed=0)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    red, green, blue = draw("sepia_tone", image, seed=0).mean(dim=(1, 2))
    assert red > green > blue
    for channel, name in enumerate(("red_cast", "green_cast", "blue_cast")):
        change = (draw(name, image, seed=0) - image).mean(dim=(1, 2))
        assert int(change.argmax()) == channel
    assert float((draw("yellow_cast", image, seed=0) - image).mean(dim=(1, 2)).argmin()) == 2


def test_light() -> None:
    image = photo(64, 64)
    assert draw("overexposure", image, seed=0).mean() > image.mean() + 0.2
    assert draw("underexposure", image, seed=0).mean() < image.mean() - 0.2
    assert draw("low_contrast", image, seed=0).std() < 0.5 * image.std()
    assert draw("high_contrast", image, seed=0).std() > 1.5 * image.std()


def test_sharpness_and_grain() -> None:
    image = photo(128, 128)
    for name in ("gaussian_blur", "motion_blur"):
        assert roughness(draw(name, image, seed=0)) < 0.6 * roughness(image)
    assert roughness(draw("noise", image, seed=0)) > 3 * roughness(image)


def test_blocks_lie_on_the_grid() -> None:
    image = photo(128, 128)
    steps = draw("jpeg_blocks", image, seed=0).diff(dim=2).abs().mean(dim=(0, 1))
    assert steps[7::8].mean() > 2 * steps[3::8].mean()
    cells = draw("pixelation", image, seed=0).diff(dim=2).abs().amax(dim=(0, 1))
    assert 18 <= int((cells > 0.01).sum()) <= 32


def test_scan_lines_lie_flat() -> None:
    result = draw("scan_lines", torch.full((3, 120, 120), 0.5), seed=0)[0]
    assert result.mean(dim=1).std() > 0.1
    assert result.mean(dim=0).std() < 1e-6


def test_fog_is_pale_flat_and_denser_above() -> None:
    image = photo(96, 96)
    foggy = draw("fog", image, seed=0)
    assert foggy.mean() > image.mean() + 0.1
    assert foggy.std() < 0.6 * image.std()
    assert foggy[:, :24].std() < foggy[:, -24:].std()


def test_snow_and_drops_leave_most_of_the_photo_as_it_is() -> None:
    image = photo(128, 128)
    for name, least, most in (("falling_snow", 0.03, 0.25), ("water_drops", 0.03, 0.4)):
        change = (draw(name, image, seed=0) - image).abs().amax(dim=0)
        assert least < float((change > 0.05).float().mean()) < most, name
    assert float((draw("falling_snow", image, seed=0) - image).min()) > -0.05  # flakes are white


@pytest.mark.parametrize("name", ["falling_snow", "water_drops"])
def test_control_of_many_spots_stays_in_the_spots(name: str) -> None:
    image = photo(128, 128)
    drawn = (draw(name, image, seed=0) - image).abs().amax(dim=0)
    control = (draw_control(name, image, seed=0) - image).abs().amax(dim=0)
    assert float(control[drawn == 0].amax()) < 1e-6
    assert np.corrcoef(drawn.ravel(), control.ravel())[0, 1] > 0.4


def test_what_covers_the_whole_photo_degrades_it() -> None:
    found = {name for name in OVERLAYS if DRAWINGS[name].degrades}
    assert found == {"rain", "wire_fence", "spider_web"}
    assert all(each.degrades for each in DRAWINGS.values() if each.kind != "overlay")


def test_shadows_are_bars_with_sharp_edges() -> None:
    bars = draw("hard_shadows", torch.full((3, 128, 128), 0.5), seed=0)[0]
    assert 0.3 < float((bars < 0.3).float().mean()) < 0.7
    assert float(((bars > 0.25) & (bars < 0.5)).float().mean()) < 0.15


def test_unknown_drawing() -> None:
    with pytest.raises(
        ConceptsError, match=r"'watermark' is none of the \d+ drawings; .* latin_watermark"
    ):
        draw("watermark", photo(32, 32), seed=0)
    with pytest.raises(ValueError, match=r"\(1, 32, 32\)"):
        draw("logo", photo(32, 32)[:1], seed=0)


@pytest.mark.shared
@pytest.mark.parametrize("name", DRAWINGS)
def test_energy_on_photos(name: str) -> None:
    if not SHARED.exists():
        pytest.skip("no evaluation photos beside the checkout")
    paths = sorted(SHARED.glob("*/*.jpg"))[:: len(DRAWINGS) + 3][:6]
    for seed, path in enumerate(paths):
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB").resize((128, 128)), np.float32) / 255
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        target = energy(draw(name, image, seed=seed) - image)
        reached = energy(draw_control(name, image, seed=seed) - image)
        assert reached == pytest.approx(target, rel=0.15)
