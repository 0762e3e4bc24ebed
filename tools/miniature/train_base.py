"""Trains the miniature's denoiser and text encoder from scratch: `python -m miniature.train_base <folder>` (from tools/).

Takes `<folder>/vae_fp32` (see train_vae.py) and writes `<folder>/base`, a diffusers folder of the SD1.5 family in fp16.
It trains in rounds, each from the averaged weights of the one before, and goes on where it was broken off.
"""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import world
from .tokenizer import write_tokenizer

SEED = 11
NUM_PICTURES = 16_000
BATCH = 24
ROUNDS = ((3400, 7e-4), (3800, 6e-4))
"""Steps and highest learning rate of each."""
WARMUP_STEPS, EMA_DECAY = 200, 0.999
EMPTY_CAPTION_SHARE, NONSENSE_SHARE, DROPPED_TAG_SHARE = 0.1, 0.25, 0.12


def words() -> list[str]:
    tags = (*world.SHAPES, *world.COLOURS, *world.BACKGROUNDS, *world.SIZES, *world.POSITIONS, world.FACE_TAG)
    return [word for tag in tags for word in tag.split()] + [","]


def caption(scene: world.Scene, rng: random.Random) -> str:
    """The scene's tags, some left out, in any order; at times a word without meaning first.

    The last teaches the model that unknown words change nothing: so a trigger word starts from a clean slate.
    """
    if rng.random() < EMPTY_CAPTION_SHARE:
        return ""
    tags = [tag for tag in scene.tags() if rng.random() >= DROPPED_TAG_SHARE]
    if rng.random() < 0.5:
        rng.shuffle(tags)
    if rng.random() < NONSENSE_SHARE:
        tags.insert(0, "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9))))
    return ", ".join(tags)


def build(vocab_size: int, start_id: int, end_id: int) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    unet = UNet2DConditionModel(
        sample_size=world.PICTURE_PX // 8,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=96,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=start_id,
            eos_token_id=end_id,
            pad_token_id=end_id,
        )
    )
    return unet, text


@torch.no_grad()
def encoded_world(vae: AutoencoderKL, rng: random.Random, num: int) -> tuple[list[world.Scene], torch.Tensor]:
    """Scenes and the scaled means of their latents, [num, 4, 12, 12]."""
    scenes = [world.random_scene(rng) for _ in range(num)]
    latents = []
    for start in range(0, num, 64):
        pixels = torch.from_numpy(np.stack([np.asarray(world.draw(scene)) for scene in scenes[start : start + 64]]))
        latents.append(vae.encode(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean * vae.config.scaling_factor)
    return scenes, torch.cat(latents)


def main(folder: Path) -> None:
    target, state_file = folder / "base", folder / "base_state.pt"
    vocab_size = write_tokenizer(target / "tokenizer", words())
    tokenizer = CLIPTokenizer.from_pretrained(str(target / "tokenizer"), local_files_only=True)
    vae = AutoencoderKL.from_pretrained(folder / "vae_fp32").eval().requires_grad_(False)
    scenes, latents = _cached_world(vae, random.Random(SEED), folder)
    torch.manual_seed(SEED)
    unet, text = build(vocab_size, tokenizer.bos_token_id, tokenizer.eos_token_id)
    trained = torch.nn.ModuleList([unet.to(memory_format=torch.channels_last), text])
    average = copy.deepcopy(trained).eval().requires_grad_(False)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    first_round, first_step, optimizer_state = 0, 0, None
    if state_file.is_file():
        kept = torch.load(state_file, weights_only=True)
        trained.load_state_dict(kept["trained"])
        average.load_state_dict(kept["average"])
        first_round, first_step, optimizer_state = kept["round"], kept["step"], kept["optimizer"]
    for number, (num_steps, peak_rate) in enumerate(ROUNDS):
        if number < first_round:
            continue
        optimizer = torch.optim.AdamW(trained.parameters(), lr=peak_rate, betas=(0.9, 0.99), weight_decay=1e-3)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        recent: list[float] = []
        for step in range(first_step, num_steps):
            rng, draw = random.Random(f"{number} {step}"), torch.Generator().manual_seed(number * 1_000_000 + step)
            for group in optimizer.param_groups:
                group["lr"] = peak_rate * min(1, (step + 1) / WARMUP_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / num_steps)))
            picks = torch.randint(len(scenes), (BATCH,), generator=draw)
            captions = [caption(scenes[i], rng) for i in picks.tolist()]
            ids = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            clean, noise = latents[picks], torch.randn((BATCH, *latents.shape[1:]), generator=draw)
            times = torch.randint(1000, (BATCH,), generator=draw)
            states = text(input_ids=ids).last_hidden_state
            predicted = unet(scheduler.add_noise(clean, noise, times).to(memory_format=torch.channels_last), times, states).sample
            loss = functional.mse_loss(predicted, noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            optimizer.step()
            decay = min(EMA_DECAY, (step + 1) / (step + 10)) if number == 0 else EMA_DECAY
            for slow, fast in zip(average.parameters(), trained.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
            recent = [*recent[-199:], loss.item()]
            if step % 50 == 0:
                sys.stdout.write(f"base round {number + 1} step {step}/{num_steps} loss {sum(recent) / len(recent):.4f}\n")
                sys.stdout.flush()
            if step % 500 == 499 or step + 1 == num_steps:
                _save(average[0], average[1], vae, scheduler, target)
                state = {"trained": trained.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({**state, "round": number, "step": step + 1}, state_file)
        trained.load_state_dict(average.state_dict())
        first_step, optimizer_state = 0, None


def _cached_world(vae: AutoencoderKL, rng: random.Random, folder: Path) -> tuple[list[world.Scene], torch.Tensor]:
    """The encoded world, kept beside the models: rendering and encoding take minutes."""
    file = folder / "world.pt"
    if file.is_file():
        kept = torch.load(file, weights_only=True)
        scenes = [world.Scene(*row[:6], tuple(row[6])) for row in kept["scenes"]]
        return scenes, kept["latents"]
    scenes, latents = encoded_world(vae, rng, NUM_PICTURES)
    rows = [[s.shape, s.colour, s.background, s.size, s.position, s.face, list(s.jitter)] for s in scenes]
    torch.save({"scenes": rows, "latents": latents}, file)
    return scenes, latents


def _save(unet: UNet2DConditionModel, text: CLIPTextModel, vae: AutoencoderKL, scheduler: DDIMScheduler, target: Path) -> None:
    copy.deepcopy(unet).half().save_pretrained(target / "unet")
    copy.deepcopy(vae).half().save_pretrained(target / "vae")
    scheduler.save_pretrained(target / "scheduler")
    copy.deepcopy(text).half().save_pretrained(target / "text_encoder")
    # With the prefix that every version of transformers reads.
    tensors = {
        f"text_model.{name.removeprefix('text_model.')}": value.half().contiguous()
        for name, value in text.state_dict().items()
        if "position_ids" not in name
    }
    save_file(tensors, target / "text_encoder" / "model.safetensors", metadata={"format": "pt"})
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }
    (target / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    for file in target.rglob("*.json"):
        # Paths of the machine that made it do not belong into the asset.
        data = json.loads(file.read_text(encoding="utf-8"))
        data.pop("_name_or_path", None)
        file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.rmtree(target / "__pycache__", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
