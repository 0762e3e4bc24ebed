from pathlib import Path

import pytest
from PIL import Image

from athanor.trainer.dataset import scan_folder


def save(path, mode="RGB", size=(24, 16), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 1).save(path, **options)
    return path


def test_masks_of_a_folder_are_found_by_name_and_size(tmp_path):
    for name in ("6_cat/a.png", "b.png", "c.png", "d.jpg", "e.png", "f.png"):
        save(tmp_path / name)
    masks = tmp_path / "masks"
    expected = {
        "a.png": save(masks / "6_cat" / "a.png", "L"),
        "b.png": save(masks / "b_mask.webp"),
        "d.jpg": save(masks / "d-masklabel.png", "1"),
    }
    save(masks / "c.png", size=(16, 24))
    (masks / "e.png").touch()
    dataset = scan_folder(tmp_path, recursive=True, masks=masks)
    found = {Path(s.path).name: s.mask for s in dataset.samples}
    assert found == {name: str(expected[name]) if name in expected else None for name in ("a.png", "b.png", "c.png", "d.jpg", "e.png", "f.png")}
    notes = "\n".join(dataset.notes)
    assert "c.png has a mask of another size (16 x 24 px, the image 24 x 16 px)" in notes
    assert "e.png has a mask that is empty" in notes
    assert "f.png has no mask" in notes
    assert "3 masks found: the loss counts where they are white" in notes


def test_masks_that_lie_beside_their_images_are_no_images(tmp_path):
    """As OneTrainer has them; the folder of the images is chosen for the masks as well."""
    for name in ("a.png", "a-masklabel.png", "6_cat/b.jpg", "6_cat/b_mask.png", "c.png", "girl_mask.png"):
        save(tmp_path / name)
    dataset = scan_folder(tmp_path, masks=tmp_path / "6_cat" / "..")
    assert {Path(s.path).name: s.mask and Path(s.mask).name for s in dataset.samples} == {
        "a.png": "a-masklabel.png",
        "b.jpg": "b_mask.png",
        "c.png": None,
        "girl_mask.png": None,
    }
    (note,) = scan_folder(tmp_path).notes
    assert "2 pictures called like masks of others" in note and "6_cat/b_mask.png" in note and "Choose this folder for masks" in note


def test_a_changed_mask_changes_the_fingerprint(tmp_path):
    save(tmp_path / "set" / "a.png")
    save(tmp_path / "masks" / "a.png", "L")
    before = scan_folder(tmp_path / "set", masks=tmp_path / "masks").samples[0].fingerprint
    assert before.startswith(scan_folder(tmp_path / "set").samples[0].fingerprint + "+")
    save(tmp_path / "masks" / "a.png", "1")
    assert scan_folder(tmp_path / "set", masks=tmp_path / "masks").samples[0].fingerprint != before


@pytest.mark.parametrize(
    ("name", "mode", "options", "mask"),
    [
        ("rgba.png", "RGBA", {}, "alpha"),
        ("grey.png", "LA", {}, "alpha"),
        ("palette.png", "P", {"transparency": 1}, "alpha"),
        ("colour.png", "RGB", {"transparency": (1, 0, 0)}, "alpha"),
        ("clear.gif", "P", {"transparency": 1}, "alpha"),
        ("rgba.webp", "RGBA", {"lossless": True}, "alpha"),
        ("plain.png", "RGB", {}, None),
        ("plain.jpg", "RGB", {}, None),
        ("plain.gif", "P", {}, None),
    ],
)
def test_the_alpha_channel_as_mask(tmp_path, name, mode, options, mask):
    path = tmp_path / name
    picture = Image.new(mode, (24, 16), 1)
    if mode == "RGBA":
        picture.putpixel((1, 1), (5, 5, 5, 77))
    picture.save(path, **options)
    dataset = scan_folder(tmp_path, masks="alpha")
    assert dataset.samples[0].mask == mask
    assert any("has no alpha channel" in note for note in dataset.notes) == (mask is None)
