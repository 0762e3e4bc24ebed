"""The layout is that of the file that there is; the numbers are from AUTOMATIC1111/TorchDeepDanbooru, with its widths divided by 16."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from athanor.tagger.categories import GENERAL, RATING
from athanor.tagger.deepdanbooru import expected_shapes, forward
from athanor.tagger.errors import TaggerError
from athanor.tagger.known import KNOWN_TAGGERS, known_tagger
from athanor.tagger.models import find_taggers, load_labels, missing_tagger, own_thresholds, pick_tagger, tagger_files, tagger_format
from athanor.tagger.preprocess import prepare
from athanor.tagger.scores import tag_images
from athanor.tagger.session import Tagger
from athanor.tagger.thresholds import Thresholds

WIDTH = 4
TAGS = ["1girl", "long_hair", "hatsune_miku", "^_^", "rating:safe", "rating:questionable", "rating:explicit"]
NAME = "model-resnet_custom_v3.pt"


def weights(num_tags: int) -> dict[str, torch.Tensor]:
    """Drawn so that a signal keeps its size from layer to layer."""
    rng = np.random.default_rng(7)
    made = {}
    for name, shape in expected_shapes(num_tags, WIDTH).items():
        spread = 0.1 if len(shape) == 1 else 1 / np.sqrt(np.prod(shape[1:]))
        made[name] = torch.from_numpy(rng.normal(0, spread, shape).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("模型") / "DeepDanbooru" / NAME
    file.parent.mkdir()
    torch.save({**weights(len(TAGS)), "tags": TAGS}, file)
    return file


def test_names_and_shapes_are_those_of_the_file_that_there_is() -> None:
    shapes = expected_shapes(9176)
    assert len(shapes) == 2 * 178 + 1 and sum(int(np.prod(shape)) for shape in shapes.values()) == 160_956_544
    assert shapes["n_Conv_0.weight"] == (64, 3, 7, 7) and shapes["n_Conv_178.weight"] == (9176, 4096, 1, 1)
    assert "n_Conv_178.bias" not in shapes
    # Input and output channels and side, as the reference declares them, where a stage begins and ends.
    declared = {
        1: (64, 256, 1), 2: (64, 64, 1), 3: (64, 64, 3), 4: (64, 256, 1), 5: (256, 64, 1), 10: (64, 256, 1),
        11: (256, 512, 1), 12: (256, 128, 1), 13: (128, 128, 3), 14: (128, 512, 1), 35: (128, 512, 1),
        36: (512, 1024, 1), 37: (512, 256, 1), 38: (256, 256, 3), 39: (256, 1024, 1), 96: (256, 1024, 1),
        97: (1024, 256, 1), 98: (256, 256, 3), 99: (256, 1024, 1), 100: (1024, 1024, 1), 101: (1024, 256, 1), 157: (256, 1024, 1),
        158: (1024, 2048, 1), 159: (1024, 512, 1), 160: (512, 512, 3), 161: (512, 2048, 1), 167: (512, 2048, 1),
        168: (2048, 4096, 1), 169: (2048, 1024, 1), 170: (1024, 1024, 3), 171: (1024, 4096, 1), 177: (1024, 4096, 1),
    }  # fmt: skip
    for number, (into, out, side) in declared.items():
        assert shapes[f"n_Conv_{number}.weight"] == (out, into, side, side) and shapes[f"n_Conv_{number}.bias"] == (out,), number


def test_probabilities_are_those_of_the_reference() -> None:
    pixels = torch.from_numpy(np.random.default_rng(8).random((2, 96, 130, 3), dtype=np.float32))
    found = forward(weights(len(TAGS)), pixels).numpy()
    np.testing.assert_allclose(found, GOLDEN, atol=2e-5)


GOLDEN = [
    [0.589295, 0.86711, 0.928251, 0.997206, 0.165977, 0.071523, 0.006395],
    [0.557348, 0.887099, 0.922448, 0.997226, 0.162895, 0.069169, 0.007575],
]


def test_pictures_are_filled_up_from_their_edges_as_a1111_does() -> None:
    y, x = np.mgrid[0:30, 0:50]
    image = Image.fromarray(np.stack([5 * x, 8 * y, (x * y) % 256], axis=2).astype(np.uint8))
    deep = tagger_format(tagger_files_of_nothing()).preprocessing
    wide, tall = prepare(image, deep), prepare(image.transpose(Image.Transpose.TRANSPOSE), deep)
    assert wide.shape == (512, 512, 3) and wide.dtype == np.float32
    for picture, expected in ((wide, WIDE), (tall, TALL)):
        for place, colour in expected.items():
            assert tuple(np.rint(picture[place] * 255).astype(int)) == colour


WIDE = {
    (0, 0): (0, 0, 0), (0, 511): (246, 0, 0), (101, 300): (144, 0, 0), (103, 17): (6, 0, 0), (256, 256): (123, 116, 100),
    (408, 100): (46, 233, 0), (410, 400): (193, 233, 100), (511, 0): (0, 233, 0), (511, 511): (246, 233, 155),
}  # fmt: skip
TALL = {
    (0, 0): (0, 0, 0), (511, 0): (246, 0, 0), (300, 101): (144, 0, 0), (17, 103): (6, 0, 0), (256, 256): (123, 116, 100),
    (100, 408): (46, 233, 0), (400, 410): (193, 233, 100), (0, 511): (0, 233, 0), (511, 511): (246, 233, 154),
}  # fmt: skip
"""What `resize_image(2, image, 512, 512)` makes of it, by row and column."""


def tagger_files_of_nothing():
    from athanor.tagger.models import TaggerFiles

    return TaggerFiles("x", Path(NAME), Path(NAME))


def test_it_is_used_like_any_other(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 20), (200, 30, 90)).save(tmp_path / "a.png")
    tagger = Tagger(model.parent)
    assert tagger.labels.categories == (GENERAL,) * 4 + (RATING,) * 3 and tagger.labels.names[-1] == "rating:explicit"
    assert own_thresholds(tagger.files) == Thresholds(0.5) and tagger.format.name == "DeepDanbooru"
    (scored,) = tag_images(tagger, [tmp_path / "a.png"], cache_folder=tmp_path / "cache")
    pixels = prepare(Image.open(tmp_path / "a.png"), tagger.preprocessing)
    expected = forward(weights(len(TAGS)), torch.from_numpy(pixels[None])).numpy()[0]
    np.testing.assert_allclose(scored.scores, expected, atol=1e-6)
    assert tagger.providers[0] in ("CPU", "CUDA", "MPS") and tagger.notes == ()
    again = Tagger(model.parent)
    assert [one.problem for one in tag_images(again, [tmp_path / "a.png"], cache_folder=tmp_path / "cache")] == [""] and not again.is_open


def test_the_file_is_found_alone_and_in_a_folder(tmp_path: Path) -> None:
    roots = [tmp_path / "wd_taggers", tmp_path / "torch_deepdanbooru"]
    for folder in (roots[0] / "DeepDanbooru", roots[1]):
        folder.mkdir(parents=True)
        (folder / NAME).touch()
    assert find_taggers(roots) == {"DeepDanbooru": roots[0] / "DeepDanbooru", "model-resnet_custom_v3": roots[1] / NAME}
    assert pick_tagger("DeepDanbooru", roots[1:]) == roots[1] / NAME, "under its usual name, too"
    assert known_tagger("model-resnet_custom_v3") is known_tagger("TorchDeepDanbooru") is KNOWN_TAGGERS[-1]
    assert missing_tagger("DeepDanbooru", roots) is None
    with pytest.raises(TaggerError, match=r"AUTOMATIC1111/TorchDeepDanbooru on GitHub: put releases/download/v1/model-resnet_custom_v3\.pt as"):
        pick_tagger("DeepDanbooru (not downloaded)", [tmp_path / "nothing"])
    (tmp_path / "half" / "DeepDanbooru").mkdir(parents=True)
    with pytest.raises(TaggerError, match=r"not complete: model-resnet_custom_v3\.pt is missing"):
        tagger_files(tmp_path / "half" / "DeepDanbooru")


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched by a model file"),))


def test_other_files_are_refused_in_one_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / NAME
    whole = {**weights(2), "tags": ["a", "b"]}
    for state, message in (
        (b"no model", "cannot be read as a torch model"),
        (_Evil(), "cannot be read as a torch model"),
        ([1], "it holds no list of tags"),
        ({**weights(2)}, "it holds no list of tags"),
        ({**whole, "tags": ["a"]}, r"n_Conv_178\.weight is \[2, 256, 1, 1\] where \[1, 256, 1, 1\] is expected"),
        ({key: value for key, value in whole.items() if key != "n_Conv_9.bias"}, r"n_Conv_9\.bias is missing"),
        ({**whole, "n_Conv_179.weight": torch.zeros(1)}, r"unknown weight n_Conv_179\.weight"),
    ):
        if isinstance(state, bytes):
            file.write_bytes(state)
        else:
            torch.save(state, file)
        with pytest.raises(TaggerError, match=message) as error:
            load_labels(file)
        assert "\n" not in str(error.value) and "github.com/AUTOMATIC1111" in str(error.value)
    assert not Path("touched by a model file").exists(), "pickles run nothing"


def test_without_torch_it_says_so(model: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from athanor.tagger.session import Tagger
from pathlib import Path
Tagger(Path({str(model)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False)
    assert "DeepDanbooru needs torch, which cannot be imported" in done.stderr
