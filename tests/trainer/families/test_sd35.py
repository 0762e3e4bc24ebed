"""SD3.5: what is recognised, what goes without T5, what is drawn."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_pictures
from tiny_flow import make_sd35_file, make_sd35_folder, make_sd35_large_split

from athanor.trainer.bases import describe_base
from athanor.trainer.checks.effects import effect_problems
from athanor.trainer.checks.engine import engine_problems
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.dataset import assign_buckets, scan_folder
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import all_families, family
from athanor.trainer.families.base import Prompted
from athanor.trainer.formats.header import Header
from athanor.trainer.loop import train
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import AdapterSettings, CaptionSettings, OptimizerSettings, TrainSettings
from athanor.trainer.types import Dataset

SD35 = family("sd35")
MEDIUM = {
    "joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536),
    "x_embedder.proj.weight": (1536, 16, 2, 2),
    "y_embedder.mlp.0.weight": (1536, 2048),
    "joint_blocks.0.x_block.attn.ln_q.weight": (64,),
    "joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536),
}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_medium_and_large_are_told_apart_and_no_other_family_takes_them(prefix: str):
    medium = {prefix + key: shape for key, shape in MEDIUM.items()}
    large = {key: shape for key, shape in medium.items() if "attn2" not in key}
    for shapes, variant in ((medium, "medium"), (large, "large")):
        made = Header(shapes, {}, {})
        assert [each.name for each in all_families() if each.matches(made)] == ["sd35"]
        assert SD35.facts_of_file(made).variant == variant and SD35.facts_of_file(made).prediction == "flow"


def test_sd3_is_refused_by_name():
    with pytest.raises(AthanorError, match=r"SD3\.0"):
        SD35.matches(Header({key: shape for key, shape in MEDIUM.items() if "ln_q" not in key and "attn2" not in key}, {}, {}))


def test_missing_parts_are_named_but_t5_may_be_absent(tmp_path):
    made = make_sd35_large_split(tmp_path)
    problems = SD35.missing_files(describe_base(made.path))
    assert [title for title in ("CLIP-L", "CLIP-G", "VAE") for problem in problems if title in problem] == ["CLIP-L", "CLIP-G", "VAE"]
    without = describe_base(made.path, text_encoders=made.text_encoders[:1], vae=made.vae)
    assert not SD35.missing_files(without)
    text = SD35.load_text(without, torch.float32)
    assert text.encoders[2] is None and list(text.parts()) == ["text_encoder", "text_encoder_2"]
    with torch.no_grad():
        made_without = SD35.frame(SD35.encode_text(text, ["a red circle"], 1), [])
        whole = describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae)
        made_with = SD35.frame(SD35.encode_text(SD35.load_text(whole, torch.float32), ["a red circle"], 1), [])
    assert made_without["states"].shape == (1, 77, 4096) and made_with["states"].shape == (1, 154, 128)
    # What CLIP says comes first, CLIP-L left and CLIP-G right, and is the same either way.
    assert torch.allclose(made_without["states"][..., :128], made_with["states"][:, :77], atol=1e-6)
    assert torch.equal(made_without["pooled"], made_with["pooled"])


def test_a_rate_for_t5_needs_a_t5(tmp_path):
    made = make_sd35_large_split(tmp_path)
    without = describe_base(made.path, text_encoders=made.text_encoders[:1], vae=made.vae)
    job = TrainJob("run", without, Dataset(()), optimizer=OptimizerSettings(t5_rate=1e-5))
    told = [problem for problem in engine_problems(job) if "t5_rate" in problem]
    assert told == ["Optimizer: t5_rate is 1e-05, but sd3.5_large comes without its T5; choose the T5 file in Load Base Model, or set t5_rate to 0."]
    whole = describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae)
    assert not [problem for problem in engine_problems(dataclasses.replace(job, base=whole)) if "t5_rate" in problem]


def test_the_table_of_places_is_cut_from_its_middle(tmp_path):
    """A picture of 64 x 32 px has 4 x 2 patches; of the table's 16 x 16 those of rows 7 to 8 and columns 6 to 9 are its places."""
    made = make_sd35_file(tmp_path)
    denoiser = SD35.load_denoiser(describe_base(made.path), torch.float32)
    table = load_file(made.path)["model.diffusion_model.pos_embed"].reshape(16, 16, -1)
    with torch.no_grad():
        placed = denoiser.pos_embed(torch.zeros(1, 16, 4, 8)) - denoiser.pos_embed.proj.bias
    assert torch.allclose(placed[0], table[7:9, 6:10].reshape(8, -1), atol=1e-6)


def test_a_trained_table_of_places_is_read_from_the_file(tmp_path):
    tensors = load_file(make_sd35_file(tmp_path).path)
    tensors["model.diffusion_model.pos_embed"] += 1
    save_file(tensors, tmp_path / "trained.safetensors")
    denoiser = SD35.load_denoiser(describe_base(tmp_path / "trained.safetensors"), torch.float32)
    assert torch.equal(denoiser.pos_embed.pos_embed, tensors["model.diffusion_model.pos_embed"])


