from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from athanor.tagger.preprocess import Preprocessing, UnreadableImageError, open_upright, prepare, prepare_file
from athanor.tagger.session import Tagger

ALL = ("red", "green", "blue")


def _noise(width_px: int, height_px: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(width_px * 1000 + height_px).integers(0, 256, (height_px, width_px, channels), dtype=np.uint8)
    return Image.fromarray(values)


def _scores(folder: Path, image: Image.Image, file: Path) -> list[float]:
    image.save(file)
    tagger = Tagger(folder)
    return [float(score) for score in tagger.scores(prepare_file(file, tagger.preprocessing)[None])[0]]


def _reference(image: Image.Image, side_px: int) -> np.ndarray:
    """The steps of the taggers' authors, written a second time."""
    canvas = Image.new("RGBA", image.size, (255, 255, 255, 255))
    canvas.alpha_composite(image.convert("RGBA"))
    rgb = np.asarray(canvas.convert("RGB"))
    height, width = rgb.shape[:2]
    longer = max(width, height)
    padded = np.full((longer, longer, 3), 255, np.uint8)
    top, left = (longer - height) // 2, (longer - width) // 2
    padded[top : top + height, left : left + width] = rgb
    square = Image.fromarray(padded)
    if longer != side_px:
        square = square.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.asarray(square).astype(np.float32)[..., [2, 1, 0]]


@pytest.mark.parametrize(("width_px", "height_px"), [(8, 8), (8, 5), (5, 8), (37, 20), (3, 4), (64, 64), (9, 8)])
@pytest.mark.parametrize("channels", [3, 4])
def test_equals_the_reference(tmp_path: Path, width_px: int, height_px: int, channels: int) -> None:
    image = _noise(width_px, height_px, channels)
    image.save(tmp_path / "noise.png")
    prepared = prepare_file(tmp_path / "noise.png", Preprocessing(8))
    assert prepared.dtype == np.float32 and prepared.shape == (8, 8, 3) and prepared.flags.c_contiguous
    np.testing.assert_array_equal(prepared, _reference(image, 8))


def test_padding_is_white_and_centred(make_tagger, tmp_path: Path) -> None:
    probes = [(y, 4, channel) for y in range(8) for channel in ALL]
    scores = _scores(make_tagger(probes), Image.new("RGB", (8, 3), (0, 0, 0)), tmp_path / "black.png")
    assert scores == [1.0] * 3 * 2 + [0.0] * 3 * 3 + [1.0] * 3 * 3  # 5 px of padding: 2 above, 3 below


def test_channels_are_blue_green_red(make_tagger, tmp_path: Path) -> None:
    folder = make_tagger([(0, 0, channel) for channel in ALL])
    assert _scores(folder, Image.new("RGB", (8, 8), (255, 51, 0)), tmp_path / "orange.png") == pytest.approx([1.0, 0.2, 0.0])


def test_values_reach_from_0_to_255(make_tagger, tmp_path: Path) -> None:
    folder = make_tagger([(0, 0, "red")])
    assert _scores(folder, Image.new("RGB", (8, 8), (128, 0, 0)), tmp_path / "half.png") == pytest.approx([128 / 255])


def test_size_comes_from_the_model(make_tagger, tmp_path: Path) -> None:
    for side_px in (4, 16):
        folder = make_tagger([(side_px - 1, side_px - 1, "red")], name=f"side {side_px}", side_px=side_px)
        image = Image.new("RGB", (64, 64), (0, 0, 0))
        image.paste((255, 0, 0), (64 - 64 // side_px * 3, 0, 64, 64))
        assert _scores(folder, image, tmp_path / f"{side_px}.png") == pytest.approx([1.0], abs=0.02)
        assert Tagger(folder).preprocessing.side_px == side_px


def test_resized_bicubically_after_padding(make_tagger, tmp_path: Path) -> None:
    image = _noise(30, 17)
    square = Image.new("RGB", (30, 30), (255, 255, 255))
    square.paste(image, (0, 6))
    places = [(y, x) for y in range(8) for x in range(8)]
    scores = np.array(_scores(make_tagger([(y, x, "green") for y, x in places]), image, tmp_path / "noise.png")).reshape(8, 8)

    def green(resized: Image.Image) -> np.ndarray:
        return np.asarray(resized)[:, :, 1] / 255

    np.testing.assert_allclose(scores, green(square.resize((8, 8), Image.Resampling.BICUBIC)), atol=1e-6)
    for other in (Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BOX):
        assert np.abs(scores - green(square.resize((8, 8), other))).max() > 0.01


def test_a_long_strip_makes_no_square_of_gigabytes(monkeypatch) -> None:
    strip = Image.linear_gradient("L").convert("RGB").resize((60, 2000))
    exact = prepare(strip, Preprocessing(side_px=64))
    monkeypatch.setattr("athanor.tagger.preprocess._MAX_PADDED_PX", 500)
    made, new = [], Image.new
    monkeypatch.setattr(Image, "new", lambda mode, size, *rest: made.append(size) or new(mode, size, *rest))
    difference = np.abs(prepare(strip, Preprocessing(side_px=64)) - exact)
    assert difference.mean() < 0.5 and difference.max() < 16, "but for a hair at the edges of the strip it is the same"
    assert made == [(500, 500)]


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    image = _noise(8, 8)
    np.testing.assert_array_equal(prepare(image, Preprocessing(8))[:, :, ::-1], np.asarray(image))


def test_exif_orientation_is_applied(make_tagger, tmp_path: Path) -> None:
    upright = Image.new("RGB", (8, 8), (0, 0, 0))
    upright.paste((255, 0, 0), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turned clockwise to be seen
    file = tmp_path / "turned.png"
    upright.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
    tagger = Tagger(make_tagger([(1, 1, "red"), (1, 6, "red"), (6, 1, "red")]))
    np.testing.assert_allclose(tagger.scores(prepare_file(file, Preprocessing(8))[None])[0], [1, 1, 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    image, exif = _noise(6, 8), Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "any.png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "any.png"))
    assert open_upright(tmp_path / "any.png").size == ((6, 8) if orientation < 5 else (8, 6))
    np.testing.assert_array_equal(np.asarray(open_upright(tmp_path / "any.png")), np.asarray(expected))


def test_transparent_parts_are_white_whatever_colour_they_hide(make_tagger, tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image.paste((0, 0, 0, 51), (0, 0, 2, 8))
    folder = make_tagger([(0, 0, "green"), (0, 3, "green"), (0, 7, "green"), (0, 7, "red")])
    assert _scores(folder, image, tmp_path / "alpha.png") == pytest.approx([0.8, 0.0, 1.0, 1.0], abs=0.003)


def test_modes_other_than_rgb(tmp_path: Path) -> None:
    grey = Image.new("LA", (4, 4), (0, 0))
    grey.save(tmp_path / "la.png")
    assert open_upright(tmp_path / "la.png").getpixel((0, 0)) == (255, 255, 255)

    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "p.png", transparency=0)
    assert open_upright(tmp_path / "p.png").getpixel((0, 0)) == (0, 0, 255)
    palette.save(tmp_path / "pt.png", transparency=1)
    assert open_upright(tmp_path / "pt.png").getpixel((0, 0)) == (255, 255, 255)

    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    red, green, blue = open_upright(tmp_path / "cmyk.jpg").getpixel((0, 0))
    assert red > 240 and green < 15 and blue < 15

    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert open_upright(tmp_path / "deep.png").getpixel((0, 0)) == (128, 128, 128)
    for name, values in (("float", np.float32([[0, 0.5, 1]])), ("wide", np.int32([[0, 500_000, 1_000_000]])), ("small", np.int32([[0, 128, 255]]))):
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
        picture = open_upright(tmp_path / f"{name}.tif")
        assert [picture.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255], name

    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    assert open_upright(tmp_path / "bits.png").getpixel((0, 0)) == (255, 255, 255)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert open_upright(tmp_path / "two.webp").getpixel((0, 0)) == (255, 0, 0)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    cut = tmp_path / "durchgerissen 图.png"
    _noise(64, 64).save(cut)
    cut.write_bytes(cut.read_bytes()[:500])
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for file in (cut, empty, tmp_path / "absent.png"):
        with pytest.raises(UnreadableImageError) as error:
            open_upright(file)
        assert str(file) in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_an_uncompressed_tiff_on_its_side_is_read_whole(tmp_path: Path, mode: str) -> None:
    """Pillow maps it into memory, and takes the turned size for that of the rows there."""
    image, orientation = _noise(9, 4, 4).convert(mode), Image.Exif()
    orientation[0x0112] = 6
    for packing in ("raw", "tiff_lzw"):
        image.save(tmp_path / f"{packing}.tif", compression=packing, exif=orientation)
    raw, packed = (open_upright(tmp_path / f"{packing}.tif") for packing in ("raw", "tiff_lzw"))
    assert raw.size == (4, 9) and raw.tobytes() == packed.tobytes()
