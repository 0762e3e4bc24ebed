"""Each kind of tagger gets the pixels that its makers give it, and its outputs are read as what they are.

Every model here gives back pixels as they came in, so that each step of the preprocessing shows.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from athanor.tagger.errors import TaggerError
from athanor.tagger.formats import CAMIE_V1, CAMIE_V2, CL, JOYTAG, WD, Output
from athanor.tagger.models import tagger_files, tagger_format
from athanor.tagger.preprocess import prepare_file
from athanor.tagger.session import Tagger

SIDE_PX = 8
PLACES = [(0, 0), (3, 2), (4, 5), (7, 7)]
PROBES = [(y, x, channel) for y, x in PLACES for channel in range(3)]
OUTPUTS = (("scores", 1.0),)


def _write_model(file: Path, outputs: Sequence[tuple[str, float]] = OUTPUTS, *, layout: str = "NCHW", sigmoid: bool = False, extra: int = 0) -> None:
    """Every output holds the values of PROBES as they came in, times its factor; `extra` ones in front have another length."""
    flat = [(channel * SIDE_PX + y) * SIDE_PX + x if layout == "NCHW" else (y * SIDE_PX + x) * 3 + channel for y, x, channel in PROBES]
    shape = ["N", 3, SIDE_PX, SIDE_PX] if layout == "NCHW" else ["N", SIDE_PX, SIDE_PX, 3]
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("Gather", ["flat", "indices"], ["picked"], axis=1),
        *(helper.make_node("Identity", ["flat"], [f"embedding {i}"]) for i in range(extra)),
    ]
    for name, _ in outputs:
        nodes.append(helper.make_node("Mul", ["picked", f"factor {name}"], [f"raw {name}" if sigmoid else name]))
        if sigmoid:
            nodes.append(helper.make_node("Sigmoid", [f"raw {name}"], [name]))
    graph = helper.make_graph(
        nodes,
        "echo",
        [helper.make_tensor_value_info("pixels", number, shape)],
        [
            *(helper.make_tensor_value_info(f"embedding {i}", number, ["N", 3 * SIDE_PX**2]) for i in range(extra)),
            *(helper.make_tensor_value_info(name, number, ["N", len(PROBES)]) for name, _ in outputs),
        ],
        [
            onnx.numpy_helper.from_array(np.array(flat, np.int64), "indices"),
            *(onnx.numpy_helper.from_array(np.array(factor, np.float32), f"factor {name}") for name, factor in outputs),
        ],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))


def _write_csv(file: Path) -> None:
    file.write_text("\n".join(["tag_id,name,category,count", *(f"{i},tag_{i},0,9" for i in range(len(PROBES)))]), encoding="utf-8")


def _write_json(file: Path, data: object) -> None:
    file.write_text(json.dumps(data), encoding="utf-8")


def _camie(version: int) -> dict:
    mapping = {"idx_to_tag": {str(i): f"tag_{i}" for i in range(len(PROBES))}, "tag_to_category": {"tag_0": "artist"}}
    return mapping if version == 1 else {"dataset_info": {"tag_mapping": mapping}}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Wide, of several colours, so that padding, stretching, filters and channels differ."""
    pixels = np.random.default_rng(5).integers(0, 256, (6, 21, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def _seen(folder: Path, picture: Path, *, logits: bool) -> np.ndarray:
    """What the model got, [places, channels], read back from its scores."""
    tagger = Tagger(folder)
    (scores,) = tagger.scores(prepare_file(picture, tagger.preprocessing)[None]).astype(np.float64)
    return (np.log(scores / (1 - scores)) if logits else scores).reshape(len(PLACES), 3)


def _at_places(square: Image.Image) -> np.ndarray:
    assert square.size == (SIDE_PX, SIDE_PX)
    return np.asarray(square, dtype=np.float64)[tuple(zip(*PLACES, strict=True))]


def _on_square(picture: Path, side_px: int, colour: tuple[int, int, int], size: tuple[int, int] | None = None) -> Image.Image:
    image = Image.open(picture)
    if size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side_px, side_px), colour)
    square.paste(image, ((side_px - image.width) // 2, (side_px - image.height) // 2))
    return square


def _padded(picture: Path) -> Image.Image:
    return _on_square(picture, 21, (255, 255, 255)).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)


def test_cl_tagger_sees_blue_first_from_minus_one_to_one(tmp_path: Path, picture: Path) -> None:
    _write_model(tmp_path / "mine" / "model.onnx")
    _write_json(tmp_path / "mine" / "tag_mapping.json", {str(i): {"tag": f"tag_{i}", "category": "General"} for i in range(len(PROBES))})
    expected = _at_places(_padded(picture))[:, ::-1] / 127.5 - 1
    np.testing.assert_allclose(_seen(tmp_path / "mine", picture, logits=True), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["joytag", "another folder"])
def test_joytag_sees_red_first_in_clip_s_range(tmp_path: Path, picture: Path, name: str) -> None:
    _write_model(tmp_path / name / "model.onnx")
    (tmp_path / name / "top_tags.txt").write_text("\n".join(f"tag_{i}" for i in range(len(PROBES))), encoding="utf-8")
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    expected = (_at_places(_padded(picture)) / 255 - mean) / std
    np.testing.assert_allclose(_seen(tmp_path / name, picture, logits=True), expected, atol=1e-4)


def test_camie_v2_is_resized_before_it_is_padded_in_the_mean_colour(tmp_path: Path, picture: Path) -> None:
    _write_model(tmp_path / "camie" / "camie-tagger-v2.onnx", [("initial_predictions", -1.0), ("refined_predictions", 1.0)], extra=1)
    _write_json(tmp_path / "camie" / "camie-tagger-v2-metadata.json", _camie(2))
    square = _on_square(picture, SIDE_PX, (124, 116, 104), size=(8, int(8 * 6 / 21)))
    expected = (_at_places(square) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(_seen(tmp_path / "camie", picture, logits=True), expected, atol=1e-4)


def test_camie_v1_has_black_padding_and_no_normalization(tmp_path: Path, picture: Path) -> None:
    _write_model(tmp_path / "camie" / "model.onnx", [("initial", -1.0), ("refined", 1.0)])
    _write_json(tmp_path / "camie" / "metadata.json", _camie(1))
    expected = _at_places(_on_square(picture, SIDE_PX, (0, 0, 0), size=(8, 2))) / 255
    np.testing.assert_allclose(_seen(tmp_path / "camie", picture, logits=True), expected, atol=1e-4)


def test_pixai_is_known_by_its_name_and_stretches(tmp_path: Path, picture: Path) -> None:
    folder = tmp_path / "deepghs" / "PixAI_Tagger-v0.9"
    _write_model(folder / "model.onnx", [("logits", 3.0), ("prediction", 1.0)], sigmoid=True, extra=1)
    _write_csv(folder / "selected_tags.csv")
    stretched = Image.open(picture).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    expected = _at_places(stretched) / 127.5 - 1
    np.testing.assert_allclose(_seen(folder, picture, logits=True), expected, atol=1e-4)


def test_a_preprocess_file_beside_the_model_is_followed(tmp_path: Path, picture: Path) -> None:
    folder = tmp_path / "caformer"
    _write_model(folder / "model.onnx", [("embedding", 0.0), ("logits", 1.0)])
    _write_csv(folder / "selected_tags.csv")
    stages = [
        {"type": "pad_to_size", "size": [SIDE_PX, SIDE_PX], "background_color": "gray", "interpolation": "lanczos"},
        {"type": "maybe_to_tensor"},
        {"type": "normalize", "mean": [0.1, 0.2, 0.3], "std": 0.5},
    ]
    _write_json(folder / "preprocess.json", {"stages": stages})
    expected = (_at_places(_on_square(picture, SIDE_PX, (128, 128, 128), size=(8, 2))) / 255 - (0.1, 0.2, 0.3)) / 0.5
    np.testing.assert_allclose(_seen(folder, picture, logits=True), expected, atol=1e-4)


def test_z3d_is_a_wd_model_with_another_label_file(tmp_path: Path, picture: Path) -> None:
    _write_model(tmp_path / "z3d" / "model.onnx", [("scores", 1 / 255)], layout="NHWC")
    _write_csv(tmp_path / "z3d" / "tags-selected.csv")
    expected = _at_places(_padded(picture))[:, ::-1] / 255
    np.testing.assert_allclose(_seen(tmp_path / "z3d", picture, logits=False), expected, atol=1e-6)


def test_files_beside_the_model_tell_its_kind(tmp_path: Path) -> None:
    for name, files in {
        "wd": ["selected_tags.csv"],
        "cl": ["tag_mapping.json"],
        "joy": ["top_tags.txt"],
        "z3d": ["tags-selected.csv"],
        "optimized": ["tag_mapping.json", "model_optimized.onnx"],
    }.items():
        (tmp_path / name).mkdir()
        for file in ("model.onnx", *files):
            (tmp_path / name / file).touch()
    (tmp_path / "optimized" / "model.onnx").unlink()
    _write_json(tmp_path / "cl_flat_tag_mapping.json", {})
    (tmp_path / "cl_flat.onnx").touch()
    kinds = {name: tagger_format(tagger_files(tmp_path / name)) for name in ("wd", "cl", "joy", "z3d", "optimized", "cl_flat.onnx")}
    assert kinds == {"wd": WD, "cl": CL, "joy": JOYTAG, "z3d": WD, "optimized": CL, "cl_flat.onnx": CL}
    assert tagger_files(tmp_path / "optimized").model.name == "model_optimized.onnx"
    for version, kind in ((1, CAMIE_V1), (2, CAMIE_V2)):
        folder = tmp_path / f"camie {version}"
        folder.mkdir()
        (folder / "any.onnx").touch()
        _write_json(folder / "any-metadata.json", _camie(version))
        assert tagger_format(tagger_files(folder)) == kind


def test_scores_of_another_preprocessing_are_not_shared(tmp_path: Path) -> None:
    prints = []
    for name in ("wd-vit-tagger-v3", "pixai-tagger-v0.9"):
        _write_model(tmp_path / name / "model.onnx")
        _write_csv(tmp_path / name / "selected_tags.csv")
        prints.append(Tagger(tmp_path / name).fingerprint)
    assert prints[0] != prints[1]


def test_without_a_named_output_the_first_that_fits_the_labels_counts(tmp_path: Path, picture: Path) -> None:
    _write_model(tmp_path / "mine" / "model.onnx", [("anything", 1.0), ("later", 2.0)], sigmoid=True, extra=2)
    _write_csv(tmp_path / "mine" / "selected_tags.csv")
    tagger = Tagger(tmp_path / "mine")
    pixels = np.full((1, SIDE_PX, SIDE_PX, 3), 0.5, np.float32)
    np.testing.assert_allclose(tagger.scores(pixels), 1 / (1 + np.exp(-0.5)), rtol=1e-5)
    assert Output("anything", "probabilities") == tagger._opened().output


def test_huge_logits_do_not_overflow(tmp_path: Path) -> None:
    _write_model(tmp_path / "cl" / "model.onnx", [("scores", 1e6)])
    _write_json(tmp_path / "cl" / "tag_mapping.json", {str(i): {"tag": f"tag_{i}", "category": "General"} for i in range(len(PROBES))})
    pixels = np.ones((2, SIDE_PX, SIDE_PX, 3), np.float32) * np.array([-1, 1], np.float32)[:, None, None, None]
    with np.errstate(all="raise"):
        scores = Tagger(tmp_path / "cl").scores(pixels)
    assert scores.dtype == np.float32 and scores[0].max() < 1e-30 and scores[1].min() == 1


def test_labels_that_fit_no_output_are_refused(tmp_path: Path) -> None:
    _write_model(tmp_path / "mine" / "model.onnx")
    (tmp_path / "mine" / "top_tags.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(TaggerError, match=r"12 outputs but top_tags\.txt has 2 tags"):
        Tagger(tmp_path / "mine").scores(np.zeros((1, SIDE_PX, SIDE_PX, 3), np.float32))
