"""Files as other trainers name them; the metadata is what their sources write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from athanor.trainer.errors import AthanorError
from athanor.trainer.runs.foreign import read_found, series_of


def made(folder: Path, *names: str, weight: float = 1.0, **metadata: str) -> list[Path]:
    paths = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"lora_unet_x.alpha": torch.tensor(weight)}, path, metadata={key: str(value) for key, value in metadata.items()} or None)
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fox-000004.safetensors", ("fox", 4, None)),
        ("fox-step00000500.safetensors", ("fox", None, 500)),
        ("my fox.safetensors", ("my fox", None, None)),
        ("fox_000000500.safetensors", ("fox", None, 500)),
        ("out/fox/epoch12/adapter_model.safetensors", ("fox", 12, None)),
        ("out/fox/step300/adapter_model.safetensors", ("fox", None, 300)),
        ("loras/fox_500_steps_00001_.safetensors", (["loras", "fox"][-1], None, 500)),
        ("fox-save-500-4-0.safetensors", ("fox", 4, 500)),
        ("space/save/2026-01-02_03-04-05-save-120-3-20.safetensors", ("space", 3, 120)),
        ("space/save/fox2026-01-02_03-04-05-save-120-3-20.safetensors", ("fox", 3, 120)),
        ("space/fox-2026-01-02_03-04-05.safetensors", ("fox", None, None)),
        ("space/backup/2026-01-02_03-04-05-backup-120-3-20/lora/lora.safetensors", ("space", 3, 120)),
        ("fox_00002_.safetensors", ("fox", 2, None)),
        ("out/fox/checkpoint-500/pytorch_lora_weights.safetensors", ("fox", None, 500)),
        ("out/fox/pytorch_lora_weights.safetensors", ("fox", None, None)),
        ("my style2.safetensors", ("my style2", None, None)),
        ("fox_e12.safetensors", ("fox", 12, None)),
        ("fox-ep 7.safetensors", ("fox", 7, None)),
        ("fox_rank16_bf16-step00000500.safetensors", ("fox_rank16_bf16", None, 500)),
    ],
)
def test_names_of_seven_trainers(tmp_path, name, said):
    (path,) = made(tmp_path, name)
    found = read_found(path)
    assert (found.name, found.epoch, found.step) == said


def test_metadata_comes_before_the_name(tmp_path):
    (path,) = made(tmp_path, "renamed by hand.safetensors", ss_epoch="7", ss_steps="700", ss_output_name="fox", ss_num_epochs="10")
    found = read_found(path)
    assert (found.name, found.epoch, found.step, found.total_epochs) == ("fox", 7, 700, 10)


def test_epochs_are_in_the_order_of_numbers_and_the_last_comes_last(tmp_path):
    files = made(tmp_path, "fox.safetensors", "fox-000010.safetensors", "fox-000002.safetensors", "fox-000009.safetensors")
    series = series_of(files)
    assert (series.name, series.unit) == ("fox", "epoch")
    assert [(number, path.name) for number, path in series.numbered] == [
        (2, "fox-000002.safetensors"),
        (9, "fox-000009.safetensors"),
        (10, "fox-000010.safetensors"),
        (11, "fox.safetensors"),
    ]


def test_the_unnumbered_last_file_gets_the_number_that_its_metadata_tells(tmp_path):
    files = made(tmp_path, "fox-000002.safetensors") + made(tmp_path, "fox.safetensors", ss_num_epochs="20")
    assert [number for number, _ in series_of(files).numbered] == [2, 20]


def test_steps_number_where_epochs_are_not_told_or_shared(tmp_path):
    series = series_of(made(tmp_path / "a", "fox_000000500.safetensors", "fox_000000250.safetensors", "fox.safetensors"))
    assert series.unit == "step" and [number for number, _ in series.numbered] == [250, 500, 501]
    shared = [*made(tmp_path / "b", "fox-step00000010.safetensors", ss_epoch="1", ss_steps="10"),
              *made(tmp_path / "b", "fox-step00000020.safetensors", ss_epoch="1", ss_steps="20")]  # fmt: skip
    assert series_of(shared).numbered[0][0] == 10 and series_of(shared).unit == "step"


def test_onetrainers_saves_are_one_training_though_each_name_has_its_own_time(tmp_path):
    files = made(
        tmp_path / "space" / "save",
        "2026-01-02_03-04-05-save-50-0-50.safetensors",
        "2026-01-02_03-09-05-save-100-1-0.safetensors",
        "2026-01-02_03-14-05.safetensors",
    )
    series = series_of(files)
    assert (series.name, series.unit) == ("space", "step"), "epoch 0 would be no epoch at all"
    assert [number for number, _ in series.numbered] == [50, 100, 101]


def test_ai_toolkits_last_file_tells_its_step(tmp_path):
    files = made(tmp_path, "fox_000000500.safetensors", training_info='{"step": 500, "epoch": 4}', ss_output_name="fox")
    files += made(tmp_path, "fox.safetensors", training_info='{"step": 1000, "epoch": 8}', ss_output_name="fox")
    series = series_of(files)
    assert series.unit == "step" and [number for number, _ in series.numbered] == [500, 1000]
    (odd,) = made(tmp_path, "odd_000000007.safetensors", training_info="[[")
    assert read_found(odd).step == 7


def test_a_last_step_that_kohya_saves_twice_is_one(tmp_path):
    files = made(tmp_path, "fox-step00000100.safetensors", weight=1.0, ss_steps="100", ss_epoch="0")
    files += made(tmp_path, "fox-step00000200.safetensors", weight=2.0, ss_steps="200", ss_epoch="1")
    files += made(tmp_path, "fox-000001.safetensors", weight=2.5, ss_steps="150", ss_epoch="1")
    files += made(tmp_path, "fox.safetensors", weight=2.0, ss_steps="200", ss_epoch="2")
    series = series_of(files)
    assert series.unit == "step"
    assert [(number, path.name) for number, path in series.numbered] == [
        (100, "fox-step00000100.safetensors"),
        (150, "fox-000001.safetensors"),
        (200, "fox.safetensors"),
    ]


def test_a_name_that_looks_numbered_is_the_last_one_of_those_called_after_it(tmp_path):
    files = made(tmp_path, "fox_e2-000001.safetensors", "fox_e2-000002.safetensors", "fox_e2.safetensors")
    series = series_of(files)
    assert series.name == "fox_e2" and [number for number, _ in series.numbered] == [1, 2, 3]


def test_what_cannot_be_told_is_said(tmp_path):
    with pytest.raises(AthanorError, match=r"belong to 2 trainings \(cat, fox\); write a pattern that only one of them matches, such as cat\*"):
        series_of(made(tmp_path, "cat-000001.safetensors", "fox-000001.safetensors"))
    twice = made(tmp_path / "x", "fox-000001.safetensors") + made(tmp_path / "y", "fox-000001.safetensors", weight=2.0)
    with pytest.raises(AthanorError, match="are both epoch 1"):
        series_of(twice)
    mixed = made(tmp_path / "z", "fox-000001.safetensors", "fox-000002.safetensors", "fox-step00000150.safetensors")
    with pytest.raises(AthanorError, match=r"Some files tell their step, others, such as fox-000001\.safetensors, only their epoch"):
        series_of(mixed)
    with pytest.raises(AthanorError, match="is epoch 0, which stands for no training at all"):
        series_of(made(tmp_path / "w", "fox-000000.safetensors", "fox-000001.safetensors"))
    with pytest.raises(AthanorError, match="There is no safetensors file"):
        series_of([])
    (tmp_path / "fox.safetensors").write_bytes(b"not one")
    with pytest.raises(AthanorError, match=r"fox\.safetensors"):
        series_of([tmp_path / "fox.safetensors"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["fox-4", "fox-8", "fox-12"], ("fox", "epoch", [4, 8, 12])),
        (["fox_10", "fox_9", "fox"], ("fox", "epoch", [9, 10, 11])),
        (["fox 500", "fox 1000", "fox last"], ("fox", "step", [500, 1000, 1001])),
        (["run/ckpt-500", "run/ckpt-1000", "run/last"], ("run", "step", [500, 1000, 1001])),
        (["run/000010", "run/000003"], ("run", "epoch", [3, 10])),
        (["run/epoch-3", "run/epoch-10", "run/final"], ("run", "epoch", [3, 10, 11])),
        (["fox_s50", "fox_s100"], ("fox", "step", [50, 100])),
        (["fox_step_50", "fox_step_100"], ("fox", "step", [50, 100])),
        (["fox-000002", "fox-000004", "last"], ("fox", "epoch", [2, 4, 5])),
        (["fox-final", "fox-000002"], ("fox", "epoch", [2, 3])),
        (["run/step_50/pytorch_lora_weights", "run/step_100/pytorch_lora_weights"], ("run", "step", [50, 100])),
    ],
)
def test_numbers_that_no_trainer_writes_so(tmp_path, names, said):
    paths = [made(tmp_path, f"{name}.safetensors", weight=i)[0] for i, name in enumerate(names)]
    series = series_of(paths)
    assert (series.name, series.unit, [number for number, _ in series.numbered]) == said


@pytest.mark.parametrize(
    "names", [["fox-v1", "fox-v2"], ["style1", "style2"], ["fox-1", "cat-2"], ["fox-000001", "cat-final"], ["fox-1", "fox-2", "cat"]]
)
def test_names_that_say_no_epoch_stay_several_trainings(tmp_path, names):
    with pytest.raises(AthanorError, match="trainings"):
        series_of(made(tmp_path, *(f"{name}.safetensors" for name in names)))


def test_of_equal_names_in_two_folders_the_folders_are_told(tmp_path):
    twice = [made(tmp_path / folder, "fox-000001.safetensors", weight=weight)[0] for folder, weight in (("one", 1.0), ("two", 2.0))]
    with pytest.raises(AthanorError, match=r"^one/fox-000001\.safetensors and two/fox-000001\.safetensors are both epoch 1; write a pattern"):
        series_of(twice)
