"""Training a model's own weights: all of them or some, in both formats, with gradients used at once, and resumed to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from athanor.trainer.bases import describe_base
from athanor.trainer.checks.engine import process_problems
from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.compare.kinds import AXES, Choices, no_adapter
from athanor.trainer.compare.painter import Painter
from athanor.trainer.config import CompareJob, SheetCell, TrainJob
from athanor.trainer.control import Control
from athanor.trainer.data.cache import TensorCache
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.families import family
from athanor.trainer.loop import train
from athanor.trainer.measuring import measured_epochs
from athanor.trainer.memory.space import bytes_to_come, num_files_at_once, space_problems, state_bytes
from athanor.trainer.optimizing.parameterwise import Parameterwise
from athanor.trainer.runs.promote import kind_folder, pick_epochs, promote
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, CheckpointSettings, OptimizerSettings, PerformanceSettings, RunSettings, TrainSettings
from athanor.trainer.trainees.checkpoint_file import take_checkpoint
from athanor.trainer.trainees.trainee import Group, Trainee
from athanor.trainer.types import BaseModel

UNET, TEXT = "model.diffusion_model.", "cond_stage_model."
TRAIN = TrainSettings(epochs=2, batch_size=2, rate=1e-3, text_encoder_rate=1e-3, precision="fp32", save_precision="fp32", seed=3, schedule="constant")


@pytest.fixture
def whole(base, dataset) -> TrainJob:
    return TrainJob("my model", base, dataset, kind="checkpoint", train=TRAIN)


def changed(job: TrainJob, **train: object) -> TrainJob:
    return dataclasses.replace(job, train=dataclasses.replace(job.train, **train))


def trained(root: Path, job: TrainJob, control: Control | None = None) -> Run:
    run = open_run(root, job)
    train(run, control or Control())
    return run


def last(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.epochs()[-1].path)


def denoiser_of(run: Run, base: BaseModel) -> dict[str, torch.Tensor]:
    """The last epoch's. The tiny base has norms of another size than a file tells, so that its own shell is filled."""
    denoiser = family("sd15").load_denoiser(base, torch.float32)
    take_checkpoint(run.epochs()[-1].path, family("sd15"), base, {"denoiser": dict(denoiser.named_parameters())})
    return denoiser.state_dict()


