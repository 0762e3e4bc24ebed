import io
import struct
import zlib

import pytest
from PIL import Image, ImageChops, ImageCms

from athanor.trainer.dataset import assign_buckets, open_image, placed_image, scan_folder
from athanor.trainer.errors import AthanorError
from athanor.trainer.types import Placement, Sample


def opened(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    result = open_image(tmp_path / name)
    assert result.mode == "RGB"
    return result


def near(got, expected, tolerance=2):
    return all(abs(a - b) <= tolerance for a, b in zip(got, expected, strict=True))


def test_orientation_is_baked_in(tmp_path):
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = opened(tmp_path, image, exif=exif)
    assert upright.size == (20, 40) and upright.getpixel((19, 0)) == (255, 0, 0) and upright.getpixel((0, 0)) == (0, 0, 255)


def test_transparency_lies_on_white(tmp_path):
    assert opened(tmp_path, Image.new("RGBA", (4, 4), (200, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert opened(tmp_path, Image.new("RGBA", (4, 4), (255, 0, 0, 128))).getpixel((0, 0)) == (255, 127, 127)
    assert opened(tmp_path, Image.new("LA", (4, 4), (0, 128))).getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    result = opened(tmp_path, palette, transparency=0)
    assert result.getpixel((0, 0)) == (255, 255, 255) and result.getpixel((1, 0)) == (0, 255, 0)
    assert opened(tmp_path, Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9)).getpixel((0, 0)) == (255, 255, 255)


def test_grey_of_16_bits_is_scaled_not_cut(tmp_path):
    image = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 32768, 65535)):
        image.putpixel((x, 0), value)
    result = opened(tmp_path, image)
    assert [result.getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]
    dark = Image.new("I;16", (2, 1), 200)
    assert opened(tmp_path, dark).getpixel((0, 0)) == (0, 0, 0)
    wide = Image.new("I", (3, 1))
    for x, value in enumerate((0, 500_000, 1_000_000)):
        wide.putpixel((x, 0), value)
    result = opened(tmp_path, wide, "wide.tif")
    assert [result.getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]


def test_colour_of_16_bits_is_scaled(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">3H", 65535, 32768, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(data)
    assert near(open_image(tmp_path / "a.png").getpixel((0, 0)), (255, 128, 0))


def test_floats_bilevel_and_grey(tmp_path):
    assert opened(tmp_path, Image.new("F", (2, 2), 0.5), "f.tif").getpixel((0, 0)) == (127, 127, 127)
    assert opened(tmp_path, Image.new("1", (2, 2), 1)).getpixel((0, 0)) == (255, 255, 255)
    assert opened(tmp_path, Image.new("L", (2, 2), 77)).getpixel((0, 0)) == (77, 77, 77)


def test_cmyk_has_the_right_way_round(tmp_path):
    result = opened(tmp_path, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "a.jpg", quality=95)
    assert near(result.getpixel((8, 8)), (255, 0, 0), 6)


def linear_profile():
    """An sRGB profile with its name changed and red and blue swapped, so that a conversion shows."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack(">I", data[128:132])[0]):
        at = 132 + 12 * i
        if data[at : at + 4] == b"rXYZ":
            red_at = at
        if data[at : at + 4] == b"bXYZ":
            blue_at = at
    data[red_at : red_at + 4], data[blue_at : blue_at + 4] = b"bXYZ", b"rXYZ"
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def test_colour_profiles_are_converted(tmp_path):
    result = opened(tmp_path, Image.new("RGB", (4, 4), (255, 0, 0)), icc_profile=linear_profile())
    assert near(result.getpixel((0, 0)), (0, 0, 255), 4)
    result = opened(tmp_path, Image.new("RGBA", (4, 4), (255, 0, 0, 0)), icc_profile=linear_profile())
    assert result.getpixel((0, 0)) == (255, 255, 255)


def test_srgb_and_broken_profiles_change_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"nonsense"):
        assert opened(tmp_path, Image.new("RGB", (4, 4), (10, 100, 201)), icc_profile=profile).getpixel((0, 0)) == (10, 100, 201)


def test_a_broken_image_is_an_error_with_its_name(tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    (tmp_path / "图.png").write_bytes(buffer.getvalue()[:1500])
    with pytest.raises(AthanorError, match=r"图\.png cannot be read"):
        open_image(tmp_path / "图.png")
    with pytest.raises(AthanorError, match="No such file"):
        open_image(tmp_path / "none.png")


def test_a_placed_image_has_its_buckets_size_and_centre(tmp_path):
    image = Image.new("RGB", (300, 100), "blue")
    image.paste("red", (100, 0, 200, 100))
    image.save(tmp_path / "a.png")
    dataset = assign_buckets(scan_folder(tmp_path), resolution_px=64, min_px=64, max_px=64, step_px=8, upscale=True)
    placed = placed_image(dataset.samples[0])
    assert placed.size == (64, 64)
    assert placed.getpixel((32, 32)) == (255, 0, 0) and placed.getpixel((3, 3)) == (255, 0, 0)


def test_a_placement_is_kept_to_the_pixel(tmp_path):
    path = tmp_path / "a.png"
    image = Image.effect_noise((30, 20), 60).convert("RGB")
    image.save(path)
    sample = Sample(str(path), 30, 20, "", placement=Placement((16, 16), (30, 20), (7, 2)))
    assert placed_image(sample).tobytes() == image.crop((7, 2, 23, 18)).tobytes()


@pytest.mark.parametrize(
    ("size", "resized", "crop"), [((1, 40), (64, 2560), (0, 900)), ((130, 70), (520, 280), (71, 33)), ((50, 3), (1067, 64), (1003, 0))]
)
def test_of_a_very_long_image_only_what_is_cut_out_is_enlarged(tmp_path, monkeypatch, size, resized, crop):
    Image.effect_noise(size, 80).convert("RGB").save(tmp_path / "a.png")
    placement = Placement((64, 64), resized, crop, mirrored=True)
    sample = Sample(str(tmp_path / "a.png"), *size, "", placement=placement)
    whole = placed_image(sample)
    monkeypatch.setattr("athanor.trainer.dataset.crop._MAX_RESIZED_PIXELS", 1000)
    made, resize = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda image, size, *rest: made.append(size) or resize(image, size, *rest))
    part = placed_image(sample)
    assert max(high for _, high in ImageChops.difference(whole, part).getextrema()) <= 2
    assert max(width * height for width, height in made) < resized[0] * resized[1]


def test_missing_placements_and_changed_files_are_told(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    with pytest.raises(AthanorError, match="Bucket"):
        placed_image(Sample(str(tmp_path / "a.png"), 30, 20, ""))
    with pytest.raises(AthanorError, match="is 30 x 20 px now but was 20 x 30 px"):
        placed_image(Sample(str(tmp_path / "a.png"), 20, 30, "", placement=Placement((16, 16), (20, 30), (0, 0))))
