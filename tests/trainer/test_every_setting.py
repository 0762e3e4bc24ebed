"""Every setting of one kind of training is refused, or taken, by the others: none is passed over in silence."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_flow import make_flux_folder, make_schnell_split

from athanor.trainer.adapters.check import needs_unpacked
from athanor.trainer.bases import describe_base
from athanor.trainer.checks.validate import check_compare_job, check_train_job
from athanor.trainer.config import CompareJob, SheetCell
from athanor.trainer.errors import InvalidJobError
from athanor.trainer.settings import AdapterSettings, CheckpointSettings, EmbeddingSettings, PriorSettings, SampleSettings
from athanor.trainer.types import BaseModel

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


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return describe_base(make_flux_folder(tmp_path_factory.mktemp("flux")).path)


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


FLUX = [
    ({"adapter": AdapterSettings(kind="locon")}, "FLUX.1 has no convolutions, so that LoCon would be the same as LoRA"),
    ({"adapter": AdapterSettings(kind="loha", conv_rank=4)}, "conv_rank is 4, but FLUX.1 has no convolutions"),
    ({"samples": SampleSettings(prompts="a cat", negative_prompt="blurry")}, "FLUX.1 is drawn without a negative prompt"),
    ({"samples": SampleSettings(prompts="a cat\na dog --n blurry")}, "take --n out of the prompts"),
    ({"prior": PriorSettings(class_images=2, class_prompts="a cat", class_negative_prompt="x")}, "class_negative_prompt does nothing"),
]


@pytest.mark.parametrize(("sections", "sentence"), FLUX, ids=[sentence[:30] for _, sentence in FLUX])
def test_what_flux_cannot_is_refused_before_it_is_loaded(job, flux, sections, sentence):
    job = dataclasses.replace(job, base=flux, adapter=AdapterSettings())
    check_train_job(job)
    with pytest.raises(InvalidJobError) as told:
        check_train_job(dataclasses.replace(job, **sections))
    assert len(told.value.problems) == 1 and sentence in told.value.problems[0]


@pytest.fixture(scope="module")
def schnell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schnell")
    made = make_schnell_split(folder)
    return describe_base(made.path, (folder / "tokenizer", folder / "tokenizer_2"), made.text_encoders, made.vae)


SCHNELL = [
    ({"samples": SampleSettings(prompts="a cat", guidance=3.5)}, "Sample pictures: guidance is 3.5 but does nothing"),
    ({"samples": SampleSettings(prompts="a cat\na dog --l 5")}, "Sample pictures: guidance is 5 but does nothing"),
    ({"samples": SampleSettings(prompts="a cat --g 2")}, "take --l and --g out of the prompts"),
    ({"prior": PriorSettings(class_images=2, class_prompts="a cat", class_guidance=4.0)}, "Prior preservation: class_guidance is 4 but does nothing"),
]


@pytest.mark.parametrize(("sections", "sentence"), SCHNELL, ids=[sentence[:50] for _, sentence in SCHNELL])
def test_a_guidance_is_refused_for_schnell_which_reads_none(job, schnell, flux, sections, sentence):
    job = dataclasses.replace(job, base=schnell, adapter=AdapterSettings())
    check_train_job(job)
    for unasked in (1.0, SampleSettings().guidance):
        check_train_job(dataclasses.replace(job, samples=SampleSettings(prompts="a cat", guidance=unasked)))
    with pytest.raises(InvalidJobError) as told:
        check_train_job(dataclasses.replace(job, **sections))
    assert len(told.value.problems) == 1 and sentence in told.value.problems[0] and "is FLUX.1 schnell" in told.value.problems[0]
    check_train_job(dataclasses.replace(job, base=flux, **sections))


CHOICES = [
    ({"adapter": AdapterSettings(blocks="upblocks.*")}, "Adapter: Blocks: 'upblocks.*' matches no layer that is trained here."),
    ({"adapter": AdapterSettings(blocks="mid_block, transformer_blocks.0")}, "Blocks: 'transformer_blocks.0' matches no layer"),
    ({"adapter": AdapterSettings(rules="up_blocks.*: rate=0.5\nsingle.*: rank=2")}, "Rules: 'single.*' matches no layer"),
    ({"adapter": AdapterSettings(pattern="to_x$")}, "Pattern: 'to_x$' matches no layer"),
    (
        {"kind": "checkpoint", "checkpoint": CheckpointSettings(blocks="upblocks.*"), "adapter": AdapterSettings()},
        "Checkpoint: Blocks: 'upblocks.*' matches no weight",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), CHOICES, ids=[sentence[:40] for _, sentence in CHOICES])
def test_blocks_that_are_not_there_are_told_before_anything_loads(job, changes, sentence):
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=0.0))
    with pytest.raises(InvalidJobError) as told:
        check_train_job(dataclasses.replace(job, **changes))
    assert len(told.value.problems) == 1 and sentence in told.value.problems[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": AdapterSettings(blocks="up_blocks.*, mid_block, denoiser.down_blocks*, *attn2*", pattern=r"to_[kv]$", rules="*to_k: rank=2")},
        {"adapter": AdapterSettings(kind="locon", blocks="*.resnets.*")},
        {
            "kind": "checkpoint",
            "checkpoint": CheckpointSettings(blocks="up_blocks.0.resnets.0.norm1*, conv_norm_out, mid_block"),
            "adapter": AdapterSettings(),
        },
    ],
)
@pytest.mark.parametrize("text_rate", [0.0, 0.01])
def test_blocks_that_are_there_are_taken(job, changes, text_rate):
    check_train_job(dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=text_rate), **changes))


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_a_kind_that_does_not_go_onto_packed_weights_is_refused(job, kind):
    def held(precision: str):
        return dataclasses.replace(job, adapter=AdapterSettings(kind=kind), train=dataclasses.replace(job.train, base_precision=precision))

    check_train_job(held("int8"))
    with pytest.raises(InvalidJobError, match=rf"Training: {kind} does not go onto a base in nf4, which packs its weights"):
        check_train_job(held("nf4"))
    check_train_job(dataclasses.replace(held("nf4"), adapter=AdapterSettings(kind="dora")))


@pytest.mark.parametrize(("key", "expected"), [("hada_w1_a", True), ("lokr_w2", True), ("lora_down.weight", False)])
def test_files_of_such_kinds_are_told_from_others(tmp_path, key, expected):
    save_file({f"lora_unet_x.{key}": torch.zeros(2, 2)}, tmp_path / "some.safetensors")
    assert needs_unpacked(tmp_path / "some.safetensors") is expected


def test_a_negative_prompt_without_guidance_is_refused(job):
    for sections, sentence in (
        ({"samples": SampleSettings(prompts="a\nb --n bad", guidance=1.0)}, "Sample pictures: the negative prompt does nothing at guidance 1"),
        (
            {"prior": PriorSettings(class_images=2, class_prompts="a cat", class_negative_prompt="bad", class_guidance=1.0)},
            "class_negative_prompt does nothing at class_guidance 1",
        ),
    ):
        with pytest.raises(InvalidJobError) as told:
            check_train_job(dataclasses.replace(job, **sections))
        assert len(told.value.problems) == 1 and sentence in told.value.problems[0]
    check_train_job(dataclasses.replace(job, samples=SampleSettings(prompts="a\nb --n bad --l 5", guidance=1.0)))


def test_a_comparison_refuses_what_its_base_does_not_read(flux, schnell):
    def told(base: BaseModel, guidance: float, negative_prompt: str = "") -> tuple[str, ...]:
        cell = SheetCell("a.png", "", 0.0, 0.0, "a cat", negative_prompt, 1, 2, guidance)
        try:
            check_compare_job(CompareJob(base, (cell,), 32, 32))
        except InvalidJobError as error:
            return tuple(error.problems)
        return ()

    assert told(flux, 3.5) == told(schnell, 1.0) == told(schnell, 7.0) == ()
    (problem,) = told(schnell, 3.5)
    assert problem.startswith("Guidance is 3.5 but does nothing, since flux1-schnell is FLUX.1 schnell")
    assert told(flux, 3.5, "blurry") == ("FLUX.1 is drawn without a negative prompt, so that it does nothing; leave it empty.",)
