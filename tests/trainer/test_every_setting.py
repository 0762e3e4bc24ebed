"""Every setting of one kind of training is refused, or taken, by the others: none is passed over in silence."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from athanor.trainer.errors import InvalidJobError
from athanor.trainer.settings import AdapterSettings, CheckpointSettings, EmbeddingSettings, PriorSettings
from athanor.trainer.validate import check_train_job

SECTIONS = {"adapter": AdapterSettings, "checkpoint": CheckpointSettings, "embedding": EmbeddingSettings, "prior": PriorSettings}
OF_KIND = {
    "lora": {"adapter", "prior"},
    "embedding": {"embedding"},
    "checkpoint": {"checkpoint", "prior"},
}
TAKEN = {
    ("lora", "embedding"): {"token", "other_embeddings"},
    ("embedding", "adapter"): {"merge_files", "files_sha256", "kind", "rank", "alpha"},
    ("checkpoint", "adapter"): {"kind", "rank", "alpha"},
    ("checkpoint", "embedding"): {"token"},
}
"""What is always set to something, or has a meaning there too."""


def other_value(item: dataclasses.Field) -> Any:
    """One that is in range and is not the default."""
    metadata = item.metadata
    if metadata.get("choices"):
        return next(choice for choice in metadata["choices"] if choice != item.default)
    if isinstance(item.default, bool):
        return not item.default
    if isinstance(item.default, str):
        return "up_blocks.*"
    return type(item.default)(metadata["minimum"] if metadata["minimum"] != item.default else metadata["maximum"])


CASES = [
    pytest.param(kind, section, item, id=f"{kind}-{section}.{item.name}")
    for kind, own in OF_KIND.items()
    for section, settings in SECTIONS.items()
    if section not in own
    for item in dataclasses.fields(settings)
    if item.name not in TAKEN.get((kind, section), set())
]


@pytest.mark.parametrize(("kind", "section", "item"), CASES)
def test_a_setting_of_another_kind_of_training_is_refused(job, kind, section, item):
    usual = dataclasses.replace(
        job, kind=kind, adapter=AdapterSettings(), train=dataclasses.replace(job.train, rate=0.0 if kind == "embedding" else 0.01)
    )
    check_train_job(usual)
    changed = dataclasses.replace(getattr(usual, section), **{item.name: other_value(item)})
    with pytest.raises(InvalidJobError) as told:
        check_train_job(dataclasses.replace(usual, **{section: changed}))
    assert all(problem.endswith((".", ")")) and problem.count("\n") == 0 for problem in told.value.problems)


def test_an_embedding_has_no_rate_of_the_denoiser(job):
    with pytest.raises(InvalidJobError, match=r"rate is 0.02, which moves the U-Net or transformer"):
        check_train_job(dataclasses.replace(job, kind="embedding", adapter=AdapterSettings(), train=dataclasses.replace(job.train, rate=0.02)))


def test_a_run_too_short_for_its_dropped_epoch_is_refused(job):
    def with_every(number: int):
        return dataclasses.replace(job, captions=dataclasses.replace(job.captions, dropout_every_epochs=number))

    check_train_job(with_every(3))
    with pytest.raises(InvalidJobError, match=r"dropout_every_epochs is 4, but the run has 3 epochs, so no caption would be dropped"):
        check_train_job(with_every(4))
