"""The quick way and Pillow's say the same of a file."""

import struct

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from athanor.trainer.dataset import header as slow
from athanor.trainer.dataset.header import UnusableImageError, read_header
from athanor.trainer.dataset.quick_header import quick_header

COLOURS = Image.effect_mandelbrot((48, 32), (-2, -1, 1, 1), 40).convert("RGB")


def exif(orientation):
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    tags[0x0112] = orientation
    return tags


def text(key, value, compressed=False):
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value, zip=compressed)
    return info


def profile(kind):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes()


FILES = [
    *((f"exif {i}.jpg", COLOURS, {"exif": exif(i)}, True) for i in range(1, 9)),
    ("plain.jpg", COLOURS, {}, True),
    ("progressive.jpg", COLOURS, {"progressive": True, "comment": b"hello"}, True),
    ("grey.jpg", COLOURS.convert("L"), {}, True),
    ("cmyk.jpg", COLOURS.convert("CMYK"), {}, True),
    ("lab.jpg", COLOURS, {"icc_profile": profile("LAB")}, True),
    ("srgb.jpg", COLOURS, {"icc_profile": profile("sRGB")}, True),
    ("restart.jpg", COLOURS, {"restart_marker_rows": 1}, True),
    ("views.jpg", COLOURS, {"format": "MPO", "save_all": True, "append_images": [COLOURS]}, False),
    ("plain.png", COLOURS, {}, True),
    ("comfyui.png", COLOURS, {"pnginfo": text("prompt", '{"3": {}}' * 9000)}, True),
    ("zipped.png", COLOURS, {"pnginfo": text("prompt", "x" * 900, True)}, False),
    ("exif.png", COLOURS, {"exif": exif(6)}, False),
    ("profile.png", COLOURS, {"icc_profile": profile("LAB")}, False),
    ("moves.png", COLOURS, {"save_all": True, "append_images": [COLOURS.rotate(180)]}, False),
    *((f"{mode}.png", COLOURS.convert(mode), {}, True) for mode in ("L", "1", "P", "RGBA", "LA")),
    ("palette.png", COLOURS.quantize(8), {"transparency": 1}, True),
    ("key.png", COLOURS, {"transparency": (1, 2, 3)}, True),
    ("16.png", Image.new("I;16", (5, 4), 9000), {}, True),
]


@pytest.mark.parametrize(("name", "image", "options", "is_quick"), FILES, ids=[file[0] for file in FILES])
@pytest.mark.parametrize("check", [True, False], ids=["checked", "not checked"])
def test_it_says_what_pillow_says(tmp_path, monkeypatch, name, image, options, is_quick, check):
    path = tmp_path / name
    image.save(path, **options)
    quick = _quick(path, check)
    if is_quick and (check or path.stat().st_size < 1 << 16):
        assert quick is not None
    elif not is_quick:
        assert quick is None
    monkeypatch.setattr(slow, "quick_header", lambda *_, **__: None)
    try:
        told = read_header(path, check_png_content=check)
    except UnusableImageError:
        assert quick is None
        return
    assert quick is None or quick == told


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_no_cut_or_changed_file_passes(tmp_path, name):
    """Every cut, and a flipped bit in each byte of a PNG: either Pillow is asked, or the sizes are the true ones."""
    path = tmp_path / name
    Image.effect_noise((9, 7), 50).save(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert _quick(path, True) is None
    if name == "a.png":
        for i in range(len(data)):
            changed = bytearray(data)
            changed[i] ^= 1
            path.write_bytes(changed)
            assert _quick(path, True) is None


def test_an_orientation_that_lies_is_left_to_pillow(tmp_path):
    path = tmp_path / "a.jpg"
    COLOURS.save(path, exif=exif(6))
    data = path.read_bytes()
    entry = data.index(struct.pack("<HHI", 0x0112, 3, 1) if b"II*\0" in data else struct.pack(">HHI", 0x0112, 3, 1))
    path.write_bytes(data[: entry + 8] + b"\x09\x09" + data[entry + 10 :])
    assert _quick(path, True) is None
    assert (read_header(path).width_px, read_header(path).height_px) == (48, 32)


def _quick(path, check):
    stat = path.stat()
    with path.open("rb") as file:
        return quick_header(file, stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}", check_png_content=check)
