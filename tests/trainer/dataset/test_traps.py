"""Each kind of odd file is used as people see it, and named in the report."""

import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from athanor.trainer.dataset import assign_buckets, open_image, placed_image, scan_folder
from athanor.trainer.errors import AthanorError

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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
@pytest.mark.parametrize("turned", [5, 6, 7, 8])
def test_a_tiff_on_its_side_is_read_whole_however_it_is_packed(tmp_path, mode, turned):
    """Pillow maps uncompressed ones into memory, and takes the turned size for that of the rows there."""
    image = COLOURS.convert(mode)
    for packing in ("raw", "tiff_lzw"):
        image.save(tmp_path / f"{packing}.tif", compression=packing, exif=exif(turned))
    raw, packed = (open_image(tmp_path / f"{packing}.tif") for packing in ("raw", "tiff_lzw"))
    assert raw.size == (32, 48) and raw.tobytes() == packed.tobytes()
    assert {(sample.width_px, sample.height_px) for sample in scan_folder(tmp_path).samples} == {(32, 48)}


@pytest.mark.parametrize("kind", ["avif", "bmp", "webp", "jpg", "png"])
def test_no_pixel_is_decoded_to_find_cut_files(tmp_path, monkeypatch, kind):
    path = tmp_path / f"a.{kind}"
    COLOURS.save(path)
    content = path.read_bytes()
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    assert [(sample.width_px, sample.height_px) for sample in scan_folder(tmp_path).samples] == [(48, 32)]
    for end in (len(content) - 20, len(content) * 2 // 3, len(content) // 2):
        path.write_bytes(content[:end])
        with pytest.raises(AthanorError, match=rf"a\.{kind} is (cut off|broken|not an image)"):
            scan_folder(tmp_path)


def test_the_alpha_channel_as_mask_is_not_called_a_loss(tmp_path):
    half_clear().save(tmp_path / "a.png")
    assert scan_folder(tmp_path, masks="alpha").notes == ("1 mask found: the loss counts where they are white.",)


def test_pictures_of_kinds_that_are_not_read_are_named(tmp_path):
    COLOURS.save(tmp_path / "a.png")
    for name in ("IMG_1.HEIC", "b.jxl", "c.heif", "clip.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "notes.md").write_text("not a picture", encoding="utf-8")
    (tmp_path / "1_more").mkdir()
    (tmp_path / "1_more" / "d.avif.jxl").write_bytes(b"x")
    dataset = scan_folder(tmp_path)
    (note,) = dataset.notes
    assert note.startswith("5 pictures of a kind that is not read (")
    assert all(name in note for name in ("IMG_1.HEIC", "b.jxl", "c.heif", "clip.mp4", "1_more/d.avif.jxl", "save as PNG or JPEG"))
    assert [Path(sample.path).name for sample in dataset.samples] == ["a.png"]


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is in truth a HEIC picture, which is not read"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is in truth a JPEG XL picture"),
        (b"\xff\x0a\xfa\x1f", "is in truth a JPEG XL picture"),
        (b"8BPS\0\1", "is in truth a Photoshop picture"),
        (b"\0\0\0\x20ftypisom\0\0", "is in truth a video"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "is in truth an SVG drawing"),
        (b"\n<!DOCTYPE html><html>404 Not Found</html>", "is not an image but a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is not an image but a pointer of git-lfs"),
        (b"I am a text", "is not an image that can be read, or it is broken"),
    ],
)
def test_what_only_calls_itself_a_jpeg_is_called_what_it_is(tmp_path, start, told):
    COLOURS.save(tmp_path / "a.png")
    (tmp_path / "IMG 1.jpg").write_bytes(start + bytes(300))
    (note,) = scan_folder(tmp_path).notes
    assert note.startswith(f"IMG 1.jpg {told}") and "and was left out; " in note


def test_a_jfif_as_browsers_save_it_is_a_jpeg(tmp_path):
    COLOURS.save(tmp_path / "saved.jfif", format="JPEG")
    dataset = scan_folder(tmp_path)
    assert len(dataset.samples) == 1 and dataset.notes == ()


def test_a_picture_of_one_pixel_is_read_and_pictures_without_area_are_left_out(tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    Image.new("RGB", (1, 900), "red").save(tmp_path / "line.png")
    (tmp_path / "zero.png").touch()
    data = bytearray((tmp_path / "dot.png").read_bytes())
    data[16:20] = bytes(4)
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "none.png").write_bytes(data)
    dataset = scan_folder(tmp_path)
    assert [(Path(s.path).name, s.width_px, s.height_px) for s in dataset.samples] == [("dot.png", 1, 1), ("line.png", 1, 900)]
    for name in ("zero.png", "none.png"):
        assert any(note.startswith(name) and "left out" in note for note in dataset.notes), dataset.notes
    placed = assign_buckets(dataset, resolution_px=64, min_px=32, max_px=128, step_px=16, upscale=True)
    assert [placed_image(sample).size for sample in placed.samples] == [(64, 64), (32, 128)]


@pytest.mark.parametrize(
    "stem",
    ["#1 cat", "100% real", "🐱🐶", "ends with dots...", "a.b.c", "-rf", "[x] (y) {z}", "it's", "é", "e\u0301", "长" * 80, "n" * 240, " blank "],
)
def test_any_file_name_finds_its_caption(tmp_path, stem):
    image = tmp_path / f"{stem}.png"
    try:
        COLOURS.save(image)
        (tmp_path / f"{stem}.TXT").write_text("found", encoding="utf-8")
    except OSError:
        pytest.skip("this system does not take the name")
    dataset = scan_folder(tmp_path)
    assert [(Path(s.path), s.caption) for s in dataset.samples] == [(image, "found")] and dataset.notes == ()
    assert open_image(Path(dataset.samples[0].path)).size == COLOURS.size


def test_captions_in_old_encodings_are_told_with_the_file(tmp_path):
    captions = {"a": ("\ufeff一, two", "utf-8"), "b": ("红色头发", "gbk"), "c": ("赤い髪", "cp932"), "d": ("café", "cp1252")}
    for name, (text, encoding) in captions.items():
        COLOURS.save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(text.encode(encoding))
    dataset = scan_folder(tmp_path)
    assert [sample.caption for sample in dataset.samples] == ["一, two", "红色头发", "赤い髪", "café"]
    told = [note for note in dataset.notes if "is not UTF-8" in note]
    assert len(told) == 3 and all(f"{name}.txt" in " ".join(told) for name in "bcd")
    assert "a.txt begins with a byte-order mark, which is no part of the caption." in dataset.notes


def test_every_converted_file_is_named(tmp_path):
    for i in range(2, 9):
        COLOURS.save(tmp_path / f"turned {i}.jpg", exif=exif(i))
    (note,) = scan_folder(tmp_path).notes
    assert note.startswith("7 images turned") and all(f"turned {i}.jpg" in note for i in range(2, 9))
