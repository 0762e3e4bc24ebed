"""Trainings with each setting of objective, captions and data on: they repeat, resume to the bit, and do what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tiny import NATIVE_PX, make_pictures

from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.dataset import assign_buckets, scan_folder, with_regularization
from athanor.trainer.errors import AthanorError
from athanor.trainer.loop import train
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import CaptionOverrides, CaptionSettings, DataSettings, ObjectiveSettings, SampleSettings
from athanor.trainer.types import Dataset


class StopAfter(Control):
    def __init__(self, run: Run, num_steps: int):
        super().__init__()
        self._run, self._num_steps = run, num_steps

    @property
    def stop_requested(self) -> bool:
        return len(self._run.losses()) >= self._num_steps


def trained(root: Path, job: TrainJob, num_steps: int | None = None) -> Run:
    run = open_run(root, job)
    train(run, Control() if num_steps is None else StopAfter(run, num_steps))
    return run


def cached(job: TrainJob) -> TrainJob:
    return dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=0.0))


def placed(dataset: Dataset) -> Dataset:
    return assign_buckets(dataset, resolution_px=NATIVE_PX, min_px=16, max_px=64, step_px=16, upscale=True)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Five training images with masks, one held out, and regularization images of another concept."""
    folder = make_pictures(tmp_path_factory.mktemp("rich") / "things")
    masks = folder.parent / "masks"
    masks.mkdir()
    for i, picture in enumerate(sorted(folder.glob("*.png"))):
        with Image.open(picture) as image:
            Image.linear_gradient("L").resize(image.size).save(masks / f"picture {i}.png")
    main = scan_folder(folder, trigger="subject", validation_percent=20, masks=masks)
    others = make_pictures(folder.parent / "others", num=2)
    for i, picture in enumerate(sorted(others.glob("*.png"))):
        Image.linear_gradient("L").rotate(90 * i).resize((40, 32)).convert("RGB").save(picture)
        picture.with_suffix(".txt").write_text(f"other {i}, plain", encoding="utf-8")
    return placed(with_regularization(main, scan_folder(others)))