class StopAfterTwo(Control):
    """Asks to stop once the one run below `root` has done two steps."""

    def __init__(self, root: Path):
        super().__init__()
        self._root = root

    @property
    def stop_requested(self) -> bool:
        return any(len(Run(path.parent).losses()) >= 2 for path in self._root.glob("*/events.jsonl"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, base, dataset) -> Run:
    return trained(tmp_path_factory.mktemp("runs"), TrainJob("my model", base, dataset, kind="checkpoint", train=TRAIN))


def test_an_epoch_is_a_whole_checkpoint_that_has_learned(finished, base):
    assert finished.finished() and finished.content() == "checkpoint"
    losses = finished.validation_losses()
    assert losses[2] < losses[0]
    assert describe_base(finished.epochs()[-1].path).family == "sd15"
    before = family("sd15").load_denoiser(base, torch.float32).state_dict()
    after = denoiser_of(finished, base)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert {name.split(".")[0] for name in last(finished)} == {"model", "cond_stage_model", "first_stage_model"}


def test_it_tells_what_it_is(finished, base):
    with safe_open(finished.epochs()[-1].path, framework="pt") as file:
        told = file.metadata()
    assert told["modelspec.architecture"] == "stable-diffusion-v1" and told["modelspec.title"] == "my model"
    assert told["modelspec.implementation"] == "https://github.com/Stability-AI/generative-models"
    assert (told["ss_unet_lr"], told["ss_epoch"], told["ss_base_model_version"]) == ("0.001", "2", "sd_v1")
    start = next(event for event in finished.events() if event["event"] == "start")
    of = family(base.family)
    counts = [sum(p.numel() for p in m.parameters()) for m in (of.load_denoiser(base, torch.float32), of.load_text(base, torch.float32).encoders[0])]
    assert [(part["name"], part["rate"], part["parameters"]) for part in start["parts"]] == [
        ("denoiser", 1e-3, counts[0]),
        ("text_encoder", 1e-3, counts[1]),
    ]


def test_epochs_are_measured_from_their_files_as_in_the_training(finished):
    measured = [(epoch and epoch.number, loss) for epoch, loss in measured_epochs(finished, finished.epochs(), Control())]
    known = finished.validation_losses()
    assert measured == [(None, pytest.approx(known[0])), (1, pytest.approx(known[1])), (2, pytest.approx(known[2]))]


def test_a_promoted_checkpoint_is_the_epoch_with_its_date(finished, tmp_path):
    (file,) = promote(finished, pick_epochs(finished, "last"), tmp_path, "final 终")
    assert kind_folder(finished) == "checkpoints"
    before, after = last(finished), load_file(file)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert [path.name for path in tmp_path.iterdir()] == ["final 终.safetensors"]


def test_a_part_at_rate_0_stays_as_it_was(tmp_path, whole, base):
    run = trained(tmp_path, changed(whole, text_encoder_rate=0.0, epochs=1))
    encoder = family("sd15").load_text(base, torch.float32).encoders[0].state_dict()
    saved = {name.split("text_model.")[-1]: value for name, value in last(run).items() if name.startswith(TEXT)}
    assert saved and all(torch.equal(value, encoder[name if name in encoder else f"text_model.{name}"]) for name, value in saved.items())


@pytest.mark.parametrize(("blocks", "pattern"), [("mid_block", ""), ("denoiser.up_blocks.*", r"attn2\.to_[kv]")])
def test_parts_are_chosen_by_name(tmp_path, whole, base, blocks, pattern):
    import fnmatch
    import re

    job = dataclasses.replace(changed(whole, epochs=1), checkpoint=CheckpointSettings(blocks=blocks, pattern=pattern))
    run = trained(tmp_path, job)
    before = family("sd15").load_denoiser(base, torch.float32).state_dict()
    after = denoiser_of(run, base)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    glob = blocks.removeprefix("denoiser.").removesuffix(".*") + ".*"
    assert moved == {name for name in before if fnmatch.fnmatchcase(name, glob) and re.search(pattern, name)} != set()


def test_names_that_mean_nothing_are_told(tmp_path, whole):
    for checkpoint, told in (
        (CheckpointSettings(blocks="double_blocks.*"), "matches no weight"),
        (CheckpointSettings(pattern="nothing$"), "leaves no weight"),
    ):
        with pytest.raises(AthanorError, match=told):
            trained(tmp_path, dataclasses.replace(whole, checkpoint=checkpoint))


BF16 = {"checkpoint": CheckpointSettings(weights="bf16"), "train": dataclasses.replace(TRAIN, precision="bf16", optimizer="adamw8bit")}
FUSED = {
    "checkpoint": CheckpointSettings(weights="bf16", fused_backward=True),
    "train": dataclasses.replace(TRAIN, precision="bf16", optimizer="adafactor", max_grad_norm=0.0),
    "optimizer": OptimizerSettings(ema_decay=0.9, ema_on_cpu=True),
    "performance": PerformanceSettings(gradient_checkpointing="full"),
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, BF16, FUSED], ids=["fp32", "bf16 in 8 bits", "fused with a mean"])
def test_a_stopped_run_resumes_to_the_bit(tmp_path, whole, changes):
    if changes is BF16:
        pytest.importorskip("bitsandbytes")
    job = dataclasses.replace(whole, **changes)
    one = trained(tmp_path / "one", job)
    stopped = trained(tmp_path / "two", job, StopAfterTwo(tmp_path / "two"))
    assert not stopped.finished() and len(stopped.losses()) == 2
    two = trained(tmp_path / "two", job)
    assert two.losses() == one.losses()
    assert [epoch.sha256 for epoch in two.epochs()] == [epoch.sha256 for epoch in one.epochs()]
    assert one.validation_losses()[2] < one.validation_losses()[0]


def test_gradients_used_at_once_move_as_those_that_waited(tmp_path, whole):
    slow = changed(whole, optimizer="adafactor", max_grad_norm=0.0)
    fast = dataclasses.replace(slow, checkpoint=CheckpointSettings(fused_backward=True))
    one, two = trained(tmp_path / "one", slow), trained(tmp_path / "two", fast)
    assert one.losses() == two.losses()
    assert all(torch.equal(value, last(two)[name]) for name, value in last(one).items())


def test_each_gradient_is_gone_before_the_next_layer_has_one():
    layers = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    group = Group("denoiser", 0.1, dict(layers.named_parameters()), 3)
    moved = Parameterwise((group,), lambda groups: torch.optim.SGD(groups), lambda number: number)
    moved.fuse()
    seen = []
    for layer in layers:
        layer.weight.register_post_accumulate_grad_hook(lambda weight: seen.append(sum(p.grad is not None for p in layers.parameters())))
    before = [p.detach().clone() for p in layers.parameters()]
    layers(torch.ones(2, 4)).sum().backward()
    assert seen and max(seen) <= 1
    assert all(p.grad is None and not torch.equal(p, old) for p, old in zip(layers.parameters(), before, strict=True))


