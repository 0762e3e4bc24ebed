"""Each kind of odd file is used as people see it, and named in the report."""

from pathlib import Path

import pytest
from PIL import Image, ImageCms

from athanor.trainer.dataset import open_image, scan_folder

COLOURS = Image.effect_mandelbrot((48, 32), (-2, -1, 1, 1), 40).convert("RGB")


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def deep(mode):
    return Image.new(mode, (48, 32), 40_000 if mode.startswith("I") else 0.5)


def half_clear():
    image = COLOURS.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.mark.parametrize(
    ("name", "image", "options", "sentence"),
    [
        *((f"exif {i}.jpg", COLOURS, {"exif": exif(i)}, "turned as the camera noted") for i in range(2, 9)),
        ("exif.png", COLOURS, {"exif": exif(3)}, "turned as the camera noted"),
        ("exif.tif", COLOURS, {"tiffinfo": {0x0112: 6}}, "turned as the camera noted"),
        ("cmyk.jpg", COLOURS.convert("CMYK"), {}, "in CMYK, converted to RGB"),
        ("cmyk.tif", COLOURS.convert("CMYK"), {}, "in CMYK, converted to RGB"),
        ("grey 16.png", deep("I;16"), {}, "with 16 bits a channel or more, reduced to 8"),
        ("grey 16.tif", deep("I;16"), {}, "with 16 bits a channel or more, reduced to 8"),
        ("float.tif", deep("F"), {}, "with 16 bits a channel or more, reduced to 8"),
        ("rgba.png", half_clear(), {}, "with transparent parts, put on white"),
        ("rgba.webp", half_clear(), {}, "with transparent parts, put on white"),
        ("palette.png", COLOURS.quantize(8), {"transparency": 1}, "with transparent parts, put on white"),
        ("palette.gif", COLOURS.quantize(8), {"transparency": 1}, "with transparent parts, put on white"),
        ("grey alpha.png", half_clear().convert("LA"), {}, "with transparent parts, put on white"),
        ("profile.jpg", COLOURS, {"icc_profile": profile()}, "with a colour profile, converted to sRGB"),
    ],
)
def test_a_conversion_is_told(tmp_path, name, image, options, sentence):
    path = tmp_path / name
    image.save(path, **options)
    dataset = scan_folder(tmp_path)
    assert dataset.notes == (f"1 image {sentence}: {name}.",)
    opened = open_image(Path(dataset.samples[0].path))
    assert (opened.mode, opened.size) == ("RGB", (dataset.samples[0].width_px, dataset.samples[0].height_px))


def test_deep_colour_pngs_are_told(tmp_path):
    """Pillow writes none, so one is made by hand."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + struct.pack(">HHH", 65535, 0, 32768) * 4) * 4
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    dataset = scan_folder(tmp_path)
    assert dataset.notes == ("1 image with 16 bits a channel or more, reduced to 8: deep.png.",)
    assert open_image(tmp_path / "deep.png").getpixel((0, 0))[:2] == (255, 0)


def test_plain_files_are_not_worth_a_word(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    COLOURS.save(tmp_path / "a.jpg", icc_profile=srgb, exif=exif(1))
    COLOURS.convert("L").save(tmp_path / "b.png")
    COLOURS.quantize(8).save(tmp_path / "c.gif")
    COLOURS.save(tmp_path / "d.webp")
    assert scan_folder(tmp_path).notes == ()


def test_the_alpha_channel_as_mask_is_not_called_a_loss(tmp_path):
    half_clear().save(tmp_path / "a.png")
    assert scan_folder(tmp_path, masks="alpha").notes == ("1 mask found, but the training does not use them yet.",)