SETTINGS: dict[str, Callable[[TrainJob], TrainJob]] = {
    "huber": lambda job: dataclasses.replace(job, objective=ObjectiveSettings(loss="huber", weighting="min_snr")),
    "smooth_l1": lambda job: dataclasses.replace(
        job, objective=ObjectiveSettings(loss="smooth_l1", huber_schedule="exponential", weighting="debiased")
    ),
    "noise": lambda job: dataclasses.replace(
        job,
        objective=ObjectiveSettings(
            noise_offset=0.1, noise_offset_random=True, adaptive_noise_scale=0.1, multires_iterations=6, input_perturbation=0.1
        ),
    ),
    "times": lambda job: dataclasses.replace(job, objective=ObjectiveSettings(timestep_sampling="mode", min_timestep=100, max_timestep=700)),
    "masks": lambda job: dataclasses.replace(
        job, objective=ObjectiveSettings(masked_loss="normalized", unmasked_weight=0.1, regularization_weight=0.5)
    ),
    "captions": lambda job: dataclasses.replace(job, captions=CaptionSettings(shuffle=True, tag_dropout=0.2, dropout=0.2, tag_warmup=0.5)),
    "cached captions": lambda job: cached(
        dataclasses.replace(job, captions=CaptionSettings(shuffle=True, tag_dropout=0.2, dropout=0.2, tag_warmup=0.5))
    ),
    "data": lambda job: dataclasses.replace(job, data=DataSettings(mirror=True, random_crop=True, colors=True, variants=3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_each_changes_the_training_and_resumes_to_the_bit(tmp_path, job, rich, name):
    job = dataclasses.replace(job, dataset=rich, train=dataclasses.replace(job.train, epochs=2))
    with_it = SETTINGS[name](job)
    plain = trained(tmp_path / "plain", cached(job) if with_it.train.text_encoder_rate == 0 else job)
    whole = trained(tmp_path / "whole", with_it)
    assert whole.losses() != plain.losses()
    assert whole.validation_losses()[0] == plain.validation_losses()[0], "the measure is the same whatever is minimised"
    run = trained(tmp_path / "stopped", with_it, num_steps=3)
    assert len(run.losses()) == 3 and not run.finished()
    run = trained(tmp_path / "stopped", with_it)
    assert run.losses() == whole.losses()
    assert [epoch.sha256 for epoch in run.epochs()] == [epoch.sha256 for epoch in whole.epochs()]


def test_sample_pictures_change_nothing_with_everything_on(tmp_path, job, rich):
    job = dataclasses.replace(job, dataset=rich, train=dataclasses.replace(job.train, epochs=2))
    for name in ("noise", "cached captions", "data"):
        job = SETTINGS[name](job)
    plain = trained(tmp_path / "plain", job)
    sampled = trained(tmp_path / "sampled", dataclasses.replace(job, samples=SampleSettings(prompts="subject", steps=2)))
    assert sampled.losses() == plain.losses() and sampled.samples()


def test_regularization_images_are_mixed_in_with_their_own_weight(tmp_path, job, rich):
    job = dataclasses.replace(job, dataset=rich, train=dataclasses.replace(job.train, epochs=1, batch_size=1))
    num_train = len(rich.with_role("train"))
    assert sum(sample.repeats for sample in rich.with_role("regularization")) == num_train
    run = trained(tmp_path, job)
    assert len(run.losses()) == 2 * num_train
    without = trained(tmp_path / "without", dataclasses.replace(job, objective=ObjectiveSettings(regularization_weight=0.0)))
    assert sum(loss == 0 for loss in without.losses()) == num_train


def test_the_file_tells_what_was_minimised(tmp_path, job, rich):
    objective = ObjectiveSettings(weighting="min_snr", loss="huber", noise_offset=0.05, masked_loss="normalized", regularization_weight=0.5)
    job = dataclasses.replace(job, dataset=rich, objective=objective, data=DataSettings(mirror=True), train=dataclasses.replace(job.train, epochs=1))
    run = trained(tmp_path, job)
    with safe_open(run.epochs()[-1].path, framework="pt") as file:
        told = file.metadata()
    expected = {"min_snr_gamma": "5.0", "loss_type": "huber", "noise_offset": "0.05", "masked_loss": "True", "prior_loss_weight": "0.5"}
    expected |= {
        "flip_aug": "True",
        "num_reg_images": str(len(rich.with_role("train"))),
        "num_batches_per_epoch": str(len(run.losses())),
        "debiased_estimation": "False",
    }
    assert {name: told[f"ss_{name}"] for name in expected} == expected


def test_concepts_count_as_they_are_told(tmp_path, job, rich):
    job = dataclasses.replace(job, dataset=rich, train=dataclasses.replace(job.train, epochs=1, batch_size=1, rate=1e-12, text_encoder_rate=0.0))
    plain = trained(tmp_path / "plain", job).losses()
    halved = trained(tmp_path / "halved", dataclasses.replace(job, objective=ObjectiveSettings(concept_weights="others = 0.5"))).losses()
    ratios = sorted(round(half / whole, 3) for half, whole in zip(halved, plain, strict=True))
    assert ratios == [0.5] * (len(plain) // 2) + [1.0] * (len(plain) // 2)


def test_a_black_mask_trains_nothing(tmp_path, job):
    folder = make_pictures(tmp_path / "things", num=3)
    masks = tmp_path / "masks"
    masks.mkdir()
    for picture in folder.glob("*.png"):
        with Image.open(picture) as image:
            Image.new("L", image.size).save(masks / picture.name)
    job = dataclasses.replace(job, dataset=placed(scan_folder(folder, masks=masks)), train=dataclasses.replace(job.train, epochs=1))
    assert set(trained(tmp_path / "runs", job).losses()) == {0.0}
    assert 0.0 not in trained(tmp_path / "off", dataclasses.replace(job, objective=ObjectiveSettings(masked_loss="off"))).losses()


def test_dropped_captions_train_the_empty_prompt(tmp_path, job, dataset):
    """With every caption dropped the words do not matter, with the text encoder's outputs cached or not."""
    other = dataset.with_samples(
        tuple(dataclasses.replace(sample, caption="zebra") if sample.role == "train" else sample for sample in dataset.samples)
    )
    for each in (job, cached(job)):
        each = dataclasses.replace(each, captions=CaptionSettings(dropout=1.0), train=dataclasses.replace(each.train, epochs=1))
        one = trained(tmp_path / f"one {each.train.text_encoder_rate}", each)
        two = trained(tmp_path / f"two {each.train.text_encoder_rate}", dataclasses.replace(each, dataset=other))
        assert one.losses() == two.losses()


def test_the_loop_says_how_long_it_waited_for_data(tmp_path, job):
    done = trained(tmp_path, job).events()[-1]
    assert done["event"] == "done" and 0 <= done["waited_share"] < 0.5


REFUSED = [
    ({"objective": ObjectiveSettings(min_snr_gamma=1.0)}, "min_snr_gamma is 1.0 but does nothing; choose the weighting min_snr, or put"),
    ({"objective": ObjectiveSettings(huber_c=0.5)}, "huber_c is 0.5 but does nothing; choose the loss huber or smooth_l1"),
    ({"objective": ObjectiveSettings(loss="huber", huber_scale=0.5)}, "huber_scale is 0.5 but does nothing; choose huber or smooth_l1 with the"),
    ({"objective": ObjectiveSettings(adaptive_noise_scale=-0.1)}, "adaptive_noise_scale is -0.1 but does nothing; set noise_offset"),
    ({"objective": ObjectiveSettings(shift=2.0)}, "shift is 2.0 but does nothing"),
    ({"objective": ObjectiveSettings(timestep_sampling="shifted")}, "made for rectified flows; tiny base predicts noise"),
    ({"objective": ObjectiveSettings(min_timestep=500, max_timestep=500)}, "the first must be the smaller one"),
    ({"objective": ObjectiveSettings(zero_terminal_snr="on")}, "works with v prediction only"),
    ({"objective": ObjectiveSettings(masked_loss="normalized")}, "no image has a mask"),
    ({"objective": ObjectiveSettings(regularization_weight=0.5)}, "there are no regularization images"),
    ({"objective": ObjectiveSettings(concept_weights="cat 2")}, "has the line 'cat 2'; write the concept, = and a number"),
    ({"objective": ObjectiveSettings(concept_weights="ghost = 2")}, "'ghost', which no image has; there are: many 图片"),
    ({"objective": ObjectiveSettings(noise_offset=7.0)}, "noise_offset is 7.0; it must be from 0.0 to 1.0"),
    ({"captions": CaptionSettings(keep_tokens=1)}, "keep_tokens is 1 but does nothing; turn shuffle on"),
    ({"captions": CaptionSettings(shuffle=True, variants=4)}, "while the text encoder is trained"),
    ({"data": DataSettings(variants=4)}, "variants is 4 but does nothing; turn random_crop or colors on"),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=[sentence[:40] for _, sentence in REFUSED])
def test_what_would_do_nothing_is_refused(job, settings, sentence):
    with pytest.raises(AthanorError) as refusal:
        check_train_job(dataclasses.replace(job, **settings))
    assert sentence in str(refusal.value) and len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (ObjectiveSettings(weighting="min_snr"), "weighting is 'min_snr', which is made for models that predict noise or v"),
        (ObjectiveSettings(noise_offset=0.1), "noise_offset is 0.1, which is made for models"),
        (ObjectiveSettings(multires_iterations=6), "multires_iterations is 6"),
        (ObjectiveSettings(loss="huber", huber_schedule="snr"), "a rectified flow, has not; choose auto"),
        (ObjectiveSettings(zero_terminal_snr="on"), "predicts the flow"),
    ],
)
def test_what_does_nothing_for_a_flow_is_refused(job, objective, sentence):
    flow = dataclasses.replace(job, base=dataclasses.replace(job.base, prediction="flow"), objective=objective)
    with pytest.raises(AthanorError, match=sentence):
        check_train_job(flow)
    check_train_job(dataclasses.replace(flow, objective=ObjectiveSettings(loss="huber", timestep_sampling="shifted")))


def test_what_a_dataset_file_turns_on_may_be_refined(job, dataset):
    said = tuple(dataclasses.replace(sample, captioning=CaptionOverrides(shuffle=True)) for sample in dataset.samples)
    check_train_job(dataclasses.replace(job, dataset=dataset.with_samples(said), captions=CaptionSettings(keep_tokens=1)))


def test_embeddings_from_templates_have_no_captions_to_change(job):
    embedding = dataclasses.replace(job.embedding, templates="style")
    job = dataclasses.replace(job, kind="embedding", embedding=embedding, captions=CaptionSettings(shuffle=True))
    with pytest.raises(AthanorError, match="shuffle does nothing with the templates style"):
        check_train_job(job)


def test_an_embeddings_name_stays_whole(tmp_path, job):
    """Whatever is shuffled, left out or dropped, every prompt holds the vectors, so that each step trains them."""
    embedding = dataclasses.replace(job.embedding, token="subject", num_vectors=2)
    train_settings = dataclasses.replace(job.train, rate=0.0, text_encoder_rate=0.05, epochs=2)
    captions = CaptionSettings(shuffle=True, tag_dropout=0.9, dropout=0.5)
    run = trained(tmp_path, dataclasses.replace(job, kind="embedding", embedding=embedding, train=train_settings, captions=captions))
    assert run.finished() and all(torch.tensor(run.losses()).isfinite())


@pytest.mark.parametrize(("most", "warned"), [("75", True), ("150", True), ("225", False)])
def test_captions_are_cut_at_the_number_of_tokens_that_is_set(tmp_path, job, most, warned):
    """200 letters of the tiny tokenizer are 200 tokens."""
    samples = tuple(dataclasses.replace(sample, caption="ab " * 67 + "a" * 66) for sample in job.dataset.samples)
    long = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=samples), captions=CaptionSettings(max_tokens=most))
    run = trained(tmp_path, cached(dataclasses.replace(long, train=dataclasses.replace(long.train, epochs=1))))
    told = [event["message"] for event in run.events() if event["event"] == "warning" and "longer than" in event["message"]]
    assert told == ([f"Some captions are longer than {most} tokens; what comes after is not seen."] if warned else [])
    with safe_open(run.epochs()[-1].path, framework="pt") as file:
        assert file.metadata()["ss_max_token_length"] == most
    cut = dataclasses.replace(
        long, dataset=dataclasses.replace(long.dataset, samples=tuple(dataclasses.replace(s, caption=s.caption[:-30]) for s in samples))
    )
    again = trained(tmp_path / "cut", cached(dataclasses.replace(cut, train=dataclasses.replace(cut.train, epochs=1))))
    assert (again.losses() == run.losses()) == (most != "225"), "what is cut off does not matter"


def test_dropping_single_encoders_is_refused_where_they_are_not_apart(job):
    with pytest.raises(
        AthanorError, match=r"clip_l_dropout is 0\.4 but does nothing, since tiny base is SD1\.5, whose encoders are not dropped one by one"
    ):
        check_train_job(dataclasses.replace(job, captions=CaptionSettings(clip_l_dropout=0.4)))