def test_times_are_logit_normal_and_shifted_by_3(tmp_path):
    """u = 0.5: t = 0.5, shifted 3 · 0.5 / 2 = 0.75; u = Φ(1): sigmoid(1) = 0.7310586, shifted 2.1931757 / 2.4621172 = 0.8907682."""
    base = describe_base(make_sd35_file(tmp_path).path)
    assert SD35.training_times(base, torch.tensor([0.5, 0.8413447]), (128, 128)).tolist() == pytest.approx([0.75, 0.8907682], abs=1e-6)


def test_pictures_equal_those_of_the_pipeline(tmp_path):
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    base = describe_base(make_sd35_folder(tmp_path).path)
    assert base.variant == "medium"
    text, denoiser, vae = SD35.load_text(base, torch.float32), SD35.load_denoiser(base, torch.float32), SD35.load_vae(base)
    models = [model for pair in zip(text.encoders, text.tokenizers, strict=True) for model in pair]
    pipeline = StableDiffusion3Pipeline(denoiser, FlowMatchEulerDiscreteScheduler(shift=3.0), vae, *models)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        positive, negative = (SD35.frame(SD35.encode_text(text, [line], 1), []) for line in ("a red circle", "blue"))
        (drawn,) = SD35.sample(base, denoiser, vae, [Prompted(positive, negative, 5)], 3, 4.5, (64, 32))
    expected = pipeline(
        prompt_embeds=positive["states"],
        pooled_prompt_embeds=positive["pooled"],
        negative_prompt_embeds=negative["states"],
        negative_pooled_prompt_embeds=negative["pooled"],
        latents=torch.randn((16, 4, 8), generator=torch.Generator().manual_seed(5))[None],
        sigmas=[1.0, 2 / 3, 1 / 3],
        guidance_scale=4.5,
        width=64,
        height=32,
        output_type="np",
    ).images[0]
    difference = torch.from_numpy(expected) - torch.tensor(list(drawn.getdata())).reshape(32, 64, 3) / 255
    assert drawn.size == (64, 32) and difference.abs().max() <= 1.01 / 255


@pytest.mark.slow
@pytest.mark.parametrize("text_rate", [0.0, 1e-3])
def test_dropped_encoders_change_the_training_with_cached_and_with_trained_encoders(text_rate, tmp_path):
    made = make_sd35_file(tmp_path)
    pictures = scan_folder(make_pictures(tmp_path / "pictures", 2), trigger="subject", validation_percent=0)
    placed = assign_buckets(pictures, resolution_px=64, min_px=64, max_px=64, step_px=64, upscale=True)
    settings = TrainSettings(epochs=2, batch_size=2, rate=1e-3, text_encoder_rate=text_rate, precision="fp32", save_precision="fp32")
    job = TrainJob("run", describe_base(made.path), placed, adapter=AdapterSettings(rank=2), train=settings)
    losses = {}
    for name, captions in (
        ("plain", CaptionSettings()),
        ("never", CaptionSettings(clip_l_dropout=1e-12)),
        ("half", CaptionSettings(clip_l_dropout=0.5, clip_g_dropout=0.5, t5_dropout=0.5)),
        ("always", CaptionSettings(clip_l_dropout=1.0, clip_g_dropout=1.0, t5_dropout=1.0)),
    ):
        run = open_run(tmp_path / name, dataclasses.replace(job, captions=captions))
        train(run, Control())
        losses[name] = run.losses()
    again = open_run(tmp_path / "again", dataclasses.replace(job, captions=CaptionSettings(clip_l_dropout=0.5, clip_g_dropout=0.5, t5_dropout=0.5)))
    train(again, Control())
    assert losses["plain"] == losses["never"] and again.losses() == losses["half"]
    assert len({tuple(each) for each in losses.values()}) == 3
    other = open_run(
        tmp_path / "other", dataclasses.replace(job, captions=CaptionSettings(clip_l_dropout=1.0, clip_g_dropout=1.0, t5_dropout=1.0, suffix="x"))
    )
    train(other, Control())
    assert other.losses() == losses["always"], "nothing of the caption is left"


def test_dropping_an_encoder_that_is_not_there_is_refused(tmp_path):
    made = make_sd35_large_split(tmp_path)
    without = describe_base(made.path, text_encoders=made.text_encoders[:1], vae=made.vae)
    job = TrainJob("run", without, Dataset(()), captions=CaptionSettings(clip_l_dropout=0.4, t5_dropout=0.4))
    told = [problem for problem in effect_problems(job) if "dropout" in problem]
    assert told == ["Captions: t5_dropout is 0.4 but does nothing, since sd3.5_large comes without its T5; set it to 0."]