def test_bf16_weights_move_by_steps_too_small_for_them():
    weight = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    moved = Parameterwise((Group("denoiser", 1e-4, {"weight": weight}, 1),), lambda groups: torch.optim.SGD(groups), lambda number: step)
    for step in range(20):  # noqa: B007  (read by the function above)
        weight.grad = torch.ones_like(weight)
        moved.step()
    # Twenty times 0.0001 down from 1, whose next neighbour in bf16 is 0.0039 away.
    assert weight.float().mean().item() == pytest.approx(1 - 20e-4, abs=4e-4)
    assert weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"rate": 0.0, "text_encoder_rate": 0.0}}, "All learning rates are 0"),
        ({"checkpoint": {"pattern": "("}}, "is no regular expression"),
        ({"checkpoint": {"weights": "bf16"}}, "weights in bf16 need the precision bf16, not fp32"),
        ({"checkpoint": {"weights": "bf16"}, "train": {"precision": "bf16", "optimizer": "schedulefree_adamw"}}, "looks at all weights together"),
        ({"checkpoint": {"fused_backward": True}}, "goes with the optimizer adafactor, not with adamw"),
        ({"checkpoint": {"fused_backward": True}, "optimizer": {"accumulation": 4}}, "gradients of 4 cannot be added up"),
        ({"checkpoint": {"fused_backward": True}}, "cannot be shortened to 1 together"),
        ({"checkpoint": {"fused_backward": True}, "train": {"precision": "fp16"}}, "whose gradients are scaled"),
        ({"adapter": {"dropout": 0.1}}, "Adapter Settings do nothing"),
        ({"train": {"base_precision": "fp8"}}, "but these are trained; set it to auto"),
        ({"performance": {"block_offload": True}}, "block_offload moves weights that stay as they are"),
    ],
)
def test_what_cannot_go_together_is_told(whole, changes, told):
    sections = {name: dataclasses.replace(getattr(whole, name), **values) for name, values in changes.items()}
    with pytest.raises(InvalidJobError, match=told):
        check_train_job(dataclasses.replace(whole, **sections))


def test_adapter_settings_as_they_come_are_no_matter(whole):
    check_train_job(dataclasses.replace(whole, adapter=AdapterSettings(rank=64, alpha=1.0)))


def test_several_processes_cannot_add_up_what_is_gone(whole):
    job = dataclasses.replace(whole, checkpoint=CheckpointSettings(fused_backward=True), optimizer=OptimizerSettings(accumulation=2))
    assert "several processes" in process_problems(job, 2)[0] and not process_problems(job, 1)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path, whole):
    many = changed(whole, epochs=9)
    few = dataclasses.replace(many, run=RunSettings(keep_last=2))
    assert (num_files_at_once(many), num_files_at_once(few)) == (9, 4)
    (told,) = space_problems(many, tmp_path, free_bytes=150 << 20)
    assert "9 checkpoints of" in told and "only 0.1 GiB are free" in told and "set keep_last" in told
    assert space_problems(many, tmp_path, free_bytes=1 << 40) == []
    assert space_problems(dataclasses.replace(many, kind="lora"), tmp_path, free_bytes=0) == []
    assert state_bytes(whole, 4000) == 1000 * (4 + 8)
    assert state_bytes(dataclasses.replace(whole, **FUSED), 4000) == int(1000 * (2 + 0.1 + 4))


def test_memory_that_gradients_and_optimizer_will_take_is_counted(whole):
    weight = torch.nn.Parameter(torch.zeros(1000))
    one = Trainee((Group("denoiser", 1.0, {"w": weight}, 1),), dict, lambda caption, draw: caption, str, lambda path: None)
    assert bytes_to_come(whole, one) == 1000 * (4 + 8)
    assert bytes_to_come(dataclasses.replace(whole, **FUSED), one) == 100
    assert bytes_to_come(dataclasses.replace(whole, kind="lora"), one) == 0


def test_a_comparison_draws_with_each_epochs_own_weights(finished, base, tmp_path):
    def cell(name: str, file: str) -> SheetCell:
        return SheetCell(name, file, 1.0, 1.0, "subject 1", "", 1, 2, 2.0)

    files = [str(epoch.path) for epoch in finished.epochs()]
    cells = [cell(f"{number}.png", file) for number, file in enumerate(["", *files, ""])]
    job = CompareJob(base, tuple(cells), 32, 32, "fp32", trained_parts=("denoiser", "text_encoder"))
    painter = Painter(job, torch.device("cpu"), TensorCache(None))
    painter.load(cells)
    with torch.no_grad():
        bare, first, second, again = (painter.paint([each])[0].tobytes() for each in cells)
    assert len({bare, first, second}) == 3
    assert again == bare


def test_strengths_of_whole_models_are_refused():
    choices = Choices({}, (), (), (), "", is_whole=True)
    with pytest.raises(AthanorError, match="whole models"):
        AXES["strength"]("0.5, 1", choices)
    assert no_adapter(choices).label == "base"
