"""SD1.5 against the libraries that define it: diffusers' scheduler and pipeline."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from athanor.trainer.bases import describe_base
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.families.base import Prompted

SD15 = family("sd15")


@pytest.fixture(scope="module")
def models(base):
    text = SD15.load_text(base, torch.float32)
    return text, SD15.load_vae(base), SD15.load_denoiser(base, torch.float32)


def test_pictures_equal_those_of_the_pipeline(base, models):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    text, vae, denoiser = models
    text.tokenizers[0].model_max_length = 77
    scheduler = DDIMScheduler.from_pretrained(base.path, subfolder="scheduler", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipeline = StableDiffusionPipeline(vae, text.encoders[0], text.tokenizers[0], denoiser, scheduler, None, None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a red circle",
        negative_prompt="blue",
        num_inference_steps=4,
        guidance_scale=3.0,
        width=32,
        height=16,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    with torch.no_grad():
        prompted = Prompted(SD15.encode_text(text, ["a red circle"], 1), SD15.encode_text(text, ["blue"], 1), 5)
        other = dataclasses.replace(prompted, seed=6)
        drawn = SD15.sample(base, denoiser, vae, [other, prompted], 4, 3.0, (32, 16))
    assert drawn[1].size == (32, 16)
    difference = torch.from_numpy(expected) - torch.tensor(list(drawn[1].get_flattened_data())).reshape(16, 32, 3) / 255
    assert difference.abs().max() <= 1.01 / 255
    assert drawn[0].tobytes() != drawn[1].tobytes()


def test_long_captions_are_encoded_in_pieces_of_75_tokens(models):
    text, _, _ = models
    short, long = "abc", " ".join("abcdefghij" for _ in range(9))
    assert SD15.num_chunks(text, [short]) == 1 and SD15.num_chunks(text, [short, long]) == 2
    with torch.no_grad():
        both = SD15.encode_text(text, [short, long], 2)["states"]
        alone = SD15.encode_text(text, [short], 1)["states"]
        empty = SD15.encode_text(text, [""], 1)["states"]
    assert both.shape == (2, 154, 16)
    assert torch.allclose(both[0, :77], alone[0], atol=1e-6) and torch.allclose(both[0, 77:], empty[0], atol=1e-6)


def test_latents_are_scaled_and_come_back(models):
    _, vae, _ = models
    pixels = torch.rand(1, 3, 32, 16) * 2 - 1
    with torch.no_grad():
        mean, std = SD15.encode_images(vae, pixels)
        posterior = vae.encode(pixels).latent_dist
        picture = SD15.decode_latents(vae, mean)[0]
        expected = (vae.decode(posterior.mean).sample[0] / 2 + 0.5).clamp(0, 1)
    assert mean.shape == (1, 4, 4, 2) and torch.allclose(mean, posterior.mean * 0.5) and torch.allclose(std, posterior.std * 0.5)
    assert abs(picture.getpixel((3, 7))[1] / 255 - expected[1, 7, 3]) <= 0.51 / 255


def test_a_folder_of_another_kind_is_refused_with_a_sentence(workshop):
    for change in ({"cross_attention_dim": 1024}, {"in_channels": 9}):
        file = workshop / "unet" / "config.json"
        kept = file.read_text(encoding="utf-8")
        file.write_text(json.dumps({**json.loads(kept), **change}), encoding="utf-8")
        with pytest.raises(AthanorError, match="is not a diffusers folder of a family that can be trained"):
            describe_base(workshop)
        file.write_text(kept, encoding="utf-8")
    assert describe_base(workshop).native_px == 32


def test_missing_files_are_each_named(workshop):
    base = describe_base(workshop)
    (workshop / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (workshop / "tokenizer" / "merges.txt").unlink()
    problems = SD15.missing_files(base)
    assert len(problems) == 2
    assert "vae" in problems[0] and "diffusion_pytorch_model.safetensors" in problems[0]
    assert "merges.txt" in problems[1] and str(workshop / "tokenizer") in problems[1]
