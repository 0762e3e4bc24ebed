from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from athanor.trainer.dataset import assign_buckets, open_image, placed_image, save_captions, scan_folder, store_images
from athanor.trainer.dataset.crop import placed_mask, whole_mask
from athanor.trainer.errors import AthanorError
from athanor.trainer.types import Dataset

COLOURS = Image.effect_mandelbrot((96, 40), (-2, -1, 1, 1), 40).convert("RGB")


def save(path, image=COLOURS, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def captioned(dataset, caption="a cat"):
    return dataset.with_samples(tuple(replace(each, caption=caption) for each in dataset.samples))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


@pytest.fixture
def two(tmp_path):
    save(tmp_path / "set" / "1_a" / "x.png")
    save(tmp_path / "set" / "1_b" / "x.png")
    return captioned(scan_folder(tmp_path / "set"))


def test_only_when_asked(tmp_path, two):
    (tmp_path / "set" / "1_a" / "x.txt").write_text("old", encoding="utf-8")
    before = files(tmp_path)
    report = save_captions(two, write=False)
    assert (report.num_captions, report.num_changed, report.num_backups, report.num_pictures) == (2, 2, 1, 0)
    save_captions(two, folder=tmp_path / "new", pictures="whole", write=False)
    assert files(tmp_path) == before and not (tmp_path / "new").exists()
    assert save_captions(two) == report
    assert (tmp_path / "set/1_a/x.txt").read_text(encoding="utf-8") == "a cat" and (tmp_path / "set/1_a/x.txt.bak1").read_text(
        encoding="utf-8"
    ) == "old"
    assert save_captions(two).num_changed == 0


def test_names_that_differ_in_case_keep_their_own_captions_where_they_are_two(tmp_path):
    for name, colour in (("A.png", "red"), ("a.jpg", "blue"), ("B.png", "red"), ("b.png", "blue")):
        save(tmp_path / name, Image.new("RGB", (40, 40), colour))
    tells_case = len(list(tmp_path.iterdir())) == 4
    dataset = scan_folder(tmp_path)
    dataset = dataset.with_samples(tuple(replace(each, caption=Path(each.path).name) for each in dataset.samples))
    report = save_captions(dataset)
    if tells_case:
        assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.txt")} == {
            "A.txt": "A.png",
            "a.txt": "a.jpg",
            "B.txt": "B.png",
            "b.txt": "b.png",
        }
        assert report.notes == ()
    else:
        assert any("not saved" in note for note in report.notes)


def test_a_caption_file_in_capitals_is_the_one_that_is_counted_kept_and_replaced(tmp_path):
    save(tmp_path / "x.png")
    (tmp_path / "x.TXT").write_text("old", encoding="utf-8")
    dataset = captioned(scan_folder(tmp_path))
    expected = save_captions(dataset, write=False)
    assert (expected.num_changed, expected.num_backups) == (1, 1) and save_captions(dataset) == expected
    assert files(tmp_path) == ["x.TXT", "x.TXT.bak1", "x.png"] and (tmp_path / "x.TXT").read_text(encoding="utf-8") == "a cat"
    assert save_captions(dataset).num_changed == 0


def test_names_from_different_folders_stay_apart(tmp_path, two):
    report = save_captions(two, folder=tmp_path / "new 新", pictures="whole")
    assert files(tmp_path / "new 新") == ["1_a/x.png", "1_a/x.txt", "1_b/x.png", "1_b/x.txt"]
    assert (report.num_captions, report.num_pictures) == (2, 2)
    loaded = scan_folder(tmp_path / "new 新")
    assert [(s.caption, s.repeats) for s in loaded.samples] == [("a cat", 1)] * 2
    assert files(tmp_path / "set") == ["1_a/x.png", "1_b/x.png"], "the originals have nothing beside them"


