import json
from pathlib import Path

import pytest

from athanor.tagger.errors import TaggerError
from athanor.tagger.preprocess import Preprocessing
from athanor.tagger.stages import read_preprocessing

RESIZE = {"type": "resize", "size": [448, 448], "interpolation": "bicubic"}
TENSOR = {"type": "to_tensor"}


def _read(folder: Path, data: object) -> Preprocessing:
    (folder / "preprocess.json").write_text(json.dumps(data), encoding="utf-8")
    return read_preprocessing(folder / "preprocess.json")


def test_a_stretched_picture(tmp_path: Path) -> None:
    half = {"type": "normalize", "mean": [0.5], "std": [0.5, 0.5, 0.25]}
    expected = Preprocessing(448, "stretch", resample="bicubic", channels="RGB", scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25))
    assert _read(tmp_path, {"stages": [RESIZE, TENSOR, half]}) == expected
    assert _read(tmp_path, {"test": [{"type": "convert_rgb"}, {**RESIZE, "interpolation": 3}, TENSOR, half], "val": []}) == expected


def test_a_padded_picture(tmp_path: Path) -> None:
    made = _read(
        tmp_path, {"stages": [{"type": "pad_to_size", "size": 384, "background_color": "white"}, {"type": "center_crop", "size": 384}, TENSOR]}
    )
    assert made == Preprocessing(384, "resize-then-pad", (255, 255, 255), "bilinear", "RGB", 1 / 255)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stages": [RESIZE, {"type": "random_crop"}]}, "'random_crop' is unknown"),
        ({"stages": [{"type": "resize", "size": 448}, {"type": "center_crop", "size": 448}]}, "cuts off a part"),
        ({"stages": [RESIZE, {"type": "center_crop", "size": 400}]}, "cuts off a part"),
        ({"stages": [{"type": "resize", "size": 448}, TENSOR]}, "does not make a square"),
        ({"stages": [{**RESIZE, "size": [448, 384]}]}, "is not a square"),
        ({"stages": [{**RESIZE, "interpolation": "magic"}]}, "'magic' is unknown"),
        ({"stages": [{**RESIZE, "interpolation": 17}]}, "17"),
        ({"train": []}, "test"),
        ([], "cannot be followed"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(TaggerError, match=message) as error:
        _read(tmp_path, data)
    assert str(tmp_path / "preprocess.json") in str(error.value)
