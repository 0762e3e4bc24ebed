import os
import struct
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image, features

from athanor.trainer.dataset import open_image, scan_folder
from athanor.trainer.errors import AthanorError

NOISE = Image.effect_noise((96, 64), 80).convert("RGB")


def save(path, image=NOISE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def names(dataset):
    return [Path(sample.path).name for sample in dataset.samples]


def note_on(dataset, name):
    found = [note for note in dataset.notes if name in note]
    assert len(found) == 1, dataset.notes
    return found[0]


def test_images_come_in_natural_order_with_captions(tmp_path):
    for name in ("img10.png", "Img2.PNG", "img1.jpg", "图 3.webp", "img02.bmp"):
        save(tmp_path / name)
    save(tmp_path / "._img1.jpg")
    (tmp_path / "img1.txt").write_text("one, two", encoding="utf-8")
    (tmp_path / "Img2.caption").write_text("", encoding="utf-8")
    dataset = scan_folder(tmp_path, trigger=" sks ")
    assert names(dataset) == ["img1.jpg", "img02.bmp", "Img2.PNG", "img10.png", "图 3.webp"]
    assert [sample.caption for sample in dataset.samples] == ["one, two", None, "", None, None]
    first = dataset.samples[0]
    stat = Path(first.path).stat()
    assert (first.width_px, first.height_px, first.repeats, first.concept, first.role) == (96, 64, 1, tmp_path.name, "train")
    assert first.fingerprint == f"{stat.st_size}-{stat.st_mtime_ns}"
    assert dataset.trigger == "sks" and dataset.notes == ()


def test_numbered_subfolders_are_kohyas(tmp_path):
    save(tmp_path / "direct.png")
    save(tmp_path / "10_big cat_b" / "b.png")
    save(tmp_path / "2_dog" / "a.png")
    save(tmp_path / "2_dog" / "inner" / "deep.png")
    save(tmp_path / "7" / "bare.png")
    save(tmp_path / "0_none" / "n.png")
    save(tmp_path / "plain" / "p.png")
    save(tmp_path / ".hidden" / "h.png")
    dataset = scan_folder(tmp_path)
    assert [(Path(s.path).name, s.repeats, s.concept) for s in dataset.samples] == [
        ("a.png", 2, "dog"),
        ("bare.png", 7, ""),
        ("b.png", 10, "big cat_b"),
        ("direct.png", 1, tmp_path.name),
    ]
    assert "0 repeats" in note_on(dataset, "0_none")
    assert "turn on recursive" in note_on(dataset, "subfolder plain")
    assert "turn on recursive" in note_on(dataset, "2_dog/inner")
    assert len(dataset.notes) == 3

    dataset = scan_folder(tmp_path, recursive=True)
    assert [(Path(s.path).name, s.repeats, s.concept) for s in dataset.samples][1:] == [
        ("deep.png", 2, "dog"),
        ("bare.png", 7, ""),
        ("b.png", 10, "big cat_b"),
        ("direct.png", 1, tmp_path.name),
        ("p.png", 1, "plain"),
    ]


def test_choosing_a_numbered_folder_itself_is_explained(tmp_path):
    save(tmp_path / "6_cat" / "a.png")
    dataset = scan_folder(tmp_path / "6_cat")
    assert (dataset.samples[0].repeats, dataset.samples[0].concept) == (1, "cat")
    assert "choose the folder around it" in note_on(dataset, "6_cat")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_that_after_orientation(tmp_path, kind, orientation):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif}
    path = save(tmp_path / f"a.{kind.lower()}", **options)
    sample = scan_folder(tmp_path).samples[0]
    assert (sample.width_px, sample.height_px) == ((64, 96) if orientation > 4 else (96, 64))
    assert open_image(path).size == (sample.width_px, sample.height_px)


def test_png_with_exif_behind_the_pixels_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", exif=exif)
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    chunk = data[at : at + 12 + struct.unpack(">I", data[at : at + 4])[0]]
    rest = data.replace(chunk, b"")
    path.write_bytes(rest[:-12] + chunk + rest[-12:])
    sample = scan_folder(tmp_path).samples[0]
    assert (sample.width_px, sample.height_px) == (64, 96) == open_image(path).size