def test_two_images_of_one_name_keep_their_own_captions_in_a_new_folder(tmp_path):
    for name in ("a.png", "a.jpg", "a.webp", "a_png.bmp"):
        save(tmp_path / "set" / name)
    dataset = scan_folder(tmp_path / "set")
    dataset = dataset.with_samples(tuple(replace(s, caption=Path(s.path).name) for s in dataset.samples))
    save_captions(dataset, folder=tmp_path / "new", pictures="whole")
    assert " ".join(files(tmp_path / "new")) == "a.jpg a.txt a_png.png a_png.txt a_png_bmp.bmp a_png_bmp.txt a_webp.txt a_webp.webp"
    loaded = scan_folder(tmp_path / "new")
    contents = {s.caption: Path(s.path).read_bytes() for s in loaded.samples}
    assert contents == {name: (tmp_path / "set" / name).read_bytes() for name in ("a.png", "a.jpg", "a.webp", "a_png.bmp")}
    report = save_captions(dataset)
    assert "2 captions not saved" in report.notes[0] and "a.png" in report.notes[0]
    assert (tmp_path / "set" / "a.txt").read_text(encoding="utf-8") == "a.jpg"


def test_names_that_are_no_text_can_be_saved(tmp_path):
    """On Linux a name may hold any bytes."""
    save(tmp_path / "set" / "a.png")
    strange = tmp_path / "set" / "b\udcff.png"
    try:
        strange.write_bytes((tmp_path / "set" / "a.png").read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("this system takes text only")
    dataset = captioned(scan_folder(tmp_path / "set"))
    for _ in range(2):
        assert save_captions(dataset, folder=tmp_path / "new", pictures="whole").num_pictures == 2
    assert [sample.caption for sample in scan_folder(tmp_path / "new").samples] == ["a cat", "a cat"]


def test_repeats_are_in_the_names_of_folders(tmp_path):
    save(tmp_path / "set" / "6_cat" / "a.png")
    inside = captioned(scan_folder(tmp_path / "set"))
    assert inside.samples[0].repeats == 6
    save_captions(inside, folder=tmp_path / "new", pictures="whole")
    assert files(tmp_path / "new") == ["6_cat/a.png", "6_cat/a.txt"]
    assert scan_folder(tmp_path / "new").samples[0].repeats == 6


def test_pictures_of_the_graph_are_saved_with_their_captions(tmp_path):
    dataset = store_images([COLOURS, COLOURS.rotate(180)], ["one", "二"], tmp_path / "output" / ".pictures", trigger="sks", repeats=3)
    save_captions(dataset, folder=tmp_path / "new", pictures="whole", extension="caption")
    assert files(tmp_path / "new") == ["3_sks/00001.caption", "3_sks/00001.png", "3_sks/00002.caption", "3_sks/00002.png"]
    loaded = scan_folder(tmp_path / "new")
    assert [(s.caption, s.repeats) for s in loaded.samples] == [("one", 3), ("二", 3)]


def test_orientation_and_colours_are_baked_in_and_plain_files_are_copied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "set" / "phone.jpg", exif=exif)
    save(tmp_path / "set" / "plain.jpg", quality=71)
    clear = COLOURS.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    save(tmp_path / "set" / "clear.png", clear)
    save(tmp_path / "set" / "cmyk.jpg", COLOURS.convert("CMYK"))
    dataset = captioned(scan_folder(tmp_path / "set"))
    save_captions(dataset, folder=tmp_path / "new", pictures="whole")
    pictures = [name for name in files(tmp_path / "new") if not name.endswith(".txt")]
    assert pictures == ["clear.png", "cmyk.png", "phone.png", "plain.jpg"]
    assert (tmp_path / "new" / "plain.jpg").read_bytes() == (tmp_path / "set" / "plain.jpg").read_bytes()
    for name, original in (("clear.png", "clear.png"), ("cmyk.png", "cmyk.jpg"), ("phone.png", "phone.jpg")):
        with Image.open(tmp_path / "new" / name) as image:
            assert image.mode == "RGB" and image.getexif().get(0x0112, 1) == 1
            assert image.tobytes() == open_image(tmp_path / "set" / original).tobytes()
    assert scan_folder(tmp_path / "new").notes == ()


