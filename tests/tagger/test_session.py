import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import athanor.tagger
from athanor.tagger.errors import TaggerError
from athanor.tagger.session import Tagger

PROBES = [(0, 0, "red"), (3, 5, "green"), (7, 7, "blue")]


def _pixels(num_images: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_images, 8, 8, 3)).astype(np.float32)


def _expected(pixels: np.ndarray) -> np.ndarray:
    return np.stack([pixels[:, 0, 0, 2], pixels[:, 3, 5, 1], pixels[:, 7, 7, 0]], axis=1) / 255


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("batch", "fixed_batch"), [("N", None), (1, 1), (3, 3)])
@pytest.mark.parametrize("num_images", [1, 5])
def test_scores_do_not_depend_on_batch_and_layout(make_tagger, layout: str, batch, fixed_batch, num_images: int) -> None:
    tagger = Tagger(make_tagger(PROBES, batch=batch, layout=layout))
    pixels = _pixels(num_images)
    scores = tagger.scores(pixels)
    assert scores.dtype == np.float32 and tagger.fixed_batch == fixed_batch
    np.testing.assert_allclose(scores, _expected(pixels), atol=1e-6)


def test_half_precision_models_run(make_tagger) -> None:
    tagger = Tagger(make_tagger(PROBES, dtype="float16"))
    np.testing.assert_allclose(tagger.scores(_pixels(2)), _expected(_pixels(2)), atol=2e-3)


def test_no_images_give_no_scores(make_tagger) -> None:
    assert Tagger(make_tagger(PROBES)).scores(_pixels(0)).shape == (0, 3)


def test_the_model_is_loaded_once_and_late(make_tagger, monkeypatch) -> None:
    import onnxruntime

    opened, real = [], onnxruntime.InferenceSession

    def counted(*arguments, **options):
        opened.append(arguments[0])
        return real(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    tagger = Tagger(make_tagger(PROBES))
    assert len(tagger.labels) == 3 and len(tagger.fingerprint) == 64 and tagger.notes == ()
    assert not opened and not tagger.is_open
    for _ in range(3):
        tagger.scores(_pixels(2))
    assert len(opened) == 1 and tagger.is_open
    tagger.close()
    assert not tagger.is_open
    tagger.scores(_pixels(1))
    assert len(opened) == 2


def test_a_kept_model_is_taken_over_by_the_next_tagger_of_it(make_tagger, monkeypatch) -> None:
    import onnxruntime

    from athanor.tagger import session

    monkeypatch.setattr(session, "_kept", {})
    opened, real = [], onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *arguments, **options: opened.append(arguments[0]) or real(*arguments, **options))
    folders = [make_tagger([(0, i, "red"), (0, 0, "blue")], name=f"kept {i}") for i in range(3)]
    for folder in (folders[0], folders[1], folders[0], folders[1]):
        tagger = Tagger(folder)
        assert not tagger.is_open
        tagger.scores(_pixels(1))
        tagger.keep()
        assert not tagger.is_open
    assert len(opened) == 2
    for folder in (folders[2], folders[0]):  # the one that was used longest ago had to go
        tagger = Tagger(folder)
        tagger.scores(_pixels(1))
        tagger.keep()
    assert len(opened) == 4
    Tagger(folders[0]).close()
    tagger = Tagger(folders[0])
    tagger.scores(_pixels(1))
    assert len(opened) == 5, "what is closed is gone"
    tagger.keep()
    assert session._kept
    session.forget_kept()
    assert not session._kept
    tagger.scores(_pixels(1))
    engine = tagger._engine
    monkeypatch.setattr(tagger, "_engine", session.replace(engine, providers=("CUDAExecutionProvider",)))
    tagger.keep()
    assert engine not in session._kept.values() and tagger.fingerprint not in session._kept, "a GPU's memory is given back"


def test_a_side_that_the_model_leaves_open_is_the_usual_one(make_tagger) -> None:
    assert Tagger(make_tagger([(0, 0, "red")], side_px="side")).preprocessing.side_px == 448


def test_an_open_number_of_outputs_is_checked_by_the_first_scores(make_tagger) -> None:
    tagger = Tagger(make_tagger(PROBES, num_outputs="tags"))
    np.testing.assert_allclose(tagger.scores(_pixels(1)), _expected(_pixels(1)), atol=1e-6)
    wrong = Tagger(make_tagger(PROBES, num_outputs="tags", rows=[("solo", 0)], name="wrong"))
    with pytest.raises(TaggerError, match=r"3 outputs but selected_tags\.csv has 1 tags"):
        wrong.scores(_pixels(1))


def test_labels_of_another_model_are_refused(make_tagger) -> None:
    tagger = Tagger(make_tagger(PROBES, rows=[("a", 0), ("b", 0)]))
    with pytest.raises(TaggerError, match=r"3 outputs but selected_tags\.csv has 2 tags"):
        tagger.scores(_pixels(1))