@pytest.mark.parametrize(
    ("ending", "options"),
    [("jpg", {}), ("jpg", {"progressive": True}), ("png", {}), ("webp", {}), ("gif", {}), ("bmp", {}), ("tif", {}), ("avif", {})],
)
@pytest.mark.parametrize("share", [0.1, 0.6, 0.97])
def test_a_cut_file_is_named_and_left_out(tmp_path, ending, options, share):
    if ending == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    save(tmp_path / "good.png")
    path = save(tmp_path / f"cut.{ending}", **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    dataset = scan_folder(tmp_path)
    assert names(dataset) == ["good.png"]
    assert "left out" in note_on(dataset, f"cut.{ending}")


def test_a_cut_jpeg_is_found_even_if_a_node_pack_told_pillow_to_accept_it(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    save(tmp_path / "good.jpg")
    path = save(tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:-200] + b"\0" * 200)
    dataset = scan_folder(tmp_path)
    assert names(dataset) == ["good.jpg"]
    assert "its end is missing" in note_on(dataset, "cut.jpg")


def test_a_jpeg_with_more_behind_it_is_whole(tmp_path):
    for name, options in (("phone.jpg", {}), ("progressive.jpg", {"progressive": True})):
        path = save(tmp_path / name, **options)
        path.write_bytes(path.read_bytes() + b"motion photo" * 1000)
    assert names(scan_folder(tmp_path)) == ["phone.jpg", "progressive.jpg"]


def test_a_flipped_bit_in_a_png_is_found(tmp_path):
    save(tmp_path / "good.png")
    path = save(tmp_path / "bad.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert "broken" in note_on(scan_folder(tmp_path), "bad.png")


def test_empty_animated_paged_and_fake_files_are_named_and_left_out(tmp_path):
    other = NOISE.rotate(180)
    save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    save(tmp_path / "03.gif", save_all=True, append_images=[other, NOISE])
    save(tmp_path / "move.webp", save_all=True, append_images=[other])
    save(tmp_path / "move.png", save_all=True, append_images=[other])
    save(tmp_path / "pages.tif", save_all=True, append_images=[other])
    (tmp_path / "page.jpg").write_text("<html>404</html>", encoding="utf-8")
    dataset = scan_folder(tmp_path)
    assert names(dataset) == ["good.png"]
    assert "is empty (0 bytes)" in note_on(dataset, "empty.png")
    assert "03.gif is animated (3 frames) and was left out;" in note_on(dataset, "03.gif")
    assert "animated (2 frames)" in note_on(dataset, "move.webp")
    assert "animated (2 frames)" in note_on(dataset, "move.png")
    assert "2 pages" in note_on(dataset, "pages.tif")
    assert "not an image" in note_on(dataset, "page.jpg")


def test_a_camera_jpeg_with_two_views_is_one_image(tmp_path):
    save(tmp_path / "stereo.jpg", format="MPO", save_all=True, append_images=[NOISE.rotate(180)])
    dataset = scan_folder(tmp_path)
    assert names(dataset) == ["stereo.jpg"] and dataset.notes == ()


def test_a_decompression_bomb_is_left_out_even_without_pillows_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", None)
    save(tmp_path / "good.png")
    data = bytearray(save(tmp_path / "bomb.png", Image.new("1", (8, 8))).read_bytes())
    data[16:24] = struct.pack(">II", 20_000, 10_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "bomb.png").write_bytes(data)
    dataset = scan_folder(tmp_path)
    assert names(dataset) == ["good.png"]
    assert "million pixels" in note_on(dataset, "bomb.png")
    with pytest.raises(AthanorError, match=r"bomb\.png"):
        open_image(tmp_path / "bomb.png")


def test_a_wrong_ending_is_told_and_used(tmp_path):
    save(tmp_path / "a.jpg", format="WEBP")
    dataset = scan_folder(tmp_path)
    assert names(dataset) == ["a.jpg"]
    assert "in truth a WEBP file" in note_on(dataset, "a.jpg")


def test_two_images_of_one_name_are_told(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        save(tmp_path / name)
    dataset = scan_folder(tmp_path)
    assert len(dataset.samples) == 3
    assert "share one name" in note_on(dataset, "a.jpg and a.png")


def test_links_out_of_the_folder_are_left_out(tmp_path):
    root, outside = tmp_path / "set", tmp_path / "outside"
    save(outside / "secret.png")
    inner = save(root / "inner.png")
    try:
        (root / "link.png").symlink_to(outside / "secret.png")
        (root / "inside.png").symlink_to(inner)
        (root / "1_link").symlink_to(outside, target_is_directory=True)
        (root / "1_loop").symlink_to(root, target_is_directory=True)
        (root / "gone.png").symlink_to(root / "nothing.png")
    except OSError:
        pytest.skip("this system makes no links")
    dataset = scan_folder(root, recursive=True)
    assert names(dataset) == ["inner.png", "inside.png"]
    assert all("left out" in note_on(dataset, name) for name in ("1_link", "gone.png"))
    assert any(note.startswith("link.png is a link") for note in dataset.notes)


def test_a_caption_that_is_a_link_out_of_the_folder_is_not_read(tmp_path):
    save(tmp_path / "set" / "a.png")
    save(tmp_path / "set" / "b.png")
    (tmp_path / "secret").write_text("password", encoding="utf-8")
    (tmp_path / "set" / "shared.text").write_text("both", encoding="utf-8")
    try:
        (tmp_path / "set" / "a.txt").symlink_to(tmp_path / "secret")
        (tmp_path / "set" / "b.txt").symlink_to(tmp_path / "set" / "shared.text")
    except OSError:
        pytest.skip("this system makes no links")
    dataset = scan_folder(tmp_path / "set")
    assert [s.caption for s in dataset.samples] == [None, "both"]
    assert "leads out of the folder" in note_on(dataset, "a.txt")


def test_links_in_circles_and_pipes_are_told_and_stop_nothing(tmp_path):
    save(tmp_path / "a.png")
    try:
        (tmp_path / "circle").symlink_to("circle")
        (tmp_path / "b.png").symlink_to("b.png")
        (tmp_path / "sub").symlink_to(tmp_path)
    except OSError:
        pytest.skip("this system makes no links")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        os.mkfifo(tmp_path / "a.txt")
    for recursive in (False, True):
        dataset = scan_folder(tmp_path, recursive=recursive)
        assert [(Path(sample.path).name, sample.caption) for sample in dataset.samples] == [("a.png", None)]
        assert "leads out of the folder or nowhere" in note_on(dataset, "circle") and "nowhere" in note_on(dataset, "b.png")
        assert not hasattr(os, "mkfifo") or "is no file but a pipe" in note_on(dataset, "pipe.png")


def test_the_held_out_share_follows_the_relative_name(tmp_path):
    for i in range(12):
        save(tmp_path / "1_a" / f"{i}.png")
    held = {s.path for s in scan_folder(tmp_path, validation_percent=25).with_role("validation")}
    assert 1 <= len(held) < 12
    save(tmp_path / "1_a" / "later.png")
    again = {s.path for s in scan_folder(tmp_path, validation_percent=25).with_role("validation")}
    assert again - {str(tmp_path / "1_a" / "later.png")} == held


def test_many_notes_are_capped(tmp_path):
    save(tmp_path / "good.png")
    for i in range(30):
        (tmp_path / f"e{i}.png").touch()
    dataset = scan_folder(tmp_path)
    assert len(dataset.notes) == 21 and "10 more" in dataset.notes[-1]
    assert all(f"e{i}.png" in " ".join(dataset.notes) for i in range(30)), "each of them is named all the same"


@pytest.mark.parametrize(
    ("name", "repeats", "tokens"),
    [
        ("6_cat", 6, "cat"),
        ("06_a cat_1", 6, "a cat_1"),
        ("+5_x", 5, "x"),
        ("6 _x", 6, "x"),
        (" 3_x", 3, "x"),
        ("3__y", 3, "_y"),
        ("6", 6, ""),
        ("6_", 6, ""),
    ],
)
def test_numbers_of_folders_are_read_as_sd_scripts_reads_them(tmp_path, name, repeats, tokens):
    save(tmp_path / name / "a.png")
    (sample,) = scan_folder(tmp_path).samples
    assert (sample.repeats, sample.class_tokens) == (repeats, tokens)


def test_captions_that_keep_the_ending_of_their_image_are_told(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.png.txt").write_text("cat", encoding="utf-8")
    dataset = scan_folder(tmp_path)
    assert dataset.samples[0].caption is None and "1 caption file not read" in note_on(dataset, "a.png.txt")


def test_a_date_before_a_folders_name_is_not_taken_for_repeats(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "20240101_trip" / "b.png")
    assert "more than 10,000, so it is a name and not repeats); turn on recursive" in note_on(scan_folder(tmp_path), "20240101_trip")
    assert [(s.repeats, s.class_tokens) for s in scan_folder(tmp_path, recursive=True).samples] == [(1, ""), (1, "")]


def test_links_and_subfolders_by_the_hundred_are_told_shortly(tmp_path):
    save(tmp_path / "set" / "a.png")
    for i in range(100):
        (tmp_path / "set" / f"folder {i}").mkdir()
        try:
            (tmp_path / "set" / f"link {i}.png").symlink_to(tmp_path / "elsewhere.png")
        except OSError:
            pytest.skip("this system makes no links")
    dataset = scan_folder(tmp_path / "set")
    assert len(dataset.notes) == 42
    assert all(f"link {i}.png" in " ".join(dataset.notes) and f"folder {i}" in " ".join(dataset.notes) for i in range(100))


def test_folders_without_images_say_what_is_there(tmp_path):
    with pytest.raises(AthanorError, match="It is empty"):
        scan_folder(tmp_path)
    (tmp_path / "a.txt").touch()
    (tmp_path / "a.heic").touch()
    (tmp_path / "b.heic").touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(AthanorError) as error:
        scan_folder(tmp_path)
    message = str(error.value)
    assert (
        str(tmp_path) in message
        and "2 .heic files" in message
        and "1 .txt file" in message
        and "Save those" in message
        and "subfolder sub" in message
    )


def test_folders_with_unusable_images_only_say_why(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(AthanorError, match=r"all 1 were left out.*a\.png is empty"):
        scan_folder(tmp_path)


def test_missing_folders_and_files_are_refused(tmp_path):
    with pytest.raises(AthanorError, match="does not exist"):
        scan_folder(tmp_path / "nowhere")
    with pytest.raises(AthanorError, match="is a file"):
        scan_folder(save(tmp_path / "a.png"))
    with pytest.raises(AthanorError, match="from 0 to 100"):
        scan_folder(tmp_path, validation_percent=120)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_an_unreadable_file_is_named(tmp_path):
    save(tmp_path / "good.png")
    save(tmp_path / "locked.png").chmod(0)
    assert "cannot be opened" in note_on(scan_folder(tmp_path), "locked.png")


def test_folders_of_network_drives_and_archives_are_no_pictures(tmp_path):
    for name in ("a.png", "@eaDir/a.png/thumb.png", "__MACOSX/a.png", "1_x/@eaDir/b.png", "1_x/c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    dataset = scan_folder(tmp_path, recursive=True)
    assert [Path(sample.path).name for sample in dataset.samples] == ["c.png", "a.png"] and dataset.notes == ()


def test_a_slow_disk_is_read_by_threads_with_the_same_result(tmp_path, monkeypatch):
    for i in range(150):
        Image.new("RGB", (64 + i, 64)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"caption {i}", encoding="utf-8")
    started = []
    monkeypatch.setattr("threading.Thread.start", lambda thread, start=threading.Thread.start: (started.append(thread.name), start(thread))[1])
    monkeypatch.setattr("athanor.trainer.dataset.samples._SLOW_SEC", 1e9)
    plain = scan_folder(tmp_path)
    assert not started
    monkeypatch.setattr("athanor.trainer.dataset.samples._SLOW_SEC", 0.0)
    assert scan_folder(tmp_path) == plain and len(plain.samples) == 150
    assert started and all(name.startswith("athanor-scan") for name in started)