def test_pictures_of_kinds_that_other_trainers_do_not_read_become_png(tmp_path):
    for name in ("a.gif", "b.tif", "c.jfif", "d.bmp", "e.WebP"):
        save(tmp_path / "set" / name, COLOURS, **({"format": "JPEG"} if name == "c.jfif" else {}))
    save_captions(captioned(scan_folder(tmp_path / "set")), folder=tmp_path / "new", pictures="whole")
    assert [name for name in files(tmp_path / "new") if not name.endswith(".txt")] == ["a.png", "b.png", "c.png", "d.bmp", "e.WebP"]
    with Image.open(tmp_path / "new" / "b.png") as image:
        assert image.format == "PNG" and image.tobytes() == COLOURS.tobytes()


def test_an_alpha_channel_that_is_the_mask_is_kept(tmp_path):
    clear = COLOURS.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    exif = Image.Exif()
    exif[0x0112] = 3
    save(tmp_path / "set" / "a.png", clear)
    save(tmp_path / "set" / "b.png", clear, exif=exif)
    dataset = captioned(scan_folder(tmp_path / "set", masks="alpha"))
    save_captions(dataset, folder=tmp_path / "new", pictures="whole")
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "set" / "a.png").read_bytes()
    with Image.open(tmp_path / "new" / "b.png") as image:
        assert image.getchannel("A").tobytes() == clear.getchannel("A").rotate(180).tobytes()


