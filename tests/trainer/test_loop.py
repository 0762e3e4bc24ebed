"""The whole training on a tiny random model: what it writes, that it repeats, that it resumes to the bit."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from athanor.trainer.bases import describe_base
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.data.cache_folder import shards_of
from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.header import read_header
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import SampleSettings
from athanor.trainer.types import Dataset

KINDS = ("latents", "text")


class StopAfter(Control):
    """Asks to stop once a run below `root` has done `num_steps` steps."""

    def __init__(self, root: Path, num_steps: int):
        super().__init__()
        self._root, self._num_steps = root, num_steps

    @property
    def stop_requested(self) -> bool:
        return any(len(Run(path.parent).losses()) >= self._num_steps for path in self._root.glob("*/events.jsonl"))


def trained(root: Path, job: TrainJob, control: Control | None = None) -> Run:
    run = open_run(root, job)
    train(run, control or Control())
    return run


def same_tensors(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_saves_every_epoch_and_says_what_it_did(tmp_path, job):
    run = trained(tmp_path, job)
    assert run.finished()
    assert [epoch.number for epoch in run.epochs()] == [1, 2, 3]
    assert all(epoch.path.is_file() and epoch.validation_loss and epoch.training_loss for epoch in run.epochs())
    start = next(event for event in run.events() if event["event"] == "start")
    assert len(run.losses()) == start["total_steps"] == 3 * start["steps_per_epoch"]
    assert {part["name"]: part["modules"] for part in start["parts"]} == {"denoiser": 48, "text_encoder": 12}
    assert sorted(run.validation_losses()) == [0, 1, 2, 3]


def test_training_changes_the_adapters_and_lowers_the_held_out_loss(tmp_path, job):
    run = trained(tmp_path, dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=8)))
    losses = run.validation_losses()
    assert losses[8] < losses[0]
    assert all(tensor.abs().max() > 0 for key, tensor in load_file(run.epochs()[-1].path).items() if key.endswith("lora_up.weight"))


def test_the_same_job_gives_the_same_file_to_the_bit(tmp_path, job):
    first, second = trained(tmp_path / "one", job), trained(tmp_path / "two", job)
    assert [epoch.sha256 for epoch in first.epochs()] == [epoch.sha256 for epoch in second.epochs()]


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [1, 3, 4, 5])
def test_a_stopped_run_resumes_to_the_bit(tmp_path, job, num_steps):
    whole = trained(tmp_path / "whole", job)
    run = trained(tmp_path / "stopped", job, StopAfter(tmp_path / "stopped", num_steps))
    assert not run.finished() and len(run.losses()) == num_steps
    assert (run.folder / "epochs" / f"my run-step{num_steps:08d}.safetensors").is_file()
    again = trained(tmp_path / "stopped", job)
    assert again.folder == run.folder and again.finished()
    assert again.losses() == whole.losses()
    assert [epoch.sha256 for epoch in again.epochs()] == [epoch.sha256 for epoch in whole.epochs()]
    assert again.validation_losses() == whole.validation_losses()


def test_a_stop_while_images_are_encoded_ends_at_once_and_loses_nothing(tmp_path, job):
    control = Control()
    control.stop()
    run = trained(tmp_path / "stopped", dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=0.0)), control)
    assert [event["event"] for event in run.events()] == ["phase", "done"] and run.events()[-1]["stopped"]
    whole = trained(tmp_path / "whole", run.train_job())
    assert [epoch.sha256 for epoch in trained(tmp_path / "stopped", run.train_job()).epochs()] == [epoch.sha256 for epoch in whole.epochs()]


def test_deleted_epochs_are_gone_and_the_last_one_comes_back(tmp_path, job):
    run = trained(tmp_path, job)
    first, last = run.epochs()[0], run.epochs()[-1]
    first.path.unlink()
    assert run.finished() and [epoch.number for epoch in run.epochs()] == [2, 3]
    last.path.unlink()
    assert not run.finished()
    assert trained(tmp_path, job).epochs()[-1].sha256 == last.sha256 and run.finished()


def test_sample_pictures_are_drawn_and_change_nothing(tmp_path, job):
    plain = trained(tmp_path / "plain", job)
    sampled = trained(tmp_path / "sampled", dataclasses.replace(job, samples=SampleSettings(prompts="# no\nsubject 1\n\nsubject 2", steps=2)))
    assert sampled.losses() == plain.losses()
    assert [(picture.epoch, picture.prompt) for picture in sampled.samples()] == [(n, f"subject {i}") for n in (1, 2, 3) for i in (1, 2)]
    assert all(picture.path.is_file() for picture in sampled.samples())


def test_a_text_encoder_with_rate_0_stays_out(tmp_path, job):
    run = trained(tmp_path, dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=0.0)))
    keys = load_file(run.epochs()[-1].path)
    assert keys and all(key.startswith("lora_unet_") for key in keys)


def test_bf16_trains_fp32_adapters(tmp_path, job):
    run = trained(tmp_path, dataclasses.replace(job, train=dataclasses.replace(job.train, precision="bf16", save_precision="fp32")))
    assert all(tensor.dtype == torch.float32 for tensor in load_file(run.epochs()[-1].path).values())
    state = load_file(run.folder / "state" / "state-a.safetensors")
    assert all(tensor.dtype == torch.float32 for key, tensor in state.items() if key.startswith("trained."))


def test_the_file_tells_of_itself(tmp_path, job):
    run = trained(tmp_path, job)
    with safe_open(run.epochs()[1].path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["ss_epoch"] == "2" and metadata["ss_num_epochs"] == "3"
    assert metadata["ss_network_dim"] == "2" and metadata["ss_network_alpha"] == "1.0"
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert '"plain"' in metadata["ss_tag_frequency"]
    assert len(metadata["sshs_model_hash"]) == 64 and len(metadata["sshs_legacy_hash"]) == 8


def test_a_loss_that_is_not_a_number_stops_the_run_with_a_sentence(tmp_path, job, workshop):
    weights = workshop / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"] = torch.full_like(tensors["conv_out.bias"], torch.inf)
    save_file(tensors, weights)
    run = open_run(tmp_path / "runs", dataclasses.replace(job, base=describe_base(workshop), dataset=without_held_out(job.dataset)))
    with pytest.raises(
        AthanorError, match=r"The loss became (nan|inf) at step 1 \(epoch 1; batch 1; images picture .*Lower the learning rate"
    ) as told:
        train(run, Control())
    assert not list(run.folder.rglob("*.safetensors"))
    readers = [thread.name for thread in threading.enumerate() if thread.name.startswith("athanor-feed")]
    assert told.traceback and readers == [], "what reads ahead has ended, though the error still holds the loop"


def test_bases_with_the_same_autoencoder_or_text_encoder_share_what_is_encoded(tmp_path, job, workshop):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, epochs=1, text_encoder_rate=0.0))
    encoded = []

    def train_and_count(name: str, job: TrainJob) -> Run:
        run = trained(tmp_path, dataclasses.replace(job, name=name))
        shards = list(shards_of(tmp_path / ".cache"))
        entries = [{key.rpartition("/")[0] for shard in shards if shard.name.startswith(kind) for key in read_header(shard).shapes} for kind in KINDS]
        encoded.append(tuple(map(len, entries)))
        return run

    def changed(part: str, prefix: str = "") -> TrainJob:
        (weights,) = (workshop / part).glob("*.safetensors")
        save_file({name: tensor * (1.01 if name.startswith(prefix) else 1.0) for name, tensor in load_file(weights).items()}, weights)
        return dataclasses.replace(job, base=describe_base(workshop))

    first = train_and_count("first", job)
    images, captions = encoded[0]
    assert images == len(job.dataset.samples) and captions > 0
    assert train_and_count("other denoiser", changed("unet")).losses() != first.losses()
    train_and_count("other autoencoder", changed("vae", "encoder."))
    train_and_count("other text encoder", changed("text_encoder"))
    assert encoded[1:] == [(images, captions), (2 * images, captions), (2 * images, 2 * captions)]


def without_held_out(dataset: Dataset) -> Dataset:
    return dataset.with_samples(dataset.with_role("train"))
