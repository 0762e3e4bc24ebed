"""Mistakes with class images and with what holds to the base: each told in a sentence before anything loads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from athanor.trainer.checks.prior import prior_notes, prior_problems
from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.config import TrainJob
from athanor.trainer.errors import InvalidJobError
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings, ObjectiveSettings, PriorSettings
from athanor.trainer.types import Dataset, Placement, Sample

DRAWS = {"class_images": 4, "class_prompts": "a thing"}
HOLDS = {"hold_weight": 1.0, "class_word": "thing"}


def told(job: TrainJob, **prior: object) -> list[str]:
    return prior_problems(dataclasses.replace(job, prior=PriorSettings(**prior)))


@pytest.mark.parametrize(
    ("prior", "sentence"),
    [
        ({"class_images": 4}, "4 class images are wanted but class_prompts is empty"),
        ({"class_images": 4, "class_prompts": "# nothing"}, "class_prompts is empty"),
        ({"class_prompts": "a thing", "class_steps": 9}, "class_prompts, class_steps does nothing while class_images is 0"),
        ({"class_target": "base"}, "there are no class images; choose a regularization folder"),
        ({"class_target": "both"}, "class_target is 'both'; choose one of picture, base"),
        ({"hold_weight": 1.0}, "hold_weight is 1 but class_word is empty"),
        ({"class_word": "thing"}, "class_word is 'thing' but does nothing while hold_weight is 0"),
        ({"hold_weight": 1.0, "class_word": "a Subject"}, "the class_word 'a Subject' has the trigger 'subject' in it"),
        ({"class_images": 4, "class_prompts": "a thing\nthe Subject"}, "the class prompt 'the Subject' has the trigger 'subject'"),
    ],
)
def test_each_mistake_is_one_sentence(job, prior, sentence):
    problems = told(job, **prior)
    assert len(problems) == 1 and sentence in problems[0] and problems[0].startswith("Prior preservation: ") and problems[0].endswith(".")


def test_what_is_right_is_left_alone(job):
    assert told(job) == [] == told(job, **DRAWS) == told(job, **HOLDS) == told(job, **DRAWS, **HOLDS) == told(job, **DRAWS, class_target="base")
    weighted = dataclasses.replace(job, objective=ObjectiveSettings(regularization_weight=0.5))
    with pytest.raises(InvalidJobError, match=r"regularization_weight is 0\.5 but there are no regularization images"):
        check_train_job(weighted)
    check_train_job(dataclasses.replace(weighted, prior=PriorSettings(**DRAWS)))


def test_the_trigger_must_be_there_to_be_replaced(job):
    without = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, trigger=""))
    assert "the dataset has no trigger" in told(without, **HOLDS)[0]
    other = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, trigger="zebra"))
    assert "no caption has the trigger 'zebra'" in told(other, **HOLDS)[0]
    samples = tuple(
        dataclasses.replace(sample, caption="plain") if sample is job.dataset.with_role("train")[0] else sample for sample in job.dataset.samples
    )
    one_without = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=samples), prior=PriorSettings(**HOLDS))
    assert prior_problems(one_without) == []
    assert prior_notes(one_without)[0].startswith("1 image not held to the base, for the caption is without the trigger: picture ")
    assert prior_notes(dataclasses.replace(one_without, prior=PriorSettings())) == []


def test_an_embedding_needs_none_of_it(job):
    embedding = dataclasses.replace(job, kind="embedding", adapter=AdapterSettings(), embedding=EmbeddingSettings(token="new"))
    assert told(embedding) == []
    assert "an embedding leaves the model as it is" in told(embedding, **DRAWS)[0]


def class_image(path: Path, caption: str = "a thing") -> Sample:
    with Image.open(path) as image:
        width, height = image.size
    state = path.stat()
    placement = Placement((32, 32), (32, 32), (0, 0))
    return Sample(str(path), width, height, f"{state.st_size}-{state.st_mtime_ns}", caption=caption, role="regularization", placement=placement)


def with_class(job: TrainJob, *samples: Sample) -> TrainJob:
    dataset: Dataset = job.dataset.with_samples((*job.dataset.samples, *samples))
    return dataclasses.replace(job, dataset=dataset)


def test_class_images_that_are_training_images_or_look_like_them(tmp_path, job):
    instance = Path(job.dataset.with_role("train")[0].path)
    copy, alike, other = tmp_path / "copy.png", tmp_path / "alike.png", tmp_path / "other.png"
    copy.write_bytes(instance.read_bytes())
    with Image.open(instance) as image:
        image.resize((image.width * 2, image.height * 2)).save(alike)
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(other)
    assert prior_problems(with_class(job, class_image(other))) == []
    (problem,) = prior_problems(with_class(job, class_image(copy), class_image(other)))
    assert "1 class image is trained as instance images too (copy.png)" in problem
    (problem,) = prior_problems(with_class(job, class_image(alike), class_image(other)), tmp_path / "looks")
    assert f"1 class image is too much like training images (alike.png like {instance.name})" in problem
    assert (tmp_path / "looks").is_dir()


def test_captions_of_class_images_are_without_the_trigger(tmp_path, job):
    path = tmp_path / "other.png"
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(path)
    (problem,) = prior_problems(with_class(job, class_image(path, "a Subject, red")))
    assert "the caption of 1 class image (other.png) have" not in problem and "1 class image (other.png)" in problem and "'subject'" in problem