@pytest.fixture
def masked(tmp_path):
    """Of two pictures the first has a mask, on its side by its EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "set" / "3_cat" / "a.png")
    save(tmp_path / "set" / "3_cat" / "b.jpg")
    grey = COLOURS.convert("L")
    save(tmp_path / "set masks" / "a.jpg", grey.rotate(90, expand=True), exif=exif, quality=100)
    return captioned(scan_folder(tmp_path / "set", masks=tmp_path / "set masks"))


def test_masks_come_along_with_whole_pictures(tmp_path, masked):
    report = save_captions(masked, folder=tmp_path / "new", pictures="whole", write=False)
    assert report.num_pictures == 2 and "1 mask in" in report.notes[0] and str(tmp_path / "new-masks") in report.notes[0]
    assert not (tmp_path / "new-masks").exists()
    assert save_captions(masked, folder=tmp_path / "new", pictures="whole") == report
    assert files(tmp_path / "new-masks") == ["3_cat/a.png"]
    loaded = scan_folder(tmp_path / "new", masks=tmp_path / "new-masks")
    assert [sample.mask is not None for sample in loaded.samples] == [True, False]
    assert whole_mask(loaded.samples[0]).tobytes() == whole_mask(masked.samples[0]).tobytes()
    save_captions(masked, folder=tmp_path / "new", pictures="whole")
    (tmp_path / "other-masks" / "3_cat").mkdir(parents=True)
    (tmp_path / "other-masks" / "3_cat" / "a.png").write_bytes(b"precious")
    with pytest.raises(AthanorError, match="holds other pictures already"):
        save_captions(masked, folder=tmp_path / "other", pictures="whole")
    assert not (tmp_path / "other").exists()


def test_masks_come_along_as_trained(tmp_path, masked):
    settings = {"resolution_px": 32, "min_px": 32, "max_px": 32, "step_px": 8, "upscale": True}
    placed = assign_buckets(masked, **settings, mirror=True)
    save_captions(placed, folder=tmp_path / "new", pictures="as trained")
    assert files(tmp_path / "new-masks") == ["3_cat/a-mirrored.png", "3_cat/a.png"]
    for sample, name in ((placed.samples[0], "a.png"), (placed.samples[2], "a-mirrored.png")):
        with Image.open(tmp_path / "new-masks" / "3_cat" / name) as image:
            assert (image.mode, image.tobytes()) == ("L", placed_mask(sample).tobytes())
    clear = COLOURS.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    save(tmp_path / "alpha" / "a.png", clear)
    placed = assign_buckets(scan_folder(tmp_path / "alpha", masks="alpha"), **settings)
    save_captions(placed, folder=tmp_path / "flat", pictures="as trained")
    assert files(tmp_path / "flat") == ["a.png"] and files(tmp_path / "flat-masks") == ["a.png"]


def test_as_trained_the_pictures_are_what_the_training_sees(tmp_path):
    save(tmp_path / "set" / "a.jpg")
    dataset = captioned(scan_folder(tmp_path / "set"))
    settings = {"resolution_px": 32, "min_px": 32, "max_px": 32, "step_px": 8, "upscale": True}
    dataset = assign_buckets(dataset, **settings, split_over=0.5, mirror=True)
    save_captions(dataset, folder=tmp_path / "new", pictures="as trained")
    pictures = [name for name in files(tmp_path / "new") if name.endswith(".png")]
    assert pictures == [f"a-{i}{more}.png" for i in (1, 2, 3) for more in ("-mirrored", "")]
    assert len(files(tmp_path / "new")) == 2 * len(pictures)
    for sample, name in zip(dataset.samples, ["a-1.png", "a-2.png", "a-3.png"] + [f"a-{i}-mirrored.png" for i in (1, 2, 3)], strict=True):
        with Image.open(tmp_path / "new" / name) as image:
            assert image.tobytes() == placed_image(sample).tobytes()


def test_other_pictures_and_originals_are_never_replaced(tmp_path, two):
    precious = save(tmp_path / "new" / "1_b" / "x.png", COLOURS.rotate(180))
    content = precious.read_bytes()
    with pytest.raises(AthanorError, match=r"holds other pictures already: 1_b/x\.png"):
        save_captions(two, folder=tmp_path / "new", pictures="whole")
    assert precious.read_bytes() == content and files(tmp_path / "new") == ["1_b/x.png"]
    with pytest.raises(AthanorError, match="not saved over the originals"):
        save_captions(two, folder=tmp_path / "set", pictures="whole")
    with pytest.raises(AthanorError, match="folder of their own"):
        save_captions(two, pictures="whole")


def test_a_second_time_only_what_changed_is_written(tmp_path, two):
    save_captions(two, folder=tmp_path / "new", pictures="whole")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("x.*")}
    report = save_captions(two, folder=tmp_path / "new", pictures="whole")
    assert report.num_changed == 0 and {path: path.stat().st_mtime_ns for path in stamps} == stamps
    for caption in ("a dog", "a bird"):
        save_captions(captioned(two, caption), folder=tmp_path / "new", pictures="whole")
    assert [path.name for path in sorted((tmp_path / "new" / "1_a").iterdir())] == ["x.png", "x.txt", "x.txt.bak1", "x.txt.bak2"]
    save_captions(captioned(two, "no more"), folder=tmp_path / "new", pictures="whole", backup=False)
    assert len(list((tmp_path / "new" / "1_a").glob("*.bak*"))) == 2


def test_images_without_caption_get_no_file(tmp_path):
    save(tmp_path / "set" / "a.png")
    report = save_captions(scan_folder(tmp_path / "set"), folder=tmp_path / "new", pictures="whole")
    assert files(tmp_path / "new") == ["a.png"] and report.num_without == 1
    assert save_captions(Dataset(()), folder=tmp_path / "other").num_captions == 0


def test_a_full_disk_leaves_the_old_caption_whole(tmp_path, two, monkeypatch):
    file = tmp_path / "set" / "1_a" / "x.txt"
    file.write_text("old", encoding="utf-8")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(AthanorError, match="No space left"):
        save_captions(two)
    assert file.read_text(encoding="utf-8") == "old" and files(tmp_path / "set") == ["1_a/x.png", "1_a/x.txt", "1_b/x.png"]


def test_whoever_cancels_while_pictures_are_saved_can_save_again_to_the_same_folder(tmp_path, two):
    def cancel(done, total):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_captions(two, folder=tmp_path / "new", pictures="whole", on_progress=cancel)
    assert files(tmp_path / "new") == ["1_a/x.png"]
    assert save_captions(two, folder=tmp_path / "new", pictures="whole").num_pictures == 2
    assert files(tmp_path / "new") == ["1_a/x.png", "1_a/x.txt", "1_b/x.png", "1_b/x.txt"]