@pytest.mark.parametrize("scale", [-4.0, 4.0, float("nan")])
def test_values_that_are_no_probabilities_are_refused(make_tagger, scale: float) -> None:
    tagger = Tagger(make_tagger(PROBES, scale=scale))
    with pytest.raises(TaggerError, match="not a model in the WD format"):
        tagger.scores(_pixels(1))


def test_logits_that_are_no_numbers_are_refused_not_taken_for_pictures_without_tags(make_tagger) -> None:
    folder = make_tagger(PROBES, scale=float("nan"), layout="NCHW")
    (folder / "selected_tags.csv").unlink()
    (folder / "tag_mapping.json").write_text(
        '{"0": {"tag": "a", "category": "General"}, "1": {"tag": "b", "category": "General"}, "2": {"tag": "c", "category": "Meta"}}'
    )
    with pytest.raises(TaggerError, match="no numbers on CPU"):
        Tagger(folder).scores(_pixels(1))


def test_a_model_that_leaves_its_channels_open_is_read_as_its_kind_has_them(make_tagger) -> None:
    import onnx

    folder = make_tagger(PROBES, batch=2)
    model = onnx.load(str(folder / "model.onnx"))
    for name, dim in zip("NHWC", model.graph.input[0].type.tensor_type.shape.dim, strict=True):
        dim.dim_param = name
    onnx.save(model, str(folder / "model.onnx"))
    tagger = Tagger(folder)
    assert tagger.fixed_batch is None and tagger.preprocessing.side_px == 448
    np.testing.assert_allclose(tagger.scores(_pixels(2)), _expected(_pixels(2)), atol=1e-6)


def test_files_that_are_no_models_are_refused(make_tagger) -> None:
    folder = make_tagger(PROBES)
    model = folder / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TaggerError, match="download it again") as error:
        Tagger(folder).scores(_pixels(1))
    assert str(model) in str(error.value)
    model.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 467000000\n", encoding="utf-8")
    with pytest.raises(TaggerError, match="git-lfs pointer"):
        Tagger(folder).scores(_pixels(1))
    model.unlink()
    with pytest.raises(TaggerError, match=r"model\.onnx is missing"):
        Tagger(folder)


def test_a_model_of_another_kind_is_refused(make_tagger) -> None:
    import onnx

    folder = make_tagger(PROBES)
    model = onnx.load(str(folder / "model.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4
    onnx.save(model, str(folder / "model.onnx"))
    with pytest.raises(TaggerError, match="expected is"):
        Tagger(folder).scores(_pixels(1))


def test_paths_of_all_languages_work(make_tagger) -> None:
    tagger = Tagger(make_tagger(PROBES, name="标签 モデル é"))
    assert tagger.name == "标签 モデル é"
    np.testing.assert_allclose(tagger.scores(_pixels(1)), _expected(_pixels(1)), atol=1e-6)


def test_the_fingerprint_follows_the_model(make_tagger) -> None:
    first, copy, other = (Tagger(make_tagger(probes, name=name)) for name, probes in (("a", PROBES), ("b", PROBES), ("c", [*PROBES[1:], PROBES[0]])))
    assert first.fingerprint == copy.fingerprint != other.fingerprint


def test_the_fingerprint_follows_the_preprocessing(make_tagger, monkeypatch) -> None:
    folder = make_tagger(PROBES)
    before = Tagger(folder).fingerprint
    monkeypatch.setattr("athanor.tagger.session.PREPROCESSING_VERSION", -1)
    assert Tagger(folder).fingerprint != before


def test_the_provider_that_really_runs_is_told(make_tagger, monkeypatch) -> None:
    import onnxruntime

    tagger = Tagger(make_tagger(PROBES), providers=("CPUExecutionProvider",))
    assert tagger.providers == ("CPUExecutionProvider",) and tagger.notes == ()
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is here: nothing falls back")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    fallen = Tagger(make_tagger(PROBES, name="fallen"))
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        assert fallen.providers == ("CPUExecutionProvider",)
    assert "runs on CPU" in fallen.notes[0] and "CUDA" in fallen.notes[0]


def test_without_onnxruntime_the_error_says_what_to_install(make_tagger, monkeypatch) -> None:
    tagger = Tagger(make_tagger(PROBES))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TaggerError, match=r"pip install onnxruntime-gpu .* or onnxruntime .*Never both") as error:
        tagger.scores(_pixels(1))
    assert sys.executable in str(error.value)
    monkeypatch.setitem(sys.modules, "onnxruntime", sys.modules[__name__])
    with pytest.raises(TaggerError, match="broken"):
        tagger.scores(_pixels(1))


def test_importing_the_tagger_loads_nothing_heavy() -> None:
    modules = [f"athanor.tagger.{file.stem}" for file in Path(athanor.tagger.__file__).parent.glob("*.py") if file.stem != "__init__"]
    assert len(modules) >= 8
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'onnxruntime', 'transformers', 'comfy', 'folder_paths', 'athanor.trainer', 'athanor.nodes'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
