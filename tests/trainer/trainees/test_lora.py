"""Runs of each kind of adapter: resumed to the bit, gone on with from a file, on a merged base."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.formats.header import read_header
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings
from athanor.trainer.trainees.lora import lora_trainee

SD15 = family("sd15")
KINDS = {
    "lora": AdapterSettings(rank=2, alpha=1.0, dropout=0.2, rank_dropout=0.2, module_dropout=0.1, lora_plus_ratio=4.0, max_norm=0.5),
    "locon": AdapterSettings(kind="locon", rank=4, alpha=2.0, conv_rank=2, rank_stabilised=True),
    "loha": AdapterSettings(kind="loha", rank=2, alpha=1.0, rank_dropout=0.2, module_dropout=0.1),
    "lokr": AdapterSettings(kind="lokr", rank=2, alpha=1.0, factor=2, rank_dropout=0.2, conv_rank=2),
    "dora": AdapterSettings(kind="dora", rank=2, alpha=1.0, dropout=0.2, module_dropout=0.1),
    "ia3": AdapterSettings(kind="ia3"),
}


def job_with(job: TrainJob, settings: AdapterSettings, **train_settings) -> TrainJob:
    train_settings = {"save_precision": "fp32", **train_settings}
    return dataclasses.replace(job, adapter=settings, train=dataclasses.replace(job.train, **train_settings))


def trainee_of(job: TrainJob):
    text = SD15.load_text(job.base, torch.float32)
    return lora_trainee(job, SD15, SD15.load_denoiser(job.base, torch.float32), text)


def run_whole(folder, job: TrainJob) -> Run:
    run = open_run(folder, job)
    train(run, Control())
    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_to_the_bit(tmp_path, job, kind):
    wanted = job_with(job, KINDS[kind])
    whole = run_whole(tmp_path / "whole", wanted)
    again = open_run(tmp_path / "stopped", wanted)

    class StopAfterThree(Control):
        @property
        def stop_requested(self):
            return len(again.losses()) >= 3

    train(again, StopAfterThree())
    assert not again.finished()
    train(again, Control())
    assert [epoch.sha256 for epoch in again.epochs()] == [epoch.sha256 for epoch in whole.epochs()]
    assert whole.losses() == again.losses()
    first, last = (load_file(epoch.path) for epoch in (whole.epochs()[0], whole.epochs()[-1]))
    assert any(not torch.equal(first[key], last[key]) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_a_file_starts_with_its_very_change(tmp_path, job, kind):
    settings = dataclasses.replace(KINDS[kind], rank=AdapterSettings.rank, alpha=AdapterSettings.alpha, conv_rank=0)
    run = run_whole(tmp_path, job_with(job, KINDS[kind]))
    path = run.epochs()[-1].path
    trainee = trainee_of(job_with(job, dataclasses.replace(settings, start_file=str(path), rank_stabilised=False)))
    before, after = load_file(path), trainee.export()
    assert before.keys() == after.keys()
    for key in before:
        assert torch.allclose(before[key], after[key], rtol=1e-6, atol=1e-7), key


def test_each_rate_is_a_group_and_rules_and_lora_plus_make_them(job):
    settings = AdapterSettings(rank=2, alpha=1.0, lora_plus_ratio=16.0, rules="up_blocks.*: rate=0.5")
    groups = {group.name: group for group in trainee_of(job_with(job, settings, rate=1e-2, text_encoder_rate=0.0)).groups}
    assert {name: group.rate for name, group in groups.items()} == {
        "denoiser": 1e-2, "denoiser × 0.5": 5e-3, "denoiser × 16": 0.16, "denoiser × 8": 0.08,
    }  # fmt: skip
    assert all(name.endswith("lora_up.weight") for name in (*groups["denoiser × 16"].parameters, *groups["denoiser × 8"].parameters))
    assert all(name.startswith("up_blocks") for name in groups["denoiser × 0.5"].parameters)
    assert groups["denoiser × 8"].num_modules == groups["denoiser × 0.5"].num_modules


def test_norms_are_limited_while_training(tmp_path, job):
    settings = AdapterSettings(rank=2, alpha=2.0, max_norm=0.01)
    tensors = load_file(run_whole(tmp_path, job_with(job, settings)).epochs()[-1].path)
    norms = []
    for key in tensors:
        if key.endswith("lora_up.weight"):
            base = key.removesuffix("lora_up.weight")
            norms.append(float((tensors[key].flatten(1) @ tensors[base + "lora_down.weight"].flatten(1)).norm() * tensors[base + "alpha"] / 2))
    assert max(norms) <= 0.01 * (1 + 1e-5) and sum(norm > 0.0099 for norm in norms) > len(norms) / 4


@pytest.mark.parametrize(
    ("settings", "module", "dim", "arguments"),
    [
        (AdapterSettings(rank=2, alpha=1.0), "networks.lora", "2", {}),
        (AdapterSettings(kind="locon", rank=4, alpha=4.0, conv_rank=2), "networks.lora", "4", {"conv_dim": "2", "conv_alpha": "2.0"}),
        (AdapterSettings(kind="loha", rank=2, alpha=1.0, rank_dropout=0.1), "lycoris.kohya", "2", {"algo": "loha", "rank_dropout": "0.1"}),
        (
            AdapterSettings(kind="lokr", rank=2, alpha=1.0, factor=2),
            "lycoris.kohya",
            "2",
            {"algo": "lokr", "factor": "2", "decompose_both": "False", "full_matrix": "False"},
        ),
        (AdapterSettings(kind="dora", rank=2, alpha=1.0), "lycoris.kohya", "2", {"algo": "locon", "dora_wd": "True", "wd_on_output": "False"}),
    ],
)
def test_the_file_tells_its_network(job, settings, module, dim, arguments):
    metadata = trainee_of(job_with(job, settings)).metadata
    assert metadata["ss_network_module"] == module and metadata["ss_network_dim"] == dim
    assert json.loads(metadata["ss_network_args"]) == arguments


def test_the_network_is_in_the_saved_file(tmp_path, job):
    run = run_whole(tmp_path, job_with(job, KINDS["ia3"]))
    metadata = read_header(run.epochs()[-1].path).metadata
    assert metadata["ss_network_module"] == "lycoris.kohya" and json.loads(metadata["ss_network_args"]) == {"algo": "ia3"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AdapterSettings(blocks="up_blocks.9"), r"'up_blocks\.9' matches no layer"),
        (AdapterSettings(pattern="attn9"), "'attn9' matches no layer"),
        (AdapterSettings(rules="*: rank=0"), "leave no layer to train"),
    ],
)
def test_settings_that_leave_nothing_are_refused(job, settings, message):
    with pytest.raises(AthanorError, match=message):
        trainee_of(job_with(job, settings))


def test_a_file_of_another_kind_or_base_to_start_from_is_refused(tmp_path, job):
    tensors = trainee_of(job_with(job, KINDS["loha"])).export()
    save_file(tensors, tmp_path / "loha.safetensors")
    with pytest.raises(AthanorError, match="is a LoHa; choose loha"):
        trainee_of(job_with(job, AdapterSettings(start_file=str(tmp_path / "loha.safetensors"))))
    save_file({"lora_unet_x.lora_up.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AthanorError, match=r"holds nothing for the trained parts of SD1\.5"):
        trainee_of(job_with(job, AdapterSettings(start_file=str(tmp_path / "other.safetensors"))))


def test_an_ia3_in_its_stock_form_goes_on(tmp_path, job):
    trainee = trainee_of(job_with(job, AdapterSettings(kind="ia3", stock_form=True)))
    draw = torch.Generator().manual_seed(0)
    for tensor in trainee.parameters().values():
        tensor.data += 0.1 * torch.randn(tensor.shape, generator=draw)
    save_file(trainee.export(), tmp_path / "stock.safetensors")
    again = trainee_of(job_with(job, AdapterSettings(kind="ia3", start_file=str(tmp_path / "stock.safetensors"))))
    for key, tensor in trainee.parameters().items():
        assert torch.allclose(tensor, again.parameters()[key], atol=1e-5)
